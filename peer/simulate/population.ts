import type { PeerId } from '../../common/ids.ts'
import { type Random, sample } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import type { ChordOptions } from '../dht/node.ts'
import { powersBeyond } from '../dht/pointers.ts'
import { between, type Member, memberOf, plus, type RingId } from '../dht/ring.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import { Acquaintances } from './acquaintances.ts'
import { type NetworkOptions, SimulatedNetwork } from './network.ts'
import { below, seededRandom } from './seeded.ts'
import { SimulatedPeer } from './simulated-peer.ts'
import { VirtualClock } from './virtual-clock.ts'

export interface PopulationOptions {
  seed: number
  chord?: Partial<ChordOptions>
  network?: NetworkOptions
  /** part of a pause between rounds of maintenance by which it differs at random, either way (default 0.1) */
  jitter?: number
  /** the book of a peer (default: a light one) */
  bookOf?: (self: PeerContact, clock: VirtualClock, random: Random) => KnownPeers
}

/** How far the pointers of all members are from what they would be in a ring at rest. */
export interface RingHealth {
  readonly members: number
  readonly wrongSuccessors: number
  readonly wrongPredecessors: number
  /** whose list of successors has a gap, or one that is gone */
  readonly wrongLists: number
}

/** The successors that a member keeps unless it is told otherwise: as `ChordOptions`. */
const SUCCESSORS = 16
/** Peers that one knows from elsewhere at the beginning, and at most. */
const KNOWN_FIRST = 16
const KNOWN_MOST = 32
/** Longer than any round of maintenance of a whole ring, ms. */
const ROUND_MS = 20_000

/** Peers that live in one process on virtual time, and the truth about them. */
export class Population {
  readonly clock = new VirtualClock()
  readonly random: Random
  readonly network: SimulatedNetwork
  readonly successors: number
  readonly #options: PopulationOptions
  /** members, by their place */
  #members: SimulatedPeer[] = []
  /** such as are in their first round */
  readonly #joining = new Set<SimulatedPeer>()
  #born = 0

  constructor(options: PopulationOptions) {
    this.#options = options
    this.random = seededRandom(options.seed)
    this.network = new SimulatedNetwork({ clock: this.clock, random: this.random }, options.network)
    this.successors = options.chord?.successors ?? SUCCESSORS
  }

  /** Those alive that are members of the ring, by their place. */
  get members(): readonly SimulatedPeer[] {
    return this.#members
  }

