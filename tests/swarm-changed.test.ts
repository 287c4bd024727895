import { randomBytes } from 'node:crypto'
import { closeSync, openSync, renameSync, rmSync, truncateSync, writeFileSync, writeSync } from 'node:fs'
import { afterAll, beforeEach, expect, test } from 'vitest'
import { z } from 'zod'
import { contentIdOf } from '../common/merkle.ts'
import { SwarmMembersResponse } from '../common/schemas.ts'
import { Cluster, type TestPeer } from './cluster.ts'
import { PIECE } from './hostile-provider.fixture.ts'
import { begin, type Watched } from './swarm.fixture.ts'

const PIECES = 12
/** bytes a second: slow enough that a download is not over before the file is changed */
const CRAWL = 600_000

const cluster = new Cluster({ leaseMs: 60_000 })
let provider: TestPeer
let second: TestPeer
let taker: TestPeer
let count = 0

// Once, but within a test, where `expect.poll` is to be had.
beforeEach(async () => {
  if (!taker) {
    await cluster.startMaestro()
    provider = await cluster.addPeer('Provider')
    second = await cluster.addPeer('Second')
    taker = await cluster.addPeer('Taker')
  }
  for (const peer of [provider, second]) await limit(peer, CRAWL)
})

afterAll(() => cluster.stop())

async function limit(peer: TestPeer, upload: number | null): Promise<void> {
  await peer.rest.call('PUT', '/limits', z.unknown(), { body: { upload } })
}

type Change = [what: string, change: (path: string) => void]

const inPlace: Change[] = [
  [
    'overwritten',
    (path) => {
      const fd = openSync(path, 'r+')
      for (let piece = 0; piece < PIECES; piece++) writeSync(fd, randomBytes(1000), 0, 1000, piece * PIECE + 100)
      closeSync(fd)
    },
  ],
  ['cut', (path) => truncateSync(path, 1000)],
]
const underItsName: Change[] = [
  [
    'replaced',
    (path) => {
      writeFileSync(`${path}.new`, randomBytes(PIECES * PIECE - 5000))
      renameSync(`${path}.new`, path)
    },
  ],
  ['removed', (path) => rmSync(path)],
]

/** A download of which some pieces are here, from these providers. */
async function underWay(providers: readonly TestPeer[]) {
  const name = `film-${++count}.mkv`
  const data = randomBytes(PIECES * PIECE - 5000)
  for (const peer of providers) await peer.share(name, data)
  const download = await begin(taker, { file: name })
  await download.has(PIECE)
  return { name, data, download }
}

async function offers(peer: TestPeer, data: Buffer): Promise<boolean> {
  const { peers } = await peer.rest.call('GET', `/swarms/${contentIdOf(data)}`, SwarmMembersResponse)
  return peers.length > 0
}

async function arrives(download: Watched, name: string, data: Buffer): Promise<void> {
  await download.is('done')
  expect(taker.read(name).equals(data)).toBe(true)
  expect(download.last.providers.filter(({ state }) => state === 'banned')).toEqual([])
}

test.for([...inPlace, ...underItsName])(
  'a file that is %s at its provider comes from another one',
  async ([, change]) => {
    const { name, data, download } = await underWay([provider, second])
    change(provider.path(name))
    for (const peer of [provider, second]) await limit(peer, null)
    await arrives(download, name, data)
  },
)

test.for(inPlace)(
  'a file that is %s at its only provider is waited for, until the same bytes are back',
  async ([, change]) => {
    const { name, data, download } = await underWay([provider])
    change(provider.path(name))
    await limit(provider, null)
    const { notes, bytes } = await download.is('waiting')
    expect(notes.join()).toMatch(/dropped Provider: /)
    expect(bytes).toBeLessThan(data.length)
    writeFileSync(provider.path(name), data)
    await arrives(download, name, data)
    // What came before the change was not fetched again; of a piece that was cut short, some bytes came twice.
    expect(download.last.received).toBeLessThan(data.length + 3 * PIECE)
  },
)

test.for(underItsName)(
  'a file that is %s at its only provider comes from what the provider has open',
  async ([, change]) => {
    const { name, data, download } = await underWay([provider])
    change(provider.path(name))
    // The provider knows by now that it does not have this content any more.
    await expect.poll(() => offers(provider, data)).toBe(false)
    await limit(provider, null)
    await arrives(download, name, data)
  },
)
