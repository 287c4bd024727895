import type { EventDraft } from '../../common/events/event.ts'
import type { EventLog } from '../../common/events/log.ts'
import type { Logger } from '../../common/log.ts'

/** Kept in one go: what else the process has to do comes in between. */
const SLICE = 250
/** Events that wait to be kept; of more at once, followers hear by the directory. */
const MAX_WAITING = 100_000

export interface AnnouncerDeps {
  log: Pick<EventLog, 'publish'>
  logger: Logger
}

/** Brings this peer's own events into its log, in order, without holding up whoever tells of them. */
export class Announcer {
  readonly #deps: AnnouncerDeps
  #waiting: EventDraft[] = []
  #keeping: Promise<void> | undefined
  #dropped = 0

  constructor(deps: AnnouncerDeps) {
    this.#deps = deps
  }

  tell(drafts: readonly EventDraft[]): void {
    const room = Math.max(0, MAX_WAITING - this.#waiting.length)
    for (const draft of drafts.slice(0, room)) this.#waiting.push(draft)
    if (drafts.length > room) {
      if (this.#dropped === 0) this.#deps.logger.warn({ waiting: MAX_WAITING }, 'too much happens at once to be told')
      this.#dropped += drafts.length - room
    }
    if (this.#waiting.length > 0) this.#keeping ??= this.#keep()
  }

  /** Resolves once all that was told is kept, or can't be. */
  async settled(): Promise<void> {
    await this.#keeping
  }

  async #keep(): Promise<void> {
    while (this.#waiting.length > 0) {
      const slice = this.#waiting.splice(0, SLICE)
      try {
        await this.#deps.log.publish(slice)
      } catch (error) {
        this.#deps.logger.warn({ events: slice.length, err: error }, 'events could not be kept, and are not told')
      }
    }
    if (this.#dropped > 0) this.#deps.logger.warn({ events: this.#dropped }, 'events were not told')
    this.#dropped = 0
    this.#keeping = undefined
  }
}
