import { expect, onTestFinished, test, vi } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import { TokenBucket } from './rate-limit.ts'
import type { SmallContent } from './small-source.ts'
import { SmallUploader, type SmallUploaderDeps } from './small-uploader.ts'
import { MemoryContents, patternOf } from './transfer.fixture.ts'

const KB = 1024

/** A conversation with a taker that has asked for these contents, and asks on as `ask` says. */
class Conversation {
  readonly clock = new ManualClock()
  readonly contents = new MemoryContents()
  readonly ids: ContentId[]
  readonly sent: { at: number; bytes: number; ids: ContentId[] }[] = []
  readonly cut = vi.fn()
  readonly gone = new AbortController()
  /** resolves when an answer has left */
  leave = async () => {}
  ask: (ids: readonly ContentId[]) => void = () => {}
  readonly #began = this.clock.now()

  constructor(count: number, size: number) {
    this.ids = Array.from({ length: count }, (_, i) => this.contents.add(`f${i}`, patternOf(size, i)).id)
    onTestFinished(() => this.gone.abort())
  }

  serve(limit?: (clock: ManualClock) => NonNullable<SmallUploaderDeps['limit']>): Promise<void> {
    const { clock, ids, contents, gone } = this
    const more = new Promise<readonly ContentId[]>((resolve) => {
      this.ask = resolve
    })
    async function* requests() {
      yield ids
      yield await more
    }
    const sink = { send: (answer: readonly SmallContent[]) => this.#send(answer), cut: this.cut }
    const uploader = new SmallUploader({ clock, ...(limit ? { limit: limit(clock) } : {}) })
    return uploader.serve(contents, false, requests(), sink, gone.signal)
  }

  /** Time passes until this is so. @returns how much of it, ms */
  async pass(until: () => boolean, stepMs = 100): Promise<number> {
    const began = this.clock.now()
    while (!until()) {
      for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setImmediate(resolve))
      if (!until()) this.clock.advance(stepMs)
      if (this.clock.now() - began > 3_600_000) throw new Error('an hour has passed')
    }
    return this.clock.now() - began
  }

  #send(answer: readonly SmallContent[]): Promise<void> {
    const bytes = answer.reduce((sum, { fault, ...content }) => sum + ('data' in content ? content.data.length : 0), 0)
    this.sent.push({ at: this.clock.now() - this.#began, bytes, ids: answer.map(({ id }) => id) })
    return this.leave()
  }
}

test('answers are small enough for a slow line', async () => {
  const conversation = new Conversation(96, 4 * KB)
  const over = conversation.serve()
  conversation.ask([])
  await over
  expect(conversation.sent.map(({ bytes }) => bytes)).toEqual(Array(6).fill(64 * KB))
  expect(conversation.sent.flatMap(({ ids }) => ids)).toEqual(conversation.ids)
})

test('a content that is larger leaves alone', async () => {
  const conversation = new Conversation(3, 100 * KB)
  const over = conversation.serve()
  conversation.ask([])
  await over
  expect(conversation.sent.map(({ bytes }) => bytes)).toEqual(Array(3).fill(100 * KB))
})

test('under a low limit a taker gets something every few seconds, and is not sent away meanwhile', async () => {
  const conversation = new Conversation(64, 4 * KB)
  void conversation.serve((clock) => new TokenBucket(clock, () => 2 * KB))
  const all = () => conversation.sent.reduce((sum, { ids }) => sum + ids.length, 0) === 64
  const took = await conversation.pass(all)
  const gaps = conversation.sent.map(({ at }, i) => at - (conversation.sent[i - 1]?.at ?? 0))
  expect(Math.max(...gaps)).toBeLessThan(9000)
  // The first 16 KiB need not wait.
  expect([took > 115_000, took < 125_000]).toEqual([true, true])
  expect(conversation.sent.flatMap(({ ids }) => ids)).toEqual(conversation.ids)
  expect(conversation.cut).not.toHaveBeenCalled()
  const idle = await conversation.pass(() => conversation.cut.mock.calls.length > 0)
  expect([idle >= 59_900, idle < 61_000]).toEqual([true, true])
})

test('what has passed the limit does not wait for what has not', async () => {
  const conversation = new Conversation(4, 16 * KB)
  const take = vi.fn<NonNullable<SmallUploaderDeps['limit']>['take']>(() => undefined)
  take
    .mockReturnValueOnce(undefined)
    .mockReturnValueOnce(undefined)
    .mockReturnValueOnce(new Promise(() => {}))
  void conversation.serve(() => ({ take }))
  await expect.poll(() => conversation.sent.flatMap(({ ids }) => ids)).toEqual(conversation.ids.slice(0, 2))
})

test('a slow taker is given the time that an answer takes at 2 kB a second', async () => {
  const conversation = new Conversation(16, 4 * KB)
  conversation.leave = () => new Promise(() => {})
  void conversation.serve()
  await conversation.pass(() => conversation.sent.length > 0)
  const took = await conversation.pass(() => conversation.cut.mock.calls.length > 0)
  expect([took > 47_000, took < 49_000]).toEqual([true, true])
})

test('a conversation that has ended sends nothing more', async () => {
  const conversation = new Conversation(4, 16 * KB)
  const take = vi.fn(
    (_: number, signal: AbortSignal) =>
      new Promise<void>((_, reject) => {
        signal.addEventListener('abort', () => reject(new NetworkError('cancelled', 'cancelled')), { once: true })
      }),
  )
  const over = conversation.serve(() => ({ take }))
  await expect.poll(() => take.mock.calls.length).toBe(1)
  conversation.ask(Array(1025).fill(conversation.ids[0]!))
  await expect(over).rejects.toMatchObject({ code: 'invalid' })
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
  expect([conversation.sent, take.mock.calls.length, take.mock.calls[0]![1].aborted]).toEqual([[], 1, true])
})
