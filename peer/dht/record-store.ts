import type { Clock } from '../../common/clock.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { type PeerContact, sameAddress } from '../contact.ts'
import { sameHost } from '../overlay/reachable.ts'
import type { RecordKey, RingRecord } from './protocol.ts'
import {
  type Address,
  type Bringer,
  isOwn,
  RecordRoom,
  type RoomOptions,
  type Source,
  sourceAt,
  tallyKey,
} from './record-room.ts'
import { type Member, placeOfContent, placeOfName, type RingId, within } from './ring.ts'

export interface RecordStoreOptions extends RoomOptions {
  /** how long a provider's word is kept (default an hour) */
  ttlMs: number
  /** under one name or content (default 100) */
  maxOfKey: number
}

const DEFAULTS: RecordStoreOptions = {
  ttlMs: 3_600_000,
  maxRecords: 200_000,
  maxOfProvider: 50_000,
  maxOfGiver: 100_000,
  maxOfParty: 100_000,
  maxOfKey: 100,
}
/** Records in one answer. */
const MAX_FOUND = 100
/** Places looked at by one call of `expire`: about 2 ms. */
const SWEPT = 10_000

interface Entry {
  readonly key: RecordKey
  readonly name: FileName
  readonly content: ContentId
  size: number
  address: Address
  bringer: Bringer
  /** when the provider said so, on this member's clock */
  saidAt: number
  /** grows with each entry, in the order in which they came */
  readonly serial: number
}

/** Where a record is kept. */
export function placeOfRecord({ key, name, content }: Pick<RingRecord, 'key' | 'name' | 'content'>): RingId {
  return key === 'name' ? placeOfName(name) : placeOfContent(content)
}

/**
 * The records that this member keeps for others, and its own where it is responsible for them. Anyone may bring any: so
 * nobody, whether as provider, as giver or as a machine, can take more than its bound, and where there is no room what is
 * new is refused, not what is there pushed out. One that bears another's name at another host is another provider: it
 * changes nothing that is kept of the first. A word that is replayed is no younger for it. Memory: some 400 bytes a record.
 */
export class RecordStore {
  readonly #clock: Clock
  readonly #options: RecordStoreOptions
  readonly #places = new Map<RingId, Entry[]>()
  readonly #room: RecordRoom
  #size = 0
  #serial = 0
  /** where the sweep for expired records goes on */
  #sweep: Iterator<[RingId, Entry[]]> | undefined

  constructor(deps: { clock: Clock }, options: Partial<RecordStoreOptions> = {}) {
    this.#clock = deps.clock
    this.#options = { ...DEFAULTS, ...options }
    this.#room = new RecordRoom(this.#options)
  }

  /** Records held, also those that are expired and not swept yet. */
  get size(): number {
    return this.#size
  }

  /** How many have come, ever: see `handedSince`. */
  get serial(): number {
    return this.#serial
  }