  /** A peer at its address that is in no ring yet, and knows these. `as`: an id that lived elsewhere before. */
  settle(knows: readonly PeerContact[] = [], as?: PeerId): SimulatedPeer {
    const { clock, random, network } = this
    const i = this.#born++
    const peer = as ?? (`s${this.#options.seed}-p${i}` as PeerId)
    const host = `10.${(i >> 16) & 255}.${(i >> 8) & 255}.${i & 255}`
    const member = memberOf({ peer, host, restPort: 8000, grpcPort: 50_051 })
    const known = this.#options.bookOf?.(member, clock, random) ?? new Acquaintances(random, KNOWN_MOST)
    for (const contact of knows) known.seen(contact)
    const settled = new SimulatedPeer({ member, network, known, clock, random }, this.#options.chord ?? {})
    settled.settle()
    return settled
  }

  /** From now on it counts as one of the ring, and the keys before it are its own. */
  admit(...peers: SimulatedPeer[]): void {
    if (peers.length > 1) this.#members = [...this.#members, ...peers].sort(byPlace)
    else for (const peer of peers) this.#members.splice(this.#indexOf(peer.member.id), 0, peer)
  }

  /** Makes so many peers, and a ring of them that is whole, as if it had always been there. */
  found(count: number): void {
    const peers = Array.from({ length: count }, () => this.settle())
    this.admit(...peers)
    for (const peer of peers) {
      for (const { member } of this.some(KNOWN_FIRST)) if (member !== peer.member) peer.known.seen(member)
      this.#place(peer)
    }
  }

  /**
   * Makes so many peers that join one ring by themselves, evenly over `overMs` of virtual time, each through one that is
   * there; their maintenance runs from then on.
   */
  async join(count: number, overMs: number): Promise<SimulatedPeer[]> {
    const joined: SimulatedPeer[] = []
    const joining: Promise<void>[] = []
    const begin = this.clock.now()
    for (let i = 0; i < count; i++) {
      await this.clock.runUntil(begin + (i * overMs) / count)
      const peer = this.settle(this.some(1).map(({ member }) => member))
      joined.push(peer)
      joining.push(this.enter(peer))
      if (this.#members.length === 0) await this.clock.run(joining.at(-1)!)
    }
    await this.clock.run(Promise.all(joining))
    return joined
  }

  /** Joins by the first round, and is a member after it. */
  async enter(peer: SimulatedPeer): Promise<void> {
    this.#joining.add(peer)
    await peer.tick()
    this.#joining.delete(peer)
    this.admit(peer)
    peer.maintain(this.#options.jitter ?? 0.1)
  }

  maintain(): void {
    for (const peer of this.#members) peer.maintain(this.#options.jitter ?? 0.1)
  }

  /** Stops all maintenance, and lets rounds that run end. */
  async pause(): Promise<void> {
    for (const peer of this.#members) peer.pause()
    await this.clock.runUntil(this.clock.now() + ROUND_MS)
  }

  /** All go silent at once. */
  kill(peers: readonly SimulatedPeer[]): void {
    const gone = new Set(peers)
    this.#members = this.#members.filter((peer) => !gone.has(peer))
    for (const peer of peers) peer.vanish()
  }

  /** It counts as gone from the moment at which it begins to say so. */
  async leave(peer: SimulatedPeer): Promise<void> {
    this.#members = this.#members.filter((other) => other !== peer)
    await peer.leave()
  }

  /** So many members by chance. */
  some(count: number): SimulatedPeer[] {
    if (count < this.#members.length / 4) {
      const chosen = new Set<SimulatedPeer>()
      while (chosen.size < count) chosen.add(this.one())
      return [...chosen]
    }
    return sample(this.#members, count, this.random)
  }

  one(): SimulatedPeer {
    return this.#members[below(this.random, this.#members.length)]!
  }

  /** The `i`th member that follows the key, the first being responsible for it. */
  ownerOf(key: RingId, i = 0): SimulatedPeer {
    return this.#members[(this.#indexOf(key) + i) % this.#members.length]!
  }

  /** Whether this is who is responsible for the key. One that is about to join may be already. */
  isOwner(key: RingId, owner: Member | undefined): boolean {
    if (!owner) return false
    const { member } = this.ownerOf(key)
    if (owner.id === member.id) return true
    const newcomer = [...this.#joining].some((peer) => peer.member.id === owner.id)
    return newcomer && (owner.id === key || between(key, owner.id, member.id))
  }

  health(): RingHealth {
    let wrongSuccessors = 0
    let wrongPredecessors = 0
    let wrongLists = 0
    const all = this.#members
    for (const [i, { node }] of all.entries()) {
      const { successors, predecessor } = node.view
      const right = this.#around(i)
      if (successors[0]?.id !== right.successors[0]?.id) wrongSuccessors++
      if (predecessor?.id !== right.predecessor?.id) wrongPredecessors++
      const isRight = right.successors.every(({ id }, j) => successors[j]?.id === id)
      if (!isRight || successors.length !== right.successors.length) wrongLists++
    }
    return { members: all.length, wrongSuccessors, wrongPredecessors, wrongLists }
  }

  /**
   * Lets time pass until the pointers are right, looked at once a second.
   * @param lists also all the lists of successors, to their ends
   * @returns after how many ms; undefined where they were not within `most`
   */
  async untilWhole(most: number, { lists = false } = {}): Promise<number | undefined> {
    const begin = this.clock.now()
    for (let at = begin; at <= begin + most; at += 1000) {
      await this.clock.runUntil(at)
      const { wrongSuccessors, wrongPredecessors, wrongLists } = this.health()
      if (wrongSuccessors + wrongPredecessors + (lists ? wrongLists : 0) === 0) return at - begin
    }
    return undefined
  }

  /** Gives it the pointers that it would have in a ring at rest. */
  #place({ node, member }: SimulatedPeer): void {
    const view = this.#around(this.#indexOf(member.id))
    const last = view.successors.at(-1)
    const isComplete = view.successors.length === this.#members.length - 1
    const powers = last && !isComplete ? powersBeyond(member.id, last.id) : []
    const fingers = powers.map((power) => ({ power, member: this.ownerOf(plus(member.id, power)).member }))
    node.resume(view, fingers)
  }

  #around(i: number): { predecessor: Member | undefined; successors: Member[] } {
    const all = this.#members
    const others = Math.min(this.successors, all.length - 1)
    const successors = Array.from({ length: others }, (_, j) => all[(i + 1 + j) % all.length]!.member)
    return { predecessor: others === 0 ? undefined : all[(i + all.length - 1) % all.length]!.member, successors }
  }

  /** Of the first member at this place or after it; the count of all where there is none. */
  #indexOf(id: RingId): number {
    let low = 0
    let high = this.#members.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.#members[middle]!.member.id < id) low = middle + 1
      else high = middle
    }
    return low
  }
}

function byPlace(a: SimulatedPeer, b: SimulatedPeer): number {
  return a.member.id < b.member.id ? -1 : 1
}
