import { expect, it } from 'vitest'
import { OriginRates } from './amqp-origins.ts'
import { anEvent } from './bus.fixture.ts'

const at = (origin: string, ms: number) => anEvent(origin, 1, { time: new Date(1_700_000_000_000 + ms).toISOString() })
const admitted = (rates: OriginRates, origin: string, times: readonly number[]) =>
  times.filter((ms) => rates.admits(at(origin, ms))).length
const many = (count: number, every: number) => Array.from({ length: count }, (_, index) => index * every)

it('events of one moment are admitted up to the bound, and each origin has its own', () => {
  const rates = new OriginRates({ perSecond: 10, atOnce: 100 })
  expect(admitted(rates, 'P1', many(1000, 0))).toBe(100)
  expect(admitted(rates, 'P2', many(1000, 0))).toBe(100)
})

it('events that happened at the rate are all admitted, however late they come', () => {
  expect(admitted(new OriginRates({ perSecond: 10, atOnce: 5 }), 'P1', many(5000, 100))).toBe(5000)
})

it('an origin that had a clock far ahead, and set it right, is not held back for ever', () => {
  const rates = new OriginRates({ perSecond: 10, atOnce: 5 })
  expect(admitted(rates, 'P1', [1e12, 1e12, 1e12, 1e12, 1e12, 1e12])).toBe(5)
  expect(admitted(rates, 'P1', many(100, 100))).toBeGreaterThan(90)
})
