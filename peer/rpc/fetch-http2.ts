import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { Http2Target } from '../../common/rpc.ts'
import { decodeHeaders, encodeHeaders, type Headers } from './fetch-hpack.ts'

/** Bytes that may be on their way here before they are read. */
const WINDOW = 4 * 1024 * 1024
/** Bytes of a frame's payload, and of a header block: what HTTP/2 has by default. */
const MAX_PAYLOAD = 16 * 1024
const MAX_CONTINUATIONS = 16
/** Bytes of answers to pings and the like that wait for a server that reads nothing. */
const MAX_UNSENT = 1024 * 1024
/** A connection silent for this long is probed; silent for as long again, it is lost. */
const SILENCE_MS = 20_000

const [DATA, HEADERS, RESET, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION] = [0, 1, 3, 4, 5, 6, 7, 8, 9]
const [END_STREAM, ACK, END_HEADERS, PADDED, PRIORITISED] = [0x1, 0x1, 0x4, 0x8, 0x20]
const [HEADER_TABLE_SIZE, ENABLE_PUSH, INITIAL_WINDOW_SIZE] = [1, 2, 4]
const CANCEL = 8
const FRAME_HEADER = 9
const MAX_WINDOW = 2 ** 31 - 1
const DEFAULT_WINDOW = 65_535
/** The only stream of its connection. */
const STREAM = 1

/** How a stream ended that was not cancelled here. */
export type StreamEnd =
  | { readonly kind: 'ended' }
  /** by the server, with an error code of RFC 9113 */
  | { readonly kind: 'reset'; readonly code: number }
  /** the connection did not come about, or broke */
  | { readonly kind: 'lost'; readonly reason: string }
  /** the server does not keep to HTTP/2 */
  | { readonly kind: 'broken'; readonly reason: string }

export interface StreamHandler {
  headers(headers: Headers): void
  /** Bytes `from` to `to` of memory that holds other bytes as soon as this returns. */
  data(buffer: Buffer, from: number, to: number): void
  /** Once, and last; not after `cancel`. */
  end(end: StreamEnd): void
}

/**
 * One HTTP/2 request (RFC 9113) over a connection of its own. Unlike node:http2 it receives into one buffer, the same
 * for all connections of a thread: no allocation a read, which is more than half of what receiving costs there.
 */
export class Http2Stream {
  readonly #socket: Socket
  readonly #handler: StreamHandler
  #over = false
  #paused = false
  #probed = false

  // The frame that is coming in.
  readonly #head = Buffer.alloc(FRAME_HEADER)
  #headBytes = 0
  #inFrame = false
  #type = 0
  #flags = 0
  #stream = 0
  #left = 0
  /** bytes of padding; -1 where its length is still to come */
  #padding = 0
  readonly #payload = Buffer.alloc(MAX_PAYLOAD)
  #payloadBytes = 0
  /** parts of a header block that goes on */
  #block: Buffer[] | undefined
  #blockEnds = false

  // Flow control: what came since more was last granted; what may go over the stream and the connection.
  #ungranted = 0
  #sendable = DEFAULT_WINDOW
  #connectionSendable = DEFAULT_WINDOW
  #initialSendable = DEFAULT_WINDOW
  #unsent: Uint8Array[] = []

  /** @param readBuffer shared by all streams of this thread */
  constructor(target: Http2Target, path: string, readBuffer: Buffer, handler: StreamHandler) {
    this.#handler = handler
    const callback = (count: number): boolean => this.#receive(readBuffer, count)
    const options = { ...target.options, noDelay: true, onread: { buffer: readBuffer, callback } }
    this.#socket = target.secure ? connectTls(options) : connect(options)
    this.#socket.setTimeout(SILENCE_MS)
    this.#socket.on('timeout', () => this.#silent())
    this.#socket.on('error', (error) => this.#end({ kind: 'lost', reason: error.message }))
    this.#socket.on('end', () => this.#end({ kind: 'lost', reason: 'the connection was closed' }))
    this.#socket.on('close', () => this.#end({ kind: 'lost', reason: 'the connection was closed' }))
    const headers = encodeHeaders([
      [':method', 'POST'],
      [':scheme', target.secure ? 'https' : 'http'],
      [':path', path],
      [':authority', target.authority],
      ['te', 'trailers'],
      ['content-type', 'application/grpc'],
    ])
    this.#socket.cork()
    this.#socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
    const settings = Buffer.concat([
      setting(HEADER_TABLE_SIZE, 0),
      setting(ENABLE_PUSH, 0),
      setting(INITIAL_WINDOW_SIZE, WINDOW),
    ])
    this.#frame(SETTINGS, 0, 0, settings)
    this.#frame(WINDOW_UPDATE, 0, 0, uint32(WINDOW - DEFAULT_WINDOW))
    this.#frame(HEADERS, END_HEADERS, STREAM, headers)
    this.#socket.uncork()
  }

