import type { Clock } from '../../common/clock.ts'
import type { PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { PeerBook } from './known-peers.ts'
import { partyOf } from './reachable.ts'

/**
 * Links of this peer's own choice, and those that others asked for. There is room for twice as many as everybody asks for
 * in the mean: were there not, a newcomer would be refused by all, and nobody would ever pass a query on to it.
 */
const MAX_OWN = 4
const MAX_ASKED = 8
/** Of those that others asked for, such as one party did, loopback excepted. */
const MAX_OF_PARTY = 2
/** Who knows fewer chooses among the few that all newcomers know: it chooses anew as soon as it knows so many. */
const ENOUGH = MAX_OWN + MAX_ASKED
/** A link that was asked for ends when it is not asked for again, ms. */
const ASKED_MS = 180_000
/** Its own links are told so, this often, ms: twice before they would end. */
const TELL_MS = 80_000

/**
 * The neighbours to whom queries are flooded. Each peer chooses some and tells them, and takes some that chose it, so that
 * most links go both ways. Only whom this peer has itself found alive, at the address in its book, is ever a neighbour.
 */
export class Links {
  readonly #book: PeerBook
  readonly #clock: Clock
  /** of its own choice, with when they were told so */
  readonly #own = new Map<PeerId, number>()
  /** of these, those chosen among few */
  readonly #makeshift = new Set<PeerId>()
  readonly #asked = new Map<PeerId, { readonly contact: PeerContact; at: number }>()

  constructor(deps: { book: PeerBook; clock: Clock }) {
    this.#book = deps.book
    this.#clock = deps.clock
  }

  list(): PeerContact[] {
    this.#forget()
    const peers = new Set([...this.#own.keys(), ...this.#asked.keys()])
    return [...peers].flatMap((peer) => this.#book.contactOf(peer) ?? [])
  }

  get wantsMore(): boolean {
    this.#forget()
    return this.#own.size < MAX_OWN
  }

  /** Drops those that did not answer, and chooses others: the preferred ones first. */
  choose(preferred: readonly PeerContact[]): void {
    this.#forget()
    const alive = this.#book.alive(Number.POSITIVE_INFINITY)
    const isEnough = alive.length >= ENOUGH
    if (isEnough) {
      for (const peer of this.#makeshift) this.#own.delete(peer)
      this.#makeshift.clear()
    }
    // Those that asked are neighbours anyway.
    for (const { peer } of [...preferred, ...alive.filter((contact) => !this.#asked.has(contact.peer))]) {
      if (this.#own.size >= MAX_OWN) return
      if (this.#own.has(peer) || !this.#book.contactOf(peer)) continue
      this.#own.set(peer, Number.NEGATIVE_INFINITY)
      if (!isEnough) this.#makeshift.add(peer)
    }
  }

  /** Somebody would be a neighbour. It is one as soon as it answers itself. */
  asked(contact: PeerContact): void {
    this.#forget()
    const entry = this.#asked.get(contact.peer)
    if (entry) {
      entry.at = this.#clock.now()
      return
    }
    const party = partyOf(contact.host)
    const ofParty = [...this.#asked.values()].filter((other) => partyOf(other.contact.host) === party)
    if (this.#asked.size >= MAX_ASKED || (party !== undefined && ofParty.length >= MAX_OF_PARTY)) return
    this.#asked.set(contact.peer, { contact, at: this.#clock.now() })
  }

  /** Those of its own that are to be told so again. */
  untold(): PeerContact[] {
    const now = this.#clock.now()
    return [...this.#own].flatMap(([peer, told]) => (now - told < TELL_MS ? [] : (this.#book.contactOf(peer) ?? [])))
  }

  told(peer: PeerId): void {
    if (this.#own.has(peer)) this.#own.set(peer, this.#clock.now())
  }

  isOwn(peer: PeerId): boolean {
    return this.#own.has(peer)
  }

  #forget(): void {
    const now = this.#clock.now()
    for (const peer of this.#own.keys()) if (!this.#book.contactOf(peer)) this.#own.delete(peer)
    for (const [peer, { at }] of this.#asked) if (now - at >= ASKED_MS) this.#asked.delete(peer)
  }
}
