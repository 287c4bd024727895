import type { Clock } from '../../common/clock.ts'

/**
 * Notices waits that last longer than `limitMs`. To begin and to end one costs a timestamp, so that a wait a frame is
 * cheap; one timer in the background compares. It barks once a wait.
 */
export class Watchdog {
  #clock: Clock
  #limitMs: number
  #bark: () => void
  #since: number | undefined
  #allowanceMs = 0
  #stopping = new AbortController()
  #running: Promise<void>

  constructor(clock: Clock, limitMs: number, bark: () => void) {
    this.#clock = clock
    this.#limitMs = limitMs
    this.#bark = bark
    this.#running = this.#run()
  }

  /** A wait begins, or has just made progress; this one may last longer by `allowanceMs`. */
  begin(allowanceMs = 0): void {
    this.#since = this.#clock.now()
    this.#allowanceMs = allowanceMs
  }

  end(): void {
    this.#since = undefined
  }

  async stop(): Promise<void> {
    this.#since = undefined
    this.#stopping.abort()
    await this.#running
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const now = this.#clock.now()
      // A clock that was set back: the wait is as long as is known, from now on.
      if (this.#since !== undefined && this.#since > now) this.#since = now
      const left = this.#limitMs + (this.#since === undefined ? 0 : this.#since + this.#allowanceMs - now)
      if (left <= 0) {
        this.#since = undefined
        this.#bark()
      } else await this.#clock.sleep(left, signal)
    }
  }
}
