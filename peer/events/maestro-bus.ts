import { backoff } from '../../common/backoff.ts'
import { Bucket } from '../../common/bucket.ts'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { BusDeps, BusState, EventBus } from '../../common/events/bus.ts'
import { EVENT_LIMITS, type NetworkEvent, parseEvent } from '../../common/events/event.ts'
import type { Mail } from '../../common/events/mail.ts'
import type { ServerSentEvent } from '../../common/events/sse-parser.ts'
import type { PeerId } from '../../common/ids.ts'
import { Loop } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import type { MaestroClient } from '../../common/maestro-client.ts'
import { LIMITS } from '../../common/schemas.ts'
import { gathered } from './gathered.ts'
import { MailDrain } from './mail-drain.ts'

export interface MaestroBusDeps extends BusDeps {
  maestro: Pick<MaestroClient, 'url' | 'publishEvents' | 'openEvents' | 'sendMail' | 'mailbox' | 'taken'>
  clock: Clock
  logger: Logger
  /** told each time that the Maestro is there again */
  onConnected?: () => void
}

/** Between two attempts to hear the Maestro. */
const RETRY_MS = { first: 250, longest: 15_000 }
/** A connection that held so long was a good one: the next attempt after it comes soon, ms. */
const STEADY_MS = 10_000
/** Bytes of events in one request: well below what the Maestro takes at most. */
const PIECE_BYTES = LIMITS.bodyBytes / 2
const WARNINGS = { perSecond: 1 / 60, atOnce: 1 }
/** An id that can be sent back in a header. */
const EVENT_ID = /^[\x21-\x7e]{1,100}$/

/**
 * Events and mail through the Maestro: published by `POST /events`, heard over one connection of server-sent events,
 * which goes on after what was kept last. Nothing is read from it while what came is being kept.
 */
export class MaestroBus implements EventBus {
  readonly #deps: MaestroBusDeps
  readonly #self: PeerId
  readonly #hearing: Loop
  readonly #drain: MailDrain
  readonly #warnings: Bucket
  #state: BusState
  #retryMs = 0
  /** in a row, but for connections that held for long */
  #failures = 0
  /** what was kept last: where the stream goes on */
  #resume: string | undefined
  #skipped = 0

