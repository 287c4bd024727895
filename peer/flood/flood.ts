import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import { PartyLimits } from '../../common/party-limits.ts'
import { type Random, sample } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import { type LocalFiles, matches } from '../locate/local.ts'
import type { LocateQuery } from '../locate/strategy.ts'
import { askedBy } from '../overlay/party-limits.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import { sameHost } from '../overlay/reachable.ts'
import { Asking, type Tally } from './asking.ts'
import { bounded, HOP_MS, MAX_FAN_OUT, MAX_TIME_MS } from './bounds.ts'
import { isAskedFor } from './hits.ts'
import {
  type FloodAnswer,
  type FloodHandlers,
  type FloodHit,
  type FloodNetwork,
  type FloodQuery,
  type FloodSender,
  MAX_HITS_MESSAGE,
} from './protocol.ts'
import { FloodSearch, type RoundPlan, randomId } from './search.ts'
import { SeenQueries } from './seen-queries.ts'
import { shapesTree, Tree } from './tree.ts'

export interface FloodDeps {
  self: () => PeerContact
  network: FloodNetwork
  /** the neighbours */
  links: () => readonly PeerContact[]
  known: KnownPeers
  files: LocalFiles
  clock: Clock
  random: Random
}

export interface FloodOptions {
  /** for a name or a content */
  rounds: readonly RoundPlan[]
  /** for part of a name: all that there is, so there is one round */
  textRounds: readonly RoundPlan[]
  /** most that a search takes, all its rounds together, ms */
  timeMs: number
  /** most that the word of a provider is waited for, ms */
  confirmMs: number
}

const DEFAULTS: FloodOptions = {
  rounds: [
    // Measured on 1,000 peers: they reach some 20, 80, 250 and all of them.
    { ttl: 2, scope: 'all', timeMs: 500 },
    { ttl: 7, scope: 'tree', timeMs: 700 },
    { ttl: 11, scope: 'tree', timeMs: 900 },
    { ttl: 32, scope: 'tree', timeMs: 2400 },
    { ttl: 7, scope: 'all', timeMs: MAX_TIME_MS },
  ],
  textRounds: [{ ttl: 7, scope: 'all', timeMs: MAX_TIME_MS }],
  timeMs: MAX_TIME_MS,
  confirmMs: 1000,
}

/** Queries that one neighbour may pass on. */
const OF_PARTY = { perSecond: 20, atOnce: 100 }
/**
 * Questions whether this peer itself has one file, of one neighbour, which no other can have it pass on: what others flood
 * it with leaves its own lookups their word of providers.
 */
const DIRECT_OF_PARTY = { perSecond: 100, atOnce: 200 }
/** Queries at work, for all others and for one of them. */
const MAX_AT_WORK = 256
const MAX_OF_PARTY = 64

/** Finds files in the unstructured network: asks the neighbours, who ask theirs, and answers and passes on what they ask. */
export class Flood implements FloodHandlers {
  readonly #deps: FloodDeps
  readonly #options: FloodOptions
  readonly #tree: Tree
  readonly #asking: Asking
  readonly #seen: SeenQueries
  readonly #limits: PartyLimits
  readonly #direct: PartyLimits
  readonly #atWork = new Map<string, number>()
  #working = 0

  constructor(deps: FloodDeps, options: Partial<FloodOptions> = {}) {
    const now = () => deps.clock.now()
    this.#deps = deps
    this.#options = { ...DEFAULTS, ...options }
    this.#tree = new Tree(now)
    this.#asking = new Asking({ ...deps, tree: this.#tree })
    this.#seen = new SeenQueries(now)
    this.#limits = new PartyLimits(OF_PARTY, now)
    this.#direct = new PartyLimits(DIRECT_OF_PARTY, now)
  }

