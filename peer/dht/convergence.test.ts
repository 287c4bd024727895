import { expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { Random } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import { PeerBook } from '../overlay/known-peers.ts'
import { SimulatedNetwork } from '../simulate/network.ts'
import { below, seededRandom } from '../simulate/seeded.ts'
import { VirtualClock } from '../simulate/virtual-clock.ts'
import { member } from './dht.fixture.ts'
import { ChordNode } from './node.ts'
import type { RingNetwork } from './protocol.ts'
import { RecordStore } from './record-store.ts'
import { type Member, memberOf } from './ring.ts'

/** How many histories are played; `RING_HISTORIES=5000` for a long night. The first one that fails names its seed. */
const HISTORIES = Number(process.env.RING_HISTORIES ?? 100)
const FIRST = Number(process.env.RING_SEED ?? 1)
const SECOND = 1000
const MINUTE = 60 * SECOND

interface Inhabitant {
  contact: PeerContact
  /** the same, as it is at each moment */
  readonly self: () => PeerContact
  readonly book: PeerBook
  node: ChordNode
  /** ends its maintenance */
  running: AbortController
}

interface Faults {
  /** members may be killed however many follow each other, also all but one */
  readonly arbitrary: boolean
}

/** A small ring to which everything happens that may, by chance, for two minutes; then nothing more. */
class History {
  readonly clock = new VirtualClock()
  readonly random: Random
  readonly #network: SimulatedNetwork
  readonly #faults: Faults
  readonly #successors: number
  readonly #all: Inhabitant[] = []
  readonly told: string[] = []
  #hosts = 0
  #slowness = 0
  readonly #slow = new Set<string>()

  constructor(seed: number, faults: Faults) {
    this.random = seededRandom(seed)
    this.#faults = faults
    this.#successors = 2 + below(this.random, 3)
    const latencyMs = this.#one([
      [1, 20],
      [10, 50],
      [20, 200],
      [100, 240],
    ] as const)
    this.#network = new SimulatedNetwork({ clock: this.clock, random: this.random }, { latencyMs })
  }

  get alive(): Inhabitant[] {
    return this.#all.filter(({ running }) => !running.signal.aborted)
  }

  async play(): Promise<void> {
    const count = 3 + below(this.random, 7)
    const together = this.random() < 0.3
    for (let i = 0; i < count; i++) {
      this.#join()
      if (!together) await this.pass(this.random() * 3 * SECOND)
    }
    if (this.random() < 0.7) await this.pass(MINUTE)
    const events = below(this.random, 25)
    for (let i = 0; i < events; i++) {
      await this.#happen()
      await this.pass(this.random() < 0.5 ? this.random() * 300 : this.random() * 10 * SECOND)
    }
    this.#network.heal()
    this.#slowness = 0
    this.#slow.clear()
    this.#tell('quiet')
  }

  /** Until the ring is as it should be, ms; undefined where that is never. */
  async untilIdeal(bound: number): Promise<number | undefined> {
    const begin = this.clock.now()
    for (let i = 1; this.clock.now() - begin <= bound; i++) {
      if (this.wrong.length === 0) return this.clock.now() - begin
      await this.pass(2 * SECOND)
      if (i % 30 === 0) this.#introduce()
    }
    return undefined
  }

  /** Where two that know each other have both moved, only somebody else can bring them together again. */
  #introduce(): void {
    for (const [i, { book }] of this.alive.entries()) if (i > 0) book.seen(this.alive[i - 1]!.contact)
  }

  /** What is not as it should be. */
  get wrong(): string[] {
    const ring = this.alive.map(({ contact }) => memberOf(contact)).sort((a, b) => (a.id < b.id ? -1 : 1))
    const wrong: string[] = []
    for (const [at, self] of ring.entries()) {
      const { node } = this.alive.find(({ contact }) => contact.peer === self.peer)!
      const after = Array.from({ length: ring.length - 1 }, (_, i) => ring[(at + 1 + i) % ring.length]!)
      const { predecessor, successors } = node.view
      const [is, be] = [successors.map(named).join(' '), after.slice(0, this.#successors).map(named).join(' ')]
      if (is !== be) wrong.push(`${self.peer} (${node.state}): successors ${is || 'none'}, not ${be}`)
      const before = after.at(-1)
      if ((predecessor && named(predecessor)) !== (before && named(before)))
        wrong.push(`${self.peer}: predecessor ${predecessor && named(predecessor)}, not ${before && named(before)}`)
      const state = ring.length === 1 ? 'alone' : after.length <= this.#successors ? 'small' : 'whole'
      if (node.state !== state) wrong.push(`${self.peer}: ${node.state}, not ${state}`)
    }
    return wrong
  }

  pass(ms: number): Promise<void> {
    return this.clock.runUntil(this.clock.now() + ms)
  }

  #tell(what: string): void {
    this.told.push(`${Math.round(this.clock.now())} ${what}`)
  }

  #one<T>(of: readonly T[]): T {
    return of[below(this.random, of.length)]!
  }

  async #happen(): Promise<void> {
    const { alive } = this
    switch (below(this.random, 9)) {
      case 0:
      case 1:
        if (alive.length < 9) this.#join()
        return
      case 2: {
        if (alive.length < 2) return
        const one = this.#one(alive)
        this.#tell(`${one.contact.peer} leaves`)
        one.running.abort()
        void one.node.leave(new AbortController().signal).then(() => this.#network.kill(one.contact))
        return
      }
      case 3:
      case 4:
        return this.#kill()
      case 5: {
        // Back at once, and knows nothing of the ring; at another address, as often as not.
        if (alive.length < 2) return
        const one = this.#one(alive)
        this.#stop(one)
        if (this.random() < 0.5) one.contact = { ...one.contact, host: this.#host() }
        this.#tell(`${one.contact.peer} begins anew at ${one.contact.host}`)
        one.node = this.#nodeOf(one)
        this.#run(one)
        return
      }
      case 6: {
        // The machine has another address from now on.
        const one = this.#one(alive)
        this.#network.kill(one.contact)
        one.contact = { ...one.contact, host: this.#host() }
        this.#tell(`${one.contact.peer} moves to ${one.contact.host}`)
        this.#network.settle(one.contact, { ring: one.node })
        return
      }
      case 7: {
        if (this.random() < 0.5) {
          this.#tell('heal')
          return this.#network.heal()
        }
        const side = alive.filter(() => this.random() < 0.5)
        this.#tell(`cut off: ${side.map(({ contact }) => contact.peer).join(' ')}`)
        return this.#network.cutOff(
          side.map(({ contact }) => contact),
          1,
        )
      }
      case 8:
        this.#slowness = this.random() < 0.3 ? 0 : this.random()
        this.#slow.clear()
        for (const { contact } of alive) if (this.random() < 0.5) this.#slow.add(contact.peer)
        this.#tell(`slow by ${this.#slowness.toFixed(2)}: ${[...this.#slow].join(' ')}`)
    }
  }

  #kill(): void {
    const ring = this.alive.sort((a, b) => (memberOf(a.contact).id < memberOf(b.contact).id ? -1 : 1))
    const most = this.#faults.arbitrary ? ring.length - 1 : Math.min(this.#successors - 1, ring.length - 1)
    const count = Math.min(1 + below(this.random, Math.max(1, most)), ring.length - 1)
    const from = below(this.random, ring.length)
    for (let i = 0; i < count; i++) {
      const one = ring[(from + i) % ring.length]!
      this.#tell(`${one.contact.peer} dies`)
      this.#stop(one)
    }
  }

  #stop(one: Inhabitant): void {
    one.running.abort()
    this.#network.kill(one.contact)
  }

  #join(): void {
    const contact = member(`P${this.#all.length}`, this.#host())
    const at: { one?: Inhabitant } = {}
    const self = () => at.one?.contact ?? contact
    const book = new PeerBook({ self, clock: this.clock, random: this.random })
    for (const other of this.alive) book.seen(other.contact)
    const node = this.#nodeOf({ self, book })
    const one: Inhabitant = { contact, book, node, self, running: new AbortController() }
    at.one = one
    this.#all.push(one)
    this.#tell(`${contact.peer} joins`)
    this.#run(one)
  }

  #nodeOf({ self, book: known }: Pick<Inhabitant, 'self' | 'book'>): ChordNode {
    const { clock, random } = this
    const deps = { self, network: this.#networkOf(self), known, clock, random }
    return new ChordNode({ ...deps, records: new RecordStore({ clock }) }, { successors: this.#successors })
  }

  #run(one: Inhabitant): void {
    const { node } = one
    const running = new AbortController()
    one.running = running
    this.#network.settle(one.contact, { ring: node })
    const { signal } = running
    const maintain = async () => {
      await this.clock.sleep(this.random() * 100)
      while (!signal.aborted) {
        await node.tick(signal).catch((error: unknown) => {
          if (!signal.aborted) throw error
        })
        await this.clock.sleep(node.pauseMs * (0.9 + 0.2 * this.random()))
      }
    }
    void maintain()
  }

  #host(): string {
    this.#hosts++
    return `10.${this.#hosts}.0.1`
  }

  /** Some answers come too late to count. */
  #networkOf(self: () => PeerContact): RingNetwork {
    const ring = () => this.#network.ringOf(memberOf(self()))
    const slow = async <T>(to: Member, call: () => Promise<T>): Promise<T> => {
      const isSlow = this.#slow.has(to.peer) && this.random() < this.#slowness
      const answer = call()
      if (!isSlow) return answer
      answer.catch(() => {})
      await this.clock.sleep(500)
      throw new NetworkError('unavailable', 'no answer in time', { reason: 'timeout' })
    }
    return {
      stabilize: (to, signal) => slow(to, () => ring().stabilize(to, signal)),
      step: (to, key, signal) => slow(to, () => ring().step(to, key, signal)),
      find: (to, key, of, signal) => slow(to, () => ring().find(to, key, of, signal)),
      store: (to, records, withdraw, signal) => slow(to, () => ring().store(to, records, withdraw, signal)),
      leave: (to, signal) => slow(to, () => ring().leave(to, signal)),
    }
  }
}

function named({ peer, host }: PeerContact): string {
  return `${peer}@${host.split('.')[1]}`
}

test.each([
  ['with never more in a row dying than a list has room for', false],
  ['with any number dying at once', true],
])(
  'whatever happens to a small ring, %s: left alone, it is as it should be again',
  async (_, arbitrary) => {
    const times: number[] = []
    for (let seed = FIRST; seed < FIRST + HISTORIES; seed++) {
      const history = new History(seed, { arbitrary })
      await history.play()
      const time = await history.untilIdeal(60 * MINUTE)
      if (time === undefined) expect.fail(`seed ${seed}: ${[...history.told, ...history.wrong].join('\n')}`)
      times.push(time)
    }
    expect(times.sort((a, b) => a - b)[times.length >> 1]).toBeLessThan(30 * SECOND)
  },
  3_600_000,
)
