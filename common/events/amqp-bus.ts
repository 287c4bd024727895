import type { AsyncMessage } from 'rabbitmq-client'
import { Bucket, type Rate } from '../bucket.ts'
import type { Clock } from '../clock.ts'
import { NetworkError } from '../errors.ts'
import { Loop } from '../lifecycle.ts'
import type { Logger } from '../log.ts'
import { type BrokerAddress, parseBrokerAddress } from './amqp-address.ts'
import { ConfirmedChannel } from './amqp-confirmed.ts'
import { AmqpInbox } from './amqp-inbox.ts'
import { AmqpLink } from './amqp-link.ts'
import {
  ASIDE_REASONS,
  type AsideReason,
  checkParcel,
  eventParcel,
  mailParcel,
  type Reading,
  readEvent,
  readMail,
} from './amqp-messages.ts'
import { OriginRates } from './amqp-origins.ts'
import type { Session } from './amqp-session.ts'
import {
  AmqpNames,
  bindEventQueue,
  declareEventQueue,
  declareExchanges,
  declareMailbox,
  EVENT_QUEUE_MESSAGES,
} from './amqp-topology.ts'
import type { BusDeps, BusState, EventBus } from './bus.ts'
import { EVENT_LIMITS, type NetworkEvent } from './event.ts'
import { MAIL_BYTES, type Mail } from './mail.ts'

const PREFETCH = { events: 500, mail: 500 }
/** How often it is checked that events still come here, ms. */
const CHECK_MS = 15_000
/** Warnings about messages that were set aside. */
const WARNINGS: Rate = { perSecond: 1 / 10, atOnce: 1 }
/** A peer that has lost its head is set aside beyond this. */
const ORIGIN_RATE: Rate = { perSecond: 4000, atOnce: 40_000 }
/** When to try a full mailbox again, ms. */
const FULL_RETRY_MS = 60_000
/** What a batch that is being kept may take when the bus stops, ms; the broker delivers it again otherwise. */
const SETTLE_MS = 500
/** Mailboxes that a session remembers to be there. */
const KNOWN_MAILBOXES = 10_000

export interface AmqpBusDeps extends BusDeps {
  clock: Clock
  logger: Logger
  /** what was published in vain may be tried again now */
  onConnected?: () => void
}

export interface AmqpBusOptions {
  /** `amqp://user:password@host:port` */
  url: string
  /** begins the names of exchanges and queues */
  prefix: string
  /** the peer's id, or the Maestro's: no other process may have it */
  self: string
  /** whether it takes messages from a mailbox of its own */
  mailbox: boolean
  /** events of one origin, of more the rest is set aside */
  originRate?: Rate
}

/**
 * Events and mail through RabbitMQ. Every process declares all that it needs, at every connection. Publishing and
 * consuming have a connection each, because the broker stops reading from those that publish when its disk is full.
 */
export class AmqpBus implements EventBus {
  readonly #deps: AmqpBusDeps
  readonly #options: AmqpBusOptions
  readonly #names: AmqpNames
  readonly #address: BrokerAddress
  readonly #rates: OriginRates
  readonly #out: AmqpLink
  readonly #in: AmqpLink
  readonly #checking: Loop
  readonly #warnings: Bucket
  readonly #aside = Object.fromEntries(ASIDE_REASONS.map((reason) => [reason, 0])) as Record<AsideReason, number>
  #publisher: ConfirmedChannel | undefined
  #mailboxes = new Set<string>()
  #inboxes: { stop(): Promise<void> }[] = []
  #bind: (() => Promise<void>) | undefined
  #connected = false