  /** What is held at present: queries of others, questions to neighbours, ids that are known again. */
  get load(): { readonly queries: number; readonly calls: number; readonly seen: number } {
    return { queries: this.#working, calls: this.#asking.calls, seen: this.#seen.size }
  }

  /** Never throws: where nobody answers, nothing is found. */
  search(what: LocateQuery, signal: AbortSignal): FloodSearch {
    const { clock, random } = this.#deps
    const { rounds, textRounds, timeMs } = this.#options
    const newId = () => {
      const id = randomId(random)
      this.#seen.add(id)
      return id
    }
    const deps = { asking: this.#asking, links: (scope: FloodQuery['scope']) => this.#links(scope), newId, clock }
    return new FloodSearch(
      deps,
      what,
      what.kind === 'text' ? textRounds : rounds,
      Math.min(timeMs, MAX_TIME_MS),
      signal,
    )
  }

  /**
   * Asks a peer itself whether it shares this; at the address at which it answers, others can fetch.
   * @throws NetworkError `unavailable`; `limited`
   */
  async *confirm(contact: PeerContact, what: LocateQuery, signal: AbortSignal): AsyncGenerator<FloodHit, void> {
    const { network, clock, random } = this.#deps
    const { confirmMs } = this.#options
    const gone = new AbortController()
    const leave = () => gone.abort()
    signal.addEventListener('abort', leave, { once: true })
    if (signal.aborted) leave()
    clock.sleep(confirmMs, gone.signal).then(leave)
    const query = { id: randomId(random), what, ttl: 0, hops: 1, timeMs: confirmMs, scope: 'all' } as const
    try {
      let isHeard = false
      for await (const answer of network.query(contact, query, gone.signal)) {
        // Its own fit into one message.
        if (answer.kind !== 'hits' || isHeard) return
        isHeard = true
        for (const hit of answer.hits.slice(0, MAX_HITS_MESSAGE))
          if (hit.provider.peer === contact.peer && isAskedFor(what, hit)) yield { ...hit, provider: contact, hops: 1 }
      }
    } catch (error) {
      if (gone.signal.aborted && !signal.aborted)
        throw new NetworkError('unavailable', `${contact.peer} does not answer in time`, {}, error)
      throw error
    } finally {
      signal.removeEventListener('abort', leave)
      leave()
    }
  }

  /** @throws NetworkError `limited`; `invalid` for an id that is none */
  async *onQuery(from: FloodSender, asked: FloodQuery, signal: AbortSignal): AsyncGenerator<FloodAnswer, void> {
    const query = bounded(asked)
    if (!query) throw new NetworkError('invalid', 'a query id has 32 hex digits')
    const link = this.#linkOf(from)
    const party = link ? `link ${link.peer}` : askedBy(from.host, from.peer)
    const isDirect = query.ttl === 0 && query.hops === 1 && query.what.kind !== 'text'
    if (!(isDirect ? this.#direct : this.#limits).take(party)) throw busy()
    const shapes = shapesTree(query)
    if (this.#seen.has(query.id)) {
      if (shapes && link) this.#tree.prune(link.peer)
      yield { kind: 'seen' }
      return
    }
    const ofParty = this.#atWork.get(party) ?? 0
    if (this.#working >= MAX_AT_WORK || ofParty >= MAX_OF_PARTY) throw busy()
    this.#seen.add(query.id)
    if (shapes && link) this.#tree.graft(link.peer)
    this.#atWork.set(party, ofParty + 1)
    this.#working++
    try {
      yield* this.#answer(from, query, signal)
    } finally {
      this.#working--
      const others = this.#atWork.get(party)! - 1
      if (others > 0) this.#atWork.set(party, others)
      else this.#atWork.delete(party)
    }
  }

  async *#answer(from: FloodSender, query: FloodQuery, signal: AbortSignal): AsyncGenerator<FloodAnswer, void> {
    const { self, files } = this.#deps
    const provider = self()
    const own = matches(files, query.what).slice(0, MAX_HITS_MESSAGE)
    if (own.length > 0)
      yield {
        kind: 'hits',
        hits: own.map(({ name, id: content, size }) => ({ provider, name, content, size, hops: 0 })),
      }
    const tally: Tally = { peers: 0, messages: 0 }
    const timeMs = query.timeMs - HOP_MS
    if (query.ttl > 0 && timeMs > 0) {
      const passed = { ...query, ttl: query.ttl - 1, hops: query.hops + 1, timeMs }
      // Nobody is told what it told itself.
      const links = this.#links(query.scope).filter(({ peer, host }) =>
        from.peer === undefined ? host !== from.host : peer !== from.peer,
      )
      for await (const hits of this.#asking.hits(links, passed, query.timeMs, tally, signal))
        yield { kind: 'hits', hits }
    }
    yield { kind: 'done', peers: tally.peers + 1, messages: tally.messages }
  }

  #links(scope: FloodQuery['scope']): readonly PeerContact[] {
    const open = this.#tree.open(this.#deps.links(), scope)
    return open.length > MAX_FAN_OUT ? sample(open, MAX_FAN_OUT, this.#deps.random) : open
  }

  /** The neighbour that it is: by its word, where that fits the address that it comes from. */
  #linkOf({ host, peer }: FloodSender): PeerContact | undefined {
    if (peer === undefined) return undefined
    return this.#deps.links().find((link) => link.peer === peer && sameHost(link.host, host))
  }
}

function busy(): NetworkError {
  return new NetworkError('limited', 'too many queries: try again in a second')
}
