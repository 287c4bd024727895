import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { ManualClock, systemClock } from '../../../common/clock.ts'
import { NetworkError } from '../../../common/errors.ts'
import { type ContentId, type FileName, type PeerId, parseFileName } from '../../../common/ids.ts'
import { contentIdOf, manifestOf } from '../../../common/merkle.ts'
import { DownloadShare } from '../download-share.ts'
import { MAX_SMALL } from '../small-source.ts'
import { patternOf } from '../transfer.fixture.ts'
import {
  type FolderDownload,
  FolderDownloads,
  type FolderDownloadsDeps,
  type FolderDownloadsOptions,
  type FolderResult,
} from './download.ts'
import { deadLister, type Manner, MemoryShelf, MemorySmallPeer, memoryLister, row } from './folder.fixture.ts'
import type { FolderRow } from './listing.ts'

const textOf = (i: number) => Buffer.from(`content ${i}`)
const texts = (count: number) => Array.from({ length: count }, (_, i) => textOf(i))
const folder = parseFileName('lectures')
const self = 'me' as PeerId

class Setup {
  readonly shelf = new MemoryShelf()
  readonly notes: string[] = []
  readonly verified = new Map<string, number>()
  readonly onFile = vi.fn<FolderDownloadsDeps['file']>(async () => 'done')
  readonly cancel = new AbortController()
  listed: unknown
  landed = 0
  received = 0

  run(
    peers: readonly MemorySmallPeer[],
    rows: readonly FolderRow[],
    over: {
      download?: Partial<FolderDownload>
      deps?: Partial<FolderDownloadsDeps>
      options?: FolderDownloadsOptions
    } = {},
  ): Promise<FolderResult> {
    const downloads = new FolderDownloads(
      {
        clock: systemClock,
        self,
        listers: () => ({ maestro: memoryLister(rows), friends: [] }),
        source: (provider) => peers.find(({ peer }) => peer === provider.peer)!,
        shelf: this.shelf,
        share: new DownloadShare(),
        file: this.onFile,
        ...over.deps,
      },
      over.options,
    )
    return downloads.run(
      {
        folder,
        dummy: false,
        observer: {
          onListed: (total, here) => {
            this.listed = { total, here }
          },
          onFiles: (files) => {
            this.landed += files
          },
          onReceived: (bytes) => {
            this.received += bytes
          },
          onVerified: (peer, bytes) => this.verified.set(peer, (this.verified.get(peer) ?? 0) + bytes),
          onNote: (note) => this.notes.push(note),
        },
        ...over.download,
      },
      this.cancel.signal,
    )
  }

  /** How many files are here, all of them checked against what `textOf` says. */
  right(count: number): number {
    const names = Array.from({ length: count }, (_, i) => `lectures/f${i}`)
    return names.filter((name, i) => this.shelf.files.get(name)?.id === contentIdOf(textOf(i))).length
  }
}

const rowsOf = (count: number, ...peers: MemorySmallPeer[]) =>
  texts(count).map((data, i) => row(`lectures/f${i}`, data, ...peers))

