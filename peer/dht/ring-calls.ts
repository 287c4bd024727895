import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import { Lookup, type LookupDeps } from './lookup.ts'
import type { Pointers } from './pointers.ts'
import type { RingNetwork, RingStep } from './protocol.ts'
import type { Member, RingId } from './ring.ts'

export interface RingCallsDeps {
  network: RingNetwork
  pointers: Pointers
  known: KnownPeers
  clock: Clock
}

/** Silent members that are remembered. */
const MAX_SUSPECTS = 1000

/** What this member asks of others. Who does not answer is forgotten: pointers lead to those that do. */
export class RingCalls {
  readonly #deps: RingCallsDeps
  readonly #suspectMs: number
  /** until when a member that was silent is asked last */
  readonly #suspects = new Map<RingId, number>()
  #sent = 0

  constructor(deps: RingCallsDeps, options: { suspectMs: number }) {
    this.#deps = deps
    this.#suspectMs = options.suspectMs
  }

  get sent(): number {
    return this.#sent
  }

  /** What a member answers; undefined where it fails to. @throws NetworkError `cancelled` */
  async ask<T>(
    member: Member,
    call: (network: RingNetwork, to: Member) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T | undefined> {
    try {
      return await this.#answerOf(member, call, signal)
    } catch (error) {
      if (signal.aborted) throw new NetworkError('cancelled', 'cancelled', {}, error)
      return undefined
    }
  }

  async isAlive(member: Member, signal: AbortSignal): Promise<boolean> {
    const { id } = this.#deps.pointers
    return (await this.ask(member, (network, to) => network.step(to, id, signal), signal)) !== undefined
  }

  /**
   * Who follows a place.
   * @param boundMs after this nobody else is asked
   * @param first what is known of the way already (default: by the pointers)
   */
  lookup(key: RingId, boundMs = Number.POSITIVE_INFINITY, first?: RingStep): Lookup {
    const { pointers, clock } = this.#deps
    const end = clock.now() + boundMs
    const deps: LookupDeps = {
      isLate: () => clock.now() >= end,
      ask: (member, place, signal) => this.#answerOf(member, (network, to) => network.step(to, place, signal), signal),
      isSuspect: (member) => this.isSuspect(member),
      isPlausible: (place, owner) => pointers.isPlausible(place, owner),
    }
    // Itself it tells all that it knows: others may all be gone.
    return new Lookup(deps, pointers.id, key, first ?? pointers.step(key, Number.POSITIVE_INFINITY))
  }

  /** It did not answer of late. */
  isSuspect({ id }: Member): boolean {
    const until = this.#suspects.get(id)
    if (until === undefined) return false
    if (this.#deps.clock.now() < until) return true
    this.#suspects.delete(id)
    return false
  }

  async #answerOf<T>(
    member: Member,
    call: (network: RingNetwork, to: Member) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    const { network, known } = this.#deps
    try {
      this.#sent++
      const answer = await call(network, member)
      this.#suspects.delete(member.id)
      known.seen(member)
      return answer
    } catch (error) {
      if (!signal.aborted) this.#failed(member, asNetworkError(error))
      throw error
    }
  }

  #failed(member: Member, { code, details }: NetworkError): void {
    const { pointers, known } = this.#deps
    // One that has too much to do is there.
    if (code === 'limited') return
    // One that is slow may be: it is forgotten where it is silent again.
    const isSlow = details.reason === 'timeout' && this.#suspectMs > 0 && !this.isSuspect(member)
    if (this.#suspectMs > 0) this.#suspect(member)
    if (isSlow) return
    pointers.drop(member)
    known.missed(member)
  }

  /** Those silent for longest are forgotten where others have named too many. */
  #suspect({ id }: Member): void {
    this.#suspects.delete(id)
    this.#suspects.set(id, this.#deps.clock.now() + this.#suspectMs)
    for (const other of this.#suspects.keys()) {
      if (this.#suspects.size <= MAX_SUSPECTS) return
      this.#suspects.delete(other)
    }
  }
}
