import type { Clock } from '../../common/clock.ts'
import type { RateLimit } from './outgoing.ts'

/** Spreads one conversation's frames over time; the debt of a frame is waited for before the next one. */
export class Pacer implements RateLimit {
  /** bytes a second; 0: no limit */
  rate = 0
  readonly #clock: Clock
  /** when the next frame may leave */
  #freeAt = 0

  constructor(clock: Clock) {
    this.#clock = clock
  }

  take(bytes: number, signal: AbortSignal): Promise<void> | undefined {
    if (this.rate <= 0) return undefined
    const now = this.#clock.now()
    const wait = Math.max(0, this.#freeAt - now)
    this.#freeAt = Math.max(now, this.#freeAt) + (bytes * 1000) / this.rate
    return wait > 0 ? this.#clock.sleep(wait, signal) : undefined
  }
}
