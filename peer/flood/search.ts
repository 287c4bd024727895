import type { Clock } from '../../common/clock.ts'
import type { Random } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import type { LocateQuery } from '../locate/strategy.ts'
import type { Asking, Tally } from './asking.ts'
import { HOP_MS } from './bounds.ts'
import type { FloodHit, FloodQuery } from './protocol.ts'

/** One round of a search. */
export interface RoundPlan {
  /** links between the asking peer and the furthest that it reaches */
  readonly ttl: number
  readonly scope: FloodQuery['scope']
  /** most that it takes, ms */
  readonly timeMs: number
}

export interface FloodRound extends Tally {
  readonly ttl: number
  readonly scope: FloodQuery['scope']
  /** hits */
  found: number
}

/** What a search took, as far as it is known: a query that is taken back is not told what it took until then. */
export interface FloodTrace {
  readonly messages: number
  /** that looked, each as often as it did */
  readonly peers: number
  /** links to the nearest provider; null while none is found */
  readonly hops: number | null
  readonly rounds: readonly FloodRound[]
}

export interface SearchDeps {
  asking: Asking
  /** neighbours that a query of this scope goes to */
  links: (scope: FloodQuery['scope']) => readonly PeerContact[]
  /** an id for a round, known as seen from now on */
  newId: () => string
  clock: Clock
}

/**
 * Searches in widening rounds, each with an id of its own, until one finds something. Its hits come as they are found:
 * whoever has enough leaves, which takes the query back everywhere.
 */
export class FloodSearch implements AsyncIterable<FloodHit> {
  readonly #deps: SearchDeps
  readonly #what: LocateQuery
  readonly #plan: readonly RoundPlan[]
  readonly #timeMs: number
  readonly #signal: AbortSignal
  readonly #rounds: FloodRound[] = []
  #hops: number | null = null

  /** @param timeMs for all rounds */
  constructor(deps: SearchDeps, what: LocateQuery, plan: readonly RoundPlan[], timeMs: number, signal: AbortSignal) {
    this.#deps = deps
    this.#what = what
    this.#plan = plan
    this.#timeMs = timeMs
    this.#signal = signal
  }

  get trace(): FloodTrace {
    const rounds = this.#rounds.map((round) => ({ ...round }))
    const total = (count: (round: FloodRound) => number) => rounds.reduce((sum, round) => sum + count(round), 0)
    return { messages: total((r) => r.messages), peers: total((r) => r.peers), hops: this.#hops, rounds }
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<FloodHit, void> {
    const { clock } = this.#deps
    const end = clock.now() + this.#timeMs
    for (const plan of this.#plan) {
      const left = end - clock.now()
      if (left <= 0 || this.#signal.aborted) return
      const round: FloodRound = { ttl: plan.ttl, scope: plan.scope, messages: 0, peers: 0, found: 0 }
      this.#rounds.push(round)
      for await (const hit of this.#hits(round, Math.min(left, plan.timeMs))) {
        round.found++
        this.#hops = Math.min(this.#hops ?? hit.hops, hit.hops)
        yield hit
      }
      if (round.found > 0) return
    }
  }

  async *#hits(round: FloodRound, waitMs: number): AsyncGenerator<FloodHit, void> {
    const { asking, links, newId } = this.#deps
    const { scope, ttl } = round
    const query: FloodQuery = { id: newId(), what: this.#what, ttl: ttl - 1, hops: 1, timeMs: waitMs - HOP_MS, scope }
    for await (const hits of asking.hits(links(scope), query, waitMs, round, this.#signal)) yield* hits
  }
}

/** 16 random bytes, hex. */
export function randomId(random: Random): string {
  return Array.from({ length: 16 }, () =>
    Math.floor(random() * 256)
      .toString(16)
      .padStart(2, '0'),
  ).join('')
}
