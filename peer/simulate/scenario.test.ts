import { expect, test } from 'vitest'
import { churn } from './churn.ts'
import { flooding, PLAIN } from './flooding.ts'
import { idle } from './idle.ts'
import { lookUpAll, share } from './lookups.ts'
import { Population } from './population.ts'
import { type ScenarioOptions, simulate } from './scenario.ts'
import { seededRandom } from './seeded.ts'
import { distributionOf } from './statistics.ts'
import { pathWithSuccessors, timeoutsExpected } from './theory.ts'

const SMALL: ScenarioOptions = {
  peers: 60,
  kill: 0.3,
  successors: 8,
  lookups: 200,
  seed: 1,
  churnMs: 5000,
  join: false,
  flood: true,
  degree: 4,
}
const run = (options: Partial<ScenarioOptions> = {}) =>
  simulate({ ...SMALL, ...options }, () => {}, new AbortController().signal)

test('two runs with one seed are the same to the last number, and another seed is another network', async () => {
  const [first, again, other] = [await run(), await run(), await run({ seed: 2 })]
  expect(again).toEqual(first)
  expect({ ...other, options: first.options }).not.toEqual(first)
  expect(other.lookups.killed).not.toEqual(first.lookups.killed)
})

test('peers that join by themselves form the ring that they would be given', async () => {
  const results = await run({ join: true, kill: 0, churnMs: undefined, flood: false })
  expect(results.joinedAfterMs).toBeGreaterThanOrEqual(0)
  expect(results.lookups.whole).toMatchObject({ failed: 0, found: 200, timeouts: 0 })
})

test('it ends where it is interrupted', async () => {
  const stopped = new AbortController()
  const running = simulate(SMALL, () => stopped.abort(), stopped.signal)
  await expect(running).rejects.toMatchObject({ code: 'cancelled' })
})

test('a whole ring: the mean path is shorter than the paper expects of one with such lists, and nothing is missed', async () => {
  const population = new Population({ seed: 1, chord: { successors: 8 } })
  population.found(256)
  const results = await lookUpAll(population, share(population, 100), 2000)
  expect(results).toMatchObject({ failed: 0, timeouts: 0, found: 2000 })
  // Fingers at half steps between the paper's make it about a fifth shorter.
  expect(results.path.mean).toBeLessThan(pathWithSuccessors(256, 8))
  expect(results.path.mean).toBeGreaterThan(0.6 * pathWithSuccessors(256, 8))
})

test('memory saves timeouts: who was silent is not asked again by the same peer', async () => {
  const population = new Population({ seed: 1 })
  population.found(100)
  const files = share(population, 50)
  population.kill(population.some(40))
  const without = await lookUpAll(population, files, 1000)
  const own = await lookUpAll(population, files, 1000, { memory: 'own' })
  expect(own.timeouts).toBeLessThan(0.85 * without.timeouts)
  // What it learned went with the twins: the ring is as it was.
  expect((await lookUpAll(population, files, 1000)).timeouts).toBeGreaterThan(0.9 * without.timeouts)
})

test('an idle ring costs less than one message a second a peer', async () => {
  const population = new Population({ seed: 1 })
  population.found(300)
  const results = await idle(population, { warmMs: 60_000, ms: 60_000 })
  expect(results.perSecond).toBeLessThan(1)
  expect(results.calls['ring.stabilize']).toBeGreaterThan(0.08)
})

test('lookups while peers come and go: hardly one fails, and the ring keeps its size', async () => {
  const population = new Population({ seed: 1, chord: { stabilizeMs: [30_000, 30_000] }, jitter: 0.5 })
  population.found(100)
  const results = await churn(population, { everyMs: 20_000, lookups: 1000 })
  expect(results.failed).toBeLessThanOrEqual(3)
  expect(results.joined).toBeGreaterThan(30)
  expect(results.health.members).toBe(100 + results.joined - results.gone)
})

test('floods of both kinds search the same graph: in rings it is found as well, by fewer messages', async () => {
  const population = new Population({ seed: 1 })
  population.found(200)
  const search = (flood: typeof PLAIN) =>
    flooding(population, population.members, seededRandom(1), { degree: 4, queries: 20, copies: [5], flood })
  const plain = await search(PLAIN)
  const rings = await search({})
  expect(plain.found).toBe(20)
  expect(rings.found).toBe(20)
  expect(rings.messages).toBeLessThan(0.6 * plain.messages)
})

test('a distribution tells the mean, percentiles, and how often each number came', () => {
  const values = [...Array.from({ length: 98 }, () => 3), 0, 9]
  expect(distributionOf(values)).toMatchObject({ mean: 3.03, p1: 3, p99: 9, max: 9 })
  expect(distributionOf([2, 0, 2]).counts).toEqual([1, 0, 2])
  expect(distributionOf([])).toMatchObject({ mean: 0, max: 0 })
})

test('theory: the figures of the paper for a thousand members and lists of twenty', () => {
  expect(pathWithSuccessors(1000, 20)).toBeCloseTo(3.82, 2)
  expect(timeoutsExpected(5.09, 0.5)).toBeCloseTo(5.09, 2)
})
