import type { Clock } from '../../common/clock.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { RecordKey, RingRecord } from './protocol.ts'
import { type Address, RecordRoom, type RoomOptions, type Tally } from './record-room.ts'
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
  /** who brought it; undefined: the provider itself */
  giver: Tally | undefined
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
 * nobody, whether as provider or as giver, can take more than its bound, and where there is no room what is new is refused,
 * not what is there pushed out. A word that is replayed is no younger for it. Memory: some 400 bytes a record.
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

  /** @returns how many of them are held now: also those of which a word as young was held already */
  store(records: readonly RingRecord[], from: Pick<Member, 'peer'>): number {
    let kept = 0
    let isSwept = false
    for (const record of records) {
      // Once a call: where it is full for long, every record would cost a sweep.
      if (!isSwept && !this.#room.holds(record.name)) {
        this.expire()
        isSwept = true
      }
      if (this.#keep(record, from.peer)) kept++
    }
    return kept
  }

  /** Forgets records of the provider that says so itself; what others say of them changes nothing. @returns how many */
  withdraw(records: readonly RingRecord[], from: Pick<Member, 'peer'>): number {
    let forgotten = 0
    for (const record of records) {
      if (record.provider.peer !== from.peer) continue
      const place = placeOfRecord(record)
      const entry = this.#places.get(place)?.find((held) => isSame(held, record))
      if (!entry) continue
      this.#drop(place, entry)
      forgotten++
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
    const isNew = ({ giver, serial: came }: Entry) => giver !== undefined && came > serial && giver.peer !== but
    return this.placesIn(from, to).filter((place) => this.#places.get(place)?.some(isNew))
  }

  /** Records whose place is after `from`, and not after `to`. */
  *inRange(from: RingId, to: RingId): IterableIterator<RingRecord> {
    for (const place of this.placesIn(from, to)) yield* this.at(place)
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

  #keep(record: RingRecord, from: PeerId): boolean {
    const now = this.#clock.now()
    const saidAt = now - Math.max(0, record.ageMs)
    // Also where the age is no number.
    if (!(now - saidAt < this.#options.ttlMs)) return false
    const place = placeOfRecord(record)
    const entries = this.#places.get(place)
    const held = entries?.find((entry) => isSame(entry, record))
    if (held) {
      if (saidAt > held.saidAt) this.#renew(held, record, from, saidAt)
      return true
    }
    const { maxOfKey } = this.#options
    if (entries && entries.length >= maxOfKey) this.#dropExpired(place, entries, now)
    const isFull = entries !== undefined && entries.length >= maxOfKey
    const leaves = isFull ? leastWorth(entries, record.provider.peer, saidAt) : undefined
    if ((isFull && !leaves) || !this.#room.holds(record.name) || !this.#room.allows(record, from)) return false
    if (leaves) this.#drop(place, leaves)
    this.#add(place, record, from, saidAt)
    return true
  }

  #add(place: RingId, { key, name, content, size, provider }: RingRecord, from: PeerId, saidAt: number): void {
    const { address, giver } = this.#room.enter(name, provider, from)
    const entry = { key, name, content, size, address, giver, saidAt, serial: ++this.#serial }
    this.#size++
    const entries = this.#places.get(place)
    // A list of one takes as much room as it needs; one that grows, more.
    if (entries) entries.push(entry)
    else this.#places.set(place, [entry])
  }

  #renew(entry: Entry, { name, size, provider }: RingRecord, from: PeerId, saidAt: number): void {
    // What the provider said itself once stays its own, so that nobody's bound is used up by what another brings again.
    const giver = entry.giver === undefined || provider.peer === from ? provider.peer : entry.giver.peer
    const before = { name, address: entry.address, giver: entry.giver }
    const after = this.#room.enter(name, provider, giver)
    entry.size = size
    entry.address = after.address
    entry.giver = after.giver
    entry.saidAt = saidAt
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
  return address.tally.peer === record.provider.peer && name === record.name && content === record.content
}

function recordOf({ key, name, content, size, address, saidAt }: Entry, now: number): RingRecord {
  return { key, name, content, size, provider: address.contact, ageMs: Math.max(0, now - saidAt) }
}

/**
 * Which makes room where a key has as many as it may: of the provider with the most of them, the oldest; so one provider
 * under many names can't push out the others. Undefined where that is the new one.
 */
function leastWorth(entries: readonly Entry[], provider: PeerId, saidAt: number): Entry | undefined {
  const counts = new Map([[provider, 1]])
  for (const { address } of entries) counts.set(address.tally.peer, (counts.get(address.tally.peer) ?? 0) + 1)
  const most = Math.max(...counts.values())
  let least: Entry | undefined
  let oldest = counts.get(provider) === most ? saidAt : Number.POSITIVE_INFINITY
  for (const entry of entries) {
    if (counts.get(entry.address.tally.peer) !== most || entry.saidAt >= oldest) continue
    least = entry
    oldest = entry.saidAt
  }
  return least
}
