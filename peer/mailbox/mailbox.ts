import { randomBytes } from 'node:crypto'
import { NetworkError } from '../../common/errors.ts'
import { MAX_EXPIRY_MS, type Mail, type OfferMail, type ReceiptMail } from '../../common/events/mail.ts'
import type { AgentMailbox, OfferBody } from '../../common/events/rest.ts'
import { type ContentId, type FileName, type PeerId, printable, shortId } from '../../common/ids.ts'
import { type Component, Loop } from '../../common/lifecycle.ts'
import { MailSender, type MailSenderDeps } from './mail-sender.ts'
import type { Offer, OfferBook, OfferKey } from './offer-book.ts'
import { OfferFetches, type OfferFetchesDeps } from './offer-fetches.ts'

export interface MailboxDeps extends MailSenderDeps {
  /** what this peer shares */
  catalog: {
    byId(id: ContentId): readonly { readonly name: FileName; readonly size: number }[]
    existing(name: FileName): ContentId | 'unknown' | undefined
  }
  transfers: OfferFetchesDeps['transfers']
  scout: OfferFetchesDeps['scout']
}

export interface MailboxOptions {
  self: PeerId
  /** whether others may offer files to this peer (default true) */
  accept?: boolean
}

export interface OfferRequest {
  to: readonly PeerId[]
  /** a content that this peer shares */
  id: ContentId
  /** for the recipients (default: a name under which this peer shares it) */
  name?: FileName | undefined
  /** default 30 days */
  expires_s?: number | undefined
}

const DAY = 24 * 3600 * 1000
const DEFAULT_EXPIRY_MS = 30 * DAY
/** Received offers under way: in all, and of one sender. */
const MOST_RECEIVED = 20_000
const MOST_OF_ONE = 10_000
const MOST_SENT = 100_000
/** What has ended is remembered so long, so that an offer that comes again gets its answer again. */
const HISTORY_MS = 30 * DAY
/** Offers a side, beyond which those that have ended are forgotten sooner. */
const MOST_KEPT = 100_000
const LISTED = 1000
const SWEEP_MS = 30_000
const REASON = 500

/**
 * Offers of files, to peers that may be away and from them. The sender's record is the truth of an offer: it goes out
 * until it is answered. The recipient records what comes before it is taken as delivered, fetches the content from
 * whoever has it, verified, and tells its sender.
 *
 * Stops before the transfers do. The book stays open: whoever opened it closes it.
 */
export class Mailbox implements Component {
  readonly #deps: MailboxDeps
  readonly #self: PeerId
  readonly #accept: boolean
  readonly #sender: MailSender
  readonly #fetches: OfferFetches
  readonly #sweeping: Loop

