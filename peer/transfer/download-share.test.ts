import { afterAll, afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { systemClock } from '../../common/clock.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import { MIN_PIECE_SIZE, manifestOf } from '../../common/merkle.ts'
import { WorkerHasher } from '../hashing/worker-hasher.ts'
import type { Download } from './download.ts'
import { DownloadShare } from './download-share.ts'
import { Downloader } from './downloader.ts'
import { FolderDownloads, type FolderDownloadsDeps } from './folder/download.ts'
import { MemoryShelf, MemorySmallPeer, memoryLister, row } from './folder/folder.fixture.ts'
import { type Behaviour, MemorySource, patternOf, TemporaryLanding } from './transfer.fixture.ts'

const RATE = 12_000_000

describe('a share', () => {
  /** What those with these limits of their own may fetch. */
  const split = (rate: number | undefined, ...limits: (number | undefined)[]) => {
    const share = new DownloadShare(() => rate)
    const parts = limits.map((limit) => share.enter({ own: () => limit, fetching: () => true }))
    return parts.map((part) => part.rate())
  }

  test.each<[string, (number | undefined)[], (number | undefined)[]]>([
    ['of one is all', [undefined], [12]],
    ['of several is even', [undefined, undefined, undefined], [4, 4, 4]],
    ['is at most the own limit', [5], [5]],
    ['leaves to others what an own limit does not take', [undefined, 2, undefined], [5, 2, 5]],
    ['leaves also what is left then', [undefined, 1, 4], [7, 1, 4]],
    ['is even where own limits are higher', [100, 7, undefined], [4, 4, 4]],
    ['is the own limit where all of them fit', [1, 2, 3], [1, 2, 3]],
    ['is just the whole where own limits add up to it', [6, 6], [6, 6]],
  ])('%s', (_, limits, expected) => {
    expect(split(12, ...limits)).toEqual(expected)
  })

  test('without a limit is what each may', () => {
    expect(split(undefined, undefined, 3)).toEqual([undefined, 3])
  })

  test('follows the limits, and counts only who fetches now', () => {
    let rate: number | undefined = 12
    let fetching = false
    let own: number | undefined
    const share = new DownloadShare(() => rate)
    const first = share.enter({ fetching: () => true })
    const second = share.enter({ own: () => own, fetching: () => fetching })
    // The second is told what it may begin with.
    expect([first.rate(), second.rate()]).toEqual([12, 6])
    fetching = true
    expect([first.rate(), second.rate()]).toEqual([6, 6])
    own = 2
    expect([first.rate(), second.rate()]).toEqual([10, 2])
    rate = 20
    expect([first.rate(), second.rate()]).toEqual([18, 2])
    second.leave()
    expect(first.rate()).toBe(20)
  })
})

/** Of a share in which a test takes part: what is left to it tells who else fetches. */
function watched() {
  const share = new DownloadShare(() => RATE)
  return { share, left: share.enter({ fetching: () => true }).rate }
}

const silent: Behaviour = async function* (requests) {
  for await (const _ of requests) await new Promise(() => {})
}

describe('a download', () => {
  const film = patternOf(3 * MIN_PIECE_SIZE)
  const hasher = new WorkerHasher({}, { size: 1 })
  let landing: TemporaryLanding
  afterAll(() => hasher.close())
  beforeEach(async () => {
    landing = await TemporaryLanding.create()
  })
  afterEach(() => landing.remove())

  /** Begun, and stopped with the test. */
  function begin(share: DownloadShare, source: MemorySource, more: Partial<Download> = {}) {
    const stop = new AbortController()
    const content = { id: manifestOf(film).id, names: () => ['film' as FileName], sources: [source] }
    const run = new Downloader({ landing, hasher, clock: systemClock, share }).run(
      { ...content, dummy: false, patient: true, ...more },
      stop.signal,
    )
    const end = async () => {
      stop.abort()
      await run.catch(() => {})
    }
    onTestFinished(end)
    return { run, end }
  }

  test('has its part while a provider has what it lacks', async () => {
    const { share, left } = watched()
    const source = new MemorySource('P1', film, silent)
    const { end } = begin(share, source)
    await expect.poll(() => source.requested.length).toBeGreaterThan(0)
    expect(left()).toBe(RATE / 2)
    await end()
    expect(left()).toBe(RATE)
  })

  test('leaves the rest of its part to others where its own limit is lower', async () => {
    const { share, left } = watched()
    begin(share, new MemorySource('P1', film, silent), { rate: () => 1 })
    await expect.poll(left).toBe(RATE - 1)
  })

  test('has none while its provider has nothing for it, nor while it waits for one', async () => {
    const { share, left } = watched()
    const source = new MemorySource('P1', film)
    source.tells = []
    const open = vi.spyOn(source, 'open')
    const { end } = begin(share, source)
    await expect.poll(() => open.mock.calls.length).toBe(1)
    expect(left()).toBe(RATE)
    await end()
    const gone = new MemorySource('P2', film, async function* () {})
    const onWaiting = vi.fn(() => expect(left()).toBe(RATE))
    begin(share, gone, { observer: { onWaiting } })
    await expect.poll(() => onWaiting.mock.results[0]?.type).toBe('return')
  })

  test('has none while its file is made durable, or is looked at again, nor afterwards', async () => {
    const { share, left } = watched()
    const seen: (number | undefined)[] = []
    const look = () => void seen.push(left())
    const { run } = begin(share, new MemorySource('P1', film), { observer: { onVerified: look, onWhole: look } })
    await run
    expect([seen[0], seen.at(-1), left()]).toEqual([RATE / 2, RATE, RATE])
  })

  test('that is a simulation has none', async () => {
    const { share, left } = watched()
    const source = new MemorySource('P1', film, silent)
    source.simulates = false
    begin(share, source, { dummy: true })
    await expect.poll(() => source.requested.length).toBeGreaterThan(0)
    expect(left()).toBe(RATE)
  })
})

describe('a folder', () => {
  const [small, large] = [patternOf(100), patternOf(MIN_PIECE_SIZE + 1)]

  function begin(share: DownloadShare, peer: MemorySmallPeer, more: Partial<FolderDownloadsDeps> = {}, rate?: number) {
    const stop = new AbortController()
    const rows = [row('a/small', small, peer), row('a/large', large, peer)]
    const folders = new FolderDownloads({
      clock: systemClock,
      self: 'me' as PeerId,
      listers: () => ({ maestro: memoryLister(rows), friends: [] }),
      source: () => peer,
      shelf: new MemoryShelf(),
      share,
      file: async () => 'done',
      ...more,
    })
    const run = folders.run({ folder: 'a' as FileName, dummy: false, rate: () => rate }, stop.signal)
    onTestFinished(async () => {
      stop.abort()
      await run.catch(() => {})
    })
    return run
  }

  test('has one part for its small files, while somebody is asked for them', async () => {
    const { share, left } = watched()
    const peer = new MemorySmallPeer('P1', [small], (right) => {
      expect(left()).toBe(RATE / 2)
      return right
    })
    expect(await begin(share, peer)).toMatchObject({ files: 2, failed: 0 })
    expect(left()).toBe(RATE)
  })

  test('has none for them while who has them takes a rest', async () => {
    const { share, left } = watched()
    const peer = new MemorySmallPeer('P1', [small])
    peer.busy = Number.POSITIVE_INFINITY
    const seen: (number | undefined)[] = []
    const sleep = (ms: number, signal?: AbortSignal) => {
      // Of what it sleeps for, only the rest is as short as this.
      if (ms < 10_000) seen.push(left())
      return systemClock.sleep(ms, signal)
    }
    begin(share, peer, { clock: { now: () => systemClock.now(), sleep } })
    await expect.poll(() => seen).toEqual([RATE])
  })

  test('splits its own limit among its parts, and leaves the rest of theirs to others', async () => {
    const { share, left } = watched()
    const peer = new MemorySmallPeer('P1', [small], () => 'never')
    let largeMay: number | undefined
    const file: FolderDownloadsDeps['file'] = (_, { rate }, signal) => {
      largeMay = rate()
      return new Promise((_resolve, reject) => signal.addEventListener('abort', reject))
    }
    begin(share, peer, { file }, 4)
    await expect.poll(() => peer.asked).toBe(1)
    expect([largeMay, left()]).toEqual([2, RATE - 2])
  })
})
