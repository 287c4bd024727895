import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'

export interface TokenBucketOptions {
  /** what may be saved up and then be spent at once, as time at the full rate, ms (default 250) */
  burstMs?: number
  /** …but one of this many bytes always (default 128 KiB, a frame) */
  burstBytes?: number
}

interface Waiter {
  readonly bytes: number
  readonly pass: () => void
}

/** A rate may change without a word, so nobody sleeps for longer at a time, ms. */
const LONGEST_SLEEP = 60_000

/**
 * A bound on bytes a second, shared by whoever asks. Bytes pass once the debt of those before has been paid, whatever
 * their number, so large ones do not starve; in the order in which they were asked for.
 */
export class TokenBucket {
  readonly #clock: Clock
  readonly #rate: () => number | undefined
  readonly #burstMs: number
  readonly #burstBytes: number
  /** bytes that may pass beyond the next one; a debt where negative */
  #credit = 0
  /** when the credit was that, and the rate at which it has grown since */
  #at = 0
  #since: number | undefined
  readonly #waiting = new Set<Waiter>()
  #sleeping: AbortController | undefined

  /** `rate`: bytes a second at present; undefined where there is no limit. */
  constructor(clock: Clock, rate: () => number | undefined, options: TokenBucketOptions = {}) {
    this.#clock = clock
    this.#rate = rate
    this.#burstMs = options.burstMs ?? 250
    this.#burstBytes = options.burstBytes ?? 128 * 1024
  }

  /**
   * Resolves when so many bytes may pass; undefined where they may at once.
   * @throws NetworkError `cancelled` where the signal aborts while waiting
   */
  take(bytes: number, signal: AbortSignal): Promise<void> | undefined {
    if (this.#waiting.size === 0) {
      const rate = this.#rate()
      if (rate === undefined) {
        this.#since = undefined
        return undefined
      }
      this.#grow(rate)
      if (this.#credit >= 0) {
        this.#credit -= bytes
        return undefined
      }
    }
    return this.#wait(bytes, signal)
  }

  /** Tells that the rate is another one: it holds for those who wait, too. */
  changed(): void {
    this.#grow(this.#rate())
    this.#sleeping?.abort()
  }

  /** Brings the credit to now, at the rate until now. */
  #grow(rate: number | undefined): void {
    const now = this.#clock.now()
    if (this.#since === undefined) this.#credit = 0
    else this.#credit += (Math.max(0, now - this.#at) * this.#since) / 1000
    this.#at = now
    this.#since = rate
    if (rate === undefined) return
    const burst = (rate * this.#burstMs) / 1000
    // The next bytes pass on top of the credit. What accrues while somebody waits is only late, not saved up.
    this.#credit = Math.min(this.#credit, this.#waiting.size > 0 ? burst : Math.max(0, burst - this.#burstBytes))
  }

  #wait(bytes: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return Promise.reject(new NetworkError('cancelled', 'cancelled'))
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        bytes,
        pass: () => {
          signal.removeEventListener('abort', giveUp)
          resolve()
        },
      }
      const giveUp = () => {
        this.#waiting.delete(waiter)
        if (this.#waiting.size === 0) this.#sleeping?.abort()
        reject(new NetworkError('cancelled', 'cancelled'))
      }
      signal.addEventListener('abort', giveUp, { once: true })
      this.#waiting.add(waiter)
      if (!this.#sleeping) void this.#serve()
    })
  }

  /** Lets those who wait pass, one after the other, until nobody waits. */
  async #serve(): Promise<void> {
    for (let [next] = this.#waiting; next; [next] = this.#waiting) {
      this.#grow(this.#rate())
      if (this.#since !== undefined && this.#credit < 0) {
        this.#sleeping = new AbortController()
        const ms = Math.ceil((-this.#credit * 1000) / this.#since)
        await this.#clock.sleep(Math.min(ms, LONGEST_SLEEP), this.#sleeping.signal)
        continue
      }
      this.#credit -= next.bytes
      this.#waiting.delete(next)
      next.pass()
    }
    this.#sleeping = undefined
  }
}
