import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../common/clock.ts'
import type { Logger } from '../common/log.ts'
import type { DirectoryStore } from './directory/store.ts'

/** Entries deleted in one go: some milliseconds. */
const SWEEP_ROWS = 200

/** Ends the leases whose time is over, and cleans up behind ended ones, a little at a time. */
export class Reaper {
  readonly #store: DirectoryStore
  readonly #clock: Clock
  readonly #log: Logger
  #expired = 0

  constructor(deps: { store: DirectoryStore; clock: Clock; log: Logger }) {
    this.#store = deps.store
    this.#clock = deps.clock
    this.#log = deps.log
  }

  /** leases that ended because their time was over, since the start */
  get expired(): number {
    return this.#expired
  }

  async tick(signal?: AbortSignal): Promise<void> {
    const expired = await this.#store.expire(this.#clock.now())
    this.#expired += expired
    if (expired > 0) this.#log.info({ expired }, 'leases expired')
    // Requests that arrived meanwhile go first.
    while (!signal?.aborted && (await this.#store.sweep(SWEEP_ROWS)) > 0) await setImmediate()
  }
}