  /**
   * @param seen the host that the call of `from` came from
   * @returns how many of them are held now: also those of which a word as young was held already
   */
  store(records: readonly RingRecord[], from: Pick<Member, 'peer' | 'host'>, seen = from.host): number {
    const source = sourceAt(from.peer, seen)
    let kept = 0
    let isSwept = false
    for (const record of records) {
      // Once a call: where it is full for long, every record would cost a sweep.
      if (!isSwept && !this.#room.holds(record.name)) {
        this.expire()
        isSwept = true
      }
      if (this.#keep(record, source)) kept++
    }
    return kept
  }

  /**
   * Forgets records of the provider that says so itself, at its host; what others say of them changes nothing.
   * @returns how many
   */
  withdraw(records: readonly RingRecord[], from: Pick<Member, 'peer' | 'host'>): number {
    let forgotten = 0
    for (const record of records) {
      if (record.provider.peer !== from.peer) continue
      const place = placeOfRecord(record)
      const isIts = (entry: Entry) => isSame(entry, record) && sameHost(entry.address.contact.host, from.host)
      for (const entry of this.#places.get(place)?.filter(isIts) ?? []) {
        this.#drop(place, entry)
        forgotten++
      }
    }
    return forgotten
  }

  /** The youngest first, at most 100, with their ages as of now. */
  find(key: RecordKey, of: FileName | ContentId): { records: RingRecord[]; more: boolean } {
    const records = this.at(key === 'name' ? placeOfName(of as FileName) : placeOfContent(of as ContentId))
    records.sort((a, b) => a.ageMs - b.ageMs)
    return { records: records.slice(0, MAX_FOUND), more: records.length > MAX_FOUND }
  }

  /** Those kept at one place, in no order. */
  at(place: RingId): RingRecord[] {
    const now = this.#clock.now()
    const entries = this.#places.get(place) ?? []
    return entries.filter((entry) => !this.#isExpired(entry, now)).map((entry) => recordOf(entry, now))
  }

  /** Places after `from`, and not after `to`, that have records. One pass over all places: 20 ms with 200,000. */
  placesIn(from: RingId, to: RingId): RingId[] {
    const places: RingId[] = []
    for (const place of this.#places.keys()) if (within(from, place, to)) places.push(place)
    return places
  }

  /** The same less those where nothing came since `serial` that another than its provider brought; nor counts what `but` brought. */
  handedSince(serial: number, but: PeerId, from: RingId, to: RingId): RingId[] {
    const isNew = ({ bringer: { giver }, serial: came }: Entry) =>
      giver !== undefined && came > serial && giver.peer !== but
    return this.placesIn(from, to).filter((place) => this.#places.get(place)?.some(isNew))
  }

  countIn(from: RingId, to: RingId): number {
    let count = 0
    for (const [place, entries] of this.#places) if (within(from, place, to)) count += entries.length
    return count
  }

  /** Drops what is kept after `from`, and not after `to`. @returns how many */
  forget(from: RingId, to: RingId): number {
    const before = this.#size
    for (const place of this.placesIn(from, to))
      for (const entry of this.#places.get(place)?.slice() ?? []) this.#drop(place, entry)
    return before - this.#size
  }

  /** Frees the room of expired records, a slice of all places a call: they are not found before that either. */
  expire(): void {
    const now = this.#clock.now()
    this.#sweep ??= this.#places.entries()
    for (let swept = 0; swept < SWEPT; swept++) {
      const next = this.#sweep.next()
      if (next.done) {
        this.#sweep = undefined
        return
      }
      this.#dropExpired(...next.value, now)
    }
  }

  #keep(record: RingRecord, from: Source): boolean {
    const now = this.#clock.now()
    const saidAt = now - Math.max(0, record.ageMs)
    // Also where the age is no number.
    if (!(now - saidAt < this.#options.ttlMs)) return false
    const place = placeOfRecord(record)
    const held = this.#held(place, record, from)
    if (held) {
      if (saidAt > held.saidAt) this.#renew(held, record, from, saidAt)
      return true
    }
    const entries = this.#places.get(place)
    const { maxOfKey } = this.#options
    if (entries && entries.length >= maxOfKey) this.#dropExpired(place, entries, now)
    const isFull = entries !== undefined && entries.length >= maxOfKey
    const leaves = isFull ? leastWorth(entries, record.provider, from, saidAt) : undefined
    if ((isFull && !leaves) || !this.#room.holds(record.name) || !this.#room.allows(record, from)) return false
    if (leaves) this.#drop(place, leaves)
    this.#add(place, record, from, saidAt)
    return true
  }

  /** The same word of the same provider: at the same address, or, where it says so itself, at the same host. */
  #held(place: RingId, record: RingRecord, from: Source): Entry | undefined {
    const { provider } = record
    const byItself = isOwn(provider, from)
    const isThere = ({ contact }: Address) =>
      sameAddress(contact, provider) || (byItself && sameHost(contact.host, provider.host))
    const [held, ...others] = (this.#places.get(place) ?? []).filter(
      (entry) => isSame(entry, record) && isThere(entry.address),
    )
    for (const other of others) this.#drop(place, other)
    return held
  }

  #add(place: RingId, { key, name, content, size, provider }: RingRecord, from: Source, saidAt: number): void {
    const { address, bringer } = this.#room.enter(name, provider, from)
    const entry = { key, name, content, size, address, bringer, saidAt, serial: ++this.#serial }
    this.#size++
    const entries = this.#places.get(place)
    // A list of one takes as much room as it needs; one that grows, more.
    if (entries) entries.push(entry)
    else this.#places.set(place, [entry])
  }

  /** What the provider said itself once stays its own, so that nobody's bound is used up by what another brings again. */
  #renew(entry: Entry, record: RingRecord, from: Source, saidAt: number): void {
    const { name, size, provider } = record
    const byItself = isOwn(provider, from)
    const wasGiven = entry.bringer.giver !== undefined
    entry.saidAt = saidAt
    if (byItself || wasGiven) entry.size = size
    if (!byItself) return
    const before = { name, address: entry.address, bringer: entry.bringer }
    const isIts = wasGiven && this.#room.allows(record, from)
    const { address, bringer } = this.#room.enter(name, provider, isIts ? from : entry.bringer)
    entry.address = address
    entry.bringer = bringer
    this.#room.leave(before)
  }

  #drop(place: RingId, entry: Entry): void {
    const entries = this.#places.get(place)
    const index = entries?.indexOf(entry) ?? -1
    if (!entries || index < 0) return
    if (entries.length === 1) this.#places.delete(place)
    else entries.splice(index, 1)
    this.#size--
    this.#room.leave(entry)
  }

  #dropExpired(place: RingId, entries: Entry[], now: number): void {
    for (let i = entries.length - 1; i >= 0; i--) {
      const entry = entries[i]
      if (entry && this.#isExpired(entry, now)) this.#drop(place, entry)
    }
  }

  #isExpired({ saidAt }: Entry, now: number): boolean {
    return now - saidAt >= this.#options.ttlMs
  }
}

function isSame({ address, name, content }: Entry, record: RingRecord): boolean {
  return address.contact.peer === record.provider.peer && name === record.name && content === record.content
}

function recordOf({ key, name, content, size, address, saidAt }: Entry, now: number): RingRecord {
  return { key, name, content, size, provider: address.contact, ageMs: Math.max(0, now - saidAt) }
}

/**
 * Which makes room where a key has as many as it may: of the machine that brought the most of them the provider with the
 * most of those, of these the oldest; so neither a provider under many names nor a machine as many providers can push out
 * the others. Undefined where that is the new one.
 */
function leastWorth(
  entries: readonly Entry[],
  { peer, host }: PeerContact,
  { party }: Source,
  saidAt: number,
): Entry | undefined {
  const all: Candidate[] = entries.map((entry) => {
    const { address, bringer } = entry
    return { entry, party: bringer.party, provider: address.tally.key, saidAt: entry.saidAt }
  })
  all.push({ entry: undefined, party, provider: tallyKey(peer, host), saidAt })
  const ofParty = mostCommon(all, (candidate) => candidate.party)
  const ofProvider = mostCommon(ofParty, (candidate) => candidate.provider)
  return ofProvider.reduceRight((least, candidate) => (candidate.saidAt < least.saidAt ? candidate : least)).entry
}

interface Candidate {
  /** undefined: the new one */
  readonly entry: Entry | undefined
  readonly party: string
  readonly provider: string
  readonly saidAt: number
}

/** Those of which there are the most of one kind. */
function mostCommon<T>(all: readonly T[], kindOf: (one: T) => string): T[] {
  const counts = new Map<string, number>()
  for (const one of all) counts.set(kindOf(one), (counts.get(kindOf(one)) ?? 0) + 1)
  const most = Math.max(...counts.values())
  return all.filter((one) => counts.get(kindOf(one)) === most)
}
