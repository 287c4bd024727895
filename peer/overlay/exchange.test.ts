import { describe, expect, test, vi } from 'vitest'
import { parsePeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import { SimulatedNetwork } from '../simulate/network.ts'
import { seededRandom } from '../simulate/seeded.ts'
import { VirtualClock } from '../simulate/virtual-clock.ts'
import { Exchange } from './exchange.ts'
import type { RememberedPeer } from './known-peers.ts'
import { PeerBook } from './known-peers.ts'
import { Links } from './links.ts'
import type { OverlayHandlers } from './protocol.ts'

const ALIVE = new AbortController().signal
const host = (n: number) => `10.0.${n >> 8}.${n & 255}`
const at = (n: number, peer = `p${n}`, port = 50051): PeerContact => ({
  peer: parsePeerId(peer),
  host: host(n),
  restPort: 8000,
  grpcPort: port,
})
const told = (...contacts: PeerContact[]) => contacts.map((contact) => ({ contact, ageMs: 0 }))

class World {
  readonly clock = new VirtualClock()
  readonly random = seededRandom(1)
  readonly network = new SimulatedNetwork({ clock: this.clock, random: this.random })

  peer(self: PeerContact, preferred: () => PeerContact[] = () => []) {
    const { clock, random, network } = this
    const saved: (readonly RememberedPeer[])[] = []
    const nudges: number[] = []
    const book = new PeerBook({ self: () => self, clock, random })
    const links = new Links({ book, clock })
    const exchange = new Exchange({
      self: () => self,
      network: network.overlayOf(self),
      book,
      links,
      file: { load: () => [], save: (peers) => saved.push(peers) },
      clock,
      preferred,
      nudge: () => nudges.push(clock.now()),
    })
    network.settle(self, { overlay: exchange })
    const tick = (signal = ALIVE) => clock.run(exchange.tick(signal))
    return { self, book, links, exchange, saved, nudges, tick }
  }

  /** Lets peers tick at their own pace for so long. */
  async live(peers: readonly ReturnType<World['peer']>[], ms: number): Promise<void> {
    const stop = new AbortController()
    for (const { exchange } of peers)
      void (async () => {
        while (!stop.signal.aborted) {
          await exchange.tick(stop.signal)
          await this.clock.sleep(exchange.pauseMs * (0.9 + 0.2 * this.random()), stop.signal)
        }
      })()
    await this.clock.runUntil(this.clock.now() + ms)
    stop.abort()
    await this.clock.runUntil(this.clock.now() + 1000)
  }
}

const standings = (book: PeerBook) =>
  Object.fromEntries(book.list().map(({ contact, standing }) => [contact.peer, standing]))

describe('an exchange', () => {
  test('with the address that the user gave keeps who answers, and what it tells as hearsay', async () => {
    const world = new World()
    const a = world.peer(at(1))
    const b = world.peer(at(2))
    b.book.seen(at(3))
    const { self, peers } = await world.clock.run(a.exchange.introduce({ host: host(2), grpcPort: 50051 }, ALIVE))
    expect(self).toEqual(at(2))
    expect(peers.map(({ contact }) => contact.peer)).toEqual(['p3'])
    expect(standings(a.book)).toEqual({ p2: 'alive', p3: 'hearsay' })
    // The other one has it from the caller only.
    expect(standings(b.book)).toEqual({ p3: 'alive', p1: 'hearsay' })
    expect(a.nudges).toHaveLength(1)
    await expect(
      world.clock.run(a.exchange.introduce({ host: host(1), grpcPort: 50051 }, ALIVE)),
    ).rejects.toMatchObject({
      code: 'invalid',
    })
    await expect(
      world.clock.run(a.exchange.introduce({ host: host(9), grpcPort: 50051 }, ALIVE)),
    ).rejects.toMatchObject({
      code: 'unavailable',
    })
  })

  test('lets everybody get to know everybody from one address, with links that go both ways', async () => {
    const world = new World()
    const peers = Array.from({ length: 30 }, (_, n) => world.peer(at(n + 1)))
    const joined = peers.slice(1).map(({ exchange }) => exchange.introduce({ host: host(1), grpcPort: 50051 }, ALIVE))
    await world.clock.run(Promise.allSettled(joined))
    await world.live(peers, 15 * 60_000)
    for (const { book, links } of peers) {
      expect(book.aliveCount).toBeGreaterThanOrEqual(25)
      expect(links.list().length).toBeGreaterThanOrEqual(4)
      expect(links.list().length).toBeLessThanOrEqual(12)
    }
    const pairs = new Set(peers.flatMap(({ self, links }) => links.list().map(({ peer }) => `${self.peer} ${peer}`)))
    const mutual = [...pairs].filter((pair) => pairs.has(pair.split(' ').reverse().join(' ')))
    expect(mutual.length / pairs.size).toBeGreaterThan(0.8)
    for (const { self } of peers)
      expect([...pairs].filter((pair) => pair.endsWith(` ${self.peer}`)).length).toBeGreaterThanOrEqual(2)
    // In peace: few messages.
    world.network.resetTraffic()
    await world.live(peers, 10 * 60_000)
    expect(world.network.traffic.messages / 30 / 600).toBeLessThan(0.4)
  })

  test('tries at most four at once, the lost and the unheard in turn, and one that is alive', async () => {
    const world = new World()
    const a = world.peer(at(1))
    for (const n of [2, 3, 4, 5, 6]) a.book.seen(at(n))
    for (const n of [2, 3, 4, 5]) a.book.missed(at(n))
    a.book.heard(told(at(7), at(8), at(9), at(10)), host(6))
    await world.clock.runUntil(6000)
    const asked: number[] = []
    for (let n = 2; n <= 10; n++)
      world.network.settle(at(n), {
        overlay: {
          onExchange: () => {
            asked.push(n)
            return { self: at(n), peers: [] }
          },
        },
      })
    const first = a.exchange.tick(ALIVE)
    await world.clock.runUntil(6060)
    expect([...asked].sort()).toEqual([2, 3, 6, 7, 8])
    await world.clock.run(first)
  })

  test('replaces one by who answers at its address', async () => {
    const world = new World()
    const a = world.peer(at(1))
    world.peer(at(2, 'other'))
    a.book.seen(at(2))
    await a.tick()
    expect(standings(a.book)).toEqual({ other: 'alive' })
  })

  test('lets nobody take the place of one that is alive by bearing its name', async () => {
    const world = new World()
    const a = world.peer(at(1))
    world.peer(at(2))
    world.peer(at(66, 'p2'))
    a.book.seen(at(2))
    a.book.heard(told(at(66, 'p66')), host(66))
    const seen = vi.spyOn(a.book, 'seen')
    for (let n = 0; n < 3; n++) await a.tick()
    expect(seen).not.toHaveBeenCalledWith(at(66, 'p2'))
    expect(a.book.list().map(({ contact }) => contact)).toEqual([at(2)])
    expect(standings(a.book)).toEqual({ p2: 'alive' })
  })

  test('finds one that came back with its old id at a new address', async () => {
    const world = new World()
    const a = world.peer(at(1))
    a.book.seen(at(2))
    const moved = world.peer(at(3, 'p2'))
    await world.clock.run(moved.exchange.introduce({ host: host(1), grpcPort: 50051 }, ALIVE))
    for (let n = 0; n < 2; n++) await a.tick()
    expect(a.book.list()).toMatchObject([{ contact: at(3, 'p2'), standing: 'alive' }])
  })

  test('forgets an address at which this peer itself is', async () => {
    const world = new World()
    const a = world.peer(at(1))
    world.network.settle(at(2), { overlay: a.exchange })
    a.book.heard(told(at(2, 'x')), host(9))
    await a.tick()
    expect(a.book.list()).toEqual([])
  })

  test('leaves one alone that says it has too much to do', async () => {
    const world = new World()
    const a = world.peer(at(1))
    const b = world.peer(at(2))
    a.book.seen(at(2))
    for (let n = 0; n < 30; n++)
      try {
        b.exchange.onExchange(at(1), [], false)
      } catch {}
    await a.tick()
    expect(standings(a.book)).toEqual({ p2: 'alive' })
    world.network.kill(at(2))
    await a.tick()
    expect(standings(a.book)).toEqual({ p2: 'lost' })
  })

  test('changes nothing once it is stopped', async () => {
    const world = new World()
    const a = world.peer(at(1))
    a.book.seen(at(2))
    const stop = new AbortController()
    const tick = a.exchange.tick(stop.signal)
    stop.abort()
    await world.clock.run(tick)
    expect(standings(a.book)).toEqual({ p2: 'alive' })
  })

  test('saves the book now and then where it changed, and when it is asked to', async () => {
    const world = new World()
    const a = world.peer(at(1))
    world.peer(at(2))
    a.book.seen(at(2))
    await a.tick()
    expect(a.saved).toHaveLength(0)
    await world.clock.runUntil(6000)
    await a.tick()
    await world.clock.runUntil(12_000)
    await a.tick()
    expect(a.saved.map((peers) => peers.map(({ contact }) => contact.peer))).toEqual([['p2']])
    await world.clock.runUntil(620_000)
    await a.tick()
    a.exchange.save()
    expect(a.saved).toHaveLength(3)
  })
})

describe('whoever asks for an exchange', () => {
  test('is hearsay, and is told of some that are alive, 16 at most', () => {
    const world = new World()
    const a = world.peer(at(1))
    for (let n = 10; n < 40; n++) a.book.seen(at(n))
    const { self, peers } = a.exchange.onExchange(at(2), [], false)
    expect(self).toEqual(at(1))
    expect(peers).toHaveLength(16)
    expect(standings(a.book)).toMatchObject({ p2: 'hearsay' })
  })

  test('is told of loopback addresses only on this machine', () => {
    const world = new World()
    const a = world.peer({ ...at(1), host: '127.0.0.1' })
    a.book.seen({ ...at(2), host: '127.0.0.1', grpcPort: 50052 })
    expect(a.exchange.onExchange(at(3), [], false).peers).toEqual([])
    expect(a.exchange.onExchange({ ...at(4), host: '127.0.0.1', grpcPort: 50053 }, [], false).peers).toHaveLength(1)
  })

  test('may do so 20 times at once and then once a second, whoever it says it is; others meanwhile', async () => {
    const world = new World()
    const a = world.peer(at(1))
    let served = 0
    const flood = (count: number) => {
      for (let n = 0; n < count; n++)
        try {
          a.exchange.onExchange(at(2, `x${n}`), [], false)
          served++
        } catch (error) {
          expect(error).toMatchObject({ code: 'limited' })
        }
    }
    flood(1000)
    expect(served).toBe(20)
    await world.clock.runUntil(3000)
    flood(1000)
    expect(served).toBe(23)
    a.exchange.onExchange(at(3), [], false)
  })

  test('is counted by where it calls from, whatever host it tells', async () => {
    const world = new World()
    const a = world.peer(at(1))
    let served = 0
    for (let n = 0; n < 1000; n++)
      try {
        a.exchange.onExchange(at(100 + n), [], true, host(2))
        served++
      } catch {}
    expect(served).toBe(20)
    // Its words are those of one teller, and its wishes for links those of one party.
    expect(a.book.list()).toHaveLength(20)
    for (let n = 100; n < 120; n++) a.book.seen(at(n))
    expect(a.links.list()).toHaveLength(2)
  })

  test('can not make this peer call a machine where nobody answers again and again', async () => {
    const world = new World()
    const a = world.peer(at(1))
    a.book.seen(at(2))
    world.network.settle(at(2), { overlay: { onExchange: () => ({ self: at(2), peers: [] }) } })
    const victim = (n: number) => ({ ...at(9, `v${n}`), grpcPort: 1000 + n })
    const calls: number[] = []
    for (let n = 0; n < 600; n++) {
      const liar = at(200 + (n % 20), `l${n}`)
      const before = world.network.traffic.calls.exchange ?? 0
      a.exchange.onExchange(
        { ...victim(1000 + n) },
        told(...Array.from({ length: 30 }, (_, i) => victim(n * 30 + i))),
        false,
        liar.host,
      )
      await a.tick()
      // One of them goes to the one that is alive.
      calls.push((world.network.traffic.calls.exchange ?? 0) - before - 1)
      await world.clock.runUntil(world.clock.now() + 1000)
    }
    const minutes = world.clock.now() / 60_000
    expect(calls.reduce((sum, count) => sum + count, 0)).toBeLessThanOrEqual(4 + Math.ceil(minutes))
    // Others that are told of meanwhile are tried as ever.
    world.peer(at(7))
    a.book.heard(told(at(7)), host(2))
    await a.tick()
    expect(standings(a.book)).toMatchObject({ p7: 'alive' })
  }, 20_000)

  test('of 100,000 parties leaves the book within its bounds', () => {
    const world = new World()
    const a = world.peer(at(1))
    a.book.seen(at(5))
    for (let n = 0; n < 100_000; n++) {
      const from = { ...at(0, `x${n}`), host: `11.${n >> 16}.${(n >> 8) & 255}.${n & 255}` }
      try {
        a.exchange.onExchange(from, told(at(n & 0xffff, `y${n}`)), true)
      } catch {}
    }
    expect(a.book.list().length).toBeLessThanOrEqual(65)
    expect(standings(a.book)).toMatchObject({ p5: 'alive' })
    expect(a.links.list()).toEqual([])
  })
})

describe('links', () => {
  const answers = (world: World, self: PeerContact, seen: boolean[] = []): OverlayHandlers => {
    const overlay: OverlayHandlers = {
      onExchange(_from, _peers, linked) {
        seen.push(linked)
        return { self, peers: [] }
      },
    }
    world.network.settle(self, { overlay })
    return overlay
  }

  test('are four of its own choice, friends first, who are told so every other minute', async () => {
    const world = new World()
    const friends = [at(20), at(21), at(99)]
    const a = world.peer(at(1), () => friends)
    const seen: boolean[] = []
    for (let n = 10; n < 30; n++) {
      answers(world, at(n), n === 20 ? seen : [])
      a.book.seen(at(n))
    }
    await a.tick()
    const chosen = a.links.list().map(({ peer }) => peer)
    expect(chosen).toHaveLength(4)
    expect(chosen.slice(0, 2)).toEqual(['p20', 'p21'])
    for (let minute = 0; minute < 10; minute++) {
      await world.clock.runUntil(world.clock.now() + 60_000)
      await a.tick()
    }
    expect(a.links.list().map(({ peer }) => peer)).toEqual(chosen)
    const times = seen.filter((linked) => linked).length
    expect(times).toBeGreaterThanOrEqual(4)
  })

  test('that do not answer are replaced at the next tick', async () => {
    const world = new World()
    const a = world.peer(at(1))
    for (let n = 10; n < 17; n++) {
      answers(world, at(n))
      a.book.seen(at(n))
    }
    await a.tick()
    const [lost] = a.links.list()
    a.book.missed(lost!)
    expect(a.links.list()).toHaveLength(3)
    await a.tick()
    expect(a.links.list()).toHaveLength(4)
    expect(a.links.list()).not.toContainEqual(lost)
  })

  test('that others ask for are eight more, for three minutes, once those have answered at the address in the book', async () => {
    const world = new World()
    const a = world.peer(at(1))
    for (let n = 10; n < 20; n++) {
      answers(world, at(n))
      a.exchange.onExchange(at(n), [], true)
    }
    expect(a.links.list()).toEqual([])
    expect(a.nudges.length).toBeGreaterThan(0)
    for (let n = 10; n < 20; n++) a.book.seen(at(n))
    expect(a.links.list().map(({ peer }) => peer)).toEqual([10, 11, 12, 13, 14, 15, 16, 17].map((n) => `p${n}`))
    await world.clock.runUntil(120_000)
    a.exchange.onExchange(at(10), [], true)
    a.exchange.onExchange(at(19), [], true)
    await world.clock.runUntil(181_000)
    expect(a.links.list().map(({ peer }) => peer)).toEqual(['p10'])
    a.exchange.onExchange(at(19), [], true)
    expect(a.links.list().map(({ peer }) => peer)).toEqual(['p10', 'p19'])
  })

  test('are chosen among as many parties as there are, not among the names of one', () => {
    const world = new World()
    const a = world.peer(at(1))
    for (let n = 0; n < 40; n++) a.book.seen(at(66, `x${n}`, 1000 + n))
    for (const n of [2, 3, 4]) a.book.seen(at(n))
    a.links.choose([])
    const hosts = a.links.list().map((contact) => contact.host)
    expect(hosts.sort()).toEqual([host(2), host(3), host(4), host(66)])
    // Where there is only one party, it is better than none.
    const b = world.peer(at(9))
    for (let n = 0; n < 10; n++) b.book.seen(at(66, `x${n}`, 1000 + n))
    b.links.choose([])
    expect(b.links.list()).toHaveLength(4)
  })

  test('that one party asks for are two at most', () => {
    const world = new World()
    const a = world.peer(at(1))
    for (let n = 0; n < 9; n++) {
      a.exchange.onExchange(at(2, `x${n}`, 1000 + n), [], true)
      a.book.seen(at(2, `x${n}`, 1000 + n))
    }
    expect(a.links.list()).toHaveLength(2)
  })
})

describe('the pause between ticks', () => {
  test('is a minute in peace, and two seconds while there are few peers or no links', async () => {
    const world = new World()
    const a = world.peer(at(1))
    expect(a.exchange.pauseMs).toBe(60_000)
    a.book.heard(told(at(2)), host(9))
    expect(a.exchange.pauseMs).toBe(2000)
    a.book.missed(at(2))
    expect(a.exchange.pauseMs).toBe(5000)
    for (let n = 10; n < 20; n++) {
      world.peer(at(n))
      a.book.seen(at(n))
    }
    expect(a.exchange.pauseMs).toBe(2000)
    await a.tick()
    expect(a.exchange.pauseMs).toBe(60_000)
  })
})
