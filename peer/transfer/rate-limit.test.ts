import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { TokenBucket } from './rate-limit.ts'

const KB = 1000
const MB = 1000 * KB
const FRAME = 128 * 1024
const never = new AbortController().signal

function bucketOf(initial: number | undefined) {
  const clock = new ManualClock()
  let rate = initial
  const bucket = new TokenBucket(clock, () => rate)
  /** Changes the rate, and says so. */
  const setRate = (to: number | undefined) => {
    rate = to
    bucket.changed()
  }
  /** Lets time pass in steps, such as timers that are late by up to that. */
  const pass = async (ms: number, step = 10) => {
    for (let left = ms; left > 0; left -= step) {
      clock.advance(Math.min(step, left))
      await setImmediate()
    }
  }
  return { clock, bucket, setRate, pass }
}

/** Takes as fast as the bucket lets it, until it is stopped. */
function greedy(bucket: TokenBucket, bytes: number) {
  const stop = new AbortController()
  const taker = { bytes: 0, stop: () => stop.abort(), ended: Promise.resolve() }
  const run = async () => {
    while (!stop.signal.aborted) {
      await bucket.take(bytes, stop.signal)
      taker.bytes += bytes
    }
  }
  taker.ended = run().catch(() => {})
  return taker
}

/** What passes at once, without waiting. */
function atOnce(bucket: TokenBucket, bytes: number): number {
  const nobody = new AbortController()
  let passed = 0
  for (;;) {
    const waits = bucket.take(bytes, nobody.signal)
    if (waits !== undefined) {
      waits.catch(() => {})
      nobody.abort()
      return passed
    }
    passed += bytes
  }
}

describe('over a minute, as many bytes pass as the rate allows', () => {
  test.each([
    [64 * KB, FRAME, 10],
    [500 * KB, FRAME, 10],
    [500 * KB, 1000, 7],
    [524_288, FRAME, 30],
    [3 * MB, FRAME, 25],
    [100 * MB, FRAME, 10],
    [1 * MB, 4 * 1024 * 1024, 10],
  ])('at %d bytes a second, %d at a time, timers late by up to %d ms', async (rate, bytes, step) => {
    const { bucket, pass } = bucketOf(rate)
    const takers = [1, 2, 3].map(() => greedy(bucket, bytes))
    const total = () => takers.reduce((sum, taker) => sum + taker.bytes, 0)
    await pass(20_000, step)
    const before = total()
    await pass(60_000, step)
    // A whole take may fall to either side.
    const tolerance = Math.max(0.02 * rate * 60, bytes)
    expect(Math.abs(total() - before - rate * 60)).toBeLessThanOrEqual(tolerance)
    for (const taker of takers) {
      taker.stop()
      await taker.ended
    }
  })
})

test.each([
  [10 * KB, FRAME],
  [100 * KB, FRAME],
  [524_288, FRAME],
  [1 * MB, 250 * KB],
  [40 * MB, 10 * MB],
])('after a long silence at %d bytes a second, no more than %d pass at once', async (rate, most) => {
  const { bucket, pass } = bucketOf(rate)
  atOnce(bucket, FRAME)
  await pass(3_600_000, 600_000)
  const passed = atOnce(bucket, FRAME)
  expect(passed).toBeLessThanOrEqual(most)
  expect(passed).toBeGreaterThan(0)
})

test('more than a burst passes in one, and those behind wait until it is paid for', async () => {
  const { bucket, pass } = bucketOf(1 * MB)
  expect(bucket.take(10 * MB, never)).toBeUndefined()
  let passed = false
  const next = bucket.take(1, never)?.then(() => {
    passed = true
  })
  await pass(9_990)
  expect(passed).toBe(false)
  await pass(10)
  await next
  expect(passed).toBe(true)
})

test('those who wait pass in their order, whatever they ask for', async () => {
  const { bucket, pass } = bucketOf(100 * KB)
  bucket.take(FRAME, never)
  const order: number[] = []
  const waits = [4 * FRAME, 1, FRAME, 1].map((bytes, i) => bucket.take(bytes, never)?.then(() => order.push(i)))
  await pass(10_000, 100)
  await Promise.all(waits)
  expect(order).toEqual([0, 1, 2, 3])
})

