import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../common/clock.ts'
import type { EventDraft } from '../common/events/event.ts'
import type { Logger } from '../common/log.ts'
import type { DirectoryStore } from './directory/store.ts'

/** Leases ended, and entries deleted, in one go: some milliseconds. */
const EXPIRED_AT_ONCE = 500
const SWEEP_ROWS = 200

export interface ReaperDeps {
  store: DirectoryStore
  clock: Clock
  log: Logger
  /** tells the network; never fails */
  publish: (drafts: readonly EventDraft[]) => void
}

/** Ends the leases whose time is over, and cleans up behind ended ones, a little at a time. */
export class Reaper {
  readonly #store: DirectoryStore
  readonly #clock: Clock
  readonly #log: Logger
  readonly #publish: ReaperDeps['publish']
  #expired = 0

  constructor(deps: ReaperDeps) {
    this.#store = deps.store
    this.#clock = deps.clock
    this.#log = deps.log
    this.#publish = deps.publish
  }

  /** leases that ended because their time was over, since the start */
  get expired(): number {
    return this.#expired
  }

  async tick(signal?: AbortSignal): Promise<void> {
    // Requests that arrived meanwhile go first.
    for (const now = this.#clock.now(); !signal?.aborted; await setImmediate()) {
      const expired = await this.#store.expire(now, EXPIRED_AT_ONCE)
      if (expired.length === 0) break
      this.#expired += expired.length
      this.#log.info({ expired: expired.length }, 'leases expired')
      this.#publish(expired.map((peer) => ({ type: 'peer.expired', data: { peer } })))
    }
    while (!signal?.aborted && (await this.#store.sweep(SWEEP_ROWS)) > 0) await setImmediate()
  }
}
