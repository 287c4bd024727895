import { describe, expect, test, vi } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import type { PeerId } from '../../common/ids.ts'
import { LEAF_SIZE, type Manifest, MIN_PIECE_SIZE, manifestOf, pieceCount } from '../../common/merkle.ts'
import type { Contents } from './contents.ts'
import type { OutgoingFrame, ProviderSink } from './outgoing.ts'
import { TokenBucket } from './rate-limit.ts'
import type { Contact, Want } from './source.ts'
import { MemoryContents, patternOf } from './transfer.fixture.ts'
import { Uploader } from './uploader.ts'

const film = patternOf(8 * MIN_PIECE_SIZE)
const manifest = manifestOf(film)
const turn = () => new Promise((resolve) => setImmediate(resolve))

function contactOf(peer: string): Contact {
  return { peer: peer as PeerId, host: '192.0.2.1', grpcPort: 50_051 }
}

/** A taker in memory: says what a test lets it say, and remembers what it is told. */
class FakeTaker {
  readonly frames: (OutgoingFrame & { readonly at: number })[] = []
  readonly told: Contact[] = []
  readonly #clock: ManualClock
  readonly #wants: Want[] = []
  readonly #over = new AbortController()
  #wake = () => {}
  ended: Promise<unknown> = Promise.resolve()
  /** how long a frame takes to leave, ms */
  takes = (_frame: OutgoingFrame): number => 0

  constructor(clock: ManualClock) {
    this.#clock = clock
    this.#over.signal.addEventListener('abort', () => this.#wake())
  }

