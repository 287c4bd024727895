/** How long a query is known again, ms: much longer than one may take. */
const KEPT_MS = 60_000
const MAX_SEEN = 10_000

/** Queries that came by of late, at most 10,000: the oldest is forgotten for a new one. */
export class SeenQueries {
  readonly #now: () => number
  /** when it came, oldest first */
  readonly #seen = new Map<string, number>()

  /** @param now ms */
  constructor(now: () => number) {
    this.#now = now
  }

  get size(): number {
    return this.#seen.size
  }

  has(id: string): boolean {
    const at = this.#seen.get(id)
    return at !== undefined && this.#now() - at < KEPT_MS
  }

  add(id: string): void {
    const now = this.#now()
    this.#seen.delete(id)
    this.#seen.set(id, now)
    for (const [oldest, at] of this.#seen) {
      if (this.#seen.size <= MAX_SEEN && now - at < KEPT_MS) return
      this.#seen.delete(oldest)
    }
  }
}
