import { NetworkError } from '../../common/errors.ts'
import { MAX_FILE_SIZE, MAX_PIECE_SIZE } from '../../common/merkle.ts'
import { FRAME_HEADROOM, type OutgoingFrame } from '../transfer/outgoing.ts'
import type { Frame } from '../transfer/source.ts'

/**
 * `ProviderMessage{frame}` of proto/transfer.proto, by hand: the generated codec would copy every byte of a file twice.
 * What comes out is ordinary protobuf.
 */

/** Bytes of data in one frame. */
export const MAX_FRAME = 1024 * 1024

const FRAME = 0x0a // ProviderMessage.frame, length-delimited
const PIECE = 0x08 // Frame.piece and Abandoned.piece, varint
const OFFSET = 0x10 // Frame.offset, varint
const DATA = 0x1a // Frame.data, length-delimited
const SIMULATED = 0x20 // Frame.simulated, varint
const HAVE = 0x22 // ProviderMessage.have, length-delimited
const PIECES = 0x0a // Have.pieces, packed
const PIECES_APART = 0x08 // Have.pieces, varint
const ABANDONED = 0x32 // ProviderMessage.abandoned, length-delimited

function varintLength(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : value < 0x1000_0000 ? 4 : 5
}

function writeVarint(into: Buffer, at: number, value: number): number {
  while (value >= 0x80) {
    into[at++] = (value & 0x7f) | 0x80
    value >>>= 7
  }
  into[at++] = value
  return at
}

/** The message, in the frame's own buffer: its header goes into the headroom before the data. */
export function encodeFrame({ piece, offset, buffer, length, simulated }: OutgoingFrame): Buffer {
  const header =
    1 +
    varintLength(piece) +
    1 +
    varintLength(offset) +
    (simulated > 0 ? 1 + varintLength(simulated) : 0) +
    (length > 0 ? 1 + varintLength(length) : 0)
  const body = header + length
  const start = FRAME_HEADROOM - header - 1 - varintLength(body)
  buffer[start] = FRAME
  let at = writeVarint(buffer, start + 1, body)
  buffer[at++] = PIECE
  at = writeVarint(buffer, at, piece)
  buffer[at++] = OFFSET
  at = writeVarint(buffer, at, offset)
  if (simulated > 0) {
    buffer[at++] = SIMULATED
    at = writeVarint(buffer, at, simulated)
  }
  if (length > 0) {
    buffer[at++] = DATA
    writeVarint(buffer, at, length)
  }
  return buffer.subarray(start, FRAME_HEADROOM + length)
}

/** Bytes before a message in its HTTP/2 stream: 0 for "not compressed", then its length in 4 bytes. */
const PREFIX = 5

/** The message with its prefix, as it goes into the HTTP/2 stream; in the frame's own buffer likewise. */
export function encodePrefixedFrame(frame: OutgoingFrame): Buffer {
  const message = encodeFrame(frame)
  const start = FRAME_HEADROOM + frame.length - message.length - PREFIX
  frame.buffer[start] = 0
  frame.buffer.writeUInt32BE(message.length, start + 1)
  return frame.buffer.subarray(start, FRAME_HEADROOM + frame.length)
}

/** Another message with its prefix. */
export function prefixed(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(PREFIX + message.length)
  bytes[0] = 0
  bytes.writeUInt32BE(message.length, 1)
  message.copy(bytes, PREFIX)
  return bytes
}

/** A provider's message; `other` is left to the generated codec. */
export type InPlace =
  | { readonly kind: 'frame'; readonly frame: Frame }
  | { readonly kind: 'abandoned'; readonly piece: number }
  | { readonly kind: 'have'; readonly pieces: number[] }
  | { readonly kind: 'other' }

const OTHER: InPlace = { kind: 'other' }
const NOTHING = new Uint8Array(0)
/** Numbers in the runs of the largest content, where it has every other piece. */
const MAX_RUNS = MAX_FILE_SIZE / MAX_PIECE_SIZE

/**
 * Takes a frame apart, its data left where it is: a view of the message. Fields of a later version are passed over. What
 * holds a frame is one, whatever else it holds: the generated codec sees no frame, nor its size.
 * @throws NetworkError `corrupt` where it is no protobuf, or a frame or pieces beyond their bounds
 */
export function readInPlace(message: Buffer): InPlace {
  const fields = new Fields(message)
  let read: InPlace = OTHER
  while (fields.at < message.length) {
    const tag = fields.number()
    if (tag === FRAME) read = { kind: 'frame', frame: readFrame(fields) }
    else if (tag === ABANDONED) read = { kind: 'abandoned', piece: readAbandoned(fields) }
    else if (tag === HAVE && read.kind === 'other') read = { kind: 'have', pieces: readHave(fields) }
    else fields.skip(tag & 7)
  }
  return read
}

function readFrame(fields: Fields): Frame {
  const end = fields.end()
  let [piece, offset, simulated] = [0, 0, 0]
  let data: Uint8Array = NOTHING
  while (fields.at < end) {
    const tag = fields.number()
    if (tag === PIECE) piece = fields.number()
    else if (tag === OFFSET) offset = fields.number()
    else if (tag === SIMULATED) simulated = fields.number()
    else if (tag === DATA) data = fields.bytes()
    else fields.skip(tag & 7)
  }
  if (fields.at > end) throw broken()
  if (data.length > MAX_FRAME)
    throw new NetworkError('corrupt', `sent a frame of ${data.length} bytes: ${MAX_FRAME} are the most`)
  return { piece, offset, data, simulated }
}

function readAbandoned(fields: Fields): number {
  const end = fields.end()
  let piece = 0
  while (fields.at < end) {
    const tag = fields.number()
    if (tag === PIECE) piece = fields.number()
    else fields.skip(tag & 7)
  }
  if (fields.at > end) throw broken()
  return piece
}

function readHave(fields: Fields): number[] {
  const end = fields.end()
  const pieces: number[] = []
  const read = () => {
    if (pieces.push(fields.number()) > MAX_RUNS) throw new NetworkError('corrupt', 'told of pieces without number')
  }
  while (fields.at < end) {
    const tag = fields.number()
    if (tag === PIECES) for (const last = fields.end(); fields.at < last; ) read()
    else if (tag === PIECES_APART) read()
    else fields.skip(tag & 7)
  }
  if (fields.at > end) throw broken()
  return pieces
}

class Fields {
  at = 0
  readonly #message: Buffer

  constructor(message: Buffer) {
    this.#message = message
  }

  /** Of an unsigned number the low 32 bits, as protobuf has it for uint32. */
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

  /** Where what is length-delimited here ends. */
  end(): number {
    const length = this.number()
    if (length > this.#message.length - this.at) throw broken()
    return this.at + length
  }

  bytes(): Uint8Array {
    const end = this.end()
    const bytes = this.#message.subarray(this.at, end)
    this.at = end
    return bytes
  }

  skip(wireType: number): void {
    if (wireType === 0) this.number()
    else if (wireType === 1) this.at += 8
    else if (wireType === 2) this.at = this.end()
    else if (wireType === 5) this.at += 4
    else throw broken()
    if (this.at > this.#message.length) throw broken()
  }
}

function broken(): NetworkError {
  return new NetworkError('corrupt', 'sent a broken frame')
}