describe('a folder', () => {
  test('comes whole, verified, in few batches', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', texts(3000))
    const result = await setup.run([p1], rowsOf(3000, p1))
    const bytes = texts(3000).reduce((sum, { length }) => sum + length, 0)
    expect(result).toEqual({ outcome: 'done', files: 3000, bytes, faults: [], failed: 0 })
    expect([setup.right(3000), setup.landed, p1.asked, p1.open_]).toEqual([3000, 3000, 3000, 0])
    expect(setup.received).toBe(bytes)
    expect(setup.shelf.batches).toBeLessThan(20)
    expect(setup.listed).toEqual({ total: { files: 3000, bytes }, here: { files: 0, bytes: 0 } })
    expect(setup.verified).toEqual(new Map([['P1', bytes]]))
  })

  test('lands under another name where one is given', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', texts(2))
    await setup.run([p1], rowsOf(2, p1), { download: { as: parseFileName('mine/old') } })
    expect([...setup.shelf.files.keys()].sort()).toEqual(['mine/old/f0', 'mine/old/f1'])
  })

  test('asks only for what is not here, and replaces nothing', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', texts(4))
    setup.shelf.put('lectures/f0', textOf(0))
    setup.shelf.put('lectures/f1', Buffer.from('mine'))
    const result = await setup.run([p1], rowsOf(4, p1))
    expect(result).toMatchObject({ files: 2, failed: 1, faults: ['"lectures/f1" is here with other content'] })
    expect(setup.listed).toMatchObject({ total: { files: 3 }, here: { files: 1 } })
    expect([p1.asked, setup.shelf.get('lectures/f1' as FileName)?.id]).toEqual([2, contentIdOf(Buffer.from('mine'))])
  })

  test('that is all here is done at once, with no provider left', async () => {
    const setup = new Setup()
    const me = new MemorySmallPeer(self, [])
    setup.shelf.put('lectures/f0', textOf(0))
    expect(await setup.run([], rowsOf(1, me))).toMatchObject({ outcome: 'done', files: 0, failed: 0 })
  })

  test('has one content under many names fetched once', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', texts(1))
    const rows = ['a', 'b/c', 'd'].map((name) => row(`lectures/${name}`, textOf(0), p1))
    expect(await setup.run([p1], rows)).toMatchObject({ files: 3, bytes: 27 })
    expect([p1.asked, setup.received]).toEqual([1, 9])
    expect(setup.verified).toEqual(new Map([['P1', 27]]))
  })

  test('has its empty files made without asking anybody', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', [])
    const result = await setup.run([p1], [row('lectures/__init__.py', Buffer.alloc(0), p1)])
    expect([result.files, p1.asked, setup.shelf.files.size]).toEqual([1, 0, 1])
  })

  test('has its large files fetched as downloads of their own, a few at a time', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', texts(1))
    let now = 0
    let most = 0
    setup.onFile.mockImplementation(async ({ names }, { observer }) => {
      most = Math.max(most, ++now)
      await new Promise((resolve) => setImmediate(resolve))
      now--
      if (names[0]!.endsWith('3')) throw new NetworkError('corrupt', 'no provider is left')
      observer.onVerified?.('P1' as PeerId, 5, 0)
      return 'done'
    })
    const large = Array.from({ length: 8 }, (_, i) => row(`lectures/l${i}`, patternOf(MAX_SMALL + 1 + i), p1))
    const result = await setup.run([p1], [...rowsOf(1, p1), ...large])
    expect(result).toMatchObject({ files: 8, failed: 1, faults: ['"lectures/l3": no provider is left'] })
    expect(most).toBe(3)
  })

  test.each([
    ['empty', Buffer.alloc(0)],
    ['one text', textOf(0)],
  ])('of 5,000 files that are all %s lands in two batches at a time', async (_, data) => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', [data])
    const rows = Array.from({ length: 5000 }, (_, i) => row(`lectures/f${i}`, data, p1))
    expect(await setup.run([p1], rows)).toMatchObject({ files: 5000, failed: 0 })
    expect(setup.shelf.mostLanding).toBeLessThanOrEqual(512)
    expect(setup.shelf.files.size).toBe(5000)
  })

  test('from many providers at once lands in two batches at a time', async () => {
    const setup = new Setup()
    const peers = Array.from({ length: 8 }, (_, i) => new MemorySmallPeer(`P${i}`, texts(5000)))
    expect(await setup.run(peers, rowsOf(5000, ...peers))).toMatchObject({ files: 5000, failed: 0 })
    expect([setup.shelf.mostLanding <= 512, setup.right(5000)]).toEqual([true, 5000])
  })

  test('at a low rate has each file land within a second of its coming', async () => {
    const setup = new Setup()
    const clock = new ManualClock()
    const data = Array.from({ length: 3 }, (_, i) => patternOf(MAX_SMALL, i))
    const p1 = new MemorySmallPeer('P1', data)
    const rows = data.map((content, i) => row(`lectures/f${i}`, content, p1))
    const running = setup.run([p1], rows, { download: { rate: () => MAX_SMALL / 20 }, deps: { clock } })
    for (let file = 1; file <= 3; file++) {
      await expect.poll(() => p1.asked).toBe(file)
      await expect.poll(() => setup.received).toBe(file * MAX_SMALL)
      clock.advance(1000)
      await expect.poll(() => setup.landed).toBe(file)
      clock.advance(19_000)
    }
    expect(await running).toMatchObject({ files: 3, failed: 0 })
  })

  test('has what is here of a large file counted once for each of its names', async () => {
    const setup = new Setup()
    const large = patternOf(MAX_SMALL + 10)
    const p1 = new MemorySmallPeer('P1', [])
    let here = 0
    setup.onFile.mockImplementation(async (_, { observer }) => {
      observer.onManifest?.(manifestOf(large), MAX_SMALL)
      observer.onVerified?.('P1' as PeerId, 10, 1)
      return 'done'
    })
    await setup.run(
      [p1],
      ['a', 'b'].map((name) => row(`lectures/${name}`, large, p1)),
      {
        download: {
          observer: {
            onPartHere: (bytes) => {
              here += bytes
            },
            onVerified: (peer, bytes) => setup.verified.set(peer, bytes),
          },
        },
      },
    )
    expect([here, setup.verified]).toEqual([2 * MAX_SMALL, new Map([['P1', 20]])])
  })

  test('in a dummy run is counted and nothing is asked or written', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', texts(3))
    const result = await setup.run([p1], rowsOf(3, p1), { download: { dummy: true } })
    expect(result).toMatchObject({ outcome: 'simulated', files: 3, bytes: 27 })
    expect([p1.asked, setup.shelf.files.size, setup.received]).toEqual([0, 0, 0])
  })

  test('is fetched no faster than its rate', async () => {
    const setup = new Setup()
    const clock = new ManualClock()
    const data = Array.from({ length: 12 }, (_, i) => patternOf(MAX_SMALL, i))
    const p1 = new MemorySmallPeer('P1', data)
    const rows = data.map((content, i) => row(`lectures/f${i}`, content, p1))
    const running = setup.run([p1], rows, { download: { rate: () => MAX_SMALL }, deps: { clock } })
    for (let second = 0; second < 11; second++) {
      await expect.poll(() => p1.asked).toBe(second + 1)
      clock.advance(1000)
    }
    expect((await running).files).toBe(12)
  })
})

