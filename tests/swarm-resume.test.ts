import { randomBytes } from 'node:crypto'
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { contentIdOf, manifestOf } from '../common/merkle.ts'
import { Journal } from '../peer/transfer/journal.ts'
import { Cluster, type TestPeer } from './cluster.ts'
import { Gate, HostileProvider, PIECE, pausingAfter } from './hostile-provider.fixture.ts'
import { begin, type Watched } from './swarm.fixture.ts'

const cluster = new Cluster({ leaseMs: 60_000 })
let source: HostileProvider

// Once, but within a test, where `expect.poll` is to be had.
beforeEach(async () => {
  if (source) return
  await cluster.startMaestro()
  source = await HostileProvider.start(undefined, cluster, 'Source')
})

afterAll(async () => {
  await source?.stop()
  await cluster.stop()
})

const partOf = (data: Buffer) => `.p2p-${contentIdOf(data)}.part`
const journalOf = (data: Buffer) => `.p2p-${contentIdOf(data)}.journal`

describe('what an agent left unfinished, changed behind its back before it runs again,', () => {
  const PIECES = 8
  const HERE = 5

  interface Left {
    readonly part: string
    readonly journal: string
    readonly data: Buffer
  }

  // As many as run at the same time.
  const cases: [what: string, change: (left: Left) => void, fetched: number, damaged: number][] = [
    ['not at all: only the rest is fetched', () => {}, PIECES - HERE, 0],
    ['cut in the middle: what is left is kept', ({ part }) => truncateSync(part, 2 * PIECE + 7), PIECES - 2, 3],
    ['cut to nothing: all is fetched', ({ part }) => truncateSync(part, 0), PIECES, HERE],
    ['overwritten in one piece: that one is fetched again', ({ part }) => overwrite(part), PIECES - HERE + 1, 1],
    [
      'overwritten all over: all is fetched',
      ({ part, data }) => writeFileSync(part, randomBytes(data.length)),
      PIECES,
      HERE,
    ],
    ['removed: all is fetched', ({ part }) => rmSync(part), PIECES, HERE],
    ['without its journal: only the rest is fetched', ({ journal }) => rmSync(journal), PIECES - HERE, 0],
    ['whole already: nothing is fetched', ({ part, data }) => writeFileSync(part, data), 0, 0],
  ]
  const films = cases.map((_, i) => ({ name: `left-${i}.mkv`, data: randomBytes(PIECES * PIECE - 5000) }))
  let taker: TestPeer
  let downloads: Watched[]
  /** pieces that were asked for before the agent ran again */
  let before: number

  /** All of them are interrupted by the end of their agent, and changed before its next start. */
  beforeEach(async () => {
    if (downloads) return
    const gate = new Gate()
    await source.offer(Object.fromEntries(films.map(({ name, data }) => [name, data])), pausingAfter(HERE, gate))
    taker = await cluster.addPeer('Taker-left')
    downloads = await Promise.all(films.map(({ name }) => begin(taker, { file: name })))
    for (const download of downloads) await download.has(HERE * PIECE)
    await taker.stop()
    for (const [i, [, change]] of cases.entries()) {
      const { data } = films[i]!
      change({ part: taker.path(partOf(data)), journal: taker.path(journalOf(data)), data })
    }
    before = source.asked.length
    gate.open()
    await taker.start()
  })

  test.for(cases.map((row, i) => [...row, i] as const))('%s', async ([, , fetched, damaged, i]) => {
    const { name, data } = films[i]!
    const download = downloads[i]!
    await download.is('done')
    expect(taker.read(name).equals(data)).toBe(true)
    const id = contentIdOf(data)
    expect(source.asked.slice(before).filter(({ content }) => content === id).length).toBe(fetched)
    expect(existsSync(taker.path(partOf(data)))).toBe(false)
    expect(existsSync(taker.path(journalOf(data)))).toBe(false)
    const notes = download.last.notes.filter((note) => note.includes('damaged'))
    expect(notes).toEqual(damaged === 0 ? [] : [expect.stringMatching(new RegExp(`^pieces on disk .*: ${damaged}$`))])
  })

  function overwrite(path: string): void {
    const fd = openSync(path, 'r+')
    writeSync(fd, randomBytes(1000), 0, 1000, PIECE + 5)
    closeSync(fd)
  }
})

test('a folder in the place of a partial file: it says so, and arrives once that is away', async () => {
  const data = randomBytes(3 * PIECE)
  await source.offer({ 'blocked.mkv': data })
  const taker = await cluster.addPeer('Taker-blocked')
  const part = taker.path(partOf(data))
  mkdirSync(part)
  const { state, error } = await taker.transfer({ file: 'blocked.mkv' })
  expect(state).toBe('failed')
  expect(error!.message).toContain(partOf(data))
  rmSync(part, { recursive: true })
  await taker.download('blocked.mkv')
  expect(taker.read('blocked.mkv').equals(data)).toBe(true)
})

test('a journal that is cut at any byte costs no piece that is on disk', async () => {
  const PIECES = 4
  const missing = 1
  const base = randomBytes(PIECES * PIECE - 5000)
  // Busy with all of them, neither it nor the Maestro answers fast.
  const taker = await cluster.addPeer('Taker-cut', { lookup_timeout_ms: 30_000 })
  const films: Record<string, Buffer> = {}
  const journalLength = 56 + 32 * PIECES + 8 * (PIECES - 1)
  for (let cut = 0; cut <= journalLength; cut++) {
    // A content of its own for each cut, so that they can be fetched at the same time.
    const data = Buffer.from(base)
    data.writeUInt32BE(cut, missing * PIECE)
    films[`cut-${cut}.mkv`] = data
    const part = Buffer.from(data).fill(0, missing * PIECE, (missing + 1) * PIECE)
    writeFileSync(taker.path(partOf(data)), part)
    const fd = openSync(taker.path(journalOf(data)), 'w+')
    Journal.open(fd, manifestOf(data)).append([3, 0, 2])
    closeSync(fd)
    expect(readFileSync(taker.path(journalOf(data))).length).toBe(journalLength)
    truncateSync(taker.path(journalOf(data)), cut)
  }
  await source.offer(films)
  for (const file of Object.keys(films)) await begin(taker, { file })
  // The list of so many transfers, asked for again and again, would be most of the work.
  const missingFiles = () => Object.keys(films).filter((name) => !existsSync(taker.path(name)))
  await expect.poll(missingFiles, { timeout: 50_000 }).toEqual([])
  for (const [name, data] of Object.entries(films)) expect(taker.read(name).equals(data), name).toBe(true)
  const asked = source.asked.map(({ content, piece }) => `${content} ${piece}`).sort()
  expect(asked).toEqual(
    Object.values(films)
      .map((data) => `${contentIdOf(data)} ${missing}`)
      .sort(),
  )
  await taker.stop()
}, 60_000)
