import { Bucket } from '../../common/bucket.ts'
import type { Clock } from '../../common/clock.ts'
import type { ContentId } from '../../common/ids.ts'

export interface ScoutDeps {
  /** Who has it, without a search that costs all others. */
  locate: (id: ContentId, signal: AbortSignal) => Promise<{ readonly providers: readonly unknown[] }>
  clock: Clock
}

/** Searches of the whole network that may find nobody. */
const IN_VAIN = { perSecond: 0.2, atOnce: 10 }

/**
 * Looks for contents that others told of before a transfer is begun for them. Anybody may tell of what nobody has: it is
 * to cost a question or two, and no transfer, which in the end searches all of the network.
 */
export class Scout {
  readonly #deps: ScoutDeps
  readonly #inVain: Bucket

  constructor(deps: ScoutDeps) {
    this.#deps = deps
    this.#inVain = new Bucket(IN_VAIN, () => deps.clock.now())
  }

  /** Whether a transfer may find it: somebody is known to have it, or a search for it is not too much to ask of others. */
  async isWorthwhile(id: ContentId, signal: AbortSignal): Promise<boolean> {
    try {
      const { providers } = await this.#deps.locate(id, signal)
      if (providers.length > 0) return true
    } catch {
      // Nobody could be asked but all of them.
    }
    return !this.#inVain.empty
  }

  /** A transfer has found nobody who has it, wherever it looked. */
  foundNobody(): void {
    this.#inVain.take()
  }
}
