export interface Rate {
  readonly perSecond: number
  /** what may come at once, after a time in which nothing did */
  readonly atOnce: number
}

/** Something that may happen so often on average. */
export class Bucket {
  readonly #rate: Rate
  readonly #now: () => number
  #left: number
  #since: number

  /** @param now ms */
  constructor(rate: Rate, now: () => number) {
    this.#rate = rate
    this.#now = now
    this.#left = rate.atOnce
    this.#since = now()
  }

  /** Nothing was taken of late. */
  get full(): boolean {
    this.#refill()
    return this.#left === this.#rate.atOnce
  }

  /** How many times it may happen now. */
  get left(): number {
    this.#refill()
    return Math.floor(this.#left)
  }

  get empty(): boolean {
    return this.left < 1
  }

  /** Whether it may happen that many times more; where not, none of it counts. */
  take(times = 1): boolean {
    if (this.left < times) return false
    this.#left -= times
    return true
  }

  /** Milliseconds until it may happen that many times. */
  wait(times: number): number {
    this.#refill()
    return Math.ceil(Math.max(0, ((times - this.#left) * 1000) / this.#rate.perSecond))
  }

  #refill(): void {
    const now = this.#now()
    this.#left = Math.min(
      this.#rate.atOnce,
      this.#left + (Math.max(0, now - this.#since) * this.#rate.perSecond) / 1000,
    )
    this.#since = now
  }
}
