import { expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { CreditLimit } from './credit-limit.ts'

const PIECE = 1000

test('without a limit all may be asked for at once', () => {
  const limit = new CreditLimit(new ManualClock(), PIECE)
  expect(limit.take(1_000_000)).toBe(1_000_000)
  expect(limit.share(0, 3)).toBeUndefined()
})

test.each([500, 1000, 2500, 100_000])('over a minute, %i bytes a second are what may be asked for', (rate) => {
  const clock = new ManualClock()
  const limit = new CreditLimit(clock, PIECE, () => rate)
  let pieces = 0
  for (let i = 0; i < 240; i++) {
    clock.advance(250)
    pieces += limit.take(1000)
  }
  expect(Math.abs(pieces * PIECE - 60 * rate)).toBeLessThanOrEqual(PIECE)
})

test('what is not used is saved up for a second, or for one piece', () => {
  const clock = new ManualClock()
  const [slow, fast] = [300, 5000].map((rate) => new CreditLimit(clock, PIECE, () => rate))
  clock.advance(3_600_000)
  expect([slow!.take(100), fast!.take(100)]).toEqual([1, 5])
})

test('a limit that is set later starts with nothing saved up', () => {
  const clock = new ManualClock()
  let rate: number | undefined
  const limit = new CreditLimit(clock, PIECE, () => rate)
  clock.advance(60_000)
  limit.take(1)
  rate = 5000
  expect(limit.take(100)).toBe(0)
})

test('a share is told where it differs by a tenth, and the end of the limit always', () => {
  let rate: number | undefined = 9000
  const limit = new CreditLimit(new ManualClock(), PIECE, () => rate)
  expect(limit.share(0, 3)).toBe(3000)
  expect(limit.share(3000, 3)).toBeUndefined()
  rate = 9300
  expect(limit.share(3000, 3)).toBeUndefined()
  rate = 12_000
  expect(limit.share(3000, 3)).toBe(4000)
  rate = undefined
  expect(limit.share(4000, 3)).toBe(0)
})
