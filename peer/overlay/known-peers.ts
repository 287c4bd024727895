import { isIP } from 'node:net'
import { partyOf } from '../../common/address.ts'
import type { Clock } from '../../common/clock.ts'
import type { PeerId } from '../../common/ids.ts'
import { type Random, sample } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import { type Acquaintance, type KnownPeers, MAX_TOLD } from './protocol.ts'
import { reachable } from './reachable.ts'

export interface BookOptions {
  /** peers in the book */
  max: number
  /** of these, such as were only told of */
  hearsay: number
  /** of one party, loopback excepted */
  ofParty: number
  /** hearsay of one party that tells, loopback excepted */
  ofTeller: number
}

const DEFAULTS: BookOptions = { max: 256, hearsay: 64, ofParty: 64, ofTeller: 32 }
const DAY_MS = 24 * 3_600_000
const HEARSAY_MS = 3_600_000
/** Pause before one that did not answer is tried again: doubled from the first to the second, ms. */
const BACKOFF_MS = [5000, 600_000] as const
/** Who did not answer so often gives way to one that was only told of. */
const HOPELESS = 5
const THIS_MACHINE = '127.0.0.1'

/** alive: it answered when it was asked last; lost: it answered once, not the last time; hearsay: only told of. */
export type Standing = 'alive' | 'lost' | 'hearsay'

export interface KnownPeer {
  readonly contact: PeerContact
  readonly standing: Standing
  /** when it answered last, ms since the epoch */
  readonly seenAt: number | undefined
}

/** What is kept from one run to the next: such as have answered. */
export type RememberedPeer = KnownPeer & { readonly seenAt: number }

interface Entry {
  contact: PeerContact
  standing: Standing
  seenAt: number | undefined
  /** when it was told of, and by whom */
  readonly heardAt: number
  readonly teller: string | undefined
  triedAt: number
  /** times that it did not answer since it did */
  misses: number
  /** another address at which it is told to be */
  elsewhere: PeerContact | undefined
}

/**
 * Whom this peer knows: bounded, aged, and each by what it has proved itself. What others tell never changes the entry of
 * one that has answered; who stays known longest stays, so that many newcomers can't push out the ones there.
 */
export class PeerBook implements KnownPeers {
  readonly #self: () => PeerContact
  readonly #clock: Clock
  readonly #random: Random
  readonly #onLost: () => void
  readonly #options: BookOptions
  readonly #entries = new Map<PeerId, Entry>()
  #changes = 0

  /** `onLost`: one that was alive did not answer */
  constructor(
    deps: { self: () => PeerContact; clock: Clock; random: Random; onLost?: () => void },
    options: Partial<BookOptions> & { remembered?: readonly RememberedPeer[] } = {},
  ) {
    this.#self = deps.self
    this.#clock = deps.clock
    this.#random = deps.random
    this.#onLost = deps.onLost ?? (() => {})
    this.#options = { ...DEFAULTS, ...options }
    for (const { contact, seenAt } of options.remembered ?? []) this.#recall(contact, seenAt)
  }

  /** Grows whenever what is to be remembered changes. */
  get changes(): number {
    return this.#changes
  }

