import { oneParty } from '../common/address.ts'
import type { Clock } from '../common/clock.ts'
import { NetworkError } from '../common/errors.ts'
import type { ContentId, PeerId } from '../common/ids.ts'
import { type Random, sample } from '../common/random.ts'

/** One taker of a content, as it said of itself; `host` is where it was seen. */
export interface SwarmPeer {
  readonly peer: PeerId
  readonly host: string
  readonly grpcPort: number
  /** pieces that it has, of so many */
  readonly have: number
  readonly pieces: number
}

type Maybe<T> = T | Promise<T>

/**
 * Who takes which content at present, as a tracker knows it (BEP 3). An entry is of an address, so whoever announces
 * can only change what stands for its own.
 */
export interface Tracker {
  /**
   * Puts a taker into the swarm of a content, or keeps it there; @returns others of it, picked at random.
   * @throws NetworkError `limited` where the host has too many entries
   */
  announce(id: ContentId, peer: SwarmPeer): Maybe<SwarmPeer[]>
  /** Takes it out again. */
  withdraw(id: ContentId, peer: Pick<SwarmPeer, 'host' | 'grpcPort'>): Maybe<void>
  members(id: ContentId): Maybe<SwarmPeer[]>
  /** The swarms with the most takers, up to `limit`. */
  largest(limit: number): Maybe<{ id: ContentId; peers: number }[]>
  counts(): Maybe<{ swarms: number; peers: number }>
}

export interface SwarmsOptions {
  /** an entry that is not announced again ends after this long, ms (default 120,000) */
  ttlMs?: number
  /** others named in one answer (default 50) */
  sample?: number
  /** swarms at a time (default 10,000): a new one takes the place of the oldest with a single taker */
  maxSwarms?: number
  /** takers of one swarm (default 2,000): a newcomer takes the place of the one that was silent longest */
  maxPeers?: number
  /** entries over all swarms (default 200,000), about 80 MB: a newcomer takes the place of the oldest */
  maxEntries?: number
  /** entries of one host (an IPv6 network of 64 bits) over all swarms (default 1,000): less than a swarm holds, so that no host fills one alone */
  maxPerHost?: number
}

/** Entries looked at to find a swarm that can make room. */
const LOOK_AT_MOST = 1000

interface Entry extends SwarmPeer {
  readonly id: ContentId
  readonly expiresAt: number
}

/**
 * The tracker in memory. It is soft state: every taker announces itself anew all the time, so a Maestro that was
 * restarted knows its swarms again within one interval, and nothing of this is worth a disk.
 */
export class Swarms implements Tracker {
  readonly #clock: Clock
  readonly #random: Random
  readonly #options: Required<SwarmsOptions>
  /** by address, the one that was silent longest first */
  readonly #swarms = new Map<ContentId, Map<string, Entry>>()
  /** entries of all swarms, the one that was silent longest first */
  readonly #entries = new Set<Entry>()
  /** no entry ends before this, ms since the epoch */
  #nextEnd = Number.POSITIVE_INFINITY
  /** how many of them a host has */
  readonly #byHost = new Map<string, number>()

