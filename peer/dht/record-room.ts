import type { FileName, PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { RingRecord } from './protocol.ts'

export interface RoomOptions {
  /** records in all (default 200,000) */
  maxRecords: number
  /** of one provider: so many that it brought itself, and so many that others brought (default 50,000) */
  maxOfProvider: number
  /** of others, from one that hands them over (default 100,000) */
  maxOfGiver: number
}

/** What counts against a peer's bounds. */
export interface Tally {
  readonly peer: PeerId
  /** as provider, brought by itself */
  own: number
  /** as provider, brought by others */
  told: number
  /** of others, brought by it */
  given: number
}

/** An address of a provider, held once for all its records. */
export interface Address {
  readonly contact: PeerContact
  readonly tally: Tally
  records: number
}

/** What a kept record takes room as. */
export interface Lodger {
  readonly name: FileName
  readonly address: Address
  /** who brought it; undefined: the provider itself */
  readonly giver: Tally | undefined
}

/** How much room there is for records, and who takes how much of it. */
export class RecordRoom {
  readonly #options: RoomOptions
  readonly #tallies = new Map<PeerId, Tally>()
  readonly #addresses = new Map<string, Address>()
  /** the sum of `weightOf` */
  #weight = 0

  constructor(options: RoomOptions) {
    this.#options = options
  }

  /** Whether those two peers may take room for one more such record. */
  allows({ name, provider }: Pick<RingRecord, 'name' | 'provider'>, from: PeerId): boolean {
    const { maxOfProvider, maxOfGiver } = this.#options
    const weight = weightOf(name)
    const tally = this.#tallies.get(provider.peer)
    if (provider.peer === from) return (tally?.own ?? 0) + weight <= maxOfProvider
    if ((this.#tallies.get(from)?.given ?? 0) + weight > maxOfGiver) return false
    return (tally?.told ?? 0) + weight <= maxOfProvider
  }

  /** Whether there is any for one more under this name. */
  holds(name: FileName): boolean {
    return this.#weight + weightOf(name) <= this.#options.maxRecords
  }

  /** Takes room for a record; `leave` gives it back. */
  enter(name: FileName, provider: PeerContact, from: PeerId): Lodger {
    const giver = provider.peer === from ? undefined : this.#tallyOf(from)
    const lodger = { name, address: this.#addressOf(provider), giver }
    this.#count(lodger, 1)
    return lodger
  }

  leave(lodger: Lodger): void {
    this.#count(lodger, -1)
    const { address, giver } = lodger
    if (giver) this.#forgetIdle(giver)
    if (address.records > 0) return
    this.#addresses.delete(keyOf(address.contact))
    this.#forgetIdle(address.tally)
  }

  #count({ name, address, giver }: Lodger, sign: 1 | -1): void {
    const weight = sign * weightOf(name)
    this.#weight += weight
    address.records += sign
    if (giver) {
      address.tally.told += weight
      giver.given += weight
    } else address.tally.own += weight
  }

  #addressOf(contact: PeerContact): Address {
    const { peer, host, restPort, grpcPort } = contact
    const key = keyOf(contact)
    let address = this.#addresses.get(key)
    if (!address) {
      address = { contact: { peer, host, restPort, grpcPort }, tally: this.#tallyOf(peer), records: 0 }
      this.#addresses.set(key, address)
    }
    return address
  }

  #tallyOf(peer: PeerId): Tally {
    let tally = this.#tallies.get(peer)
    if (!tally) {
      tally = { peer, own: 0, told: 0, given: 0 }
      this.#tallies.set(peer, tally)
    }
    return tally
  }

  #forgetIdle({ peer, own, told, given }: Tally): void {
    if (own + told + given === 0) this.#tallies.delete(peer)
  }
}

/** A record with a long name counts as several, so that bounds on records are bounds on memory. */
function weightOf(name: FileName): number {
  return 1 + (name.length >> 7)
}

function keyOf({ peer, host, restPort, grpcPort }: PeerContact): string {
  return `${peer} ${host} ${restPort} ${grpcPort}`
}
