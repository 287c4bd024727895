import { describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { LocatedProvider, LookupStep } from '../../common/schemas.ts'
import { choose } from './choose.ts'

const FILM = 'film.mkv' as FileName
const CONTENT = 'a'.repeat(64) as ContentId
const OTHER = 'b'.repeat(64) as ContentId

const step = (strategy: LookupStep['strategy'], outcome: LookupStep['outcome']): LookupStep => ({
  ...{ strategy, outcome, asked: `the ${strategy}`, found: 0, ms: 1, detail: null },
  ...{ messages: 1, hops: null, path: [], age_ms: null, silent: [] },
})

const provider = (peer: string, id: ContentId | null): LocatedProvider => ({
  peer: peer as PeerId,
  rest: 'http://127.0.0.1:8000',
  grpc_port: 50051,
  file: FILM,
  size: 5,
  id,
  via: 'maestro',
})

function failure(providers: LocatedProvider[], ...steps: LookupStep[]): NetworkError {
  try {
    choose({ file: FILM }, providers, steps)
  } catch (error) {
    if (error instanceof NetworkError) return error
    throw error
  }
  throw new Error('something was chosen')
}

test('is the one content that was located, with each of its providers once', () => {
  const found = [provider('P1', CONTENT), provider('P2', null), provider('P3', CONTENT), provider('P1', CONTENT)]
  expect(choose({ file: FILM }, found, [])).toMatchObject({
    id: CONTENT,
    name: FILM,
    providers: [{ peer: 'P1' }, { peer: 'P3' }],
  })
  expect(failure([provider('P1', CONTENT), provider('P2', OTHER)]).code).toBe('conflict')
})

describe('where nothing was located', () => {
  const local = step('local', 'nothing')

  test.each(['unreachable', 'timeout', 'skipped', 'refused'] as const)(
    'and the only one asked is %s, nobody could be asked',
    (outcome) => {
      const { code, message } = failure([], local, step('maestro', outcome))
      expect([code, message]).toEqual([
        'unavailable',
        `nobody who could know "film.mkv" answers: asked the maestro (${outcome})`,
      ])
    },
  )

  test('and one of those asked knows of nobody, nobody offers it', () => {
    expect(failure([], local, step('maestro', 'refused'), step('flood', 'nothing')).code).toBe('not_found')
    expect(failure([], local).code).toBe('not_found')
  })
})

test('nobody answers who had it not long ago: that is no word that nobody has it', () => {
  const silent = [
    { peer: 'C' as PeerId, age_ms: 44_000 },
    { peer: 'D' as PeerId, age_ms: 90_000 },
  ]
  const error = failure([], { ...step('chord', 'nothing'), silent })
  expect(error.code).toBe('unavailable')
  expect(error.message).toContain('C, D shared "film.mkv" 44 s ago and do not answer now')
})