  constructor(deps: MailboxDeps, options: MailboxOptions) {
    const { book, transfers, scout, catalog, clock, log } = deps
    this.#deps = deps
    this.#self = options.self
    this.#accept = options.accept ?? true
    this.#sender = new MailSender(deps, { self: options.self })
    this.#fetches = new OfferFetches({
      book,
      transfers,
      scout,
      existing: (name) => catalog.existing(name),
      onEnded: () => this.#sender.nudge(),
      clock,
      log,
    })
    this.#sweeping = new Loop('mailbox', () => this.sweep(), log, { interval: () => SWEEP_MS, clock })
  }

  /** Goes on with what the last run left unfinished. */
  async start(): Promise<void> {
    for (const part of [this.#sweeping, this.#sender, this.#fetches]) await part.start()
  }

  async stop(): Promise<void> {
    await Promise.all([this.#sweeping, this.#sender, this.#fetches].map((part) => part.stop()))
  }

  /**
   * Offers a content to each of these peers, whether or not they are there; durable when it returns. One that is under
   * way already is answered with as it is.
   * @throws NetworkError `not_found` where this peer does not share it; `invalid` for this peer itself; `limited`
   */
  offer({ to, id, name, expires_s }: OfferRequest): OfferBody[] {
    const { book, catalog, clock } = this.#deps
    const [shared] = catalog.byId(id)
    if (!shared)
      throw new NetworkError('not_found', `this peer does not share the content ${shortId(id)}…: share it first`)
    if (to.includes(this.#self))
      throw new NetworkError('invalid', `${this.#self} is this peer itself: it has the file already`)
    const sent = clock.now()
    const expires = sent + (expires_s === undefined ? DEFAULT_EXPIRY_MS : expires_s * 1000)
    const content = { name: name ?? shared.name, content: id, size: shared.size }
    const offers = book.transaction(() => {
      let underWay = book.underWay('sent')
      return [...new Set(to)].map((peer) => {
        const same = book.same(peer, id, content.name)
        if (same) return same
        if (++underWay > MOST_SENT)
          throw new NetworkError('limited', `${MOST_SENT} offers are under way: try again when some have ended`)
        const offer: Offer = {
          ...content,
          ...{ side: 'sent', peer, id: randomBytes(12).toString('hex'), state: 'sending', problem: null },
          ...{ sent, changed: sent, expires },
          ...{ mailDue: sent, mailTries: 0, fetchDue: null, fetchTries: 0, tried: 0 },
        }
        book.add(offer)
        return offer
      })
    })
    this.#sender.nudge()
    return offers.map((offer) => this.#body(offer))
  }

  /** As many as people look at; or, of those that were sent, just those with the ids in `sent`. */
  list({ sent: ids }: { sent?: readonly string[] | undefined } = {}): AgentMailbox {
    const { book } = this.#deps
    const sent = ids ? book.sentOf(ids) : book.list('sent', LISTED)
    const received = ids ? [] : book.list('received', LISTED)
    return {
      sent: sent.map((offer) => this.#body(offer)),
      received: received.map((offer) => this.#body(offer)),
      sent_total: book.count('sent'),
      received_total: book.count('received'),
    }
  }

  /**
   * Takes messages from this peer's own mailbox, each any number of times: they are recorded when it resolves.
   * @throws NetworkError where they can't be recorded: then none is
   */
  async onMail(batch: readonly Mail[]): Promise<void> {
    const { book, log } = this.#deps
    book.transaction(() => {
      const room = new Room(book)
      for (const mail of batch) {
        if (mail.to !== this.#self || mail.from === this.#self)
          log.warn({ mail: mail.id, from: mail.from, to: mail.to }, 'a message for somebody else was left aside')
        else if (mail.kind === 'offer') this.#offered(mail, room)
        else this.#answered(mail)
      }
    })
    this.#sender.nudge()
    this.#fetches.nudge()
  }

  /**
   * Something that offers may wait for: a content is offered by somebody, a peer is there (it may have what it offered),
   * or, with neither, the bus is.
   */
  nudge(which: { content?: ContentId; peer?: PeerId } = {}): void {
    this.#fetches.hasten(which)
    if (which.content === undefined && which.peer === undefined) this.#sender.nudge()
  }

  async sweep(): Promise<void> {
    const now = this.#deps.clock.now()
    await this.#deps.book.sweep({ endedBefore: now - HISTORY_MS, keep: MOST_KEPT })
  }

  #offered(mail: OfferMail, room: Room): void {
    const { book, clock, log } = this.#deps
    const now = clock.now()
    const key: OfferKey = { side: 'received', peer: mail.from, id: mail.id }
    const known = book.find(key)
    if (known) {
      if (known.state !== 'expired') book.change(key, { mailDue: now })
      return
    }
    const expires = Math.min(Date.parse(mail.expires), now + MAX_EXPIRY_MS)
    if (expires <= now) return
    const refusal = this.#accept ? null : 'it takes no files from others'
    if (refusal === null && !room.take(mail.from)) {
      // Its sender sends it again: there may be room then.
      log.debug({ offer: mail.id, from: mail.from }, 'no room for an offer at present')
      return
    }
    book.add({
      ...key,
      ...{ name: mail.name, content: mail.content, size: mail.size },
      ...{ state: refusal === null ? 'taken' : 'refused', problem: refusal },
      ...{ sent: Math.min(Date.parse(mail.sent), now), changed: now, expires },
      ...{ mailDue: now, mailTries: 0, fetchDue: refusal === null ? now : null, fetchTries: 0, tried: 0 },
    })
  }

  /** Believed only of the peer that the offer was for, and only forward. */
  #answered({ from, offer: id, state, reason }: ReceiptMail): void {
    const { book, clock } = this.#deps
    const key: OfferKey = { side: 'sent', peer: from, id }
    const offer = book.find(key)
    if (!offer) return
    const forward =
      offer.state === 'sending' || offer.state === 'queued'
        ? true
        : offer.state === 'taken'
          ? state !== 'taken'
          : // Its time was over before the word came that it had arrived before.
            offer.state === 'expired' && state === 'delivered'
    if (!forward) return
    const now = clock.now()
    const problem = reason === null ? null : printable(reason, REASON)
    book.change(key, { state, changed: now, problem, ...(state === 'taken' ? {} : { mailDue: null }) })
  }

  #body(offer: Offer): OfferBody {
    const { id, peer, name, content, size, state, sent, changed, expires } = offer
    return {
      ...{ offer: id, peer, name, id: content, size, state, problem: this.#problem(offer) },
      ...{ sent: iso(sent), changed: iso(changed), expires: iso(expires) },
    }
  }

  #problem({ side, state, problem, content }: Offer): string | null {
    if (problem !== null || side === 'received') return problem
    if (state === 'sending') return this.#sender.problem
    const waits = state === 'queued' || state === 'taken'
    return waits && this.#deps.catalog.byId(content).length === 0
      ? 'this peer does not share it any more: it can only come from others'
      : null
  }
}

/**
 * How many more offers are taken, in one batch. Where there are too many in all, one of the sender of most that nobody
 * has is forgotten: its sender sends it again.
 */
class Room {
  readonly #book: OfferBook
  readonly #ofPeer = new Map<PeerId, number>()
  #all: number | undefined
  /** by sender */
  #inVain: Map<PeerId, OfferKey[]> | undefined

  constructor(book: OfferBook) {
    this.#book = book
  }

  /** Takes a place. @returns whether there was one */
  take(peer: PeerId): boolean {
    this.#all ??= this.#book.underWay('received')
    const ofPeer = this.#ofPeer.get(peer) ?? this.#book.underWay('received', peer)
    this.#ofPeer.set(peer, ofPeer)
    if (ofPeer >= MOST_OF_ONE) return false
    if (this.#all < MOST_RECEIVED) this.#all++
    else if (!this.#leave()) return false
    this.#ofPeer.set(peer, ofPeer + 1)
    return true
  }

  /** @returns whether one has left its place */
  #leave(): boolean {
    if (!this.#inVain) {
      this.#inVain = new Map()
      for (const key of this.#book.triedInVain()) {
        const keys = this.#inVain.get(key.peer)
        if (keys) keys.push(key)
        else this.#inVain.set(key.peer, [key])
      }
    }
    let most: OfferKey[] = []
    for (const keys of this.#inVain.values()) if (keys.length > most.length) most = keys
    const key = most.shift()
    if (key) this.#book.remove(key)
    return key !== undefined
  }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
