import { backoff } from '../backoff.ts'
import type { Clock } from '../clock.ts'
import { asNetworkError, type NetworkError } from '../errors.ts'
import { type Component, Loop } from '../lifecycle.ts'
import type { Logger } from '../log.ts'
import type { EventBus } from './bus.ts'
import { EVENT_LIMITS, type NetworkEvent } from './event.ts'
import type { EventLog } from './log.ts'

/** Between looks at the log without being told of anything. */
const IDLE_MS = 60_000
/** Between attempts. */
const RETRY_MS = { first: 250, longest: 15_000 }
/** The most that a bus may have it wait. */
const LONGEST_WAIT_MS = 60_000
/** For what is unsent when it stops. */
const LAST_TRY_MS = 1000

export interface PublisherDeps {
  log: Pick<EventLog, 'origin' | 'unsent' | 'sent' | 'onAppend'>
  bus: Pick<EventBus, 'publish'>
  clock: Clock
  logger: Logger
}

/** Sends own events through the bus, in order, at least once each; what the bus will never take is left out. */
export class Publisher implements Component {
  readonly #deps: PublisherDeps
  readonly #loop: Loop
  #stopListening = () => {}
  /** how long to wait after a failure, ms; 0 where all is well */
  #pause = 0
  /** in a row */
  #failures = 0
  /** events sent together: fewer while one is sought that the bus refuses without naming it */
  #batch: number = EVENT_LIMITS.batch
  #sent = 0
  #refused = 0

  constructor(deps: PublisherDeps) {
    this.#deps = deps
    this.#loop = new Loop('publish events', (signal) => this.tick(signal), deps.logger, {
      interval: () => this.#pause || IDLE_MS,
      clock: deps.clock,
    })
  }

  /** Events that the bus has taken. */
  get sent(): number {
    return this.#sent
  }

  /** Events that the bus will never take. */
  get refused(): number {
    return this.#refused
  }

  async start(): Promise<void> {
    const { log } = this.#deps
    this.#stopListening = log.onAppend((rows) => {
      if (this.#pause === 0 && rows.some(({ event }) => event.origin === log.origin)) this.#loop.nudge()
    })
    await this.#loop.start()
  }

  /** Tries once more, for a second at most, to be rid of what is unsent. */
  async stop(): Promise<void> {
    this.#stopListening()
    await this.#loop.stop()
    const over = AbortSignal.timeout(LAST_TRY_MS)
    await Promise.race([
      this.tick(over),
      new Promise((resolve) => over.addEventListener('abort', resolve, { once: true })),
    ])
  }

  /** Tries at once: the bus is back. */
  nudge(): void {
    this.#loop.nudge()
  }

  /** Sends all that is unsent. */
  async tick(signal: AbortSignal): Promise<void> {
    const { log } = this.#deps
    while (!signal.aborted) {
      let events: readonly NetworkEvent[] = []
      try {
        events = await log.unsent(this.#batch)
        if (events.length > 0) await this.#send(events, signal)
        this.#pause = 0
        this.#failures = 0
        if (events.length === 0) return
      } catch (error) {
        if (signal.aborted) return
        const failure = asNetworkError(error)
        this.#pause = this.#pauseAfter(failure)
        if (await this.#leaveOut(events, failure).catch(() => false)) continue
        this.#deps.logger.debug({ err: failure, retry_ms: this.#pause }, 'events wait to be published')
        return
      }
    }
  }

  async #send(events: readonly NetworkEvent[], signal: AbortSignal): Promise<void> {
    const { log, bus } = this.#deps
    await bus.publish(events, signal)
    await log.sent(events.map(({ id }) => id))
    this.#sent += events.length
    this.#batch = Math.min(EVENT_LIMITS.batch, this.#batch * 2)
  }

  /** @returns whether to go on at once: one event is at fault, and was left out or will be found */
  async #leaveOut(events: readonly NetworkEvent[], failure: NetworkError): Promise<boolean> {
    const named = events.find(({ id }) => id === failure.details.id)
    const faulty = failure.code === 'invalid' || failure.code === 'too_large'
    if (!faulty && !(named && failure.code === 'forbidden')) return false
    const refused = named ?? (events.length === 1 ? events[0] : undefined)
    if (!refused) {
      this.#batch = 1
      return events.length > 1
    }
    const { id, type } = refused
    // Where the log can't note it, it is refused again later.
    await this.#deps.log.sent([id])
    this.#refused++
    this.#deps.logger.warn({ event: id, type, err: failure }, 'an event was refused: nobody else will hear of it')
    return true
  }

  #pauseAfter(failure: NetworkError): number {
    const { retry_ms } = failure.details
    if (failure.code === 'limited' && typeof retry_ms === 'number')
      return Math.min(LONGEST_WAIT_MS, Math.max(RETRY_MS.first, retry_ms))
    return backoff(RETRY_MS, this.#failures++)
  }
}
