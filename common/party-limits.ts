import { Bucket, type Rate } from './bucket.ts'

/** Parties counted at a time. Where so many asked of late, no further one is served until they have calmed down. */
const MAX_PARTIES = 2000
/** When one that was not served for that reason may try again, ms. */
const CROWDED_MS = 1000

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

  /** Whether this party may ask that many times more; where not, none of it counts. */
  take(party: string, times = 1): boolean {
    return this.#bucket(party)?.take(times) ?? false
  }

  /** Milliseconds until this party may ask that many times, at most `atOnce`. */
  wait(party: string, times: number): number {
    return this.#bucket(party)?.wait(times) ?? CROWDED_MS
  }

  /** How many times this party may ask now, as far as it is counted. */
  left(party: string): number {
    return this.#buckets.get(party)?.left ?? this.#rate.atOnce
  }

  #bucket(party: string): Bucket | undefined {
    let bucket = this.#buckets.get(party)
    if (!bucket) {
      if (this.#buckets.size >= MAX_PARTIES) this.#forget()
      if (this.#buckets.size >= MAX_PARTIES) return undefined
      bucket = new Bucket(this.#rate, this.#now)
      this.#buckets.set(party, bucket)
    }
    return bucket
  }

  #forget(): void {
    for (const [party, { full }] of this.#buckets) if (full) this.#buckets.delete(party)
  }
}
