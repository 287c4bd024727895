import { setMaxListeners } from 'node:events'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { PartyLimits } from '../../common/party-limits.ts'
import type { PeerContact } from '../contact.ts'
import type { BookFile } from './book-file.ts'
import type { PeerBook } from './known-peers.ts'
import type { Links } from './links.ts'
import { askedBy } from './party-limits.ts'
import {
  type Acquaintance,
  type Introduction,
  MAX_TOLD,
  type OverlayHandlers,
  type OverlayNetwork,
} from './protocol.ts'

export interface ExchangeDeps {
  self: () => PeerContact
  network: OverlayNetwork
  book: PeerBook
  links: Links
  file: BookFile
  clock: Clock
  /** friends, as far as it is known who they are: neighbours before all others */
  preferred: () => readonly PeerContact[]
  /** somebody new is to be tried: the next tick is wanted now */
  nudge?: () => void
}

/** Acquaintances told of at a time. */
const TOLD = 16
/** Addresses tried in a tick. */
const TRIED = 4
const FEW = 3
const PAUSE_MS = { quiet: 60_000, growing: 10_000, urgent: 2000 }
/** Exchanges that one party may ask for. */
const ASKED = { perSecond: 1, atOnce: 20 }
/**
 * Addresses that were only told of at one machine, which may be nobody's: after so many that did not answer, no further one
 * is tried there for a time. Without it, one message would make this peer call a stranger 32 times.
 */
const UNANSWERED = { perSecond: 1 / 60, atOnce: 4 }
/** The book is written at most this often, and where it is the same, so often nevertheless, ms: with when who was seen. */
const SAVE_MS = { changed: 5000, same: 600_000 }

/** Keeps the book of known peers: tries whom others told of, tells others in turn, and keeps up the links. */
export class Exchange implements OverlayHandlers {
  readonly #deps: ExchangeDeps
  readonly #limits: PartyLimits
  readonly #unanswered: PartyLimits
  #tickedAt = Number.NEGATIVE_INFINITY
  #savedAt: number
  #savedChanges = 0
  /** those tried of late that were only told of */
  #rumours: ReadonlySet<PeerContact> = new Set()

  constructor(deps: ExchangeDeps) {
    this.#deps = deps
    this.#limits = new PartyLimits(ASKED, () => deps.clock.now())
    this.#unanswered = new PartyLimits(UNANSWERED, () => deps.clock.now())
    this.#savedAt = deps.clock.now()
  }

  /** One round: some that are to be tried, one that is alive, and the links that are to be told that they are. */
  async tick(signal: AbortSignal): Promise<void> {
    const { book, links, clock, preferred } = this.#deps
    this.#tickedAt = clock.now()
    setMaxListeners(0, signal)
    const doubted = book.doubted()
    await this.#askAll([...this.#toTry(), ...(doubted ? [doubted] : book.alive(1))], signal)
    links.choose(preferred())
    await this.#askAll(links.untold(), signal)
    if (signal.aborted) return
    this.#saveNowAndThen()
  }

  /** ms until the next tick */
  get pauseMs(): number {
    const { book, links } = this.#deps
    const next = book.nextTryMs() ?? PAUSE_MS.quiet
    const { urgent, growing, quiet } = PAUSE_MS
    const alive = book.aliveCount
    if (alive > 0 && links.list().length === 0) return urgent
    if (alive < FEW) return Math.min(Math.max(next, urgent), quiet)
    return links.wantsMore ? Math.min(Math.max(next, growing), quiet) : quiet
  }

  /**
   * Asks an address that this peer's own user gave, and keeps who answers.
   * @throws NetworkError `unavailable`; `limited`; `invalid` where it is this peer itself
   */
  async introduce(address: Pick<PeerContact, 'host' | 'grpcPort'>, signal: AbortSignal): Promise<Introduction> {
    const { book, self, nudge } = this.#deps
    // Others are told addresses only, and this one is the same for all of them.
    const at = { ...address, host: address.host === 'localhost' ? '127.0.0.1' : address.host }
    const answer = await this.#exchange(at, false, signal)
    if (answer.self.peer === self().peer) throw new NetworkError('invalid', 'that address is this agent itself')
    book.seen(answer.self)
    book.heard(answer.peers, at.host)
    nudge?.()
    return answer
  }

