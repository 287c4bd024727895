import type { ContentId } from '../../common/ids.ts'
import { sha256 } from '../../common/merkle.ts'
import { type LookupResults, lookUp, type Outcome, resultsOf } from './lookups.ts'
import type { Population, RingHealth } from './population.ts'
import { untilNext } from './seeded.ts'

export interface ChurnOptions {
  /** between two joins, and between two that go, on average, ms */
  everyMs: number
  lookups: number
  /** who goes says goodbye (default), or falls silent */
  polite?: boolean
  progress?: (done: number) => void
}

export interface ChurnResults extends LookupResults {
  readonly joined: number
  readonly gone: number
  /** virtual time that it took */
  readonly seconds: number
  readonly health: RingHealth
}

/** Members that a newcomer knows. */
const KNOWN = 4
/** On average. */
const LOOKUPS_PER_SECOND = 1
/** Fewer than this many members are left alone. */
const LEAST = 3

/**
 * Lookups of keys by chance while peers come and go, all at random times (Poisson processes). The members' maintenance
 * runs, and they remember what they learn.
 */
export async function churn(
  population: Population,
  { everyMs, lookups, polite = true, progress = () => {} }: ChurnOptions,
): Promise<ChurnResults> {
  const { clock, random } = population
  const begin = clock.now()
  const running: Promise<unknown>[] = []
  const outcomes: Outcome[] = []
  let asked = 0
  let joined = 0
  let gone = 0
  const often = async (rate: number, act: () => Promise<unknown>) => {
    for (;;) {
      await clock.sleep(untilNext(random, rate))
      if (asked === lookups) return
      running.push(act())
    }
  }
  const join = () => {
    joined++
    return population.enter(population.settle(population.some(KNOWN).map(({ member }) => member)))
  }
  const go = async () => {
    if (population.members.length <= LEAST) return
    gone++
    if (polite) return population.leave(population.one())
    population.kill([population.one()])
  }
  const look = async () => {
    const content = sha256(Buffer.from(`key ${begin} ${asked++}`)).toString('hex') as ContentId
    outcomes.push(await lookUp(population, population.one().node, content))
    if (outcomes.length % 100 === 0) progress(outcomes.length)
  }
  population.maintain()
  const rate = 1000 / everyMs
  await clock.run(Promise.all([often(rate, join), often(rate, go), often(LOOKUPS_PER_SECOND, look)]))
  await clock.run(Promise.all(running))
  const seconds = (clock.now() - begin) / 1000
  return { ...resultsOf(outcomes), joined, gone, seconds, health: population.health() }
}
