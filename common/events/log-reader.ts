import { backoff } from '../backoff.ts'
import type { Clock } from '../clock.ts'
import { type Component, Loop } from '../lifecycle.ts'
import type { Logger } from '../log.ts'
import type { EventType } from './event.ts'
import { EVENT_LIMITS } from './event.ts'
import type { EventLog, LoggedEvent } from './log.ts'

/** Between looks at the log without being told of anything. */
const IDLE_MS = 60_000
/** Between attempts where the effect fails. */
const RETRY_MS = { first: 250, longest: 30_000 }

export interface LogReaderDeps {
  log: Pick<EventLog, 'read' | 'bounds' | 'cursor' | 'moveCursor' | 'onAppend'>
  /**
   * The effect, for some events in their order. They count as done once it resolves; where it throws, or the process
   * is killed, it is given them again: so it is one that may happen twice.
   */
  onEvents: (batch: readonly LoggedEvent[], signal: AbortSignal) => void | Promise<void>
  /** Events were dropped before they were read here. Likewise called again where it throws. */
  onGap?: () => void | Promise<void>
  clock: Clock
  logger: Logger
}

export interface LogReaderOptions {
  /** under which the log remembers how far it got */
  name: string
  /** default: all */
  types?: ReadonlySet<EventType>
  /** events at a time (default 500) */
  batch?: number
  /** where one that has never read begins (default `end`: with what comes from now on) */
  from?: 'start' | 'end'
}

/** Runs an effect over a log, from where it got last, also over restarts. */
export class LogReader implements Component {
  readonly #deps: LogReaderDeps
  readonly #options: Required<Omit<LogReaderOptions, 'types'>> & Pick<LogReaderOptions, 'types'>
  readonly #loop: Loop
  #stopListening = () => {}
  /** in a row */
  #failures = 0

  constructor(deps: LogReaderDeps, options: LogReaderOptions) {
    this.#deps = deps
    this.#options = { batch: EVENT_LIMITS.batch, from: 'end', ...options }
    this.#loop = new Loop(`events for ${options.name}`, (signal) => this.tick(signal), deps.logger, {
      interval: () => (this.#failures === 0 ? IDLE_MS : backoff(RETRY_MS, this.#failures - 1)),
      clock: deps.clock,
    })
  }

  /** What is appended once it resolves is read. */
  async start(): Promise<void> {
    this.#stopListening = this.#deps.log.onAppend(() => {
      if (this.#failures === 0) this.#loop.nudge()
    })
    await this.#position()
    await this.#loop.start()
  }

  async stop(): Promise<void> {
    this.#stopListening()
    await this.#loop.stop()
  }

  /** Reads all there is. */
  async tick(signal: AbortSignal): Promise<void> {
    try {
      while (!signal.aborted && (await this.#step(signal))) this.#failures = 0
      this.#failures = 0
    } catch (error) {
      if (signal.aborted) return
      const retry_ms = backoff(RETRY_MS, this.#failures++)
      this.#deps.logger.warn(
        { reader: this.#options.name, err: error, retry_ms },
        'events could not be acted on: they will be again',
      )
    }
  }

  /** @returns whether there was anything to read */
  async #step(signal: AbortSignal): Promise<boolean> {
    const { log, onEvents, onGap } = this.#deps
    const { name, batch, types } = this.#options
    const after = await this.#position()
    const rows = await log.read(after, batch)
    if (rows[0]?.position !== after + 1) {
      // Asked after the read: what was dropped before it shows.
      const { first } = await log.bounds()
      if (after < first - 1) {
        await onGap?.()
        await log.moveCursor(name, first - 1)
        return true
      }
    }
    const last = rows.at(-1)
    if (!last) return false
    const wanted = types ? rows.filter(({ type }) => types.has(type)) : rows
    if (wanted.length > 0) await onEvents(wanted, signal)
    await log.moveCursor(name, last.position)
    return true
  }

  async #position(): Promise<number> {
    const { log } = this.#deps
    const { name, from } = this.#options
    const cursor = await log.cursor(name)
    if (cursor !== undefined) return cursor
    const { first, last } = await log.bounds()
    const position = from === 'start' ? first - 1 : last
    await log.moveCursor(name, position)
    return position
  }
}
