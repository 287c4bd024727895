import { partyOf } from '../../common/address.ts'
import type { Clock } from '../../common/clock.ts'
import type { PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { PeerBook } from './known-peers.ts'

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
/** Its own links are told so again after this, ms: also with a minute between two looks well before they would end. */
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
  readonly #asked = new Map<PeerId, { readonly party: string | undefined; at: number }>()

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
    for (const { peer } of [...preferred, ...this.#spread(alive.filter(({ peer }) => !this.#asked.has(peer)))]) {
      if (this.#own.size >= MAX_OWN) return
      if (this.#own.has(peer) || !this.#book.contactOf(peer)) continue
      this.#own.set(peer, Number.NEGATIVE_INFINITY)
      if (!isEnough) this.#makeshift.add(peer)
    }
  }

  /** Those of parties to which there are few links first: a party with many names is not all neighbours. */
  #spread(contacts: readonly PeerContact[]): PeerContact[] {
    const links = new Map<string, number>()
    const rankOf = ({ host }: PeerContact) => {
      const party = partyOf(host)
      if (party === undefined) return 0
      const before = links.get(party) ?? 0
      links.set(party, before + 1)
      return before
    }
    for (const contact of this.list()) rankOf(contact)
    const ranked = contacts.map((contact) => ({ contact, rank: rankOf(contact) }))
    return ranked.sort((a, b) => a.rank - b.rank).map(({ contact }) => contact)
  }

  /** Somebody whose call came from `seen` (a host) would be a neighbour. It is one as soon as it answers itself. */
  asked({ peer }: PeerContact, seen: string): void {
    this.#forget()
    const entry = this.#asked.get(peer)
    if (entry) {
      entry.at = this.#clock.now()
      return
    }
    const party = partyOf(seen)
    const ofParty = [...this.#asked.values()].filter((other) => other.party === party)
    if (this.#asked.size >= MAX_ASKED || (party !== undefined && ofParty.length >= MAX_OF_PARTY)) return
    this.#asked.set(peer, { party, at: this.#clock.now() })
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
