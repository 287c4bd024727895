import { setImmediate } from 'node:timers/promises'
import { describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import { parseContentId, parseFileName } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { LocateQuery } from '../locate/strategy.ts'
import { ALIVE, all, contactOf, FloodWorld, first } from './flood.fixture.ts'
import type { FloodAnswer, FloodHandlers, FloodHit, FloodQuery } from './protocol.ts'
import type { RoundPlan } from './search.ts'

const named = (name: string): LocateQuery => ({ kind: 'name', name: parseFileName(name) })
const wide: RoundPlan[] = [{ ttl: 7, scope: 'all', timeMs: 5000 }]
const id = (number: number) => number.toString(16).padStart(32, '0')
const query = (fields: Partial<FloodQuery> = {}): FloodQuery => ({
  id: id(1),
  what: named('film.mkv'),
  ttl: 6,
  hops: 1,
  timeMs: 5000,
  scope: 'all',
  ...fields,
})
const from = (number: number) => ({ host: contactOf(number).host, peer: contactOf(number).peer })
const hitOf = (provider: PeerContact, name = 'film.mkv', hops = 0): FloodHit => ({
  provider,
  name: parseFileName(name),
  content: parseContentId('ab'.repeat(32)),
  size: 5,
  hops,
})

/** Peers in a row: 0 - 1 - 2 - … */
function row(length: number, rounds: RoundPlan[] = wide): FloodWorld {
  const world = new FloodWorld(length, { rounds, textRounds: rounds })
  for (let i = 1; i < length; i++) world.link(i - 1, i)
  return world
}

/** A peer that answers as it is told. */
function answering(...answers: FloodAnswer[]): FloodHandlers {
  return {
    async *onQuery() {
      yield* answers
    },
  }
}

async function search(world: FloodWorld, what = named('film.mkv'), at = 0): Promise<FloodHit[]> {
  return world.clock.run(all(world.floods[at]!.search(what, ALIVE)))
}

describe('a query', () => {
  test('finds by exact name, by content and by part of a name, with the links that it took', async () => {
    const world = row(4)
    world.shelves[3]!.put('Größe/film.mkv', 'cd'.repeat(32))
    world.shelves[2]!.put('other.mkv')
    const found = [{ ...hitOf(contactOf(3), 'Größe/film.mkv', 3), content: 'cd'.repeat(32) }]
    expect(await search(world, named('Größe/film.mkv'))).toEqual(found)
    expect(await search(world, { kind: 'id', id: parseContentId('cd'.repeat(32)) })).toEqual(found)
    expect(await search(world, { kind: 'text', text: 'GROSSE film' })).toEqual(found)
  })

  test('is dealt with once by each in a network full of loops, and ends', async () => {
    const world = new FloodWorld(12)
    for (let a = 0; a < 12; a++) for (let b = 0; b < a; b++) world.link(a, b)
    world.shelves[7]!.put('film.mkv')
    const trace = world.floods[0]!.search({ kind: 'text', text: 'film' }, ALIVE)
    expect(await world.clock.run(all(trace))).toHaveLength(1)
    expect(trace.trace.peers).toBe(11)
    // 11 to all others, each of which passes it on to 10: not one more.
    expect(world.network.traffic.calls['flood.all']).toBe(11 + 11 * 10)
    expect(world.load).toEqual({ queries: 0, calls: 0 })
  })

  test('with TTL 255 goes no further than the seventh link, or the 32nd of the tree', async () => {
    const world = row(40)
    await world.clock.run(all(world.floods[1]!.onQuery(from(0), query({ ttl: 255, hops: 0 }), ALIVE)))
    expect(world.network.traffic.calls['flood.all']).toBe(6)
    const forged = query({ id: id(2), ttl: Number.POSITIVE_INFINITY, hops: -5, scope: 'tree' })
    await world.clock.run(all(world.floods[1]!.onQuery(from(0), forged, ALIVE)))
    expect(world.network.traffic.calls['flood.tree']).toBe(31)
    const far = query({ id: id(3), ttl: 7, hops: 6 })
    await world.clock.run(all(world.floods[1]!.onQuery(from(0), far, ALIVE)))
    expect(world.network.traffic.calls['flood.all']).toBe(6 + 1)
  })

  test.each(['', 'x', 'G'.repeat(32), 'a'.repeat(33), `${id(1)}\n`, '__proto__', 'x'.repeat(1e6)])(
    'with an id that is none is refused, and nothing of it is kept: %.20j',
    async (forged) => {
      const world = row(2)
      const asked = all(world.floods[1]!.onQuery(from(0), query({ id: forged }), ALIVE))
      await expect(world.clock.run(asked)).rejects.toMatchObject({ code: 'invalid' })
      expect(world.floods[1]!.load).toEqual({ queries: 0, calls: 0, seen: 0 })
    },
  )

  test('with the id of another one is taken for that one, and no more', async () => {
    const world = row(3)
    world.shelves[1]!.put('film.mkv')
    await world.clock.run(all(world.floods[1]!.onQuery(from(0), query(), ALIVE)))
    const again = await world.clock.run(all(world.floods[1]!.onQuery(from(2), query({ what: named('b') }), ALIVE)))
    expect(again).toEqual([{ kind: 'seen' }])
  })

  test('is never sent back to whom it came from', async () => {
    const world = row(2)
    world.shelves[0]!.put('film.mkv')
    await world.clock.run(all(world.floods[1]!.onQuery(from(0), query(), ALIVE)))
    await world.clock.run(all(world.floods[1]!.onQuery({ ...from(0), peer: undefined }, query({ id: id(2) }), ALIVE)))
    expect(world.network.traffic.messages).toBe(0)
  })

  test('goes over 12 links at most', async () => {
    const world = new FloodWorld(40, { rounds: wide })
    for (let i = 1; i < 40; i++) world.link(0, i)
    await search(world)
    expect(world.network.traffic.calls['flood.all']).toBe(12)
  })

  test('tells how many peers looked and how many messages it took, not more than is believed', async () => {
    const world = row(3)
    world.shelves[2]!.put('film.mkv')
    const trace = world.floods[0]!.search(named('film.mkv'), ALIVE)
    await world.clock.run(all(trace))
    const round = { ttl: 7, scope: 'all', messages: world.network.traffic.messages, peers: 2, found: 1 }
    expect(trace.trace).toEqual({ messages: 4, peers: 2, hops: 2, rounds: [round] })
    world.replace(2, answering({ kind: 'done', peers: Number.MAX_SAFE_INTEGER, messages: Number.NaN }))
    const boasting = world.floods[0]!.search(named('b'), ALIVE)
    await world.clock.run(all(boasting))
    expect(boasting.trace).toMatchObject({ peers: 100_000, messages: 2 })
  })
})

describe('a flood of queries', () => {
  test('of one neighbour, 10,000 a second, is refused, and others are served meanwhile', async () => {
    const world = new FloodWorld(3, { rounds: wide })
    world.link(0, 1)
    world.link(1, 2)
    world.shelves[1]!.put('film.mkv')
    const served = { hostile: 0, refused: 0 }
    const flood = async (number: number) => {
      try {
        await all(world.floods[1]!.onQuery(from(2), query({ id: id(number) }), ALIVE))
        served.hostile++
      } catch (error) {
        expect(error).toMatchObject({ code: 'limited' })
        served.refused++
      }
    }
    let found = 0
    for (let second = 0; second < 3; second++) {
      for (let n = 0; n < 10_000; n++)
        world.clock.at(second * 1000 + n / 10, () => void flood(second * 10_000 + n + 10))
      world.clock.at(second * 1000 + 500, () => {
        void all(world.floods[0]!.search(named('film.mkv'), ALIVE)).then(({ length }) => {
          found += length
        })
      })
    }
    await world.clock.runUntil(10_000)
    expect(found).toBe(3)
    expect(served.hostile + served.refused).toBe(30_000)
    expect(served.hostile).toBeLessThan(100 + 3 * 20 + 1)
    expect(world.floods[1]!.load.seen).toBeLessThan(200)
    expect(world.load).toEqual({ queries: 0, calls: 0 })
  })

  test('that a neighbour passes on leaves room for its own questions whether this peer has a file', async () => {
    const world = row(2)
    world.shelves[1]!.put('film.mkv')
    const passedOn = Array.from({ length: 1000 }, (_, n) =>
      all(world.floods[1]!.onQuery(from(0), query({ id: id(n + 10), ttl: n % 2, hops: 2 }), ALIVE)).then(
        () => 1,
        () => 0,
      ),
    )
    const confirmed = world.clock.run(all(world.floods[0]!.confirm(contactOf(1), named('film.mkv'), ALIVE)))
    expect(await confirmed).toHaveLength(1)
    expect((await Promise.all(passedOn)).reduce<number>((sum, n) => sum + n, 0)).toBeLessThan(150)
    // Nor are those without end.
    const direct = Array.from({ length: 1000 }, (_, n) =>
      all(world.floods[1]!.onQuery(from(0), query({ id: id(n + 5000), ttl: 0, hops: 1 }), ALIVE)).then(
        () => 1,
        () => 0,
      ),
    )
    expect((await Promise.all(direct)).reduce<number>((sum, n) => sum + n, 0)).toBeLessThan(300)
  })

  test('of many parties is bounded in what is at work, and in what is remembered', async () => {
    const world = row(2)
    // The only neighbour never answers, so that all of it stays at work.
    world.replace(0, { onQuery: (_from, _query, signal) => silent(signal) })
    const party = (n: number) => ({ host: `10.1.${n >> 8}.${n & 255}`, peer: undefined })
    const served = Array.from({ length: 30_000 }, (_, n) =>
      all(world.floods[1]!.onQuery(party(n % 1500), query({ id: id(n) }), ALIVE)).then(
        () => 1,
        () => 0,
      ),
    )
    expect(world.floods[1]!.load.queries).toBe(256)
    await world.clock.runUntil(10_000)
    expect((await Promise.all(served)).reduce<number>((sum, n) => sum + n, 0)).toBe(256)
    expect(world.load).toEqual({ queries: 0, calls: 0 })
    for (let second = 0; second < 50; second++) {
      await world.clock.runUntil(world.clock.now() + 1000)
      for (let n = 0; n < 250; n++)
        await world.clock.run(
          all(world.floods[1]!.onQuery(party(n), query({ id: id(100_000 + second * 250 + n), ttl: 0 }), ALIVE)),
        )
    }
    expect(world.floods[1]!.load.seen).toBe(10_000)
    await world.clock.runUntil(world.clock.now() + 61_000)
    await world.clock.run(all(world.floods[1]!.onQuery(party(0), query({ id: id(9) }), ALIVE)))
    expect(world.floods[1]!.load.seen).toBe(1)
  })

  test('of one party leaves room at work for others', async () => {
    const world = row(2)
    world.replace(0, { onQuery: (_from, _query, signal) => silent(signal) })
    for (let n = 0; n < 100; n++) all(world.floods[1]!.onQuery(from(7), query({ id: id(n) }), ALIVE)).catch(() => {})
    expect(world.floods[1]!.load.queries).toBe(64)
  })
})

describe('a hit', () => {
  test('for something not asked is not passed on, and its sender is cut off, then ignored for 10 minutes', async () => {
    const world = new FloodWorld(3, { rounds: wide })
    world.link(0, 1)
    world.link(0, 2)
    let asked = 0
    let cut = 0
    world.replace(1, {
      async *onQuery(_from, _query, signal) {
        asked++
        signal.addEventListener('abort', () => cut++)
        yield { kind: 'hits', hits: [hitOf(contactOf(1), 'other.mkv')] }
        yield { kind: 'hits', hits: [hitOf(contactOf(1))] }
      },
    })
    world.shelves[2]!.put('film.mkv')
    for (let n = 0; n < 5; n++) {
      expect(await search(world)).toEqual([hitOf(contactOf(2), 'film.mkv', 1)])
      await world.clock.runUntil(world.clock.now() + 1000)
    }
    expect(asked).toBe(3)
    expect(cut).toBe(3)
    await world.clock.runUntil(world.clock.now() + 600_000)
    await search(world)
    expect(asked).toBe(4)
  })

  test.each<[string, LocateQuery, FloodHit]>([
    ['name', named('film.mkv'), hitOf(contactOf(1), 'film.mkv2')],
    ['content', { kind: 'id', id: parseContentId('cd'.repeat(32)) }, hitOf(contactOf(1))],
    ['text', { kind: 'text', text: 'film 2024' }, hitOf(contactOf(1), 'film.mkv')],
  ])('of another %s than was asked is none', async (_kind, what, hit) => {
    const world = row(2)
    world.replace(1, answering({ kind: 'hits', hits: [hit] }, { kind: 'done', peers: 1, messages: 0 }))
    expect(await search(world, what)).toEqual([])
  })

  test.each([
    ['more than one message holds', 101, 1, 0],
    ['more than an answer holds', 100, 11, 1000],
    ['none, again and again', 0, 1_000_000, 0],
  ])('beyond the bounds cuts off its sender: %s', async (_what, inMessage, times, kept) => {
    const world = row(3)
    let sent = 0
    let left = false
    world.replace(2, {
      async *onQuery() {
        try {
          for (; sent < times; sent++) {
            const other = (n: number) => ({ ...contactOf(1000 + sent), grpcPort: 1000 + n })
            yield { kind: 'hits', hits: Array.from({ length: inMessage }, (_, n) => hitOf(other(n))) }
          }
        } finally {
          left = true
        }
      },
    })
    expect(await search(world)).toHaveLength(kept)
    await world.clock.runUntil(world.clock.now() + 6000)
    expect(sent).toBeLessThan(12)
    expect(left).toBe(true)
    expect(world.load).toEqual({ queries: 0, calls: 0 })
  })

  test('that is repeated without end cuts off its sender', async () => {
    const world = row(2)
    let sent = 0
    world.replace(1, {
      async *onQuery() {
        for (; sent < 1000; sent++) yield { kind: 'hits', hits: Array.from({ length: 100 }, () => hitOf(contactOf(9))) }
      },
    })
    expect(await search(world)).toHaveLength(1)
    expect(sent).toBe(10)
  })

  test('is one of 1,000 at most, however many neighbours bring some', async () => {
    const world = new FloodWorld(4, { rounds: wide })
    for (const n of [1, 2, 3]) {
      world.link(0, n)
      const hits = (at: number) => Array.from({ length: 90 }, (_, i) => hitOf(contactOf(n * 10_000 + at * 100 + i)))
      world.replace(n, answering(...Array.from({ length: 9 }, (_, at) => ({ kind: 'hits' as const, hits: hits(at) }))))
    }
    expect(await search(world)).toHaveLength(1000)
  })

  test('that comes twice is passed on once', async () => {
    const world = row(3)
    const hits = [hitOf(contactOf(9)), hitOf(contactOf(9))]
    world.replace(2, answering({ kind: 'hits', hits }, { kind: 'hits', hits }, { kind: 'done', peers: 1, messages: 0 }))
    expect(await search(world)).toHaveLength(1)
  })

  test.each([
    '169.254.169.254',
    '127.0.0.1',
    '0.0.0.0',
    '::ffff:127.0.0.1',
    'localhost',
    'metadata.google.internal',
    'a.b',
  ])('that names an address where no peer can be is dropped: %s', async (host) => {
    const world = row(3)
    const hits = [hitOf({ ...contactOf(9), host }), hitOf(contactOf(8))]
    world.replace(2, answering({ kind: 'hits', hits }, { kind: 'done', peers: 1, messages: 0 }))
    expect((await search(world)).map(({ provider }) => provider)).toEqual([contactOf(8)])
  })

  test('of a neighbour is at the address that it was asked at, whatever it names', async () => {
    const world = row(2)
    const named = { ...contactOf(1), host: '169.254.169.254', grpcPort: 22 }
    world.replace(1, answering({ kind: 'hits', hits: [hitOf(named, 'film.mkv', 1e9)] }))
    expect(await search(world)).toEqual([hitOf(contactOf(1), 'film.mkv', 1)])
  })

  test.each([-1, 1e9, Number.NaN, Number.POSITIVE_INFINITY, 0.5])(
    '%d links away is brought within what was asked',
    async (hops) => {
      const world = row(3)
      world.replace(2, answering({ kind: 'hits', hits: [hitOf(contactOf(9), 'film.mkv', hops)] }))
      const [hit] = await search(world)
      expect(hit?.hops).toBeGreaterThanOrEqual(2)
      expect(hit?.hops).toBeLessThanOrEqual(7)
    },
  )
})

describe('a provider', () => {
  test('is confirmed by what it says itself', async () => {
    const world = row(2)
    world.shelves[1]!.put('film.mkv')
    const confirm = (contact: PeerContact, name: string) =>
      world.clock.run(all(world.floods[0]!.confirm(contact, named(name), ALIVE)))
    expect(await confirm(contactOf(1), 'film.mkv')).toEqual([hitOf(contactOf(1), 'film.mkv', 1)])
    expect(await confirm(contactOf(1), 'other.mkv')).toEqual([])
    expect(world.network.traffic.calls).toEqual({ 'flood.all': 2 })
  })

  test('that a neighbour names, and that is a third party without the file, is not confirmed', async () => {
    const world = row(3)
    world.replace(1, answering({ kind: 'hits', hits: [hitOf(contactOf(2)), hitOf(contactOf(9))] }))
    const hits = await search(world)
    expect(hits).toHaveLength(2)
    const confirm = (hit: FloodHit) =>
      world.clock.run(all(world.floods[0]!.confirm(hit.provider, named('film.mkv'), ALIVE)))
    expect(await confirm(hits[0]!)).toEqual([])
    await expect(confirm(hits[1]!)).rejects.toMatchObject({ code: 'unavailable' })
  })

  test('confirms nothing for others, and nothing that was not asked', async () => {
    const world = row(2)
    const hits = [hitOf(contactOf(5)), hitOf(contactOf(1), 'other.mkv')]
    world.replace(1, answering({ kind: 'hits', hits }))
    expect(await world.clock.run(all(world.floods[0]!.confirm(contactOf(1), named('film.mkv'), ALIVE)))).toEqual([])
  })

  test('that says nothing is waited for a second', async () => {
    const world = row(2)
    world.replace(1, { onQuery: (_from, _query, signal) => silent(signal) })
    const began = world.clock.now()
    await world.clock.run(all(world.floods[0]!.confirm(contactOf(1), named('film.mkv'), ALIVE)).catch(() => {}))
    expect(world.clock.now() - began).toBeLessThanOrEqual(1050)
  })
})

describe('an end', () => {
  test('of a search that found enough is taken to all that still look', async () => {
    const world = row(8)
    world.shelves[1]!.put('film.mkv')
    expect(await world.clock.run(first(world.floods[0]!.search(named('film.mkv'), ALIVE)))).toBeDefined()
    await world.clock.runUntil(world.clock.now() + 300)
    expect(world.load).toEqual({ queries: 0, calls: 0 })
    expect(world.network.traffic.calls['flood.all']).toBeLessThan(7)
  })

  test('by the signal is taken to all that still look', async () => {
    const world = row(8)
    world.replace(7, { onQuery: (_from, _query, signal) => silent(signal) })
    const stop = new AbortController()
    const found = all(world.floods[0]!.search(named('film.mkv'), stop.signal))
    await world.clock.runUntil(600)
    expect(world.load).toEqual({ queries: 6, calls: 7 })
    stop.abort()
    expect(await world.clock.run(found)).toEqual([])
    await world.clock.runUntil(world.clock.now() + 100)
    expect(world.load).toEqual({ queries: 0, calls: 0 })
  })

  test('comes in time though a neighbour never answers; each has less time than the one before', async () => {
    const world = row(5)
    const given: number[] = []
    world.replace(4, {
      onQuery(_from, { timeMs }, signal) {
        given.push(timeMs)
        return silent(signal)
      },
    })
    world.shelves[3]!.put('film.mkv')
    expect(await search(world)).toHaveLength(1)
    expect(world.clock.now()).toBeLessThanOrEqual(5000)
    expect(given).toEqual([5000 - 4 * 50])
    await world.clock.runUntil(world.clock.now() + 300)
    expect(world.load).toEqual({ queries: 0, calls: 0 })
  })

  test('is in 5 s at most, however long the asking one would wait, and at once where it gave no time', async () => {
    const world = row(3)
    world.replace(2, { onQuery: (_from, _query, signal) => silent(signal) })
    await world.clock.run(all(world.floods[1]!.onQuery(from(0), query({ timeMs: 1e12 }), ALIVE)))
    expect(world.clock.now()).toBe(5000)
    world.network.resetTraffic()
    await world.clock.run(all(world.floods[1]!.onQuery(from(0), query({ id: id(2), timeMs: -1 }), ALIVE)))
    expect(world.network.traffic.messages).toBe(0)
  })

  test('of a peer in the middle of a query loses nothing of the others, and it is missed', async () => {
    const world = new FloodWorld(4, { rounds: wide })
    world.link(0, 1)
    world.link(0, 2)
    world.link(2, 3)
    world.shelves[3]!.put('film.mkv')
    world.replace(1, {
      async *onQuery() {
        yield { kind: 'hits', hits: [hitOf(contactOf(1))] }
        await world.clock.sleep(100)
        throw new NetworkError('unavailable', 'the connection broke')
      },
    })
    expect((await search(world)).map(({ provider }) => provider.peer).sort()).toEqual(['p1', 'p3'])
    expect(world.missed).toEqual([contactOf(1)])
    expect(world.load).toEqual({ queries: 0, calls: 0 })
  })

  test('leaves no promise behind that is rejected', async () => {
    const world = row(3)
    world.replace(1, {
      // biome-ignore lint/correctness/useYield: it breaks before it says anything
      async *onQuery() {
        throw new Error('broken')
      },
    })
    expect(await search(world)).toEqual([])
    await setImmediate()
  })
})

/** Says nothing until it is left. */
async function* silent(signal: AbortSignal): AsyncIterable<FloodAnswer> {
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
