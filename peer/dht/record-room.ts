import type { FileName, PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import { askedBy } from '../overlay/party-limits.ts'
import { sameHost } from '../overlay/reachable.ts'
import type { RingRecord } from './protocol.ts'

export interface RoomOptions {
  /** records in all (default 200,000) */
  maxRecords: number
  /** of one provider: so many that it brought itself, and so many that others brought (default 50,000) */
  maxOfProvider: number
  /** of others, from one that hands them over (default 100,000) */
  maxOfGiver: number
  /** from one machine, whoever it says it is and whosever they are (default 100,000: half of all) */
  maxOfParty: number
}

/** Who brings records: as whom, and from where. */
export interface Source {
  readonly peer: PeerId
  /** the host that its call comes from */
  readonly seen: string
  /** under what it is counted, whoever it says it is */
  readonly party: string
}

export function sourceAt(peer: PeerId, seen: string): Source {
  return { peer, seen, party: askedBy(seen, peer) }
}

/** Whether it is the provider itself that brings its word, as far as that can be seen. */
export function isOwn(provider: PeerContact, { peer, seen }: Source): boolean {
  return provider.peer === peer && sameHost(provider.host, seen)
}

/** What counts against the bounds of a peer at its host: another one that bears its name elsewhere has its own. */
export interface Tally {
  readonly key: string
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

/** Who brought records, held once for all of them. */
export interface Bringer {
  readonly party: string
  /** undefined: their provider itself */
  readonly giver: Tally | undefined
  records: number
}

/** What a kept record takes room as. */
export interface Lodger {
  readonly name: FileName
  readonly address: Address
  readonly bringer: Bringer
}

/** How much room there is for records, and who takes how much of it. */
export class RecordRoom {
  readonly #options: RoomOptions
  readonly #tallies = new Map<string, Tally>()
  readonly #addresses = new Map<string, Address>()
  readonly #bringers = new Map<string, Bringer>()
  /** the sum of `weightOf`, of all and of each party */
  #weight = 0
  readonly #parties = new Map<string, number>()

  constructor(options: RoomOptions) {
    this.#options = options
  }

  /** Whether those who are behind it may take room for one more such record. */
  allows({ name, provider }: Pick<RingRecord, 'name' | 'provider'>, from: Source): boolean {
    const { maxOfProvider, maxOfGiver, maxOfParty } = this.#options
    const weight = weightOf(name)
    if ((this.#parties.get(from.party) ?? 0) + weight > maxOfParty) return false
    const tally = this.#tallies.get(tallyKey(provider.peer, provider.host))
    if (isOwn(provider, from)) return (tally?.own ?? 0) + weight <= maxOfProvider
    if ((this.#tallies.get(tallyKey(from.peer, from.seen))?.given ?? 0) + weight > maxOfGiver) return false
    return (tally?.told ?? 0) + weight <= maxOfProvider
  }

  /** Whether there is any for one more under this name. */
  holds(name: FileName): boolean {
    return this.#weight + weightOf(name) <= this.#options.maxRecords
  }

  /** Takes room for a record; `leave` gives it back. @param from who brings it, or brought it before */
  enter(name: FileName, provider: PeerContact, from: Source | Bringer): Lodger {
    const bringer = 'records' in from ? from : this.#bringerOf(provider, from)
    const lodger = { name, address: this.#addressOf(provider), bringer }
    this.#count(lodger, 1)
    return lodger
  }

  leave(lodger: Lodger): void {
    this.#count(lodger, -1)
    const { address, bringer } = lodger
    if (bringer.records === 0) this.#bringers.delete(bringerKey(bringer.party, bringer.giver))
    if (bringer.giver) this.#forgetIdle(bringer.giver)
    if (address.records > 0) return
    this.#addresses.delete(addressKey(address.contact))
    this.#forgetIdle(address.tally)
  }

  #count({ name, address, bringer }: Lodger, sign: 1 | -1): void {
    const weight = sign * weightOf(name)
    const { party, giver } = bringer
    const ofParty = (this.#parties.get(party) ?? 0) + weight
    if (ofParty > 0) this.#parties.set(party, ofParty)
    else this.#parties.delete(party)
    this.#weight += weight
    address.records += sign
    bringer.records += sign
    if (giver) {
      address.tally.told += weight
      giver.given += weight
    } else address.tally.own += weight
  }

  #bringerOf(provider: PeerContact, from: Source): Bringer {
    const giver = isOwn(provider, from) ? undefined : this.#tallyOf(from.peer, from.seen)
    const key = bringerKey(from.party, giver)
    let bringer = this.#bringers.get(key)
    if (!bringer) {
      bringer = { party: from.party, giver, records: 0 }
      this.#bringers.set(key, bringer)
    }
    return bringer
  }

  #addressOf(contact: PeerContact): Address {
    const { peer, host, restPort, grpcPort } = contact
    const key = addressKey(contact)
    let address = this.#addresses.get(key)
    if (!address) {
      address = { contact: { peer, host, restPort, grpcPort }, tally: this.#tallyOf(peer, host), records: 0 }
      this.#addresses.set(key, address)
    }
    return address
  }

  #tallyOf(peer: PeerId, host: string): Tally {
    const key = tallyKey(peer, host)
    let tally = this.#tallies.get(key)
    if (!tally) {
      tally = { key, peer, own: 0, told: 0, given: 0 }
      this.#tallies.set(key, tally)
    }
    return tally
  }

  #forgetIdle({ key, own, told, given }: Tally): void {
    if (own + told + given === 0) this.#tallies.delete(key)
  }
}

/** A record with a long name counts as several, so that bounds on records are bounds on memory. */
function weightOf(name: FileName): number {
  return 1 + (name.length >> 7)
}

export function tallyKey(peer: PeerId, host: string): string {
  return `${peer} ${host}`
}

function addressKey({ peer, host, restPort, grpcPort }: PeerContact): string {
  return `${peer} ${host} ${restPort} ${grpcPort}`
}

function bringerKey(party: string, giver: Tally | undefined): string {
  return giver ? `${party} ${giver.key}` : party
}
