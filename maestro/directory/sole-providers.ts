import type { ContentId } from '../../common/ids.ts'
import { KeyedHash } from './keyed-hash.ts'

export interface SoleProvider {
  readonly peerKey: number
  readonly id: ContentId
  readonly size: number
}

const FIRST_SLOTS = 2 ** 12
const ID_BYTES = 32

/**
 * A cache of the names that one peer only offers, which most names are: it answers for them without the four or five
 * cold pages that a lookup in the database touches. It may forget any name at any time: each has just two slots, of which
 * another name may take over one. A name is known by a 64-bit hash under a secret key.
 *
 * Plain arrays of numbers hold it, 52 bytes a slot, out of sight of the garbage collector.
 */
export class SoleProviders {
  readonly #maxSlots: number
  readonly #hash: KeyedHash
  #slots = 0
  /** names that lost their slot to another one, since the last growth */
  #displaced = 0
  #low = new Uint32Array()
  #high = new Uint32Array()
  /** 0 where the slot is free */
  #peers = new Uint32Array()
  #sizes = new Float64Array()
  #ids = Buffer.alloc(0)

  /** `maxSlots` is a power of two; `key` is 8 bytes that nobody else knows. */
  constructor(maxSlots: number, key: Uint8Array) {
    this.#maxSlots = maxSlots
    this.#hash = new KeyedHash(key)
    this.#resize(Math.min(FIRST_SLOTS, maxSlots))
  }

  get(name: string): SoleProvider | undefined {
    const slot = this.#find(name)
    if (slot < 0) return undefined
    const id = this.#ids.toString('hex', slot * ID_BYTES, (slot + 1) * ID_BYTES) as ContentId
    return { peerKey: this.#peers[slot]!, id, size: this.#sizes[slot]! }
  }

  set(name: string, { peerKey, id, size }: SoleProvider): void {
    if (this.#displaced > this.#slots / 8 && this.#slots < this.#maxSlots) this.#resize(this.#slots * 2)
    const { low, high } = this.#hash.of(name)
    const slot = this.#slotFor(low, high)
    this.#low[slot] = low
    this.#high[slot] = high
    this.#peers[slot] = peerKey
    this.#sizes[slot] = size
    this.#ids.write(id, slot * ID_BYTES, 'hex')
  }

  delete(name: string): void {
    const slot = this.#find(name)
    if (slot >= 0) this.#peers[slot] = 0
  }

  clear(): void {
    this.#peers.fill(0)
  }

  #find(name: string): number {
    const { low, high } = this.#hash.of(name)
    const slot = low & (this.#slots - 1)
    if (this.#holds(slot, low, high)) return slot
    return this.#holds(slot ^ 1, low, high) ? slot ^ 1 : -1
  }

  #holds(slot: number, low: number, high: number): boolean {
    return this.#peers[slot] !== 0 && this.#low[slot] === low && this.#high[slot] === high
  }

  /** The slot of this name, or the one to put it: free, or another name's. */
  #slotFor(low: number, high: number): number {
    const slot = low & (this.#slots - 1)
    for (const own of [slot, slot ^ 1]) if (this.#holds(own, low, high)) return own
    for (const free of [slot, slot ^ 1]) if (this.#peers[free] === 0) return free
    this.#displaced++
    return slot
  }

  #resize(slots: number): void {
    const old = { low: this.#low, high: this.#high, peers: this.#peers, sizes: this.#sizes, ids: this.#ids }
    this.#slots = slots
    this.#displaced = 0
    this.#low = new Uint32Array(slots)
    this.#high = new Uint32Array(slots)
    this.#peers = new Uint32Array(slots)
    this.#sizes = new Float64Array(slots)
    this.#ids = Buffer.alloc(slots * ID_BYTES)
    for (const [from, peerKey] of old.peers.entries()) {
      if (peerKey === 0) continue
      const [low, high] = [old.low[from]!, old.high[from]!]
      const slot = this.#slotFor(low, high)
      this.#low[slot] = low
      this.#high[slot] = high
      this.#peers[slot] = peerKey
      this.#sizes[slot] = old.sizes[from]!
      old.ids.copy(this.#ids, slot * ID_BYTES, from * ID_BYTES, (from + 1) * ID_BYTES)
    }
  }
}