  constructor(deps: AmqpBusDeps, options: AmqpBusOptions) {
    this.#deps = deps
    this.#options = options
    this.#names = new AmqpNames(options.prefix)
    this.#rates = new OriginRates(options.originRate ?? ORIGIN_RATE)
    this.#address = parseBrokerAddress(options.url)
    const { clock, logger } = deps
    this.#warnings = new Bucket(WARNINGS, () => clock.now())
    const onChange = () => this.#changed()
    const link = (direction: string, setUp: (session: Session) => Promise<void>) =>
      new AmqpLink(
        { clock, logger, setUp, onChange },
        { address: this.#address, name: `${options.prefix} ${options.self} ${direction}` },
      )
    this.#out = link('publishes', (session) => this.#setUpPublishing(session))
    this.#in = link('consumes', (session) => this.#setUpConsuming(session))
    this.#checking = new Loop('events-check', (signal) => this.#check(signal), logger, {
      interval: () => CHECK_MS,
      clock,
    })
  }

  get state(): BusState {
    const blocked = this.#out.session?.blocked
    if (blocked) return { kind: 'rabbitmq', state: 'blocked', problem: blocked.message }
    if (this.#connected) return { kind: 'rabbitmq', state: 'connected', problem: null }
    return { kind: 'rabbitmq', state: 'unreachable', problem: this.#problem().message }
  }

  /** Messages set aside since the start, by reason. */
  get aside(): Readonly<Record<AsideReason, number>> {
    return this.#aside
  }

  async start(): Promise<void> {
    await Promise.all([this.#out.start(), this.#in.start(), this.#checking.start()])
  }

  async stop(): Promise<void> {
    const settled = new AbortController()
    const settling = Promise.all(this.#inboxes.map((inbox) => inbox.stop())).then(() => settled.abort())
    await Promise.race([settling, this.#deps.clock.sleep(SETTLE_MS, settled.signal)])
    await Promise.all([this.#checking.stop(), this.#out.stop(), this.#in.stop()])
  }

  async publish(events: readonly NetworkEvent[], signal: AbortSignal): Promise<void> {
    const parcels = events.map((event) => eventParcel(event, this.#names))
    for (let done = 0; done < parcels.length; done += EVENT_LIMITS.batch) {
      const taken = await this.#ready().publish(parcels.slice(done, done + EVENT_LIMITS.batch), signal)
      if (taken) continue
      this.#checking.nudge()
      throw new NetworkError('unavailable', `the RabbitMQ at ${this.#address.place} has no queue for events now`, {
        reason: 'unroutable',
      })
    }
  }

  async send(mail: Mail, signal: AbortSignal): Promise<void> {
    const parcel = mailParcel(mail, this.#names, this.#deps.clock.now())
    if (!parcel) return
    const publisher = this.#ready()
    if (!this.#mailboxes.has(mail.to)) {
      const session = this.#out.session as Session
      await session.within(declareMailbox(publisher.channel, this.#names, mail.to), signal)
      if (this.#mailboxes.size >= KNOWN_MAILBOXES) this.#mailboxes.clear()
      this.#mailboxes.add(mail.to)
    }
    if (await publisher.publish([parcel], signal).catch((error) => refuseFull(error, mail))) return
    // Not made again at once: the broker must tell its owner first, or goes on delivering to a consumer that is no more.
    this.#mailboxes.delete(mail.to)
    throw new NetworkError('unavailable', `the mailbox of ${mail.to} was deleted at the RabbitMQ: try again`, {
      reason: 'unroutable',
    })
  }

  async #setUpPublishing(session: Session): Promise<void> {
    const publisher = await ConfirmedChannel.open(session, this.#options.self)
    await declareExchanges(publisher.channel, this.#names)
    this.#publisher = publisher
    this.#mailboxes = new Set()
  }

  async #setUpConsuming(session: Session): Promise<void> {
    const { clock, logger, log, onMail, onGap } = this.#deps
    const { self, mailbox } = this.#options
    const names = this.#names
    const channel = await session.channel()
    await channel.queueDeclare({ queue: names.lock(self), exclusive: true })
    await declareExchanges(channel, names)
    const before = await session.look(names.eventQueue(self))
    await declareEventQueue(channel, names, self)
    const bind = () => bindEventQueue(channel, names, self)
    // A queue that was there is bound, unless somebody deleted the exchange: `#check` finds out, and that there is a gap.
    if (!before) await bind()
    this.#bind = () => session.within(bind())
    const onAside = (reason: AsideReason) => this.#setAside(reason)
    const events = await AmqpInbox.open<NetworkEvent>(
      {
        clock,
        logger,
        onAside,
        read: (message) => this.#readEvent(message),
        take: async (batch) => void (await log.keep(batch)),
      },
      session,
      { queue: names.eventQueue(self), prefetch: PREFETCH.events, bytes: EVENT_LIMITS.bytes },
    )
    this.#inboxes = [events]
    if (!before || before.messages >= EVENT_QUEUE_MESSAGES) onGap()
    if (!mailbox) return
    await declareMailbox(channel, names, self)
    this.#inboxes.push(
      await AmqpInbox.open<Mail>(
        { clock, logger, onAside, read: (message) => readMail(message, self, clock.now()), take: onMail },
        session,
        { queue: names.mailbox(self), prefetch: PREFETCH.mail, bytes: MAIL_BYTES },
      ),
    )
  }

  #readEvent(message: AsyncMessage): Reading<NetworkEvent> {
    const reading = readEvent(message)
    return reading.kind === 'item' && !this.#rates.admits(reading.item) ? { kind: 'aside', reason: 'storm' } : reading
  }

  /**
   * Sends a message that only the own queue can get: where it comes back, the exchange was deleted meanwhile, and made
   * anew without this binding.
   */
  async #check(signal: AbortSignal): Promise<void> {
    const session = this.#out.session
    const bind = this.#bind
    if (!session || session.blocked || !this.#in.session || !this.#publisher || !bind) return
    const { self } = this.#options
    try {
      if (await this.#publisher.publish([checkParcel(self, this.#names)], signal)) return
      await bind()
    } catch {
      return // the link tells of it, and checks again once it is there
    }
    this.#deps.logger.warn({ queue: this.#names.eventQueue(self) }, 'no events came here for a while: bound again')
    this.#deps.onGap()
  }

  #ready(): ConfirmedChannel {
    if (!this.#out.session || !this.#publisher) throw this.#problem()
    if (this.#out.session.blocked) throw this.#out.session.blocked
    return this.#publisher
  }

  #problem(): NetworkError {
    const problem = this.#out.problem ?? this.#in.problem
    return (
      problem ??
      new NetworkError('unavailable', `the RabbitMQ at ${this.#address.place} is being connected to`, {
        reason: 'connecting',
      })
    )
  }

  #changed(): void {
    const connected = this.#out.session !== undefined && this.#in.session !== undefined
    const could = this.#connected
    this.#connected = connected
    if (connected && !could) this.#checking.nudge()
    if (this.#out.session && !this.#out.session.blocked) this.#deps.onConnected?.()
  }

  #setAside(reason: AsideReason): void {
    this.#aside[reason]++
    if (!this.#warnings.take()) return
    this.#deps.logger.warn(
      { reason, total: this.#aside, queue: this.#names.deadLetters },
      'a message that can not be taken was set aside',
    )
    // What was too much is missing here: the truth is asked, and not once for each of them.
    if (reason === 'storm') this.#deps.onGap()
  }
}

/** The one reason for which the broker takes no mail while it takes other messages. */
function refuseFull(error: unknown, { to }: Mail): never {
  if (!(error instanceof NetworkError) || error.details.reason !== 'nack') throw error
  throw new NetworkError('limited', `the mailbox of ${to} is full: it takes more when ${to} has read some`, {
    retry_ms: FULL_RETRY_MS,
  })
}