describe('several providers', () => {
  test('share the work, and what only one has comes from that one', async () => {
    const setup = new Setup()
    const [p1, p2] = [new MemorySmallPeer('P1', texts(5000)), new MemorySmallPeer('P2', texts(5000))]
    const rows = rowsOf(5000, p1, p2).map((all, i) => (i < 10 ? { ...all, offers: all.offers.slice(1) } : all))
    expect(await setup.run([p1, p2], rows)).toMatchObject({ files: 5000, failed: 0 })
    expect([setup.right(5000), p1.asked > 0, p2.asked >= 10, p1.asked + p2.asked]).toEqual([5000, true, true, 5000])
  })

  const wrong: Manner = (right) => right.map(({ id }) => ({ id, data: Buffer.from('wrong') }))
  const everyTenthWrong: Manner = (right) =>
    right.map((c, i) => (i % 10 === 9 ? { id: c.id, data: Buffer.from('!') } : c))
  const strangers: Manner = () => [{ id: contentIdOf(Buffer.from('x')), data: Buffer.from('x') }]
  const shuffled: Manner = (right) => right.toReversed()
  const tooMany: Manner = (right) => [...right, ...right]
  const truncates: Manner = (right) => right.map((c) => (c.fault ? c : { id: c.id, data: c.data.subarray(1) }))
  const hangsUp: Manner = () => 'end'

  test.each([
    ['wrong bytes', wrong],
    ['every tenth wrong', everyTenthWrong],
    ['what nobody asked for', strangers],
    ['answers in another order', shuffled],
    ['more than was asked for', tooMany],
    ['truncated contents', truncates],
    ['nothing, and hangs up', hangsUp],
  ])('one that sends %s is dropped, and the others give what it did not', async (_, manner) => {
    const setup = new Setup()
    const bad = new MemorySmallPeer('BAD', texts(200), manner)
    const good = new MemorySmallPeer('GOOD', texts(200))
    const result = await setup.run([bad, good], rowsOf(200, bad, good), { options: { maxProviders: 1 } })
    expect(result).toMatchObject({ files: 200, failed: 0 })
    expect([setup.right(200), bad.open_, good.open_]).toEqual([200, 0, 0])
    expect(setup.notes.filter((note) => note.includes('BAD')).length).toBe(bad.asked > 0 ? 1 : 0)
  })

  test.each([
    ['wrong bytes', wrong, 'corrupt'],
    ['truncated contents', truncates, 'corrupt'],
    ['nothing', hangsUp, 'unavailable'],
  ] as const)('where the only one sends %s, nothing lands and the error says why', async (_, manner, code) => {
    const setup = new Setup()
    const bad = new MemorySmallPeer('BAD', texts(10), manner)
    const failure = await setup.run([bad], rowsOf(10, bad)).catch((error: NetworkError) => error)
    expect(failure).toMatchObject({ code, message: expect.stringContaining('BAD') })
    expect(setup.shelf.files.size).toBe(0)
  })

  test('one that stalls is dropped in time, and its files come from another', async () => {
    const setup = new Setup()
    const clock = new ManualClock()
    const mute = new MemorySmallPeer('MUTE', texts(100), () => 'never')
    const good = new MemorySmallPeer('GOOD', texts(100))
    const rows = rowsOf(100, mute, good).map((all, i) => (i < 5 ? { ...all, offers: all.offers.slice(0, 1) } : all))
    const running = setup.run([mute, good], rows, { deps: { clock } })
    await expect.poll(() => mute.asked).toBeGreaterThan(0)
    await expect.poll(() => good.open_).toBe(0)
    clock.advance(15_500)
    const result = await running
    expect(result).toMatchObject({ files: 95, failed: 5 })
    expect(setup.notes).toContainEqual(expect.stringContaining('MUTE is too slow'))
  })

  test('one over a slow line is waited for while each content comes in time', async () => {
    const setup = new Setup()
    const clock = new ManualClock()
    const data = Array.from({ length: 8 }, (_, i) => patternOf(32 * 1024, i))
    const slow = new MemorySmallPeer('SLOW', data)
    const pause = vi.fn((signal: AbortSignal) => clock.sleep(15_000, signal))
    slow.pause = pause
    const rows = data.map((content, i) => row(`lectures/f${i}`, content, slow))
    const running = setup.run([slow], rows, { deps: { clock } })
    for (let file = 1; file <= data.length; file++) {
      await expect.poll(() => pause.mock.calls.length).toBe(file)
      clock.advance(15_000)
    }
    await expect.poll(() => setup.received).toBe(data.length * 32 * 1024)
    clock.advance(1000)
    expect(await running).toMatchObject({ files: 8, failed: 0 })
    expect(setup.notes).toEqual([])
  })

  test('one that sends a little now and then is dropped, too', async () => {
    const setup = new Setup()
    const clock = new ManualClock()
    const trickling = new MemorySmallPeer('DROPS', texts(100))
    const pause = vi.fn((signal: AbortSignal) => clock.sleep(6000, signal))
    trickling.pause = pause
    const running = setup.run([trickling], rowsOf(100, trickling), { deps: { clock } })
    for (let file = 1; file <= 3; file++) {
      await expect.poll(() => pause.mock.calls.length).toBe(file)
      clock.advance(6000)
    }
    expect(await running).toMatchObject({ files: 2, failed: 98 })
    expect(setup.notes).toEqual([expect.stringContaining('DROPS is too slow')])
  })

  test('one that lacks some files is asked for the rest; the others are asked for those', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer(
      'P1',
      texts(100).filter((_, i) => i % 10 !== 0),
    )
    const p2 = new MemorySmallPeer(
      'P2',
      texts(100).filter((_, i) => i % 10 < 1 && i > 0),
    )
    const result = await setup.run([p1, p2], rowsOf(100, p1, p2), { options: { maxProviders: 1 } })
    expect(result).toMatchObject({ files: 99, failed: 1, faults: ['"lectures/f0": it is not shared here'] })
    expect(setup.right(100)).toBe(99)
  })

  test('one that has too many takers is asked again after a rest', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', texts(10))
    p1.busy = 3
    const result = await setup.run([p1], rowsOf(10, p1), { options: { restMs: 1 } })
    expect([result.files, setup.notes]).toEqual([10, []])
  })

  test('that all simulate make a simulation; beside a real one they are told', async () => {
    const setup = new Setup()
    const simulates: Manner = (right) => right.map(({ id }) => ({ id, data: Buffer.alloc(0) }))
    const eco = new MemorySmallPeer('ECO', texts(10), simulates)
    expect(await setup.run([eco], rowsOf(10, eco))).toMatchObject({ outcome: 'simulated', files: 10, failed: 0 })
    expect(setup.shelf.files.size).toBe(0)
    const real = new MemorySmallPeer('REAL', texts(10))
    const rows = rowsOf(10, eco, real).map((all, i) => (i < 2 ? { ...all, offers: all.offers.slice(0, 1) } : all))
    expect(await setup.run([eco, real], rows)).toMatchObject({ outcome: 'done', files: 8, failed: 2 })
    expect(setup.notes).toContain('ECO is in dummy mode and only simulates')
  })

  test('that simulate a large file make a simulation, too', async () => {
    const setup = new Setup()
    const eco = new MemorySmallPeer('ECO', [])
    setup.onFile.mockResolvedValue('simulated')
    const large = row('lectures/l', patternOf(MAX_SMALL + 1), eco)
    expect(await setup.run([eco], [large])).toMatchObject({ outcome: 'simulated', files: 1, failed: 0 })
    expect(setup.landed).toBe(0)
    const real = new MemorySmallPeer('REAL', texts(1))
    expect(await setup.run([real], [large, ...rowsOf(1, real)])).toMatchObject({ outcome: 'done', files: 1, failed: 1 })
  })

  test('that all have to wait for the rate are no leak of listeners', async () => {
    const setup = new Setup()
    const warnings: string[] = []
    const note = ({ name }: Error) => warnings.push(name)
    process.on('warning', note)
    onTestFinished(() => void process.off('warning', note))
    const clock = new ManualClock()
    const data = Array.from({ length: 16 }, (_, i) => patternOf(MAX_SMALL, i))
    const peers = Array.from({ length: 8 }, (_, i) => new MemorySmallPeer(`P${i}`, data))
    const rows = data.map((content, i) => row(`lectures/f${i}`, content, ...peers))
    const running = setup.run(peers, rows, { download: { rate: () => 1000 }, deps: { clock } })
    await expect.poll(() => peers.filter(({ open_ }) => open_ > 0).length).toBe(8)
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
    setup.cancel.abort()
    await expect(running).rejects.toMatchObject({ code: 'cancelled' })
    expect(warnings).toEqual([])
  })
})

