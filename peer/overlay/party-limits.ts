import { isLoopback, oneParty } from '../../common/address.ts'
import { Bucket, type Rate } from '../../common/bucket.ts'
import type { PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'

/** Parties counted at a time. Where so many asked of late, no further one is served until they have calmed down. */
const MAX_PARTIES = 2000

/** How often each party may ask. */
export class PartyLimits {
  readonly #rate: Rate
  readonly #now: () => number
  readonly #buckets = new Map<string, Bucket>()

  /** @param now ms */
  constructor(rate: Rate, now: () => number) {
    this.#rate = rate
    this.#now = now
  }

  /** Whether this party may ask once more. */
  take(party: string): boolean {
    let bucket = this.#buckets.get(party)
    if (!bucket) {
      if (this.#buckets.size >= MAX_PARTIES) this.#forget()
      if (this.#buckets.size >= MAX_PARTIES) return false
      bucket = new Bucket(this.#rate, this.#now)
      this.#buckets.set(party, bucket)
    }
    return bucket.take()
  }

  /** How many times this party may ask now, as far as it is counted. */
  left(party: string): number {
    return this.#buckets.get(party)?.left ?? this.#rate.atOnce
  }

  #forget(): void {
    for (const [party, { full }] of this.#buckets) if (full) this.#buckets.delete(party)
  }
}

/** Questions at one machine that nobody answers, before no further one is asked there. */
const MAX_IN_VAIN = 16

/** Bounds what one lookup asks of strangers on the word of others: a liar could name somebody's machine a thousand times. */
export class UnansweredLimit {
  readonly #inVain = new Map<string, number>()

  /** Whether this one may be asked; it counts as asked in vain until it has answered, whatever. */
  begin({ host, peer }: PeerContact): boolean {
    const party = askedBy(host, peer)
    const inVain = this.#inVain.get(party) ?? 0
    if (inVain >= MAX_IN_VAIN) return false
    this.#inVain.set(party, inVain + 1)
    return true
  }

  answered({ host, peer }: PeerContact): void {
    const party = askedBy(host, peer)
    this.#inVain.set(party, (this.#inVain.get(party) ?? 1) - 1)
  }
}

/** Under what an asking peer is counted: its machine; on loopback, where labs run many agents, by the id that it gives. */
export function askedBy(host: string, peer: PeerId | undefined): string {
  return isLoopback(host) ? `${host} ${peer ?? ''}` : oneParty(host)
}
