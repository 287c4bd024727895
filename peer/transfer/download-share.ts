/** One of those who fetch under a common limit. */
export interface Sharer {
  /** bytes a second that it may fetch whatever there is for all; absent or undefined: no limit of its own */
  own?(): number | undefined
  /** Whether it fetches at present: somebody has what it lacks. */
  fetching(): boolean
}

/**
 * Splits one limit among those who fetch at present: evenly, but what one leaves of its even part, since its own limit
 * is lower, is for the others. Nothing is kept here but who takes part: all are asked at each look.
 */
export class DownloadShare {
  readonly #rate: () => number | undefined
  readonly #sharers = new Set<Sharer>()

  /** `rate`: bytes a second of all together; undefined: no limit */
  constructor(rate: () => number | undefined = () => undefined) {
    this.#rate = rate
  }

  /** It takes part until `leave()`. `rate()`: bytes a second that it may fetch, or begin with; undefined: no limit. */
  enter(sharer: Sharer): { rate(): number | undefined; leave(): void } {
    this.#sharers.add(sharer)
    return { rate: () => this.#rateOf(sharer), leave: () => void this.#sharers.delete(sharer) }
  }

  #rateOf(sharer: Sharer): number | undefined {
    let left = this.#rate()
    const own = sharer.own?.()
    if (left === undefined) return own
    const limits = [own ?? Number.POSITIVE_INFINITY]
    for (const other of this.#sharers)
      if (other !== sharer && other.fetching()) limits.push(other.own?.() ?? Number.POSITIVE_INFINITY)
    let sharing = limits.length
    for (const limit of limits.sort((a, b) => a - b)) {
      const even = left / sharing
      if (limit >= even) return Math.min(own ?? even, even)
      left -= limit
      sharing--
    }
    return own
  }
}
