import { expect, test } from 'vitest'
import type { ContentId } from '../../common/ids.ts'
import { sha256 } from '../../common/merkle.ts'
import type { RingHandlers } from '../dht/protocol.ts'
import { placeOfContent } from '../dht/ring.ts'
import { withBooks } from './exchanging.ts'
import { type LookupResults, lookUp, lookUpAll, type Outcome, resultsOf, share } from './lookups.ts'
import { Population, type PopulationOptions } from './population.ts'
import type { SimulatedPeer } from './simulated-peer.ts'

const MINUTE = 60_000

function populationOf(count: number, options: Partial<PopulationOptions> = {}): Population {
  const population = new Population({ seed: 1, ...withBooks, ...options })
  population.found(count)
  return population
}

function keyOf(i: number): ContentId {
  return sha256(Buffer.from(`key ${i}`)).toString('hex') as ContentId
}

/** Lookups of keys by chance, by these. */
async function look(population: Population, by: readonly SimulatedPeer[], count: number): Promise<LookupResults> {
  const outcomes: Outcome[] = []
  for (let i = 0; i < count; i++)
    outcomes.push(await population.clock.run(lookUp(population, by[i % by.length]!.node, keyOf(i))))
  return resultsOf(outcomes)
}

test.each([1, 2, 3])('half of all killed at once: no lookup fails, before any repair (seed %i)', async (seed) => {
  const population = populationOf(200, { seed })
  const files = share(population, 100)
  population.kill(population.some(100))
  const results = await lookUpAll(population, files, 1000)
  expect(results).toMatchObject({ failed: 0, silentlyWrong: 0 })
  expect(results.timeouts).toBeGreaterThan(1)
})

test('half of all killed at once: the ring closes again within a minute, and its lists after it', async () => {
  const population = populationOf(200)
  population.maintain()
  await population.clock.runUntil(MINUTE)
  population.kill(population.some(100))
  expect(population.health().wrongSuccessors).toBeGreaterThan(20)
  expect(await population.untilWhole(MINUTE)).toBeLessThanOrEqual(MINUTE)
  expect(await population.untilWhole(5 * MINUTE, { lists: true })).toBeDefined()
  expect(await look(population, population.members, 300)).toMatchObject({ failed: 0 })
})

test('a partition makes two rings, and once it is healed they are one again: each side finds the keys of the other', async () => {
  const population = populationOf(60)
  population.maintain()
  const side = population.some(30)
  const other = population.members.filter((peer) => !side.includes(peer))
  population.network.cutOff(
    side.map(({ member }) => member),
    1,
  )
  await population.clock.runUntil(2 * MINUTE)
  for (const half of [side, other])
    for (const { node } of half) {
      const ids = new Set(half.map(({ member }) => member.id))
      expect(node.view.successors.filter(({ id }) => !ids.has(id))).toEqual([])
    }
  expect(population.health().wrongSuccessors).toBeGreaterThan(15)
  population.network.heal()
  expect(await population.untilWhole(20 * MINUTE, { lists: true })).toBeDefined()
  expect(await look(population, side, 100)).toMatchObject({ failed: 0 })
  expect(await look(population, other, 100)).toMatchObject({ failed: 0 })
})

test('two rings that began apart merge where one member of one knows one of the other', async () => {
  const population = new Population({ seed: 1, ...withBooks })
  const rings: SimulatedPeer[][] = []
  for (const _ of [1, 2]) {
    const ring: SimulatedPeer[] = []
    for (let i = 0; i < 20; i++) {
      const peer = population.settle(ring.slice(0, 1).map(({ member }) => member))
      ring.push(peer)
      await population.clock.run(population.enter(peer))
    }
    rings.push(ring)
  }
  await population.clock.runUntil(population.clock.now() + 5 * MINUTE)
  expect(population.health().wrongSuccessors).toBeGreaterThan(10)
  rings[0]![7]!.known.seen(rings[1]![3]!.member)
  expect(await population.untilWhole(20 * MINUTE, { lists: true })).toBeDefined()
  expect(await look(population, population.members, 100)).toMatchObject({ failed: 0 })
})

