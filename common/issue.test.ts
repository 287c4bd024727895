import { expect, test } from 'vitest'
import { z } from 'zod'
import { issueText } from './issue.ts'
import { PageQuery, PatchFilesRequest, PeerLocateQuery, RegisterRequest, SearchQuery } from './schemas.ts'

const register = (more: object) => ({ peer: 'http://a:1', grpc_port: 1, files: [], ...more })

test.each<[string, z.ZodType, unknown, string]>([
  ['no number', PageQuery, { limit: 'abc' }, 'limit in the body is "abc": it must be a number'],
  ['too large a number', PageQuery, { limit: '5000' }, 'limit in the body is "5000": it must be at most 1000'],
  ['part of a number', PageQuery, { limit: '1.5' }, 'limit in the body is "1.5": it must be a whole number'],
  ['nothing', SearchQuery, {}, 'q in the body is missing: it must be a text'],
  ['an empty text', SearchQuery, { q: ' ' }, 'q in the body is " ": it must not be empty'],
  [
    'too long a text',
    SearchQuery,
    { q: 'x'.repeat(201) },
    `q in the body is "${'x'.repeat(60)}…": it must have at most 200 characters`,
  ],
  [
    'what is no choice',
    PeerLocateQuery,
    { via: 'magic' },
    'via in the body is "magic": it must be one of local, maestro, friends, chord, flood',
  ],
  [
    'what the schema has its own words for',
    PeerLocateQuery,
    { file: '../x' },
    'file in the body: "../x" can\'t name a shared file: it climbs out of the shared folder',
  ],
  ['no object at all', RegisterRequest, 7, 'the body is 7: it must be an object'],
  ['too many entries', z.array(z.int()).max(2), [1, 2, 3], 'the body is a list of 3: it must have at most 2 entries'],
  [
    'none of the forms of an entry',
    RegisterRequest,
    register({ files: ['a', 5] }),
    'files.1 in the body is 5: it must be a text or be an object',
  ],
  [
    'a field deep inside one form of an entry',
    RegisterRequest,
    register({ files: [{ name: 'a', size: 'big' }] }),
    'files.0.size in the body is "big": it must be a number',
  ],
  [
    'a bad name in the other form',
    PatchFilesRequest,
    { from: 1, to: 2, add: ['/etc'] },
    'add.0 in the body: "/etc" can\'t name a shared file: it is an absolute path',
  ],
  [
    'an unknown key',
    z.strictObject({ a: z.int().optional() }),
    { 'b\n': 1 },
    'the body is an object: it must not have "b\\u{a}"',
  ],
])('%s is told in one sentence: which value, what it is, what is allowed', (_, schema, input, text) => {
  const { error } = schema.safeParse(input)
  expect(issueText(error!.issues, input, 'body')).toBe(text)
})
