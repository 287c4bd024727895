import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ManualClock } from '../common/clock.ts'
import { type ContentId, parsePeerId } from '../common/ids.ts'
import { type SwarmPeer, Swarms, type SwarmsOptions } from './swarms.ts'

const TTL = 1000
const content = (n: number) => n.toString(16).padStart(64, '0') as ContentId
const A = content(1)
const B = content(2)

function taker(name: string, over: Partial<SwarmPeer> = {}): SwarmPeer {
  return { peer: parsePeerId(name), host: `${name}.lab`, grpcPort: 50051, have: 0, pieces: 4, ...over }
}

function swarmsWith(options: SwarmsOptions = {}) {
  const clock = new ManualClock()
  const swarms = new Swarms({ clock }, { ttlMs: TTL, ...options })
  return { clock, swarms, names: (id = A) => swarms.members(id).map(({ peer }) => peer) }
}

describe('a taker', () => {
  it('learns of the others of its swarm, and never of itself', () => {
    const { swarms } = swarmsWith()
    expect(swarms.announce(A, taker('P1', { have: 1 }))).toEqual([])
    expect(swarms.announce(A, taker('P2'))).toMatchObject([{ peer: 'P1', host: 'P1.lab', grpcPort: 50051, have: 1 }])
    expect(swarms.announce(B, taker('P3'))).toEqual([])
    expect(swarms.announce(A, taker('P1', { grpcPort: 50099 })).map(({ peer }) => peer)).toEqual(['P2'])
  })

  it('is known by its last word', () => {
    const { swarms } = swarmsWith()
    swarms.announce(A, taker('P1', { have: 1 }))
    swarms.announce(A, taker('P1', { have: 3 }))
    expect(swarms.members(A)).toMatchObject([{ peer: 'P1', have: 3 }])
    expect(swarms.counts()).toEqual({ swarms: 1, peers: 1 })
  })

  it('is forgotten when it has been silent for too long, and kept by every word', () => {
    const { swarms, clock, names } = swarmsWith()
    swarms.announce(A, taker('P1'))
    swarms.announce(A, taker('P2'))
    clock.advance(TTL - 1)
    swarms.announce(A, taker('P1'))
    expect(names()).toEqual(['P2', 'P1'])
    clock.advance(1)
    expect(names()).toEqual(['P1'])
    clock.advance(TTL)
    expect(names()).toEqual([])
    expect(swarms.counts()).toEqual({ swarms: 0, peers: 0 })
  })

  it('leaves at once, and only its own entry goes', () => {
    const { swarms, names } = swarmsWith()
    swarms.announce(A, taker('P1'))
    swarms.announce(A, taker('P2'))
    swarms.withdraw(A, { host: 'P2.lab', grpcPort: 1 })
    swarms.withdraw(B, taker('P2'))
    expect(names()).toEqual(['P1', 'P2'])
    swarms.withdraw(A, taker('P2'))
    expect(names()).toEqual(['P1'])
    swarms.withdraw(A, taker('P1'))
    expect(swarms.counts()).toEqual({ swarms: 0, peers: 0 })
  })

  it('can not be displaced by another host that uses its name', () => {
    const { swarms } = swarmsWith()
    swarms.announce(A, taker('P1'))
    swarms.announce(A, taker('P1', { host: 'evil.lab' }))
    swarms.withdraw(A, { host: 'evil.lab', grpcPort: 50051 })
    expect(swarms.members(A).map(({ host }) => host)).toEqual(['P1.lab'])
  })

  it('is told of a few at random, of all of them in time', () => {
    const { swarms } = swarmsWith({ sample: 5 })
    for (let i = 0; i < 40; i++) swarms.announce(A, taker(`P${i}`))
    const seen = new Set<string>()
    for (let i = 0; i < 200; i++) {
      const others = swarms.announce(A, taker('me')).map(({ peer }) => peer)
      expect(new Set(others).size).toBe(5)
      for (const peer of others) seen.add(peer)
    }
    expect(seen.size).toBe(40)
    expect(seen.has('me')).toBe(false)
  })
})