test('a hundred that join a ring of twenty within a second are in it', async () => {
  const population = populationOf(20)
  population.maintain()
  await population.clock.runUntil(MINUTE)
  await population.join(100, 1000)
  expect(population.members).toHaveLength(120)
  expect(await population.untilWhole(5 * MINUTE, { lists: true })).toBeDefined()
  expect(await look(population, population.members, 200)).toMatchObject({ failed: 0 })
})

test('who leaves politely is missed by no neighbour; who vanishes has to be found out', async () => {
  const [polite, rude] = [populationOf(100), populationOf(100)]
  const tenth = (population: Population) => population.members.filter((_, i) => i % 10 === 0)
  for (const peer of tenth(polite)) await polite.clock.run(polite.leave(peer))
  rude.kill(tenth(rude))
  expect(polite.health()).toMatchObject({ members: 90, wrongSuccessors: 0 })
  expect(rude.health()).toMatchObject({ members: 90, wrongSuccessors: 10 })
  polite.maintain()
  rude.maintain()
  expect(await polite.untilWhole(MINUTE)).toBeLessThanOrEqual((await rude.untilWhole(MINUTE))!)
})

test('one that comes back with its old id at a new address is found there', async () => {
  const population = populationOf(60)
  population.maintain()
  const gone = population.one()
  population.kill([gone])
  await population.clock.runUntil(5000)
  const knows = population.some(2).map(({ member }) => member)
  const back = population.settle(knows, gone.member.peer)
  await population.clock.run(population.enter(back))
  expect(back.member).toMatchObject({ id: gone.member.id })
  expect(back.member.host).not.toBe(gone.member.host)
  expect(await population.untilWhole(5 * MINUTE, { lists: true })).toBeDefined()
  await population.clock.runUntil(population.clock.now() + 5 * MINUTE)
  for (const { node } of population.members)
    for (const { id, host } of [...node.view.successors, node.view.predecessor!])
      if (id === gone.member.id) expect(host).toBe(back.member.host)
  expect(await look(population, population.members, 100)).toMatchObject({ failed: 0 })
})

test('a dead run longer than the lists is told of, never a wrong owner as if it were right, and heals', async () => {
  const population = populationOf(80, { chord: { successors: 3 } })
  const run = population.members.slice(20, 26)
  population.kill(run)
  const outcomes: Outcome[] = []
  for (const peer of population.members)
    for (let i = 0; i < 40; i++) outcomes.push(await population.clock.run(lookUp(population, peer.twin(0), keyOf(i))))
  expect(resultsOf(outcomes).failed).toBeGreaterThan(0)
  expect(resultsOf(outcomes).silentlyWrong).toBe(0)
  population.maintain()
  expect(await population.untilWhole(20 * MINUTE, { lists: true })).toBeDefined()
  expect(await look(population, population.members, 200)).toMatchObject({ failed: 0 })
})

/** Says that every key is its own, and its accomplices' after it, and that nobody has anything. */
function liarAt({ node, member }: SimulatedPeer, all: readonly SimulatedPeer[], asked: () => void): RingHandlers {
  const others = all.map((peer) => peer.member).filter(({ id }) => id !== member.id)
  return {
    onStabilize: (from) => node.onStabilize(from),
    onStep: () => {
      asked()
      return { owners: [member, ...others], closer: [], unsure: false }
    },
    onFind: () => ({ records: [], more: false, predecessor: undefined }),
    onStore: () => 0,
    onLeave: (from) => node.onLeave(from),
  }
}

test('one in twenty claims every key: the others find all keys but those, at most one in a hundred lost', async () => {
  const population = populationOf(200)
  const liars = population.some(10)
  let lies = 0
  for (const liar of liars) population.network.settle(liar.member, { ring: liarAt(liar, liars, () => lies++) })
  const honest = population.members.filter((peer) => !liars.includes(peer))
  const outcomes: Outcome[] = []
  for (let i = 0; outcomes.length < 1000; i++) {
    if (liars.includes(population.ownerOf(placeOfContent(keyOf(i))))) continue
    outcomes.push(await population.clock.run(lookUp(population, honest[i % honest.length]!.twin(0), keyOf(i))))
  }
  expect(lies).toBeGreaterThan(50)
  expect(resultsOf(outcomes).failed).toBeLessThanOrEqual(10)
})
