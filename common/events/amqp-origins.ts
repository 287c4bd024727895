import { LRUCache } from 'lru-cache'
import { Bucket, type Rate } from '../bucket.ts'
import type { NetworkEvent } from './event.ts'

/** Origins remembered; the one that was silent longest makes room. */
const ORIGINS = 10_000

/**
 * How often events of one origin may happen. Judged by the time that they bear, not by when they come: a process that was
 * away finds many at once, which is no storm. It bounds a peer that has lost its head, not one that lies about itself.
 */
export class OriginRates {
  readonly #rate: Rate
  readonly #origins = new LRUCache<string, OriginClock>({ max: ORIGINS })

  constructor(rate: Rate) {
    this.#rate = rate
  }

  /** Whether there may be this one more. */
  admits({ origin, time }: NetworkEvent): boolean {
    const known = this.#origins.get(origin) ?? new OriginClock(this.#rate)
    this.#origins.set(origin, known)
    return known.admits(Date.parse(time))
  }
}

class OriginClock {
  readonly #bucket: Bucket
  #passed = 0
  #last: number | undefined

  constructor(rate: Rate) {
    this.#bucket = new Bucket(rate, () => this.#passed)
  }

  admits(time: number): boolean {
    this.#passed += Math.max(0, time - (this.#last ?? time))
    this.#last = time
    return this.#bucket.take()
  }
}
