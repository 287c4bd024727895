import { NetworkError } from '../../common/errors.ts'
import type { Frame } from '../transfer/source.ts'
import { MAX_FRAME } from './frame-codec.ts'

/** What the thread itself takes apart of proto/transfer.proto; the rest is left to the generated codec. */
export type InPlace =
  | { readonly kind: 'frame'; readonly frame: Frame }
  | { readonly kind: 'abandoned'; readonly piece: number }
  | { readonly kind: 'other' }

const FRAME = 0x0a // ProviderMessage.frame, length-delimited
const ABANDONED = 0x32 // ProviderMessage.abandoned, length-delimited
const PIECE = 0x08 // Frame.piece and Abandoned.piece, varint
const OFFSET = 0x10 // Frame.offset, varint
const DATA = 0x1a // Frame.data, length-delimited
const SIMULATED = 0x20 // Frame.simulated, varint
const NOTHING = new Uint8Array(0)

/**
 * A provider's message, its data left where it is: the frame's is a view.
 * @throws NetworkError `corrupt` where it is a frame in an unusual form or beyond its bounds, or broken
 */
export function readInPlace(message: Buffer): InPlace {
  const kind = message[0]
  if (kind !== FRAME && kind !== ABANDONED) return { kind: 'other' }
  const fields = new Fields(message)
  if (fields.number() !== message.length - fields.at) throw broken()
  let [piece, offset, simulated] = [0, 0, 0]
  let data: Uint8Array = NOTHING
  while (fields.at < message.length) {
    const tag = fields.number()
    if (tag === PIECE) piece = fields.number()
    else if (kind === FRAME && tag === OFFSET) offset = fields.number()
    else if (kind === FRAME && tag === SIMULATED) simulated = fields.number()
    else if (kind === FRAME && tag === DATA) data = fields.bytes()
    else throw broken()
  }
  if (kind === ABANDONED) return { kind: 'abandoned', piece }
  if (data.length > MAX_FRAME) throw new NetworkError('corrupt', `sent a frame of ${data.length} bytes`)
  return { kind: 'frame', frame: { piece, offset, data, simulated } }
}

class Fields {
  at = 1
  #message: Buffer

  constructor(message: Buffer) {
    this.#message = message
  }

  /** uint32, as protobuf has it: of a longer number the low 32 bits */
  number(): number {
    let value = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#message[this.at++]
      if (byte === undefined) break
      if (shift < 32) value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value >>> 0
    }
    throw broken()
  }

  bytes(): Uint8Array {
    const length = this.number()
    const bytes = this.#message.subarray(this.at, this.at + length)
    if (bytes.length !== length) throw broken()
    this.at += length
    return bytes
  }
}

function broken(): NetworkError {
  return new NetworkError('corrupt', 'sent a broken frame')
}
