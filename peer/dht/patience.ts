import type { Clock } from '../../common/clock.ts'
import { asNetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { RecordKey, RingFound, RingNetwork, RingRecord, RingStep, RingView } from './protocol.ts'
import type { Member, RingId } from './ring.ts'

export interface PatientRingDeps {
  /** the ring, where a member that does not answer within so many ms is silent */
  within: (timeoutMs: number) => RingNetwork
  clock: Clock
}

/** Never less is waited for an answer, nor more, ms. */
const LEAST_MS = 500
const MOST_MS = 2000
/** Members that were late are remembered, so many. */
const MAX_LATE = 1000

/**
 * The ring as a member reaches it that minds how busy everybody is. On a machine with too much to do every answer is late;
 * were each of those members taken for dead, the ring would fall apart when it is needed most. So it waits as long as
 * answers take of late, with room for how much that varies (V. Jacobson, "Congestion avoidance and control", ACM SIGCOMM
 * 1988; the numbers of RFC 6298), and longest for one that was late the last time: how long its answer takes is learnt by it.
 */
export class PatientRing implements RingNetwork {
  readonly #deps: PatientRingDeps
  readonly #late = new Set<string>()
  #meanMs: number | undefined
  #deviationMs = 0

  constructor(deps: PatientRingDeps) {
    this.#deps = deps
  }

  /** How long one that was not late is waited for, ms. */
  get patienceMs(): number {
    return Math.min(Math.max((this.#meanMs ?? 0) + 4 * this.#deviationMs, LEAST_MS), MOST_MS)
  }

  stabilize(to: Member, signal: AbortSignal): Promise<RingView> {
    return this.#ask(to, (ring) => ring.stabilize(to, signal))
  }

  step(to: Member, key: RingId, signal: AbortSignal): Promise<RingStep> {
    return this.#ask(to, (ring) => ring.step(to, key, signal))
  }

  find(to: Member, key: RecordKey, of: FileName | ContentId, signal: AbortSignal): Promise<RingFound> {
    return this.#ask(to, (ring) => ring.find(to, key, of, signal))
  }

  /** Has a bound of its own, and takes as long as there is to keep. */
  store(
    to: Member,
    records: readonly RingRecord[],
    withdraw: readonly RingRecord[],
    signal: AbortSignal,
  ): Promise<number> {
    return this.#deps.within(MOST_MS).store(to, records, withdraw, signal)
  }

  leave(to: Member, signal: AbortSignal): Promise<void> {
    return this.#ask(to, (ring) => ring.leave(to, signal))
  }

  async #ask<T>({ peer }: Member, call: (ring: RingNetwork) => Promise<T>): Promise<T> {
    const { within, clock } = this.#deps
    const begin = clock.now()
    try {
      const answer = await call(within(this.#late.has(peer) ? MOST_MS : this.patienceMs))
      this.#late.delete(peer)
      this.#learn(clock.now() - begin)
      return answer
    } catch (error) {
      this.#late.delete(peer)
      if (asNetworkError(error).details.reason === 'timeout') this.#late.add(peer)
      for (const other of this.#late) if (this.#late.size > MAX_LATE) this.#late.delete(other)
      throw error
    }
  }

  #learn(ms: number): void {
    if (this.#meanMs === undefined) this.#deviationMs = ms / 2
    else this.#deviationMs += (Math.abs(ms - this.#meanMs) - this.#deviationMs) / 4
    this.#meanMs = this.#meanMs === undefined ? ms : this.#meanMs + (ms - this.#meanMs) / 8
  }
}
