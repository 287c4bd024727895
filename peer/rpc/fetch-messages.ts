import { NetworkError } from '../../common/errors.ts'
import { LEAF_SIZE } from '../../common/merkle.ts'
import { MAX_FRAME } from './frame-codec.ts'

/** Bytes of one message: a frame, or all pieces of the largest content told at once, with room for their framing. */
export const MAX_FETCH_MESSAGE = MAX_FRAME + 64 * 1024
/** Bytes around the data of a frame, at most, in the form that peers send. */
const FRAME_OVERHEAD = 64
/** In front of a message: 0 for "not compressed", then its length in 4 bytes. */
const PREFIX = 5

/** Memory for pieces that come in, used again and again by the conversations of a thread. */
export class Arenas {
  #spare: Buffer[] = []
  #maxSpare: number
  #drop: (buffer: Buffer) => void

  /** @param drop frees memory at once, where that can be done */
  constructor(maxSpare: number, drop: (buffer: Buffer) => void) {
    this.#maxSpare = maxSpare
    this.#drop = drop
  }

  take(bytes: number): Buffer {
    const at = this.#spare.findIndex(({ length }) => length === bytes)
    return at < 0 ? Buffer.allocUnsafeSlow(bytes) : this.#spare.splice(at, 1)[0]!
  }

  give(arena: Buffer): void {
    this.#spare.push(arena)
    if (this.#spare.length > this.#maxSpare) this.#drop(this.#spare.shift()!)
  }
}

/** What becomes of a message: it is used up, it is needed still, or neither it nor those before it are. */
export type Fate = 'drop' | 'keep' | 'free'

/**
 * The gRPC messages in the bytes of a stream. They are put together one behind the other in one piece of memory, so that
 * the frames of a piece stay where they are until it is whole: each byte is copied once, while it is hot.
 */
export class MessageReader {
  #arenas: Arenas
  #arenaBytes: number
  #arena: Buffer | undefined
  /** up to here the arena holds messages that are needed */
  #kept = 0
  #filled = 0
  #prefix = Buffer.alloc(PREFIX)
  #prefixBytes = 0
  /** of the message that comes in; -1 while its prefix does */
  #length = -1

  constructor(arenas: Arenas, pieceSize: number) {
    this.#arenas = arenas
    this.#arenaBytes = pieceSize + (pieceSize / LEAF_SIZE) * FRAME_OVERHEAD + MAX_FETCH_MESSAGE
  }

  /**
   * @param take is given each message that is whole; it is a view
   * @throws NetworkError `corrupt` where it is no gRPC, or beyond its bounds
   */
  push(bytes: Buffer, from: number, to: number, take: (message: Buffer) => Fate): void {
    for (let at = from; at < to; ) {
      if (this.#length < 0) {
        while (this.#prefixBytes < PREFIX && at < to) this.#prefix[this.#prefixBytes++] = bytes[at++]!
        if (this.#prefixBytes === PREFIX) this.#begin()
      } else {
        const count = Math.min(this.#kept + this.#length - this.#filled, to - at)
        bytes.copy(this.#arena!, this.#filled, at, at + count)
        this.#filled += count
        at += count
      }
      if (this.#length >= 0 && this.#filled === this.#kept + this.#length) this.#end(take)
    }
  }

  /** Bytes that are here of the message that comes in. */
  get partial(): number {
    return this.#length < 0 ? 0 : this.#filled - this.#kept
  }

  close(): void {
    this.#kept = 0
    this.#release()
  }

  #begin(): void {
    this.#prefixBytes = 0
    const length = this.#prefix.readUInt32BE(1)
    if (this.#prefix[0] !== 0) throw new NetworkError('corrupt', 'sent a compressed message, or none at all')
    if (length > MAX_FETCH_MESSAGE) throw new NetworkError('corrupt', `sent a message of ${length} bytes`)
    if (this.#kept + length > this.#arenaBytes)
      throw new NetworkError('corrupt', 'sent frames with much besides their data')
    this.#length = length
    this.#arena ??= this.#arenas.take(this.#arenaBytes)
    this.#filled = this.#kept
  }

  #end(take: (message: Buffer) => Fate): void {
    this.#length = -1
    const fate = take(this.#arena!.subarray(this.#kept, this.#filled))
    if (fate === 'keep') this.#kept = this.#filled
    if (fate === 'free') this.#kept = 0
    if (this.#kept === 0) this.#release()
  }

  #release(): void {
    if (this.#arena) this.#arenas.give(this.#arena)
    this.#arena = undefined
  }
}