test('takers of equal hunger get equal shares', async () => {
  const { bucket, pass } = bucketOf(2 * MB)
  const takers = Array.from({ length: 8 }, () => greedy(bucket, FRAME))
  await pass(30_000)
  const shares = takers.map(({ bytes }) => bytes)
  expect(Math.max(...shares) - Math.min(...shares)).toBeLessThanOrEqual(FRAME)
  for (const taker of takers) taker.stop()
  await Promise.all(takers.map(({ ended }) => ended))
})

describe('a change of the rate', () => {
  test('to a higher one wakes those who wait', async () => {
    const { bucket, setRate, pass } = bucketOf(10 * KB)
    bucket.take(1 * MB, never)
    const waits = bucket.take(1, never)
    await pass(1000)
    setRate(1 * MB)
    await pass(990)
    await waits
  })

  test('to none lets everybody pass at once', async () => {
    const { bucket, setRate } = bucketOf(1 * KB)
    bucket.take(100 * MB, never)
    const waits = [1, 2, 3].map(() => bucket.take(FRAME, never))
    setRate(undefined)
    await Promise.all(waits)
    expect(bucket.take(FRAME, never)).toBeUndefined()
  })

  test('to a lower one holds for those who wait', async () => {
    const { bucket, setRate, pass } = bucketOf(10 * MB)
    bucket.take(10 * MB, never)
    let passed = false
    const next = bucket.take(1, never)?.then(() => {
      passed = true
    })
    await pass(500)
    setRate(1 * MB)
    await pass(4_990)
    expect(passed).toBe(false)
    await pass(10)
    await next
    expect(passed).toBe(true)
  })

  test('from none begins with no debt', async () => {
    const { bucket, setRate, pass } = bucketOf(undefined)
    for (let i = 0; i < 100; i++) expect(bucket.take(10 * MB, never)).toBeUndefined()
    setRate(1 * MB)
    expect(atOnce(bucket, FRAME)).toBe(FRAME)
    await pass(FRAME / KB)
  })

  test('that nobody told of is noticed all the same', async () => {
    const clock = new ManualClock()
    let rate: number | undefined = 1 * KB
    const bucket = new TokenBucket(clock, () => rate)
    bucket.take(100 * MB, never)
    const waits = bucket.take(1, never)
    rate = undefined
    clock.advance(60_000)
    await waits
  })
})

describe('who gives up', () => {
  test('is cancelled, and those behind go on', async () => {
    const { bucket, pass } = bucketOf(100 * KB)
    bucket.take(FRAME, never)
    const patience = new AbortController()
    const first = bucket.take(100 * MB, patience.signal)
    const second = bucket.take(1, never)
    patience.abort()
    await expect(first).rejects.toMatchObject({ code: 'cancelled' })
    await pass(1_320)
    await second
  })

  test('before asking is cancelled where it would have to wait', async () => {
    const { bucket } = bucketOf(100 * KB)
    bucket.take(FRAME, never)
    await expect(bucket.take(1, AbortSignal.abort())).rejects.toMatchObject({ code: 'cancelled' })
  })

  test('as the last one leaves the bucket in order', async () => {
    const { bucket, pass } = bucketOf(100 * KB)
    bucket.take(FRAME, never)
    const patience = new AbortController()
    const first = bucket.take(1, patience.signal)
    patience.abort()
    await expect(first).rejects.toMatchObject({ code: 'cancelled' })
    const second = bucket.take(1, never)
    await pass(1_320)
    await second
  })
})

test('a clock that is set back holds nobody up', async () => {
  let now = 1_000_000
  const wakers: (() => void)[] = []
  const clock = { now: () => now, sleep: () => new Promise<void>((resolve) => wakers.push(resolve)) }
  const bucket = new TokenBucket(clock, () => 100 * KB)
  bucket.take(FRAME, never)
  const waits = bucket.take(1, never)
  now = 0
  wakers.shift()?.()
  await setImmediate()
  now = 1_320
  wakers.shift()?.()
  await waits
})
