import { describe, expect, test } from 'vitest'
import { parseFileName } from '../../common/ids.ts'
import type { LocateQuery } from '../locate/strategy.ts'
import { ALIVE, all, contactOf, FloodWorld, first } from './flood.fixture.ts'
import type { RoundPlan } from './search.ts'

const named = (name: string): LocateQuery => ({ kind: 'name', name: parseFileName(name) })
const PLAIN: RoundPlan[] = [{ ttl: 7, scope: 'all', timeMs: 5000 }]
const TREE: RoundPlan[] = [{ ttl: 32, scope: 'tree', timeMs: 5000 }]

/** A search whose rounds are told. */
async function roundsOf(world: FloodWorld, what: LocateQuery, at = 0): Promise<string[]> {
  const search = world.floods[at]!.search(what, ALIVE)
  await world.clock.run(all(search))
  return search.trace.rounds.map(({ ttl, scope, found }) => `${ttl} ${scope}: ${found}`)
}

describe('the rounds of a search', () => {
  function row(length: number): FloodWorld {
    const world = new FloodWorld(length)
    for (let i = 1; i < length; i++) world.link(i - 1, i)
    return world
  }

  test('widen until one finds something', async () => {
    const world = row(30)
    for (const at of [2, 6, 10, 20]) world.shelves[at]!.put(`at${at}`)
    expect(await roundsOf(world, named('at2'))).toEqual(['2 all: 1'])
    expect(await roundsOf(world, named('at6'))).toEqual(['2 all: 0', '7 tree: 1'])
    expect(await roundsOf(world, named('at10'))).toEqual(['2 all: 0', '7 tree: 0', '11 tree: 1'])
    const whole = ['2 all: 0', '7 tree: 0', '11 tree: 0']
    expect(await roundsOf(world, named('at20'))).toEqual([...whole, '32 tree: 1'])
    expect(await roundsOf(world, named('nowhere'))).toEqual([...whole, '32 tree: 0', '7 all: 0'])
  })

  test('are one for part of a name, however near it is found', async () => {
    const world = row(9)
    for (const at of [1, 7]) world.shelves[at]!.put(`film${at}`)
    expect(await roundsOf(world, { kind: 'text', text: 'film' })).toEqual(['7 all: 2'])
  })

  test('have ids of their own: nobody has seen the next one', async () => {
    const ids = new Set<string>()
    const world = row(2)
    world.replace(1, {
      async *onQuery(_from, { id }) {
        ids.add(id)
        yield { kind: 'done', peers: ids.size, messages: 0 }
      },
    })
    expect(await roundsOf(world, named('nowhere'))).toHaveLength(5)
    expect(ids.size).toBe(5)
    expect([...ids].every((id) => /^[0-9a-f]{32}$/.test(id))).toBe(true)
  })

  test('take 5 s together where neighbours never answer', async () => {
    const world = row(2)
    world.replace(1, {
      async *onQuery(_from, _query, signal) {
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
      },
    })
    await roundsOf(world, named('nowhere'))
    expect(world.clock.now()).toBe(5000)
  })

  test('are no more than there is time for', async () => {
    const world = new FloodWorld(2, { timeMs: 300 })
    world.link(0, 1)
    world.network.cutOff([contactOf(1)], 1)
    expect(await roundsOf(world, named('nowhere'))).toEqual(['2 all: 0'])
    expect(world.clock.now()).toBe(300)
  })
})

