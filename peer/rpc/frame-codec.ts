import { FRAME_HEADROOM, type OutgoingFrame } from '../transfer/outgoing.ts'
import type { Frame } from '../transfer/source.ts'

/**
 * `ProviderMessage{frame}` of proto/transfer.proto, by hand: the generated codec would copy every byte of a file twice.
 * What comes out is ordinary protobuf.
 */

/** Bytes of data in one frame. */
export const MAX_FRAME = 1024 * 1024

const FRAME = 0x0a // ProviderMessage.frame, length-delimited
const PIECE = 0x08 // Frame.piece, varint
const OFFSET = 0x10 // Frame.offset, varint
const DATA = 0x1a // Frame.data, length-delimited
const SIMULATED = 0x20 // Frame.simulated, varint

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

/**
 * The frame that a message is, its data a view of the message; undefined where the message is something else, or a frame
 * in an unusual form.
 * @throws Error where it is no protobuf, or a frame beyond its bounds
 */
export function decodeFrame(message: Buffer): Frame | undefined {
  if (message[0] !== FRAME) return undefined
  const reader = new Reader(message, 1)
  if (reader.varint() !== message.length - reader.at) return undefined
  let piece = 0
  let offset = 0
  let simulated = 0
  let data: Uint8Array | undefined
  while (reader.at < message.length) {
    const tag = reader.varint()
    if (tag === PIECE) piece = reader.varint()
    else if (tag === OFFSET) offset = reader.varint()
    else if (tag === SIMULATED) simulated = reader.varint()
    else if (tag === DATA) data = reader.bytes()
    else reader.skip(tag & 7)
  }
  return checkedFrame(piece, offset, data, simulated)
}

/** @throws Error where the frame is beyond its bounds */
export function checkedFrame(piece: number, offset: number, data: Uint8Array | undefined, simulated: number): Frame {
  if (data && data.length > MAX_FRAME) throw new Error(`a frame of ${data.length} bytes: ${MAX_FRAME} are the most`)
  return { piece, offset, simulated, data: data === undefined ? NOTHING : owned(data) }
}

const NOTHING = new Uint8Array(0)

/** Small messages are slices of memory that others use too, which could not be given to another thread. */
function owned(data: Uint8Array): Uint8Array {
  return data.buffer.byteLength - data.length <= 2 * FRAME_HEADROOM ? data : new Uint8Array(data)
}

class Reader {
  at: number
  #message: Buffer

  constructor(message: Buffer, at: number) {
    this.#message = message
    this.at = at
  }

  /** Of an unsigned number the low 32 bits, as protobuf has it for uint32. */
  varint(): number {
    let value = 0
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#message[this.at++]
      if (byte === undefined) break
      if (shift < 32) value |= (byte & 0x7f) << shift
      if (byte < 0x80) return value >>> 0
    }
    throw new Error('a broken number in a frame')
  }

  bytes(): Uint8Array {
    const length = this.varint()
    const bytes = this.#message.subarray(this.at, this.at + length)
    if (bytes.length !== length) throw new Error('a frame that ends early')
    this.at += length
    return bytes
  }

  skip(wireType: number): void {
    if (wireType === 0) this.varint()
    else if (wireType === 1) this.at += 8
    else if (wireType === 2) this.bytes()
    else if (wireType === 5) this.at += 4
    else throw new Error('an unknown wire type in a frame')
    if (this.at > this.#message.length) throw new Error('a frame that ends early')
  }
}