  constructor(deps: MaestroBusDeps, options: { self: PeerId }) {
    const { clock, logger, maestro } = deps
    this.#deps = deps
    this.#self = options.self
    this.#warnings = new Bucket(WARNINGS, () => clock.now())
    this.#state = unreachable(`the Maestro at ${maestro.url} was not reached yet`)
    this.#drain = new MailDrain(deps, options)
    this.#hearing = new Loop('maestro-events', (signal) => this.#connect(signal), logger, {
      interval: () => this.#retryMs,
      jitter: 0.5,
      clock,
    })
  }

  get state(): BusState {
    const { problem } = this.#drain
    return this.#state.state === 'connected' && problem !== null ? { ...this.#state, problem } : this.#state
  }

  /** Messages that were not understood, and passed over. */
  get skipped(): number {
    return this.#skipped
  }

  async start(): Promise<void> {
    await this.#drain.start()
    await this.#hearing.start()
  }

  async stop(): Promise<void> {
    await Promise.all([this.#hearing.stop(), this.#drain.stop()])
  }

  /** The Maestro was seen to answer: where it isn't heard, that is tried at once. */
  reconnect(): void {
    if (this.#state.state === 'connected') return
    this.#failures = 0
    this.#hearing.nudge()
  }

  async publish(events: readonly NetworkEvent[], signal: AbortSignal): Promise<void> {
    for (const piece of piecesOf(events, this.#self)) {
      const only = piece.length === 1 ? piece[0]!.id : undefined
      await this.#deps.maestro.publishEvents(piece, signal).catch((error) => this.#refused(error, only))
    }
  }

  async send(mail: Mail, signal: AbortSignal): Promise<void> {
    await this.#deps.maestro.sendMail(mail, signal).catch((error) => this.#refused(error, mail.id))
  }

  /**
   * What a failure at the Maestro means for whoever published.
   * @param only the id of what was sent, where it was one
   */
  #refused(error: unknown, only: string | undefined): never {
    const known = asNetworkError(error)
    const { code, message, details } = known
    if (code === 'limited' || code === 'cancelled' || code === 'unavailable') throw known
    if (code === 'invalid' || code === 'too_large' || code === 'forbidden')
      throw new NetworkError(code === 'too_large' ? code : 'invalid', message, { id: only, ...details }, known)
    // Such as a lease that is not there yet, an older Maestro, or another program at its address.
    throw new NetworkError('unavailable', this.#problemOf(known), details, known)
  }

  #problemOf(error: NetworkError): string {
    const { url } = this.#deps.maestro
    if (error.code === 'not_found' && error.message.startsWith('no route'))
      return `the Maestro at ${url} carries no events: it is older than this peer, update it`
    return error.code === 'unavailable' || error.code === 'corrupt'
      ? error.message
      : `the Maestro at ${url} refuses: ${error.message}`
  }

  /** One connection, until it ends. */
  async #connect(signal: AbortSignal): Promise<void> {
    const { clock, logger } = this.#deps
    const since = clock.now()
    let problem: string
    try {
      await this.#hear(signal)
      problem = `the Maestro at ${this.#deps.maestro.url} has closed the connection`
    } catch (error) {
      problem = this.#problemOf(asNetworkError(error))
    }
    if (signal.aborted) return
    this.#drain.pause()
    if (this.#state.problem !== problem) logger.info({ problem }, 'no events are heard')
    this.#state = unreachable(problem)
    if (clock.now() - since >= STEADY_MS) this.#failures = 0
    this.#retryMs = backoff(RETRY_MS, this.#failures++)
  }

  async #hear(signal: AbortSignal): Promise<void> {
    const { maestro, log, logger, onConnected } = this.#deps
    const lastEventId = await log.resume()
    this.#resume = lastEventId
    const stream = await maestro.openEvents({ mailbox: this.#self, lastEventId }, signal)
    try {
      this.#state = { kind: 'embedded', state: 'connected', problem: null }
      logger.info({ maestro: maestro.url }, 'events are heard')
      if (lastEventId === undefined) this.#deps.onGap()
      this.#drain.resume()
      onConnected?.()
      for await (const messages of gathered(stream.messages, EVENT_LIMITS.batch)) await this.#take(messages)
    } finally {
      stream.close()
    }
  }

  async #take(messages: readonly ServerSentEvent[]): Promise<void> {
    const events: NetworkEvent[] = []
    let resume = this.#resume
    for (const message of messages) {
      // First told, then gone on: a gap is not forgotten by a crash in between.
      if (message.event === 'gap') this.#deps.onGap()
      else if (message.event === 'mail') this.#drain.nudge()
      // Without data it tells a position only.
      else if (message.data !== '') {
        const event = this.#read(message)
        if (event) events.push(event)
      }
      if (EVENT_ID.test(message.id)) resume = message.id
    }
    if (events.length === 0 && resume === this.#resume) return
    try {
      await this.#deps.log.keep(events, resume)
    } catch (error) {
      throw new NetworkError('unavailable', `events can't be kept here: ${asNetworkError(error).message}`, {}, error)
    }
    this.#resume = resume
  }

  #read({ data }: ServerSentEvent): NetworkEvent | undefined {
    try {
      if (data.length > EVENT_LIMITS.bytes) throw new NetworkError('too_large', 'it is too long')
      return parseEvent(JSON.parse(data))
    } catch (error) {
      this.#skipped++
      if (this.#warnings.take())
        this.#deps.logger.warn(
          { problem: (error as Error).message, skipped: this.#skipped },
          'the Maestro sends events that are not understood: they are passed over',
        )
      return undefined
    }
  }
}

function unreachable(problem: string): BusState {
  return { kind: 'embedded', state: 'unreachable', problem }
}

/** @throws NetworkError `too_large` or `invalid`, details `id` */
function* piecesOf(events: readonly NetworkEvent[], self: PeerId): Generator<readonly NetworkEvent[]> {
  let piece: NetworkEvent[] = []
  let bytes = 0
  for (const event of events) {
    // Such as one from before this peer was given another id: the Maestro would wait for a lease of that one for ever.
    if (event.origin !== self)
      throw new NetworkError('invalid', `the event ${event.id} is of ${event.origin}: ${self} does not publish it`, {
        id: event.id,
      })
    const size = Buffer.byteLength(JSON.stringify(event))
    if (size > EVENT_LIMITS.bytes)
      throw new NetworkError(
        'too_large',
        `the event ${event.id} has ${size} bytes: more than ${EVENT_LIMITS.bytes} are not carried`,
        { id: event.id },
      )
    if (piece.length === EVENT_LIMITS.batch || bytes + size > PIECE_BYTES) {
      yield piece
      piece = []
      bytes = 0
    }
    piece.push(event)
    bytes += size + 1
  }
  if (piece.length > 0) yield piece
}