  constructor(deps: { clock: Clock; random?: Random }, options: SwarmsOptions = {}) {
    this.#clock = deps.clock
    this.#random = deps.random ?? Math.random
    this.#options = {
      ttlMs: 120_000,
      sample: 50,
      maxSwarms: 10_000,
      maxPeers: 2_000,
      maxEntries: 200_000,
      maxPerHost: 1_000,
      ...options,
    }
  }

  announce(id: ContentId, peer: SwarmPeer): SwarmPeer[] {
    this.#expire()
    const { maxPeers, ttlMs } = this.#options
    const known = this.#swarms.get(id)?.get(addressOf(peer))
    if (!known) this.#admit(id, peer.host)
    else this.#remove(known)
    const full = this.#swarms.get(id)
    if (full && full.size >= maxPeers) this.#remove(first(full.values())!)
    const swarm = this.#swarms.get(id) ?? new Map<string, Entry>()
    const { host, grpcPort, have, pieces } = peer
    const entry = { id, peer: peer.peer, host, grpcPort, have, pieces, expiresAt: this.#clock.now() + ttlMs }
    this.#swarms.set(id, swarm)
    swarm.set(addressOf(entry), entry)
    this.#entries.add(entry)
    this.#nextEnd = Math.min(this.#nextEnd, entry.expiresAt)
    this.#byHost.set(oneParty(host), (this.#byHost.get(oneParty(host)) ?? 0) + 1)
    return this.#others(swarm, entry)
  }

  withdraw(id: ContentId, peer: Pick<SwarmPeer, 'host' | 'grpcPort'>): void {
    this.#expire()
    const entry = this.#swarms.get(id)?.get(addressOf(peer))
    if (entry) this.#remove(entry)
  }

  members(id: ContentId): SwarmPeer[] {
    this.#expire()
    return [...(this.#swarms.get(id)?.values() ?? [])]
  }

  largest(limit: number): { id: ContentId; peers: number }[] {
    this.#expire()
    return [...this.#swarms]
      .map(([id, swarm]) => ({ id, peers: swarm.size }))
      .sort((a, b) => b.peers - a.peers)
      .slice(0, limit)
  }

  counts(): { swarms: number; peers: number } {
    this.#expire()
    return { swarms: this.#swarms.size, peers: this.#entries.size }
  }

  #admit(id: ContentId, host: string): void {
    const { maxSwarms, maxEntries, maxPerHost } = this.#options
    if ((this.#byHost.get(oneParty(host)) ?? 0) >= maxPerHost)
      throw new NetworkError(
        'limited',
        `${host} is in ${maxPerHost} swarms, which is the most for one host: leave one first`,
        { max_per_host: maxPerHost },
      )
    // Who is displaced announces itself again soon; who floods has to do so all the time, from many hosts.
    if (this.#swarms.size >= maxSwarms && !this.#swarms.has(id)) this.#remove(this.#oldestAlone())
    if (this.#entries.size >= maxEntries) this.#remove(first(this.#entries)!)
  }

  /** @throws NetworkError `limited` where none of the oldest is alone in its swarm */
  #oldestAlone(): Entry {
    let looked = 0
    for (const entry of this.#entries) {
      if (this.#swarms.get(entry.id)!.size === 1) return entry
      if (++looked === LOOK_AT_MOST) break
    }
    throw new NetworkError('limited', 'this Maestro has no room for more swarms: try again later')
  }

  /** Time ends entries in the order in which they were announced. */
  #expire(): void {
    const now = this.#clock.now()
    // A set is slow to find its first element where many before it were deleted: it is looked for no more than needed.
    if (now < this.#nextEnd) return
    this.#nextEnd = Number.POSITIVE_INFINITY
    for (const entry of this.#entries) {
      if (entry.expiresAt > now) {
        this.#nextEnd = entry.expiresAt
        return
      }
      this.#remove(entry)
    }
  }

  #remove(entry: Entry): void {
    this.#entries.delete(entry)
    const swarm = this.#swarms.get(entry.id)
    swarm?.delete(addressOf(entry))
    if (swarm?.size === 0) this.#swarms.delete(entry.id)
    const host = oneParty(entry.host)
    const left = (this.#byHost.get(host) ?? 1) - 1
    if (left === 0) this.#byHost.delete(host)
    else this.#byHost.set(host, left)
  }

  #others(swarm: ReadonlyMap<string, Entry>, self: Entry): SwarmPeer[] {
    const others = [...swarm.values()].filter((entry) => entry !== self && entry.peer !== self.peer)
    return sample(others, this.#options.sample, this.#random)
  }
}

function addressOf({ host, grpcPort }: Pick<SwarmPeer, 'host' | 'grpcPort'>): string {
  return `${host} ${grpcPort}`
}

function first<T>(values: Iterable<T>): T | undefined {
  for (const value of values) return value
  return undefined
}
