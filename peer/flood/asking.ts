import { setMaxListeners } from 'node:events'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError } from '../../common/errors.ts'
import type { PeerContact } from '../contact.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import { Arrivals } from './arrivals.ts'
import { boundedCount } from './bounds.ts'
import { isAskedFor, keyOf, received } from './hits.ts'
import { type FloodHit, type FloodNetwork, type FloodQuery, MAX_HITS, MAX_HITS_MESSAGE } from './protocol.ts'
import { shapesTree, type Tree } from './tree.ts'

export interface AskingDeps {
  network: FloodNetwork
  known: KnownPeers
  tree: Tree
  clock: Clock
}

/** What asking the neighbours took, as far as it is known. */
export interface Tally {
  /** that looked */
  peers: number
  messages: number
}

/** Asks some neighbours at once, and passes on what they bring as it comes. */
export class Asking {
  readonly #deps: AskingDeps
  #calls = 0

  constructor(deps: AskingDeps) {
    this.#deps = deps
  }

  /** Neighbours that are asked at present, by however many queries. */
  get calls(): number {
    return this.#calls
  }

  /**
   * Ends when all are done, when `waitMs` have passed, or when the signal aborts. Whoever leaves before, or where it ends
   * before, takes the query back at all of them.
   */
  async *hits(
    links: readonly PeerContact[],
    query: FloodQuery,
    waitMs: number,
    tally: Tally,
    signal: AbortSignal,
  ): AsyncGenerator<FloodHit[], void> {
    if (links.length === 0 || signal.aborted) return
    const arrivals = new Arrivals<FloodHit[]>()
    const gone = new AbortController()
    setMaxListeners(0, gone.signal)
    const leave = () => {
      gone.abort()
      arrivals.end()
    }
    signal.addEventListener('abort', leave, { once: true })
    const known = new Set<string>()
    /** Those that did not come before, with room for them. */
    const isNew = (hit: FloodHit) => {
      const key = keyOf(hit)
      if (known.size >= MAX_HITS || known.has(key)) return false
      known.add(key)
      return true
    }
    try {
      this.#deps.clock.sleep(waitMs, gone.signal).then(leave)
      const asked = links.map((link) =>
        this.#ask(link, query, tally, gone.signal, (hits) => {
          const fresh = hits.filter(isNew)
          if (fresh.length > 0) arrivals.put(fresh)
          if (known.size >= MAX_HITS) leave()
        }),
      )
      Promise.all(asked).then(() => arrivals.end())
      yield* arrivals.take()
    } finally {
      signal.removeEventListener('abort', leave)
      leave()
    }
  }

  /** Never rejects: what one neighbour does is no fault of the query. */
  async #ask(
    link: PeerContact,
    query: FloodQuery,
    tally: Tally,
    signal: AbortSignal,
    bring: (hits: FloodHit[]) => void,
  ): Promise<void> {
    const { network, known, tree } = this.#deps
    const shapes = shapesTree(query)
    let brought = 0
    let isOver = false
    this.#calls++
    tally.messages++
    try {
      for await (const answer of network.query(link, query, signal)) {
        if (shapes && brought === 0) answer.kind === 'seen' ? tree.prune(link.peer) : tree.graft(link.peer)
        isOver = answer.kind !== 'hits'
        if (answer.kind === 'done') {
          tally.peers += boundedCount(answer.peers)
          tally.messages += boundedCount(answer.messages)
        }
        if (answer.kind !== 'hits' || signal.aborted) return
        tally.messages++
        brought += answer.hits.length
        if (!isWithinBounds(answer.hits, brought) || !answer.hits.every((hit) => isAskedFor(query.what, hit)))
          return tree.offended(link.peer)
        bring(answer.hits.flatMap((hit) => received(hit, link, query.ttl) ?? []))
      }
      isOver = true
    } catch (error) {
      if (signal.aborted) return
      isOver = true
      if (asNetworkError(error).code === 'unavailable') known.missed(link)
    } finally {
      this.#calls--
      // It was told that it is taken back.
      if (!isOver) tally.messages++
    }
  }
}

/** Hits in one answer, `brought` of them so far. None at all would be without end. */
function isWithinBounds({ length }: readonly FloodHit[], brought: number): boolean {
  return length > 0 && length <= MAX_HITS_MESSAGE && brought <= MAX_HITS
}