describe('what can go wrong here', () => {
  test('a full disk ends it with a clear error, and what landed stays', async () => {
    const setup = new Setup()
    setup.shelf.room = 600
    const p1 = new MemorySmallPeer('P1', texts(3000))
    const failure = await setup.run([p1], rowsOf(3000, p1)).catch((error: NetworkError) => error)
    expect(failure).toMatchObject({ code: 'unavailable', message: expect.stringContaining('disk is full') })
    expect([setup.shelf.files.size, setup.right(3000), p1.open_]).toEqual([512, 512, 0])
    setup.shelf.room = Number.POSITIVE_INFINITY
    expect(await setup.run([p1], rowsOf(3000, p1))).toMatchObject({ files: 3000 - 512, failed: 0 })
  })

  test.each([
    ['empty', Buffer.alloc(0)],
    ['one text', textOf(0)],
  ])('a full disk ends a folder of 5,000 files that are all %s once, and no promise is left', async (_, data) => {
    const setup = new Setup()
    setup.shelf.room = 600
    const unhandled: unknown[] = []
    const note = (reason: unknown) => unhandled.push(reason)
    process.on('unhandledRejection', note)
    onTestFinished(() => void process.off('unhandledRejection', note))
    const p1 = new MemorySmallPeer('P1', [data])
    const rows = Array.from({ length: 5000 }, (_, i) => row(`lectures/f${i}`, data, p1))
    await expect(setup.run([p1], rows)).rejects.toMatchObject({ message: expect.stringContaining('disk is full') })
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect([unhandled, setup.shelf.files.size]).toEqual([[], 512])
  })

  test('a cancelled run of one text under 5,000 names does not wait for all of them', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', texts(1))
    const rows = Array.from({ length: 5000 }, (_, i) => row(`lectures/f${i}`, textOf(0), p1))
    setup.shelf.onBatch = () => setup.cancel.abort()
    await expect(setup.run([p1], rows)).rejects.toMatchObject({ code: 'cancelled' })
    expect(setup.shelf.files.size).toBeLessThanOrEqual(3 * 256)
  })

  test('a large file that ends the folder is told when the others are over, too', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', [])
    let running = 0
    setup.onFile.mockImplementation(async ({ names }, _, signal) => {
      running++
      if (names[0]!.endsWith('0')) {
        running--
        throw new NetworkError('unavailable', 'the disk is full', { reason: 'disk_full' })
      }
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
      await new Promise((resolve) => setImmediate(resolve))
      running--
      throw new NetworkError('cancelled', 'cancelled')
    })
    const rows = [0, 1, 2].map((i) => row(`lectures/l${i}`, patternOf(MAX_SMALL + 1 + i), p1))
    await expect(setup.run([p1], rows)).rejects.toMatchObject({ message: 'the disk is full' })
    expect([setup.onFile.mock.calls.length, running]).toEqual([3, 0])
  })

  test('a cancelled run keeps what was verified, and the next one fetches only the rest', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', texts(3000), (right, asked) => {
      if (asked > 1500) setup.cancel.abort()
      return right
    })
    await expect(setup.run([p1], rowsOf(3000, p1))).rejects.toMatchObject({ code: 'cancelled' })
    const kept = setup.right(3000)
    expect(kept).toBeGreaterThan(0)
    const again = new Setup()
    for (const [name, file] of setup.shelf.files) again.shelf.files.set(name, file)
    const whole = new MemorySmallPeer('P1', texts(3000))
    expect(await again.run([whole], rowsOf(3000, whole))).toMatchObject({ files: 3000 - kept })
    expect(whole.asked).toBe(3000 - kept)
  })

  test('a file of the name that the folder has to have is a conflict, and nothing is asked', async () => {
    const setup = new Setup()
    setup.shelf.put('lectures', textOf(0))
    const p1 = new MemorySmallPeer('P1', texts(1))
    await expect(setup.run([p1], rowsOf(1, p1))).rejects.toMatchObject({ code: 'conflict' })
  })

  test('a thousand faults are counted, and fifty told', async () => {
    const setup = new Setup()
    const p1 = new MemorySmallPeer('P1', [textOf(0)])
    const result = await setup.run([p1], rowsOf(1001, p1))
    expect([result.files, result.failed, result.faults.length]).toEqual([1, 1000, 50])
  })
})