describe('bounded', () => {
  it('a full swarm forgets the one that was silent longest', () => {
    const { swarms, names } = swarmsWith({ maxPeers: 2 })
    for (const name of ['P1', 'P2', 'P1', 'P3']) swarms.announce(A, taker(name))
    expect(names()).toEqual(['P1', 'P3'])
    expect(swarms.counts()).toEqual({ swarms: 1, peers: 2 })
  })

  it('a swarm of one place changes hands', () => {
    const { swarms, names } = swarmsWith({ maxPeers: 1 })
    swarms.announce(A, taker('P1'))
    swarms.announce(A, taker('P2'))
    expect(names()).toEqual(['P2'])
    expect(swarms.counts()).toEqual({ swarms: 1, peers: 1 })
  })

  it('where there are too many swarms, a new one takes the place of the oldest with a single taker', () => {
    const { swarms, names } = swarmsWith({ maxSwarms: 2 })
    for (const name of ['P1', 'P2']) swarms.announce(A, taker(name))
    swarms.announce(B, taker('P3'))
    expect(swarms.announce(content(3), taker('P4'))).toEqual([])
    expect([A, B, content(3)].map((id) => names(id).length)).toEqual([2, 0, 1])
    swarms.announce(content(3), taker('P5'))
    expect(() => swarms.announce(B, taker('P3'))).toThrow(/no room for more swarms: try again later/)
  })

  it('where there are too many entries, a new one takes the place of the oldest', () => {
    const { swarms, names } = swarmsWith({ maxEntries: 2 })
    for (const name of ['P1', 'P2', 'P1', 'P3']) swarms.announce(A, taker(name))
    expect(names()).toEqual(['P1', 'P3'])
  })

  it('the addresses of one IPv6 network are one host', () => {
    const { swarms } = swarmsWith({ maxPerHost: 2 })
    for (const n of [1, 2]) swarms.announce(A, taker(`P${n}`, { host: `2001:db8::${n}` }))
    expect(() => swarms.announce(A, taker('P3', { host: '2001:db8::3' }))).toThrow(/the most for one host/)
    swarms.announce(A, taker('P3', { host: '2001:db8:0:1::3' }))
  })

  it('one host has so many entries and no more, whatever it calls itself; others are not concerned', () => {
    const { swarms } = swarmsWith({ maxPerHost: 2 })
    const evil = (name: string, grpcPort: number) => taker(name, { host: 'evil.lab', grpcPort })
    swarms.announce(A, evil('P1', 1))
    swarms.announce(B, evil('P2', 2))
    expect(() => swarms.announce(A, evil('P3', 3))).toThrow(/evil.lab is in 2 swarms, which is the most for one host/)
    swarms.announce(A, evil('P1', 1))
    swarms.announce(A, taker('P4'))
    swarms.withdraw(A, evil('P1', 1))
    swarms.announce(A, evil('P3', 3))
    expect(swarms.counts()).toEqual({ swarms: 2, peers: 3 })
  })

  it('counts agree with the members after any course of events', () => {
    const step = fc.record({
      kind: fc.constantFrom('announce', 'announce', 'withdraw', 'wait'),
      id: fc.integer({ min: 0, max: 3 }),
      host: fc.integer({ min: 0, max: 3 }),
      port: fc.integer({ min: 1, max: 3 }),
    })
    fc.assert(
      fc.property(fc.array(step, { maxLength: 100 }), (steps) => {
        const { swarms, clock } = swarmsWith({ maxPeers: 3, maxSwarms: 3, maxEntries: 7, maxPerHost: 4 })
        for (const { kind, id, host, port } of steps) {
          const peer = taker(`P${host}`, { host: `h${host}`, grpcPort: port })
          if (kind === 'wait') clock.advance(TTL / 3)
          else if (kind === 'withdraw') swarms.withdraw(content(id), peer)
          else
            try {
              swarms.announce(content(id), peer)
            } catch {
              // refused: what is in stays as it is
            }
          const rows = [0, 1, 2, 3].map((n) => swarms.members(content(n)))
          const all = rows.flat()
          expect(swarms.counts()).toEqual({ swarms: rows.filter((row) => row.length > 0).length, peers: all.length })
          expect(Math.max(...rows.map((row) => row.length))).toBeLessThanOrEqual(3)
          expect(all.length).toBeLessThanOrEqual(7)
          for (const h of [0, 1, 2, 3]) expect(all.filter((p) => p.host === `h${h}`).length).toBeLessThanOrEqual(4)
        }
      }),
    )
  })
})

it('the largest swarms come first', () => {
  const { swarms } = swarmsWith()
  swarms.announce(A, taker('P1'))
  for (const name of ['P1', 'P2', 'P3']) swarms.announce(B, taker(name))
  expect(swarms.largest(10)).toEqual([
    { id: B, peers: 3 },
    { id: A, peers: 1 },
  ])
  expect(swarms.largest(1)).toEqual([{ id: B, peers: 3 }])
})
