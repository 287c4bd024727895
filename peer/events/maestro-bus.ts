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

/** Between two attempts to hear the Maestro, ms. */
const RETRY_MS = [250, 15_000] as const
/** A connection that held so long was a good one: the next attempt after it comes soon, ms. */
const STEADY_MS = 10_000
/** Bytes of events in one request: well below what the Maestro takes at most. */
const PIECE_BYTES = LIMITS.bodyBytes / 2
const WARN_MS = 60_000
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
  #state: BusState
  #retryMs: number = RETRY_MS[0]
  #skipped = 0
  #warnedAt = Number.NEGATIVE_INFINITY

  constructor(deps: MaestroBusDeps, options: { self: PeerId }) {
    const { clock, logger, maestro } = deps
    this.#deps = deps
    this.#self = options.self
    this.#state = unreachable(`the Maestro at ${maestro.url} was not reached yet`)
    this.#drain = new MailDrain(deps, options)
    this.#hearing = new Loop('maestro-events', (signal) => this.#connect(signal), logger, {
      interval: () => this.#retryMs,
      jitter: 0.5,
      clock,
    })
  }

  get state(): BusState {
    return this.#state
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
    this.#state = unreachable('stopped')
  }

  async publish(events: readonly NetworkEvent[], signal: AbortSignal): Promise<void> {
    for (const piece of piecesOf(events)) await this.#post(piece, signal)
  }

  async send(mail: Mail, signal: AbortSignal): Promise<void> {
    try {
      await this.#deps.maestro.sendMail(mail, signal)
    } catch (error) {
      throw this.#refusal(asNetworkError(error), mail.id)
    }
  }

  /** A piece that is refused for the sake of one event is sent in halves until that one is alone, and so has a name. */
  async #post(events: readonly NetworkEvent[], signal: AbortSignal): Promise<void> {
    try {
      await this.#deps.maestro.publishEvents(events, signal)
    } catch (error) {
      const known = asNetworkError(error)
      const { id } = known.details
      const named = typeof id === 'string' && events.some((event) => event.id === id)
      if (named || events.length === 1 || !isFinal(known))
        throw this.#refusal(known, named ? id : events.length === 1 ? events[0]!.id : undefined)
      const half = Math.ceil(events.length / 2)
      await this.#post(events.slice(0, half), signal)
      await this.#post(events.slice(half), signal)
    }
  }

  /** What a refusal by the Maestro means for whoever published. */
  #refusal(error: NetworkError, id: string | undefined): NetworkError {
    const { code, message, details } = error
    if (code === 'limited' || code === 'cancelled' || code === 'unavailable') return error
    if (isFinal(error))
      return new NetworkError(code === 'too_large' ? code : 'invalid', message, { ...details, id }, error)
    // Such as a lease that is not there yet, an older Maestro, or another program at its address.
    return new NetworkError('unavailable', this.#problemOf(error), details, error)
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
    const steady = clock.now() - since >= STEADY_MS
    this.#retryMs = steady ? RETRY_MS[0] : Math.min(this.#retryMs * 2, RETRY_MS[1])
  }

  async #hear(signal: AbortSignal): Promise<void> {
    const { maestro, log, logger, onConnected } = this.#deps
    const lastEventId = await log.resume()
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
    let resume: string | undefined
    for (const message of messages) {
      // First told, then gone on: a gap is not forgotten by a crash in between.
      if (message.event === 'gap') this.#deps.onGap()
      else if (message.event === 'mail') this.#drain.nudge()
      else if (message.event !== 'begin') {
        const event = this.#read(message)
        if (event) events.push(event)
      }
      if (EVENT_ID.test(message.id)) resume = message.id
    }
    if (events.length > 0 || resume !== undefined) await this.#deps.log.keep(events, resume)
  }

  #read({ data }: ServerSentEvent): NetworkEvent | undefined {
    try {
      if (data.length > EVENT_LIMITS.bytes) throw new NetworkError('too_large', 'it is too long')
      return parseEvent(JSON.parse(data))
    } catch (error) {
      this.#skipped++
      const now = this.#deps.clock.now()
      if (now - this.#warnedAt >= WARN_MS) {
        this.#warnedAt = now
        this.#deps.logger.warn(
          { problem: (error as Error).message, skipped: this.#skipped },
          'the Maestro sends events that are not understood: they are passed over',
        )
      }
      return undefined
    }
  }
}

/** The same request would be refused again. */
function isFinal({ code }: NetworkError): boolean {
  return code === 'invalid' || code === 'too_large' || code === 'forbidden'
}

function unreachable(problem: string): BusState {
  return { kind: 'embedded', state: 'unreachable', problem }
}

/** @throws NetworkError `too_large`, details `id` */
function* piecesOf(events: readonly NetworkEvent[]): Generator<readonly NetworkEvent[]> {
  let piece: NetworkEvent[] = []
  let bytes = 0
  for (const event of events) {
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
