import { describe, expect, test, vi } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import type { PeerId } from '../../common/ids.ts'
import { type Manifest, MIN_PIECE_SIZE, manifestOf, pieceCount } from '../../common/merkle.ts'
import type { Contents } from './contents.ts'
import type { OutgoingFrame, ProviderSink } from './outgoing.ts'
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
  from(uploader: Uploader, contents: Contents, { id }: Pick<Manifest, 'id'>, name?: string): this {
    const taker = name === undefined ? undefined : contactOf(name)
    this.ended = uploader
      .serve(contents, { id, dummy: false, taker }, this.#said(), this.sink, this.#over.signal)
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
