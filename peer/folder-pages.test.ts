import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { createApp, listen } from '../common/http.ts'
import { type FileName, type PeerId, parseFileName } from '../common/ids.ts'
import { silentLog } from '../common/log.ts'
import { contentIdOf } from '../common/merkle.ts'
import { createMetrics } from '../common/metrics.ts'
import { addFileRoutes, type ServedFiles } from './app/files.ts'
import { Friends } from './friends.ts'
import { type FolderRow, friendLister } from './transfer/folder/listing.ts'

const never = () => new AbortController().signal

/** A peer that shares these names over real HTTP, and a friend list with it in it. */
async function friendWith(names: string[]) {
  const all = names
    .sort((a, b) => (a < b ? -1 : 1))
    .map((name) => ({ name: name as FileName, size: name.length, id: contentIdOf(Buffer.from(name)), mtimeNs: 0n }))
  const files = {
    list: ({ after, limit }: { after?: string; limit: number }) =>
      all.filter(({ name }) => name > (after ?? '')).slice(0, limit),
  } as unknown as ServedFiles
  const app = createApp({ title: '', description: '', log: silentLog, metrics: createMetrics('test') })
  addFileRoutes(app, { files, self: () => ({ id: 'P1' as PeerId, rest: 'http://elsewhere:1', grpcPort: 7 }) })
  const listening = await listen(app, '127.0.0.1', 0)
  onTestFinished(() => listening.close(0))
  const folder = mkdtempSync(join(tmpdir(), 'friends-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const url = `http://127.0.0.1:${listening.port}`
  const options = { self: 'me' as PeerId, primary: url, file: join(folder, 'friends.json'), timeoutMs: 1000 }
  const friends = new Friends({ log: silentLog }, options)
  onTestFinished(() => friends.close())
  return { url, friend: friends.peers()[0]! }
}

test('a friend lists one folder, page by page, with the port where its files are had', async () => {
  const inside = Array.from({ length: 2500 }, (_, i) => `lectures/f${String(i).padStart(4, '0')}`)
  const { url, friend } = await friendWith(['lectures', 'lectures-2/x', ...inside, 'lectures0', 'z'])
  const rows: FolderRow[] = []
  for await (const page of friendLister(friend).list(parseFileName('lectures'), never())) rows.push(...page)
  expect(rows.map(({ name }) => name)).toEqual(inside)
  expect(rows[0]!.offers).toEqual([
    { peer: 'P1', rest: url, grpc_port: 7, id: contentIdOf(Buffer.from(inside[0]!)), size: inside[0]!.length },
  ])
})

test('names of one folder are to be had by hand too', async () => {
  const { url } = await friendWith(['a/1', 'a/2', 'a/3', 'b'])
  const ask = async (query: string) => (await fetch(`${url}/files?${query}`)).json()
  expect(await ask('under=a&limit=2')).toEqual({ peer: 'P1', grpc_port: 7, files: ['a/1', 'a/2'], next: 'a/2' })
  expect(await ask('under=a&limit=2&after=a/2')).toMatchObject({ files: ['a/3'], next: null })
  expect(await ask('under=../a')).toMatchObject({ error: { code: 'invalid' } })
})