describe('the tree', () => {
  /** 0 to 3, each linked to each. */
  function clique(rounds: RoundPlan[]): FloodWorld {
    const world = new FloodWorld(4, { rounds, textRounds: PLAIN })
    for (let a = 0; a < 4; a++) for (let b = 0; b < a; b++) world.link(a, b)
    return world
  }

  test('loses links over which a query came twice, at both ends, until none comes twice', async () => {
    const world = clique(TREE)
    await roundsOf(world, named('nowhere'))
    expect(world.network.traffic.calls['flood.tree']).toBeGreaterThan(3)
    for (const at of [0, 1, 2, 3, 0]) {
      world.network.resetTraffic()
      await roundsOf(world, named('nowhere'), at)
      expect(world.network.traffic.calls['flood.tree']).toBe(3)
    }
  })

  test('is not touched by near rounds', async () => {
    const world = clique([{ ttl: 2, scope: 'all', timeMs: 5000 }])
    for (let n = 0; n < 3; n++) {
      world.network.resetTraffic()
      await roundsOf(world, named('nowhere'))
      // The others tell each other, unless they are too late.
      expect(world.network.traffic.calls['flood.all']).toBeGreaterThanOrEqual(6)
    }
    world.network.resetTraffic()
    const { clock } = world
    const other = { id: 'b'.repeat(32), what: named('x'), ttl: 31, hops: 1, timeMs: 5000, scope: 'tree' } as const
    await clock.run(all(world.floods[0]!.onQuery({ host: '10.9.9.9', peer: undefined }, other, ALIVE)))
    // As over the links of a tree that nothing is known of.
    expect(world.network.traffic.calls['flood.tree']).toBeGreaterThan(3)
  })

  test('loses the link to a neighbour that brings what came before, and has it back where it brings something first', async () => {
    const world = clique(TREE)
    const from = (n: number) => ({ host: contactOf(n).host, peer: contactOf(n).peer })
    const query = (id: string) => ({ id, what: named('x'), ttl: 6, hops: 1, timeMs: 0, scope: 'all' }) as const
    const bring = (n: number, id: string) =>
      world.clock.run(all(world.floods[0]!.onQuery(from(n), query(id.repeat(32)), ALIVE)))
    const asked = async () => {
      world.network.resetTraffic()
      const stop = new AbortController()
      const found = all(world.floods[0]!.search(named('nowhere'), stop.signal))
      await world.clock.runUntil(world.clock.now() + 1)
      stop.abort()
      await world.clock.run(found)
      return world.network.traffic.calls['flood.tree']
    }
    await bring(1, 'a')
    await bring(2, 'a')
    expect(await asked()).toBe(2)
    await bring(2, 'b')
    expect(await asked()).toBe(3)
  })

  test('is not pruned by strangers that bear the id of a neighbour', async () => {
    const world = clique(TREE)
    const id = 'a'.repeat(32)
    const query = { id, what: named('x'), ttl: 6, hops: 1, timeMs: 5000, scope: 'all' } as const
    const stranger = { host: '10.9.9.9', peer: contactOf(2).peer }
    await world.clock.run(all(world.floods[0]!.onQuery(stranger, { ...query, ttl: 0 }, ALIVE)))
    for (let n = 0; n < 3; n++) await world.clock.run(all(world.floods[0]!.onQuery(stranger, query, ALIVE)))
    world.network.resetTraffic()
    const search = world.floods[0]!.search(named('nowhere'), ALIVE)
    const found = all(search)
    await world.clock.runUntil(world.clock.now() + 1)
    expect(world.network.traffic.calls['flood.tree']).toBe(3)
    await world.clock.run(found)
  })

  test('of a network that lost a fifth of its peers is mended by the wide round; nothing is found less', async () => {
    const size = 200
    const world = new FloodWorld(size, {}, 3)
    world.linkAtRandom(6)
    await roundsOf(world, named('nowhere'))
    for (let i = 0; i < size; i += 5) world.network.kill(contactOf(i))
    await roundsOf(world, named('nowhere'), 1)
    // What is told to be missed is no link any more.
    const dead = new Set(world.missed.map(({ peer }) => peer))
    for (const links of world.links) links.splice(0, links.length, ...links.filter(({ peer }) => !dead.has(peer)))
    let found = 0
    for (let i = 1; i < size; i += 9) {
      if (i % 5 === 0) continue
      world.shelves[i]!.put(`of${i}`)
      if ((await roundsOf(world, named(`of${i}`), (i + 77) % 5 === 0 ? 1 : (i + 77) % size)).at(-1)?.endsWith('1'))
        found++
    }
    expect(found).toBe(18)
    const search = world.floods[1]!.search(named('nowhere'), ALIVE)
    await world.clock.run(all(search))
    const [tree, wide] = search.trace.rounds.slice(-2)
    expect(tree!.peers).toBeGreaterThanOrEqual(wide!.peers)
  })
})

interface Outcome {
  found: number
  /** in the mean */
  messages: number
}

describe('on 1,000 peers of mean degree 4', () => {
  const SIZE = 1000
  const SEARCHES = 12
  /** 1 peer, 10 peers, 1 % of all */
  const KINDS = [1, 10, SIZE / 100]

  /** Searches for files that so many peers have, each from another peer. */
  async function searches(rounds: RoundPlan[] | undefined, take: 'one' | 'all'): Promise<Outcome[]> {
    const world = new FloodWorld(SIZE, { ...(rounds && { rounds }), textRounds: PLAIN }, 7)
    world.linkAtRandom(4)
    // Some search before: the tree is there.
    await world.clock.run(all(world.floods[0]!.search({ kind: 'text', text: 'warm' }, ALIVE)))
    const outcomes: Outcome[] = []
    for (const copies of KINDS) {
      let found = 0
      world.network.resetTraffic()
      for (let n = 0; n < SEARCHES; n++) {
        const name = `file ${copies} ${outcomes.length} ${n}`
        for (let copy = 0; copy < copies; copy++)
          world.shelves[(n * 379 + copy * 7919 + outcomes.length * 17 + 3) % SIZE]!.put(name)
        const hits = world.floods[(n * 631 + 5) % SIZE]!.search(named(name), ALIVE)
        found +=
          (await world.clock.run(take === 'all' ? all(hits) : first(hits).then((hit) => (hit ? [hit] : [])))).length > 0
            ? 1
            : 0
        await world.clock.runUntil(world.clock.now() + 10_000)
      }
      outcomes.push({ found, messages: world.network.traffic.messages / SEARCHES })
    }
    return outcomes
  }

  test('the widening search finds what plain flooding finds, with a third of its messages', {
    timeout: 120_000,
  }, async () => {
    const plain = await searches(PLAIN, 'all')
    for (const take of ['one', 'all'] as const) {
      const widening = await searches(undefined, take)
      for (const [i, { found }] of widening.entries()) expect(found).toBeGreaterThanOrEqual(plain[i]!.found)
      const mean = (outcomes: Outcome[]) => outcomes.reduce((sum, { messages }) => sum + messages, 0) / outcomes.length
      expect(mean(widening) / mean(plain)).toBeLessThanOrEqual(1 / 3)
    }
  })
})
