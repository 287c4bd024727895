import { createHash } from 'node:crypto'
import { backoff } from '../../common/backoff.ts'
import type { Clock } from '../../common/clock.ts'
import { deadline } from '../../common/deadline.ts'
import { asNetworkError, type NetworkError } from '../../common/errors.ts'
import type { EventBus } from '../../common/events/bus.ts'
import type { Mail, ReceiptMail } from '../../common/events/mail.ts'
import type { PeerId } from '../../common/ids.ts'
import { type Component, Loop } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import type { Offer, OfferBook } from './offer-book.ts'

export interface MailSenderDeps {
  book: OfferBook
  send: EventBus['send']
  clock: Clock
  log: Logger
}

const SECOND = 1000
const MINUTE = 60 * SECOND
const DAY = 24 * 60 * MINUTE

/** Messages under way at the same time. */
const TOGETHER = 8
/** Messages whose sending is noted in one commit; after a crash in the middle they go out again. */
const BATCH = 256
const SEND_MS = 30 * SECOND
/** Between two tries where the bus is away. */
const AWAY_MS = { first: SECOND, longest: MINUTE }
/** Between two tries of one message that was not taken. */
const RETRY_MS = { first: 5 * SECOND, longest: 60 * MINUTE }
/** Until an offer that nobody has answered is sent again: a mailbox may have been lost. */
const REPEAT_MS = { first: 10 * MINUTE, longest: DAY }
const RECEIPT_EXPIRY_MS = 30 * DAY
const IDLE_MS = MINUTE

/** Sends what the book owes to others: offers, again and again until they are answered, and receipts. */
export class MailSender implements Component {
  readonly #deps: MailSenderDeps
  readonly #self: PeerId
  readonly #loop: Loop
  #awayTries = 0
  #problem: string | null = null

  constructor(deps: MailSenderDeps, { self }: { self: PeerId }) {
    this.#deps = deps
    this.#self = self
    this.#loop = new Loop('mail', (signal) => this.tick(signal), deps.log, {
      interval: () => this.#pause(),
      clock: deps.clock,
    })
  }

  /** why nothing can be sent at present */
  get problem(): string | null {
    return this.#problem
  }

  start(): Promise<void> {
    return this.#loop.start()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  /** There is something to send, or the bus may be back. */
  nudge(): void {
    this.#loop.nudge()
  }

  async tick(signal: AbortSignal): Promise<void> {
    try {
      await this.#sendDue(signal)
    } catch (error) {
      // A disk that is full: what goes out is not noted, and would go out again at once.
      this.#problem = asNetworkError(error).message
      this.#awayTries++
      throw error
    }
  }

  async #sendDue(signal: AbortSignal): Promise<void> {
    const { book, clock } = this.#deps
    for (;;) {
      book.expire(clock.now())
      const due = book.mailDue(clock.now(), BATCH)
      if (due.length === 0) return
      const { answers, away } = await this.#sendAll(due, signal)
      book.transaction(() => {
        for (const [offer, error] of answers)
          if (error === undefined) this.#sent(offer)
          else this.#refused(offer, error)
      })
      if (signal.aborted) return
      this.#problem = away?.message ?? null
      this.#awayTries = away ? this.#awayTries + 1 : 0
      if (away) return
    }
  }

  /** Sends them, until one finds the bus away: what is told of each that got an answer, and why the others got none. */
  async #sendAll(
    due: readonly Offer[],
    stopping: AbortSignal,
  ): Promise<{ answers: Map<Offer, NetworkError | undefined>; away: NetworkError | undefined }> {
    const answers = new Map<Offer, NetworkError | undefined>()
    const left = due.values()
    let away: NetworkError | undefined
    const send = async () => {
      for (const offer of left) {
        const error = await this.#send(offer, stopping)
        if (error?.code === 'unavailable' || error?.code === 'cancelled') away ??= error
        else answers.set(offer, error)
        if (away) return
      }
    }
    await Promise.all(Array.from({ length: TOGETHER }, send))
    return { answers, away }
  }

  async #send(offer: Offer, stopping: AbortSignal): Promise<NetworkError | undefined> {
    const { signal, clear } = deadline(SEND_MS, stopping)
    try {
      await this.#deps.send(this.#mail(offer), signal)
      return undefined
    } catch (error) {
      return asNetworkError(error)
    } finally {
      clear()
    }
  }

  #mail(offer: Offer): Mail {
    const { peer, id, name, content, size, state, problem } = offer
    const common = { v: 1 as const, from: this.#self, to: peer }
    const now = this.#deps.clock.now()
    if (offer.side === 'sent')
      return { ...common, kind: 'offer', id, sent: iso(offer.sent), expires: iso(offer.expires), name, content, size }
    return {
      ...common,
      kind: 'receipt',
      // The same for the same news, so that a mailbox needs to keep it only once.
      id: createHash('sha256')
        .update(JSON.stringify([this.#self, peer, id, state]))
        .digest('hex')
        .slice(0, 32),
      sent: iso(now),
      expires: iso(now + RECEIPT_EXPIRY_MS),
      offer: id,
      state: state as ReceiptMail['state'],
      reason: state === 'taken' ? null : problem,
    }
  }

  /** It is in the mailbox; meanwhile a receipt, or the next state, may have come. */
  #sent(offer: Offer): void {
    const { book, clock } = this.#deps
    const present = book.find(offer)
    if (!present || present.mailDue === null) return
    if (offer.side === 'received') {
      if (present.state === offer.state) book.change(offer, { mailDue: null, mailTries: 0 })
      return
    }
    const now = clock.now()
    const first = present.state === 'sending'
    const tries = first ? 0 : present.mailTries
    book.change(offer, {
      ...(first ? { state: 'queued', changed: now } : {}),
      problem: null,
      mailDue: now + backoff(REPEAT_MS, tries),
      mailTries: tries + 1,
    })
  }

  /** Not taken, for a reason of this message or its mailbox. */
  #refused(offer: Offer, error: NetworkError): void {
    const { book, clock, log } = this.#deps
    const present = book.find(offer)
    if (!present || present.mailDue === null) return
    const now = clock.now()
    const hopeless = error.code === 'invalid' || error.code === 'too_large'
    log.warn({ offer: offer.id, peer: offer.peer, side: offer.side, err: error }, 'a message was not taken')
    if (hopeless && offer.side === 'sent')
      book.change(offer, { state: 'refused', changed: now, problem: error.message, mailDue: null })
    else if (hopeless) book.change(offer, { mailDue: null })
    else {
      const { retry_ms: asked } = error.details
      const pause = Math.max(backoff(RETRY_MS, present.mailTries), typeof asked === 'number' ? asked : 0)
      book.change(offer, {
        ...(offer.side === 'sent' ? { problem: error.message } : {}),
        mailDue: now + Math.min(pause, RETRY_MS.longest),
        mailTries: present.mailTries + 1,
      })
    }
  }

  #pause(): number {
    if (this.#awayTries > 0) return backoff(AWAY_MS, this.#awayTries - 1)
    const { book, clock } = this.#deps
    return Math.min(IDLE_MS, Math.max(0, (book.nextDue('mail') ?? Number.POSITIVE_INFINITY) - clock.now()))
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
