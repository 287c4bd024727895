import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { parsePeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { PeerBookFile } from './book-file.ts'

let folder: string
const file = () => join(folder, 'peers.json')
const book = (path = file()) => new PeerBookFile({ log: silentLog }, { file: path })
const contact = { peer: parsePeerId('a'), host: '10.0.0.2', restPort: 8000, grpcPort: 50051 }

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'known-peers-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

test('known peers are the same in the next run, and not believed to be alive', () => {
  book().save([{ contact, standing: 'alive', seenAt: 1234.5 }])
  expect(book().load()).toEqual([{ contact, standing: 'lost', seenAt: 1234 }])
  expect(readdirSync(folder)).toEqual(['peers.json'])
})

test.each([
  '',
  '{',
  '[1]',
  '[{"peer":"../x","host":"h","rest_port":1,"grpc_port":1,"seen":0}]',
  'x'.repeat(2 ** 20 + 1),
])('a broken file begins empty, and is replaced at the next save: %.20s', (text) => {
  writeFileSync(file(), text)
  expect(book().load()).toEqual([])
  book().save([])
  expect(readFileSync(file(), 'utf8')).toBe('[]')
})

test('a file that can not be written is no failure', () => {
  book(join(folder, 'none', 'peers.json')).save([])
  expect(book(join(folder, 'none', 'peers.json')).load()).toEqual([])
})
