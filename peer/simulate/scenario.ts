import { NetworkError } from '../../common/errors.ts'
import { type ChurnResults, churn } from './churn.ts'
import { type FloodResults, flooding, PLAIN } from './flooding.ts'
import { type IdleResults, idle } from './idle.ts'
import { type LookupOptions, type LookupResults, lookUpAll, type Memory, type SharedFile, share } from './lookups.ts'
import { Population, type RingHealth } from './population.ts'
import { seededRandom } from './seeded.ts'

export interface ScenarioOptions {
  peers: number
  /** part of all that fall silent at once: 0 up to, but not, 1 */
  kill: number
  successors: number
  lookups: number
  seed: number
  /** one joins and one leaves so often on average, ms; undefined: nobody does */
  churnMs?: number | undefined
  /** the peers join by themselves, in place of a ring that has always been there */
  join: boolean
  flood: boolean
  /** links of a peer of the unstructured network, on average */
  degree: number
}

/** What a lookup table is of. */
export type Stage = 'whole' | 'killed' | 'killed, with memory' | 'repaired'

export interface ScenarioResults {
  readonly options: ScenarioOptions
  /** how long the peers took to form a ring, ms of virtual time; null where they were given one */
  readonly joinedAfterMs: number | null
  readonly idle: IdleResults
  readonly lookups: Readonly<Partial<Record<Stage, LookupResults>>>
  readonly kill: KillResults | null
  readonly churn: ChurnResults | null
  readonly flood: FloodingResults | null
}

export interface KillResults {
  readonly before: number
  readonly after: number
  /** the ring right after the kill */
  readonly damage: RingHealth
  /** ms of virtual time until each member's successor and predecessor were right; null: not within the longest wait */
  readonly ringAfterMs: number | null
  /** until all lists of successors were right, too; null also where there are too many members to wait for it */
  readonly listsAfterMs: number | null
}

export interface FloodingResults {
  /** of the live ones, so many by chance */
  readonly peers: number
  readonly plain: FloodResults
  readonly ring: FloodResults
}

export type Progress = (phase: string, done?: number, of?: number) => void

/** Virtual time that a ring gets to become whole. */
const MAX_REPAIR_MS = 1_800_000
/** More peers than this are not watched for longer than it takes; what they cost at rest is measured with fewer. */
const MAX_WATCHED = 2000
const WATCHED_INSTEAD = 1000
/** Until rounds of maintenance come as seldom as they may, and what is due at a beginning is done. */
const WARM_MS = 60_000
const LEAST_WARM_MS = 16_000
const IDLE_MS = 60_000
const MAX_FILES = 2000
const MAX_FLOODED = 1000
const FLOOD_QUERIES = 40
/** Providers of what is sought, in turn. */
const COPIES = [1, 10, 1, 30]
/** Joins a second where the peers join by themselves. */
const JOINS_PER_SECOND = 20

/**
 * The experiments that `peer simulate` shows, one after the other on one population.
 * @throws NetworkError `cancelled`
 */
export async function simulate(
  options: ScenarioOptions,
  progress: Progress,
  signal: AbortSignal,
): Promise<ScenarioResults> {
  const tell: Progress = (phase, done, of) => {
    if (signal.aborted) throw new NetworkError('cancelled', 'cancelled')
    progress(phase, done, of)
  }
  const population = new Population({ seed: options.seed, chord: { successors: options.successors } })
  tell('the peers settle')
  const joinedAfterMs = await settle(population, options, tell)
  const files = share(population, Math.min(options.lookups, options.peers, MAX_FILES))
  const many = (what: string, memory: Memory): Promise<LookupResults> =>
    lookUps(population, files, options, { memory, progress: (done) => tell(what, done, options.lookups) })
  const lookups: Partial<Record<Stage, LookupResults>> = { whole: await many('lookups', 'none') }
  tell('the ring idles')
  const rest = await idleRing(population, options)
  await population.pause()
  const kill = options.kill === 0 ? null : await killSome(population, options, lookups, many, tell)
  const came =
    options.churnMs === undefined
      ? null
      : await churn(population, {
          everyMs: options.churnMs,
          lookups: options.lookups,
          progress: (done) => tell('peers come and go', done, options.lookups),
        })
  await population.pause()
  const flood = options.flood ? await floods(population, options, tell) : null
  return { options, joinedAfterMs, idle: rest, lookups, kill, churn: came, flood }
}

async function settle(
  population: Population,
  { peers, join }: ScenarioOptions,
  tell: Progress,
): Promise<number | null> {
  if (!join) {
    population.found(peers)
    return null
  }
  for (let there = 0; there < peers; there = population.members.length) {
    tell('the peers join', there, peers)
    const next = Math.min(JOINS_PER_SECOND * 5, peers - there)
    await population.join(next, (next / JOINS_PER_SECOND) * 1000)
  }
  tell('the ring forms')
  const last = population.clock.now()
  await population.untilWhole(MAX_REPAIR_MS, { lists: true })
  await population.pause()
  return population.clock.now() - last
}

/** Of many peers only some are watched; the others come to rest, too. */
async function idleRing(population: Population, { seed, successors }: ScenarioOptions): Promise<IdleResults> {
  if (population.members.length <= MAX_WATCHED) return idle(population, { warmMs: WARM_MS, ms: IDLE_MS })
  population.maintain()
  await population.clock.runUntil(population.clock.now() + LEAST_WARM_MS)
  const few = new Population({ seed, chord: { successors } })
  few.found(WATCHED_INSTEAD)
  return idle(few, { warmMs: WARM_MS, ms: IDLE_MS })
}

function lookUps(
  population: Population,
  files: readonly SharedFile[],
  { lookups }: ScenarioOptions,
  options: LookupOptions,
): Promise<LookupResults> {
  return lookUpAll(population, files, lookups, options)
}

async function killSome(
  population: Population,
  options: ScenarioOptions,
  lookups: Partial<Record<Stage, LookupResults>>,
  many: (what: string, memory: Memory) => Promise<LookupResults>,
  tell: Progress,
): Promise<KillResults> {
  const before = population.members.length
  population.kill(population.some(Math.min(before - 1, Math.round(options.kill * before))))
  const damage = population.health()
  lookups.killed = await many('lookups after the kill', 'none')
  lookups['killed, with memory'] = await many('lookups after the kill, with memory', 'own')
  tell('the ring repairs itself')
  population.maintain()
  const begin = population.clock.now()
  const ringAfterMs = (await population.untilWhole(MAX_REPAIR_MS)) ?? null
  const isWatched = population.members.length <= MAX_WATCHED
  const lists = isWatched ? await population.untilWhole(MAX_REPAIR_MS, { lists: true }) : undefined
  const listsAfterMs = lists === undefined ? null : population.clock.now() - begin
  await population.pause()
  lookups.repaired = await many('lookups after the repair', 'none')
  return { before, after: population.members.length, damage, ringAfterMs, listsAfterMs }
}

/** Both kinds search the same graph, cold, for the same names, from the same peers. */
async function floods(population: Population, options: ScenarioOptions, tell: Progress): Promise<FloodingResults> {
  const peers = population.some(Math.min(MAX_FLOODED, population.members.length))
  const run = (what: string, flood: typeof PLAIN) =>
    flooding(population, peers, seededRandom(options.seed), {
      degree: options.degree,
      queries: FLOOD_QUERIES,
      copies: COPIES,
      flood,
      progress: (done) => tell(what, done, FLOOD_QUERIES),
    })
  const plain = await run('plain floods', PLAIN)
  return { peers: peers.length, plain, ring: await run('floods in rings', {}) }
}