  /** @throws NetworkError `limited` */
  onExchange(from: PeerContact, peers: readonly Acquaintance[], linked: boolean, seen = from.host): Introduction {
    const { book, links, self } = this.#deps
    if (!this.#limits.take(askedBy(seen, from.peer)))
      throw new NetworkError('limited', 'too many introductions: try again in a second')
    book.heard([{ contact: from, ageMs: 0 }, ...peers.slice(0, MAX_TOLD - 1)], seen)
    if (linked && from.peer !== self().peer) links.asked(from, seen)
    if (!book.contactOf(from.peer)) this.#nudge()
    return { self: self(), peers: book.tell(TOLD, seen, from.peer) }
  }

  /** Remembers the known peers; to be called at the end. */
  save(): void {
    const { book, file, clock } = this.#deps
    this.#savedAt = clock.now()
    this.#savedChanges = book.changes
    file.save(book.remembered())
  }

  /** Both kinds in turn, so that many of one do not hold up the other. */
  #toTry(): PeerContact[] {
    const { book } = this.#deps
    const untried = this.#worthTrying()
    this.#rumours = new Set(untried)
    const lost = book.lost(TRIED)
    const both = untried.flatMap((contact, i) => [contact, ...lost.slice(i, i + 1)])
    return [...both, ...lost.slice(untried.length)].slice(0, TRIED)
  }

  /** Of those only told of. Where nobody answers, those that are left count as tried: else they would keep out others. */
  #worthTrying(): PeerContact[] {
    const { book } = this.#deps
    const worth: PeerContact[] = []
    const ofParty = new Map<string, number>()
    for (const contact of book.untried(Number.POSITIVE_INFINITY)) {
      if (worth.length === TRIED) break
      const party = askedBy(contact.host, contact.peer)
      const left = ofParty.get(party) ?? this.#unanswered.left(party)
      ofParty.set(party, left - 1)
      if (left > 0) worth.push(contact)
      else book.missed(contact)
    }
    return worth
  }

  async #askAll(contacts: readonly PeerContact[], signal: AbortSignal): Promise<void> {
    await Promise.all(contacts.map((contact) => this.#ask(contact, signal)))
  }

  /** Whoever does not answer is missed; that is no failure here. */
  async #ask(to: PeerContact, signal: AbortSignal): Promise<void> {
    const { book, links, self } = this.#deps
    const linked = links.isOwn(to.peer)
    try {
      const { self: there, peers } = await this.#exchange(to, linked, signal)
      const known = book.contactOf(there.peer)
      if (there.peer === to.peer) {
        book.seen(there)
        if (linked) links.told(to.peer)
      } else if (there.peer === self().peer || known) {
        // Another's name is no way into its place: the one at the known address is asked first.
        book.nobodyAt(to)
        book.heard([{ contact: there, ageMs: 0 }], to.host)
      } else book.seen(there)
      book.heard(peers, to.host)
    } catch (error) {
      // One that has too much to do is there.
      if (signal.aborted || asNetworkError(error).code === 'limited') return
      book.missed(to)
      if (this.#rumours.has(to)) this.#unanswered.take(askedBy(to.host, to.peer))
    }
  }

  /** The one that answers comes with the address that it was asked at. */
  async #exchange(
    to: Pick<PeerContact, 'host' | 'grpcPort'>,
    linked: boolean,
    signal: AbortSignal,
  ): Promise<Introduction> {
    const { network, book } = this.#deps
    const { self, peers } = await network.exchange(to, book.tell(TOLD, to.host), linked, signal)
    return { self: { ...self, host: to.host, grpcPort: to.grpcPort }, peers: peers.slice(0, MAX_TOLD) }
  }

  #nudge(): void {
    if (this.#deps.clock.now() - this.#tickedAt >= PAUSE_MS.urgent) this.#deps.nudge?.()
  }

  #saveNowAndThen(): void {
    const { book, clock } = this.#deps
    const pause = clock.now() - this.#savedAt
    if (pause >= (book.changes === this.#savedChanges ? SAVE_MS.same : SAVE_MS.changed)) this.save()
  }
}
