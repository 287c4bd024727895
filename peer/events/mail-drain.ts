import { backoff } from '../../common/backoff.ts'
import { Bucket } from '../../common/bucket.ts'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError } from '../../common/errors.ts'
import type { BusDeps } from '../../common/events/bus.ts'
import { type Mail, MailSchema } from '../../common/events/mail.ts'
import type { PeerId } from '../../common/ids.ts'
import { type Component, Loop } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import type { MaestroClient } from '../../common/maestro-client.ts'
import { pagesOf } from '../../common/paging.ts'

/** The hint of the Maestro comes at once; this is for one that was lost, ms. */
const LOOK_MS = 300_000
/** After a failure. */
const RETRY_MS = { first: 500, longest: 60_000 }
/** messages asked for at a time */
const PAGE = 500
const WARNINGS = { perSecond: 1 / 60, atOnce: 1 }

export interface MailDrainDeps extends Pick<BusDeps, 'onMail'> {
  maestro: Pick<MaestroClient, 'mailbox' | 'taken'>
  clock: Clock
  logger: Logger
}

/** Empties this peer's mailbox at the Maestro, page by page: what `onMail` has taken leaves it, and nothing else. */
export class MailDrain implements Component {
  readonly #deps: MailDrainDeps
  readonly #self: PeerId
  readonly #loop: Loop
  readonly #warnings: Bucket
  #paused = true
  /** in a row */
  #failures = 0
  #problem: string | null = null

  constructor(deps: MailDrainDeps, options: { self: PeerId }) {
    this.#deps = deps
    this.#self = options.self
    this.#warnings = new Bucket(WARNINGS, () => deps.clock.now())
    this.#loop = new Loop('mailbox', (signal) => this.#tick(signal), deps.logger, {
      interval: () => (this.#failures === 0 ? LOOK_MS : backoff(RETRY_MS, this.#failures - 1)),
      clock: deps.clock,
    })
  }

  /** Why mail stays in the mailbox, for people; null where nothing is wrong. */
  get problem(): string | null {
    return this.#problem
  }

  start(): Promise<void> {
    return this.#loop.start()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** The Maestro is there: look into the mailbox. */
  resume(): void {
    this.#paused = false
    this.#loop.nudge()
  }

  pause(): void {
    this.#paused = true
  }

  /** There may be something in the mailbox. */
  nudge(): void {
    this.#loop.nudge()
  }

  async #tick(signal: AbortSignal): Promise<void> {
    if (this.#paused) return
    try {
      await this.#empty(signal)
      this.#failures = 0
      this.#problem = null
    } catch (error) {
      if (signal.aborted) return
      this.#failures++
      this.#problem = `mail can't be taken: ${asNetworkError(error).message}`
      this.#warn({ problem: this.#problem }, 'mail could not be taken: it stays in the mailbox')
    }
  }

  async #empty(signal: AbortSignal): Promise<void> {
    const { maestro, onMail, clock } = this.#deps
    // A message without an id can't be taken away: the pages after it are reached all the same.
    const pages = pagesOf((after) => maestro.mailbox(this.#self, { limit: PAGE, after }, signal))
    for await (const page of pages) {
      if (signal.aborted) return
      const { mine, ids, foreign } = sorted(page.mail, this.#self, clock.now())
      if (foreign > 0) this.#warn({ foreign }, 'messages in the mailbox are not understood, or for others: taken away')
      if (mine.length > 0) await onMail(mine)
      if (ids.length > 0) await maestro.taken(this.#self, ids, signal)
    }
  }

  #warn(fields: object, text: string): void {
    if (this.#warnings.take()) this.#deps.logger.warn(fields, text)
  }
}

/** `ids`: all that can be taken away once `mine` are. */
function sorted(mail: readonly unknown[], self: PeerId, now: number) {
  const mine: Mail[] = []
  const ids: string[] = []
  let foreign = 0
  for (const message of mail) {
    const id = (message as { id?: unknown } | null)?.id
    if (typeof id === 'string' && id.length <= 64) ids.push(id)
    const parsed = MailSchema.safeParse(message)
    if (!parsed.success || parsed.data.to !== self) foreign++
    else if (Date.parse(parsed.data.expires) > now) mine.push(parsed.data)
  }
  return { mine, ids, foreign }
}