  /** Sends as the server lets it; keeps the bytes until then. */
  write(bytes: Uint8Array): void {
    if (this.#over) return
    this.#unsent.push(bytes)
    this.#send()
  }

  /** Reads no more from the network after what has been read. */
  pause(): void {
    this.#paused = true
  }

  resume(): void {
    if (!this.#paused) return
    this.#paused = false
    if (!this.#over) this.#socket.resume()
  }

  cancel(): void {
    if (this.#over) return
    this.#frame(RESET, 0, STREAM, uint32(CANCEL))
    this.#close()
  }

  #receive(buffer: Buffer, end: number): boolean {
    this.#probed = false
    try {
      for (let at = 0; at < end && !this.#over; )
        at = !this.#inFrame
          ? this.#readHead(buffer, at, end)
          : this.#type === DATA
            ? this.#readData(buffer, at, end)
            : this.#readPayload(buffer, at, end)
      if (!this.#over && this.#ungranted >= WINDOW / 2) this.#grant()
    } catch (error) {
      this.#end({ kind: 'broken', reason: (error as Error).message })
    }
    return !this.#paused
  }

  #readHead(buffer: Buffer, at: number, end: number): number {
    if (this.#headBytes === 0 && end - at >= FRAME_HEADER) {
      this.#begin(buffer, at)
      return at + FRAME_HEADER
    }
    const count = Math.min(FRAME_HEADER - this.#headBytes, end - at)
    buffer.copy(this.#head, this.#headBytes, at, at + count)
    this.#headBytes += count
    if (this.#headBytes === FRAME_HEADER) {
      this.#headBytes = 0
      this.#begin(this.#head, 0)
    }
    return at + count
  }

  #begin(header: Buffer, at: number): void {
    const length = header.readUIntBE(at, 3)
    this.#type = header[at + 3]!
    this.#flags = header[at + 4]!
    this.#stream = header.readUInt32BE(at + 5) & MAX_WINDOW
    if (length > MAX_PAYLOAD) throw new Error(`a frame of ${length} bytes`)
    if (this.#block && this.#type !== CONTINUATION) throw new Error('headers that stop in the middle')
    if (this.#stream !== STREAM && (this.#stream !== 0 || this.#type === DATA || this.#type === HEADERS))
      throw new Error('a stream that nobody opened')
    this.#padding = this.#type === DATA && this.#flags & PADDED ? -1 : 0
    if (this.#type === DATA) {
      this.#ungranted += length
      if (this.#padding < 0 && length === 0) throw new Error('a frame without its padding')
    }
    this.#left = length
    this.#payloadBytes = 0
    this.#inFrame = true
    if (length === 0) this.#finish()
  }

  #readData(buffer: Buffer, at: number, end: number): number {
    let count = 1
    if (this.#padding < 0) {
      this.#padding = buffer[at]!
      if (this.#padding >= this.#left) throw new Error('a frame of less than its padding')
    } else {
      count = Math.min(this.#left, end - at)
      const bytes = Math.min(count, this.#left - this.#padding)
      if (bytes > 0) this.#handler.data(buffer, at, at + bytes)
    }
    this.#left -= count
    if (this.#left === 0) this.#finish()
    return at + count
  }

  #readPayload(buffer: Buffer, at: number, end: number): number {
    const count = Math.min(this.#left, end - at)
    buffer.copy(this.#payload, this.#payloadBytes, at, at + count)
    this.#payloadBytes += count
    this.#left -= count
    if (this.#left === 0) this.#finish()
    return at + count
  }

  #finish(): void {
    this.#inFrame = false
    if (this.#over) return
    const payload = this.#payload.subarray(0, this.#payloadBytes)
    switch (this.#type) {
      case DATA:
        if (this.#flags & END_STREAM) this.#end({ kind: 'ended' })
        break
      case HEADERS:
        this.#block = []
        this.#blockEnds = (this.#flags & END_STREAM) !== 0
        this.#headers(unpadded(payload, this.#flags))
        break
      case CONTINUATION:
        this.#headers(payload)
        break
      case SETTINGS:
        this.#settings(payload)
        break
      case PING:
        if (payload.length !== 8) throw new Error('a broken ping')
        if (!(this.#flags & ACK)) this.#answer(PING, payload)
        break
      case WINDOW_UPDATE:
        this.#granted(payload)
        break
      case RESET:
        this.#end({ kind: 'reset', code: numberOf(payload, 0) })
        break
      case GOAWAY:
        // A server that means to close lets the stream it knows come to its end.
        if ((numberOf(payload, 0) & MAX_WINDOW) < STREAM || numberOf(payload, 4) !== 0)
          this.#end({ kind: 'lost', reason: 'the other side closes the connection' })
        break
      case PUSH:
        throw new Error('a push that was not allowed')
    }
  }

  #headers(part: Buffer): void {
    const block = this.#block
    if (!block) throw new Error('headers without a beginning')
    block.push(Buffer.from(part))
    if (block.length > MAX_CONTINUATIONS || block.reduce((sum, { length }) => sum + length, 0) > MAX_PAYLOAD)
      throw new Error('too many headers')
    if (!(this.#flags & END_HEADERS)) return
    this.#block = undefined
    this.#handler.headers(decodeHeaders(Buffer.concat(block)))
    if (this.#blockEnds) this.#end({ kind: 'ended' })
  }

  #settings(payload: Buffer): void {
    if (this.#flags & ACK) return
    if (payload.length % 6 !== 0) throw new Error('broken settings')
    for (let at = 0; at < payload.length; at += 6) {
      if (payload.readUInt16BE(at) !== INITIAL_WINDOW_SIZE) continue
      const size = payload.readUInt32BE(at + 2)
      if (size > MAX_WINDOW) throw new Error('a window too large')
      this.#sendable += size - this.#initialSendable
      this.#initialSendable = size
    }
    this.#answer(SETTINGS, Buffer.alloc(0))
    this.#send()
  }

  #granted(payload: Buffer): void {
    const bytes = numberOf(payload, 0) & MAX_WINDOW
    if (this.#stream === 0) this.#connectionSendable += bytes
    else this.#sendable += bytes
    if (bytes === 0 || Math.max(this.#sendable, this.#connectionSendable) > MAX_WINDOW)
      throw new Error('a broken window')
    this.#send()
  }

  #grant(): void {
    for (const stream of [0, STREAM]) this.#frame(WINDOW_UPDATE, 0, stream, uint32(this.#ungranted))
    this.#ungranted = 0
  }

  #send(): void {
    while (!this.#over) {
      const next = this.#unsent[0]
      if (!next) return
      const count = Math.min(next.length, this.#sendable, this.#connectionSendable, MAX_PAYLOAD)
      if (count <= 0) return
      this.#frame(DATA, 0, STREAM, next.subarray(0, count))
      this.#sendable -= count
      this.#connectionSendable -= count
      if (count === next.length) this.#unsent.shift()
      else this.#unsent[0] = next.subarray(count)
    }
  }

  #answer(type: number, payload: Buffer): void {
    if (this.#socket.writableLength > MAX_UNSENT) throw new Error('questions without end')
    this.#frame(type, ACK, 0, payload)
  }

  #frame(type: number, flags: number, stream: number, payload: Uint8Array): void {
    const frame = Buffer.allocUnsafe(FRAME_HEADER + payload.length)
    frame.writeUIntBE(payload.length, 0, 3)
    frame[3] = type
    frame[4] = flags
    frame.writeUInt32BE(stream, 5)
    frame.set(payload, FRAME_HEADER)
    this.#socket.write(frame)
  }

  #silent(): void {
    if (this.#over) this.#socket.destroy()
    else if (this.#paused) return
    else if (this.#probed || this.#socket.connecting) this.#end({ kind: 'lost', reason: 'no answer in time' })
    else {
      this.#probed = true
      this.#frame(PING, 0, 0, Buffer.alloc(8))
    }
  }

  #end(end: StreamEnd): void {
    if (this.#over) return
    this.#close()
    this.#handler.end(end)
  }

  #close(): void {
    this.#over = true
    this.#unsent = []
    if (this.#socket.connecting) this.#socket.destroy()
    else this.#socket.destroySoon()
  }
}

function unpadded(payload: Buffer, flags: number): Buffer {
  const padding = flags & PADDED ? 1 + (payload[0] ?? 0) : 0
  const start = (padding > 0 ? 1 : 0) + (flags & PRIORITISED ? 5 : 0)
  const end = payload.length - Math.max(0, padding - 1)
  if (start > end) throw new Error('a frame of less than its padding')
  return payload.subarray(start, end)
}

function numberOf(payload: Buffer, at: number): number {
  if (payload.length < at + 4) throw new Error('a frame that ends early')
  return payload.readUInt32BE(at)
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function setting(id: number, value: number): Buffer {
  const bytes = Buffer.alloc(6)
  bytes.writeUInt16BE(id)
  bytes.writeUInt32BE(value, 2)
  return bytes
}