  alive(most: number): PeerContact[] {
    return sample(this.#of('alive'), most, this.#random).map(({ contact }) => contact)
  }

  /** Those to be tried again. */
  lost(most: number): PeerContact[] {
    return this.#due(this.#of('lost'))
      .slice(0, most)
      .map(({ contact }) => contact)
  }

  /** Addresses that were only told of, to be tried, those not tried for longest first. */
  untried(most: number): PeerContact[] {
    const rumours = this.#of('lost').flatMap(({ elsewhere }) => elsewhere ?? [])
    const hearsay = this.#due(this.#of('hearsay')).map(({ contact }) => contact)
    return [...rumours, ...hearsay].slice(0, most)
  }

  /** One believed to be alive that is told to be elsewhere by now, to be asked whether it is still there. */
  doubted(): PeerContact | undefined {
    return this.#of('alive').find(({ elsewhere }) => elsewhere)?.contact
  }

  /** ms until somebody is to be tried; undefined where there is nobody */
  nextTryMs(): number | undefined {
    const waiting = [...this.#of('lost'), ...this.#of('hearsay')]
    if (waiting.length === 0) return undefined
    if (waiting.some(({ standing, elsewhere }) => standing === 'lost' && elsewhere)) return 0
    return Math.max(0, Math.min(...waiting.map(dueAt)) - this.#clock.now())
  }

  get aliveCount(): number {
    return this.#of('alive').length
  }

  /** How one that is alive is reached. */
  contactOf(peer: PeerId): PeerContact | undefined {
    const entry = this.#entries.get(peer)
    return entry?.standing === 'alive' ? entry.contact : undefined
  }

  seen(contact: PeerContact): void {
    const entry = this.#entries.get(contact.peer)
    const now = this.#clock.now()
    if (entry && isSame(entry.contact, contact) && entry.contact.restPort === contact.restPort) {
      if (entry.standing !== 'alive') this.#changes++
      Object.assign(entry, { standing: 'alive', seenAt: now, misses: 0, elsewhere: undefined })
      return
    }
    if (this.#isSelf(contact)) return
    // Whoever was thought to be there is not.
    for (const [peer, other] of this.#entries)
      if (other !== entry && isSame(other.contact, contact)) this.#entries.delete(peer)
    // Another's name is no way into its place: the one that is known is asked first.
    if (entry?.standing === 'alive' && !isSame(entry.contact, contact)) {
      entry.elsewhere ??= contact
      return
    }
    const old = this.#entries.get(contact.peer)
    this.#entries.delete(contact.peer)
    const entered = this.#makeRoom(contact, undefined, false)
    if (entered) this.#entries.set(contact.peer, { ...blank(contact, now), standing: 'alive', seenAt: now })
    else if (old) this.#entries.set(contact.peer, old)
    this.#changes++
  }

  missed(contact: PeerContact): void {
    const entry = this.#entries.get(contact.peer)
    if (!entry) return
    if (entry.elsewhere && isSame(entry.elsewhere, contact)) entry.elsewhere = undefined
    if (!isSame(entry.contact, contact)) return
    const wasAlive = entry.standing === 'alive'
    if (wasAlive) {
      entry.standing = 'lost'
      this.#changes++
    }
    entry.triedAt = this.#clock.now()
    entry.misses++
    if (wasAlive) this.#onLost()
  }

  /** At this address is nobody that could be known: this peer itself, or one that is known to be elsewhere. */
  nobodyAt(contact: PeerContact): void {
    for (const [peer, entry] of this.#entries) {
      if (entry.elsewhere && isSame(entry.elsewhere, contact)) entry.elsewhere = undefined
      if (isSame(entry.contact, contact)) this.#entries.delete(peer)
    }
    this.#changes++
  }

  /** What one at `from` (its host) tells: to be tried, where a peer can have such an address. */
  heard(acquaintances: readonly Acquaintance[], from: string): void {
    this.#forget()
    const teller = partyOf(from)
    for (const { contact: told, ageMs } of acquaintances.slice(0, MAX_TOLD)) {
      const contact = ageMs >= 0 && ageMs <= DAY_MS ? reachable(told, from) : undefined
      if (!contact || this.#isSelf(contact)) continue
      const entry = this.#entries.get(contact.peer)
      const isTaken = [...this.#entries.values()].some((other) => isSame(other.contact, contact))
      if (entry && entry.standing !== 'hearsay' && !isTaken) entry.elsewhere ??= contact
      if (entry || isTaken || !this.#makeRoom(contact, teller, true)) continue
      this.#entries.set(contact.peer, { ...blank(contact, this.#clock.now()), teller })
    }
  }

  /** Some that are alive, for one at `to` (its host): such as it may try, seen from there. */
  tell(most: number, to: string, peer?: PeerId): Acquaintance[] {
    const fit = this.#of('alive').filter(({ contact }) => contact.peer !== peer && isTellable(contact, to))
    const now = this.#clock.now()
    return sample(fit, most, this.#random).map(({ contact, seenAt }) => ({
      contact,
      ageMs: Math.max(0, Math.min(now - (seenAt ?? now), DAY_MS)),
    }))
  }

  list(): KnownPeer[] {
    this.#forget()
    return [...this.#entries.values()].map(({ contact, standing, seenAt }) => ({ contact, standing, seenAt }))
  }

  remembered(): RememberedPeer[] {
    return this.list().filter((known): known is RememberedPeer => known.seenAt !== undefined)
  }

  /** From an earlier run: it is lost until it answers again. */
  #recall(contact: PeerContact, seenAt: number): void {
    const now = this.#clock.now()
    // A name is one that this peer's own user gave.
    const checked = reachable(contact, isIP(contact.host) === 0 ? contact.host : THIS_MACHINE)
    if (!checked || this.#isSelf(checked) || this.#entries.has(checked.peer)) return
    if ([...this.#entries.values()].some((other) => isSame(other.contact, checked))) return
    if (!this.#makeRoom(checked, undefined, false)) return
    this.#entries.set(checked.peer, { ...blank(checked, now), standing: 'lost', seenAt: Math.min(seenAt, now) })
  }

  #isSelf(contact: PeerContact): boolean {
    const self = this.#self()
    return contact.peer === self.peer || isSame(contact, self)
  }

  #of(standing: Standing): Entry[] {
    this.#forget()
    return [...this.#entries.values()].filter((entry) => entry.standing === standing)
  }

  #due(entries: Entry[]): Entry[] {
    const now = this.#clock.now()
    return entries.filter((entry) => dueAt(entry) <= now).sort((a, b) => a.triedAt - b.triedAt || a.misses - b.misses)
  }

  #forget(): void {
    const now = this.#clock.now()
    for (const [peer, { seenAt, heardAt }] of this.#entries) {
      if (now - (seenAt ?? heardAt) < (seenAt === undefined ? HEARSAY_MS : DAY_MS)) continue
      this.#entries.delete(peer)
      this.#changes++
    }
  }

  #makeRoom({ host }: PeerContact, teller: string | undefined, isHearsay: boolean): boolean {
    const { max, hearsay, ofParty, ofTeller } = this.#options
    const party = partyOf(host)
    const groups: [most: number, has: (entry: Entry) => boolean][] = [[max, () => true]]
    if (party !== undefined) groups.push([ofParty, ({ contact }) => partyOf(contact.host) === party])
    if (isHearsay) groups.push([hearsay, ({ standing }) => standing === 'hearsay'])
    if (teller !== undefined)
      groups.push([ofTeller, (entry) => entry.standing === 'hearsay' && entry.teller === teller])
    return groups.every(([most, has]) => this.#makeRoomIn(most, has, isHearsay))
  }

  #makeRoomIn(most: number, has: (entry: Entry) => boolean, isHearsay: boolean): boolean {
    const members = [...this.#entries.values()].filter(has)
    if (members.length < most) return true
    const [worst] = members.filter((entry) => givesWay(entry, isHearsay)).sort(worstFirst)
    if (worst) this.#entries.delete(worst.contact.peer)
    return worst !== undefined
  }
}

function blank(contact: PeerContact, now: number): Entry {
  const unproven = { standing: 'hearsay', seenAt: undefined, elsewhere: undefined, teller: undefined } as const
  return { contact, ...unproven, heardAt: now, triedAt: Number.NEGATIVE_INFINITY, misses: 0 }
}

/** Whether it goes for a newcomer: one that is alive, or only told of. */
function givesWay({ standing, misses }: Entry, isHearsay: boolean): boolean {
  if (standing === 'alive') return false
  if (!isHearsay) return true
  return misses >= (standing === 'hearsay' ? 1 : HOPELESS)
}

function worstFirst(a: Entry, b: Entry): number {
  const rank = ({ standing }: Entry) => (standing === 'hearsay' ? 0 : 1)
  return rank(a) - rank(b) || b.misses - a.misses || (a.seenAt ?? a.heardAt) - (b.seenAt ?? b.heardAt)
}

function dueAt({ triedAt, misses }: Entry): number {
  return misses === 0 ? Number.NEGATIVE_INFINITY : triedAt + Math.min(BACKOFF_MS[0] * 2 ** (misses - 1), BACKOFF_MS[1])
}

function isTellable(contact: PeerContact, to: string): boolean {
  return isIP(contact.host) !== 0 && reachable(contact, to) !== undefined
}

function isSame(a: PeerContact, b: PeerContact): boolean {
  return a.host === b.host && a.grpcPort === b.grpcPort
}
