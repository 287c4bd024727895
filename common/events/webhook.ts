import { backoff } from '../backoff.ts'
import { Bucket } from '../bucket.ts'
import type { Clock } from '../clock.ts'
import { asNetworkError, NetworkError } from '../errors.ts'
import type { Component } from '../lifecycle.ts'
import type { Logger } from '../log.ts'
import type { EventsConfig } from './config.ts'
import { parseEventTypes } from './event.ts'
import type { EventLog, LoggedEvent } from './log.ts'
import { LogReader } from './log-reader.ts'
import { type EndpointDeps, WebhookEndpoint } from './webhook-endpoint.ts'

const READER = 'webhook'
const TIMEOUT_MS = 10_000
/** Between two attempts, and up to half less at random. */
const RETRY_MS = { first: 1000, longest: 300_000 }
/** So often an event is posted that the endpoint says it can't take. */
const REJECTIONS = 3
/** Events that are given up are warned of so often; all are counted. */
const WARNINGS = { perSecond: 1 / 60, atOnce: 5 }

export interface WebhookDeps extends Omit<EndpointDeps, 'clock'> {
  log: EventLog
  clock: Clock
  logger: Logger
  random?: () => number
}

export interface WebhookOptions {
  /** configuration `webhook_url` */
  url: string
  /** configuration `webhook_secret`: a text, or `whsec_` and Base64 */
  secret: string | undefined
  /** configuration `webhook_types`: names and families, separated by commas */
  types: string
  /** configuration `webhook_allow_internal` */
  allowInternal: boolean
  /** for one attempt, ms (default 10,000) */
  timeoutMs?: number
}

export interface WebhookState {
  /** events that the endpoint has taken */
  readonly delivered: number
  /** events that were given up */
  readonly failed: number
  /** why nothing gets there at present, for people; null where all is well */
  readonly problem: string | null
}

/**
 * Posts every event of the log to an endpoint, in order, each until it is taken; over restarts it goes on where it was.
 * One that was posted just before the process was killed may be posted again, with the same id. Where the endpoint
 * stays away, the events wait in the log, as long as that keeps them.
 */
export class Webhook implements Component {
  readonly #deps: WebhookDeps
  readonly #endpoint: WebhookEndpoint
  readonly #reader: LogReader
  readonly #random: () => number
  readonly #warnings: Bucket
  #delivered = 0
  #failed = 0
  #problem: string | null = null

  /**
   * The webhook of a configuration; undefined where it has none.
   * @throws NetworkError as the constructor does
   */
  static configured(config: EventsConfig, deps: WebhookDeps): Webhook | undefined {
    const { webhook_url: url, webhook_secret: secret, webhook_types: types } = config
    if (url === undefined) return undefined
    return new Webhook(deps, { url, secret, types, allowInternal: config.webhook_allow_internal })
  }

  /** @throws NetworkError `invalid`, naming the key of the configuration that is wrong */
  constructor(deps: WebhookDeps, options: WebhookOptions) {
    const { log, clock, logger } = deps
    const { url, secret, allowInternal, timeoutMs = TIMEOUT_MS } = options
    if (secret === undefined)
      throw new NetworkError('invalid', 'webhook_url is given without webhook_secret, which signs what is posted there')
    this.#deps = deps
    this.#endpoint = new WebhookEndpoint(deps, { url, secret, allowInternal, timeoutMs })
    this.#random = deps.random ?? Math.random
    this.#warnings = new Bucket(WARNINGS, () => clock.now())
    this.#reader = new LogReader(
      {
        log,
        clock,
        logger,
        onEvents: (events, signal) => this.#post(events, signal),
        onGap: () => logger.warn('events were dropped from the log before they could be posted to the webhook'),
      },
      { name: READER, types: typesOf(options.types) },
    )
  }

  get state(): WebhookState {
    return { delivered: this.#delivered, failed: this.#failed, problem: this.#problem }
  }

  start(): Promise<void> {
    return this.#reader.start()
  }

  async stop(): Promise<void> {
    await this.#reader.stop()
    await this.#endpoint.close()
  }

  async #post(events: readonly LoggedEvent[], signal: AbortSignal): Promise<void> {
    for (const logged of events) {
      await this.#postOne(logged, signal)
      // Not only after the batch: whoever takes events slowly does not get many of them again after a restart.
      await this.#deps.log.moveCursor(READER, logged.position)
    }
  }

  /** Returns once it is taken or given up. */
  async #postOne(logged: LoggedEvent, signal: AbortSignal): Promise<void> {
    let rejections = 0
    for (let failures = 0; ; failures++) {
      const answer = await this.#attempt(logged, signal)
      if (answer === 'taken') return
      if (answer === 'rejected' && ++rejections === REJECTIONS) return this.#giveUp(logged)
      if (answer === 'gone') return this.#giveUp(logged)
      const pause = answer === 'forbidden' ? RETRY_MS.longest : backoff(RETRY_MS, failures)
      await this.#deps.clock.sleep(pause * (1 - this.#random() / 2), signal)
      signal.throwIfAborted()
    }
  }

  async #attempt(
    logged: LoggedEvent,
    signal: AbortSignal,
  ): Promise<'taken' | 'rejected' | 'gone' | 'forbidden' | 'later'> {
    let status: number
    try {
      status = await this.#endpoint.post(logged, signal)
    } catch (error) {
      const { code, message } = asNetworkError(error)
      if (code === 'cancelled') throw error
      this.#tell(message)
      return code === 'forbidden' ? 'forbidden' : 'later'
    }
    if (status >= 200 && status < 300) {
      this.#delivered++
      this.#tell(null)
      return 'taken'
    }
    const redirected = status >= 300 && status < 400 ? ': give the address that it leads to as "webhook_url"' : ''
    this.#tell(`${this.#endpoint.name} answers with status ${status}${redirected}`)
    if (status === 410) return 'gone'
    return status >= 400 && status < 500 && status !== 408 && status !== 429 ? 'rejected' : 'later'
  }

  #giveUp({ event }: LoggedEvent): void {
    this.#failed++
    if (this.#warnings.take())
      this.#deps.logger.warn(
        { event: event.id, type: event.type, problem: this.#problem },
        'the webhook rejects an event',
      )
  }

  #tell(problem: string | null): void {
    if (problem === this.#problem) return
    this.#problem = problem
    if (problem === null) this.#deps.logger.info({ webhook: this.#endpoint.name }, 'the webhook takes events again')
    else this.#deps.logger.warn({ problem }, 'events can not be posted to the webhook now')
  }
}

function typesOf(text: string) {
  try {
    return parseEventTypes(text)
  } catch (error) {
    throw new NetworkError('invalid', `webhook_types: ${asNetworkError(error).message}`)
  }
}