  /** Opens a conversation. */
  from(uploader: Uploader, contents: Contents, { id }: Pick<Manifest, 'id'>, name?: string, dummy = false): this {
    const taker = name === undefined ? undefined : contactOf(name)
    this.ended = uploader
      .serve(contents, { id, dummy, taker }, this.#said(), this.sink, this.#over.signal)
      .catch((error) => error)
    return this
  }

  want(change: Want): void {
    this.#wants.push(change)
    this.#wake()
  }

  async leave(): Promise<void> {
    this.#over.abort()
    await this.ended
  }

  readonly sink: ProviderSink = {
    send: async (frame) => {
      const ms = this.takes(frame)
      if (ms > 0) await this.#clock.sleep(ms, this.#over.signal)
      this.frames.push({ ...frame, at: this.#clock.now() })
    },
    have: () => {},
    takers: (contacts) => void this.told.push(...contacts),
    abandoned: () => {},
    cut: () => this.#over.abort(),
  }

  async *#said(): AsyncGenerator<Want> {
    while (!this.#over.signal.aborted) {
      const next = this.#wants.shift()
      if (next) yield next
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
    }
  }
}

function setUp() {
  const clock = new ManualClock()
  const contents = new MemoryContents()
  contents.add('film.mkv', film)
  return { clock, contents, uploader: new Uploader({ clock }) }
}

describe('takers', () => {
  test('are told of each other', async () => {
    const { clock, contents, uploader } = setUp()
    const [one, two] = ['one', 'two'].map((name) => new FakeTaker(clock).from(uploader, contents, manifest, name))
    clock.advance(50)
    await turn()
    expect([one!.told, two!.told]).toEqual([[contactOf('two')], [contactOf('one')]])
    await Promise.all([one!.leave(), two!.leave()])
  })

  test('that came and went are not told of, however many they were', async () => {
    const { clock, contents, uploader } = setUp()
    const one = new FakeTaker(clock).from(uploader, contents, manifest, 'one')
    for (let i = 0; i < 2000; i++) await new FakeTaker(clock).from(uploader, contents, manifest, `gone-${i}`).leave()
    const two = new FakeTaker(clock).from(uploader, contents, manifest, 'two')
    for (let i = 0; i < 100; i++) {
      clock.advance(1000)
      await turn()
    }
    expect(one.told).toEqual([contactOf('two')])
    await Promise.all([one.leave(), two.leave()])
  })

  test('that come faster than others can be told of them are told of in part', async () => {
    const { clock, contents, uploader } = setUp()
    const takers = Array.from({ length: 200 }, (_, i) =>
      new FakeTaker(clock).from(uploader, contents, manifest, `t${i}`),
    )
    for (let i = 0; i < 20; i++) {
      clock.advance(1000)
      await turn()
    }
    const most = Math.max(...takers.map(({ told }) => told.length))
    expect(most).toBe(50)
    expect(takers[0]!.told.at(-1)).toEqual(contactOf('t199'))
    await Promise.all(takers.map((taker) => taker.leave()))
  })
})

test('a conversation whose beginning fails leaves nothing behind', async () => {
  const { clock, contents, uploader } = setUp()
  const open = contents.open.bind(contents)
  const listening = new Set<unknown>()
  contents.open = (id) => {
    const holdings = {
      has: () => true,
      held: () => [0, 8],
      check: async () => true,
      onVerified: (listener: unknown) => {
        listening.add(listener)
        return () => void listening.delete(listener)
      },
    }
    return { ...open(id), holdings }
  }
  const taker = new FakeTaker(clock)
  taker.sink.have = () => {
    throw new Error('gone')
  }
  expect(await taker.from(uploader, contents, manifest, 'one').ended).toMatchObject({ message: 'gone' })
  expect([listening.size, uploader.takers(manifest.id), contents.opened]).toEqual([0, [], 0])
})

test('a want of a few bytes costs little, also of the largest content', async () => {
  const { clock, uploader } = setUp()
  const count = 262_144
  const huge = { ...manifest, size: 2 ** 40, pieceSize: 4 * 1024 * 1024 }
  expect(pieceCount(huge.size, huge.pieceSize)).toBe(count)
  const reader = { size: huge.size, read: async () => {}, close: vi.fn() }
  const contents = { manifest: () => huge, get: () => undefined, open: () => reader } as unknown as Contents
  const taker = new FakeTaker(clock).from(uploader, contents, huge)
  const cpu = process.cpuUsage()
  // Everything, taken back, and credit for nothing.
  for (let i = 0; i < 500; i++) {
    taker.want({ add: [0, count] })
    taker.want({ remove: [0, count] })
  }
  for (let i = 0; i < 500; i++) taker.want({ credit: 1 })
  await turn()
  const { user, system } = process.cpuUsage(cpu)
  expect((user + system) / 1000 / 1000).toBeLessThan(0.3)
  taker.want({ add: [count - 1, 1] })
  await vi.waitFor(() => expect(taker.frames[0]?.piece).toBe(count - 1))
  await taker.leave()
  expect(reader.close).toHaveBeenCalled()
})

test('a simulation gives nothing, and does not steer what real takers get', async () => {
  const { clock, contents, uploader } = setUp()
  const simulating = new FakeTaker(clock).from(uploader, contents, manifest, undefined, true)
  simulating.want({ add: [0, 4], credit: 4 })
  await vi.waitFor(() => expect(simulating.frames).toHaveLength(4))
  expect(uploader.list().map(({ sent_once }) => sent_once)).toEqual([])
  const real = new FakeTaker(clock).from(uploader, contents, manifest)
  real.want({ add: [0, 8], credit: 1 })
  await vi.waitFor(() => expect(real.frames.length).toBeGreaterThan(0))
  expect(real.frames[0]!.piece).toBe(0)
  await Promise.all([simulating.leave(), real.leave()])
})

/** What a taker of some seconds' patience makes of a conversation: the longest silence within a piece, ms. */
function longestSilence({ frames }: FakeTaker): number {
  return frames.reduce((most, { at, offset }, i) => (offset === 0 ? most : Math.max(most, at - frames[i - 1]!.at)), 0)
}

describe('under a limit', () => {
  test.each([
    [20, 100_000],
    [20, 40_000],
    [20, 20_000],
    [5, 3000],
  ])('%i takers share %i bytes a second, and none sees a piece that stands still', async (count, rate) => {
    const { clock, contents } = setUp()
    const uploader = new Uploader({ clock, limit: new TokenBucket(clock, () => rate) })
    const takers = Array.from({ length: count }, () => new FakeTaker(clock).from(uploader, contents, manifest))
    for (const taker of takers) taker.want({ add: [0, 8], credit: 8 })
    const seconds = Math.ceil((count * MIN_PIECE_SIZE * 1.5) / rate)
    for (let i = 0; i < 4 * seconds; i++) {
      clock.advance(250)
      for (let j = 0; j < 6; j++) await turn()
    }
    const bytes = takers.reduce((sum, { frames }) => frames.reduce((all, { length }) => all + length, sum), 0)
    expect(bytes).toBeGreaterThan(0.95 * rate * seconds)
    expect(Math.max(...takers.map(longestSilence))).toBeLessThan(12_000)
    // Each had a piece before anyone had a third.
    const wholes = takers.map(({ frames }) => frames.filter(({ offset }) => offset === 0).length)
    expect(Math.min(...wholes)).toBeGreaterThan(0)
    expect(Math.max(...wholes)).toBeLessThanOrEqual(3)
    await Promise.all(takers.map((taker) => taker.leave()))
  })

  test('that is lowered, one large frame is the most that others wait for', async () => {
    const { clock, contents } = setUp()
    let rate: number | undefined
    const uploader = new Uploader({ clock, limit: new TokenBucket(clock, () => rate) })
    const takers = Array.from({ length: 5 }, () => new FakeTaker(clock).from(uploader, contents, manifest))
    for (const taker of takers) {
      taker.takes = () => 10
      taker.want({ add: [0, 8], credit: 1 })
    }
    const run = async (ms: number) => {
      for (let at = 0; at < ms; at += 10) {
        clock.advance(10)
        for (let j = 0; j < 6; j++) await turn()
      }
    }
    await run(400)
    rate = 20_000
    for (const taker of takers) taker.want({ credit: 3 })
    await run(10)
    const before = takers.map(({ frames }) => frames.length)
    await run(12_000)
    const after = takers.flatMap(({ frames }, i) => frames.slice(before[i]))
    expect(after.length).toBeGreaterThan(2)
    expect(after.filter(({ length }) => length > LEAF_SIZE).length).toBeLessThanOrEqual(1)
    await Promise.all(takers.map((taker) => taker.leave()))
  })
})

test('a taker of 4 KB/s is given frames that it gets in time, and a fast one large ones', async () => {
  const { clock, contents, uploader } = setUp()
  const slow = new FakeTaker(clock).from(uploader, contents, manifest)
  const fast = new FakeTaker(clock).from(uploader, contents, manifest)
  // The system's buffers take the first half megabyte at once.
  let taken = 0
  slow.takes = ({ length }) => {
    taken += length
    return taken < 512 * 1024 ? 0 : length / 4
  }
  slow.want({ add: [0, 8], credit: 8 })
  fast.want({ add: [0, 8], credit: 8 })
  for (let i = 0; i < 400; i++) {
    clock.advance(1000)
    for (let j = 0; j < 4; j++) await turn()
  }
  expect(longestSilence(slow)).toBeLessThan(20_000)
  expect(slow.frames.length).toBeGreaterThan(60)
  expect(slow.frames.slice(-50).map(({ length }) => length)).toEqual(Array(50).fill(LEAF_SIZE))
  for (let i = 0; i < 20; i++) {
    fast.want({ add: [0, 8], credit: 8 })
    for (let j = 0; j < 200; j++) await turn()
  }
  expect(fast.frames.at(-1)!.length).toBe(MIN_PIECE_SIZE)
  await Promise.all([slow.leave(), fast.leave()])
})
