import type { EventDraft } from '../../common/events/event.ts'
import { LEVELS, type NetworkLevel } from '../../common/schemas.ts'

/**
 * Tells when this peer finds files in a worse or a better way than before. A level counts once it was seen twice in a
 * row, so that a single lost answer is no news. What it begins with is none either.
 */
export class LevelWatch {
  readonly #level: () => NetworkLevel
  readonly #tell: (draft: EventDraft) => void
  #told: NetworkLevel['level'] | undefined
  #seen: NetworkLevel['level'] | undefined

  constructor(deps: { level: () => NetworkLevel; tell: (draft: EventDraft) => void }) {
    this.#level = deps.level
    this.#tell = deps.tell
  }

  tick(): void {
    const { level, text } = this.#level()
    const isSteady = level === this.#seen
    this.#seen = level
    if (!isSteady || level === this.#told) return
    const before = this.#told
    this.#told = level
    if (before === undefined) return
    const type = LEVELS.indexOf(level) > LEVELS.indexOf(before) ? 'network.degraded' : 'network.restored'
    this.#tell({ type, data: { before, level, text } })
  }
}