describe('the listing', () => {
  const p1 = new MemorySmallPeer('P1', texts(10))
  const p2 = new MemorySmallPeer('P2', texts(10))

  test('of names with two contents is not guessed at: the choices are told', async () => {
    const setup = new Setup()
    const both = { name: 'lectures/f0', offers: [...row('', textOf(0), p1).offers, ...row('', textOf(1), p2).offers] }
    const result = await setup.run([p1, p2], [both, row('lectures/f2', textOf(2), p1)])
    expect(result).toMatchObject({ files: 1, failed: 1 })
    expect(result.faults[0]).toMatch(/"lectures\/f0" stands for 2 contents: [0-9a-f]{12}… at P1; [0-9a-f]{12}… at P2/)
  })

  test('has hostile and foreign names left out, and bare ones', async () => {
    const setup = new Setup()
    const bad = [
      '/etc/passwd',
      'lectures/../../x',
      'lectures/\u0007',
      'lectures',
      'other/f',
      'lectures/.x',
      'lectures/a\\b',
    ]
    const rows = [
      ...bad.map((name) => row(name, textOf(0), p1)),
      { name: 'lectures/bare', offers: [{ ...row('', textOf(0), p1).offers[0]!, id: null as ContentId | null }] },
      ...rowsOf(1, p1),
    ]
    expect(await setup.run([p1], rows)).toMatchObject({ files: 1, failed: 0 })
    expect([...setup.shelf.files.keys()]).toEqual(['lectures/f0'])
    expect(setup.notes).toEqual([
      '1 file left out: announced without a content id',
      '7 files left out: no names of files in "lectures"',
    ])
  })

  test('of more files than a folder may have is refused', async () => {
    const setup = new Setup()
    await expect(setup.run([p1], rowsOf(9, p1), { options: { maxFiles: 8 } })).rejects.toMatchObject({
      code: 'too_large',
    })
    expect(setup.shelf.files.size).toBe(0)
  })

  test('comes from the friends, all together, where the Maestro does not answer', async () => {
    const setup = new Setup()
    const friends = [
      memoryLister(rowsOf(4, p1).slice(0, 3)),
      deadLister('http://f2'),
      memoryLister(rowsOf(4, p2).slice(2)),
    ]
    const listers = () => ({ maestro: deadLister('http://m'), friends })
    expect(await setup.run([p1, p2], [], { deps: { listers } })).toMatchObject({ files: 4 })
    expect(setup.notes).toEqual(['http://m does not answer; asked the friends instead', 'http://f2 does not answer'])
  })

  test('that nobody has is not found; that nobody could be asked for is unavailable', async () => {
    const setup = new Setup()
    await expect(setup.run([], [])).rejects.toMatchObject({ code: 'not_found' })
    const listers = () => ({ maestro: deadLister(), friends: [deadLister()] })
    await expect(setup.run([], [], { deps: { listers } })).rejects.toMatchObject({ code: 'unavailable' })
  })

  test('that breaks off is told as a fault, since there may be more', async () => {
    const setup = new Setup()
    const breaks = {
      asked: 'http://m',
      async *list() {
        yield rowsOf(2, p1)
        throw new NetworkError('unavailable', 'http://m does not answer')
      },
    }
    const listers = () => ({ maestro: breaks, friends: [] })
    expect(await setup.run([p1], [], { deps: { listers } })).toMatchObject({
      files: 2,
      failed: 1,
      faults: ['the list of files is not whole: http://m does not answer'],
    })
  })

  test('without end is given up', async () => {
    const setup = new Setup()
    const endless = {
      asked: 'http://liar',
      async *list() {
        for (;;) yield []
      },
    }
    const listers = () => ({ maestro: endless, friends: [memoryLister(rowsOf(1, p1))] })
    expect(await setup.run([p1], [], { deps: { listers }, options: { maxFiles: 5000 } })).toMatchObject({ files: 1 })
    expect(setup.notes[0]).toMatch(/^http:..liar lists without end/)
  })
})
