import { writeSync } from 'node:fs'
import { asNetworkError } from '../../common/errors.ts'
import {
  HASH_SIZE,
  hashLeaves,
  LEAF_SIZE,
  MAX_PIECE_SIZE,
  type Manifest,
  pieceCount,
  pieceHash,
  pieceLength,
} from '../../common/merkle.ts'
import { PieceAssembler, type WholePiece } from '../transfer/piece-assembler.ts'
import type { Want } from '../transfer/source.ts'
import type { Headers } from './fetch-hpack.ts'
import { Http2Stream, type StreamEnd, type StreamHandler } from './fetch-http2.ts'
import { costOf, type FetchEnd, type FetchEvent, type OpenJob } from './fetch-jobs.ts'
import { type Arenas, type Fate, MessageReader } from './fetch-messages.ts'
import { readInPlace } from './frame-codec.ts'
import { News } from './news.ts'

/** Cost of events that wait to be used, beyond which no more is read. */
const MAX_WAITING = 4096
/** Bytes that came are told no later than this, ms. */
const TELL_MS = 20
const PREFIX = 5

const leaves = Buffer.allocUnsafeSlow((MAX_PIECE_SIZE / LEAF_SIZE) * HASH_SIZE)

/** This peer's disk refuses. */
class DiskError extends Error {}
class SimulatedError extends Error {}

/** One conversation, in the thread that fetches: messages in, verified pieces on disk, events out. */
export class FetchConversation implements StreamHandler {
  readonly #job: OpenJob
  readonly #manifest: Manifest
  readonly #tell: (events: readonly FetchEvent[], end?: FetchEnd) => void
  readonly #assembler: PieceAssembler
  readonly #messages: MessageReader
  readonly #news: News
  readonly #stream: Http2Stream
  #headers: Headers = new Map()
  #over = false
  #events: FetchEvent[] = []
  /** of the piece under way, not told yet */
  #bytes = 0
  /** of these and those told, what no whole frame has brought yet */
  #ahead = 0
  /** bytes missing of the piece under way; 0: none is */
  #left = 0
  #telling: NodeJS.Timeout | undefined
  #tellingSoon = false
  #waiting = 0

  constructor(
    job: OpenJob,
    shared: { arenas: Arenas; readBuffer: Buffer },
    tell: (events: readonly FetchEvent[], end?: FetchEnd) => void,
  ) {
    this.#job = job
    this.#tell = tell
    const { content, size, pieceSize } = job
    this.#manifest = { id: content, size, pieceSize, hashes: Buffer.from(job.hashes) }
    this.#assembler = new PieceAssembler(this.#manifest, job.dummy)
    this.#news = new News(pieceCount(size, pieceSize))
    this.#messages = new MessageReader(shared.arenas, job.pieceSize)
    this.#stream = new Http2Stream(job.target, job.path, shared.readBuffer, this)
    this.#send(job.message)
  }

  want(change: Want, message: Uint8Array): void {
    this.#assembler.want(change)
    this.#send(message)
  }

  used(cost: number): void {
    this.#waiting -= cost
    if (this.#waiting < MAX_WAITING / 2) this.#stream.resume()
  }

  close(): void {
    this.#stream.cancel()
    this.#end({ kind: 'closed' })
  }

  headers(headers: Headers): void {
    this.#headers = headers
  }

  data(buffer: Buffer, from: number, to: number): void {
    try {
      this.#messages.push(buffer, from, to, this.#take)
      this.#countAhead()
    } catch (error) {
      this.#stream.cancel()
      if (error instanceof SimulatedError) this.#end({ kind: 'simulates' })
      else if (error instanceof DiskError) this.#end({ kind: 'local', body: asNetworkError(error.cause).toBody() })
      else this.#end({ kind: 'failed', body: asNetworkError(error).toBody() })
    }
  }

  end(end: StreamEnd): void {
    this.#end({ kind: 'stream', end, headers: this.#headers })
  }

  readonly #take = (message: Buffer): Fate => {
    const read = readInPlace(message)
    switch (read.kind) {
      case 'other':
        this.#news.talk(message.length)
        this.#add({ kind: 'message', message: new Uint8Array(message) })
        return 'drop'
      case 'have':
        this.#news.have(read.pieces)
        this.#add(read)
        return 'drop'
      case 'abandoned':
        this.#assembler.abandon(read.piece)
        this.#left = 0
        this.#add(read)
        return 'free'
    }
    const { frame } = read
    const { dummy } = this.#job
    if (!dummy && frame.simulated > 0 && frame.data.length === 0) throw new SimulatedError()
    const { begun, whole } = this.#assembler.add(frame)
    if (begun) {
      this.#add({ kind: 'begun', piece: frame.piece })
      this.#left = pieceLength(this.#manifest, frame.piece)
      this.#ahead = 0
    }
    this.#countFrame(dummy ? frame.simulated : frame.data.length)
    if (!whole) return 'keep'
    const right = dummy || this.#isRight(whole)
    if (right && !dummy) this.#write(whole)
    this.#add({ kind: 'piece', piece: whole.index, right })
    return 'free'
  }

  #countFrame(bytes: number): void {
    this.#left -= bytes
    this.#count(Math.max(0, bytes - this.#ahead))
    this.#ahead = Math.max(0, this.#ahead - bytes)
  }

  /**
   * A large frame over a slow line is whole after minutes: each leaf of it is a sign of life, as if it were a frame. But
   * the last one of a piece comes with the whole of it, whatever else a provider sends.
   */
  #countAhead(): void {
    const { partial } = this.#messages
    const ahead = Math.min(partial - (partial % LEAF_SIZE), this.#left - LEAF_SIZE)
    if (ahead <= this.#ahead) return
    this.#count(ahead - this.#ahead)
    this.#ahead = ahead
  }

  #count(bytes: number): void {
    this.#bytes += bytes
    this.#telling ??= setTimeout(() => this.#flush(), TELL_MS)
  }

  #isRight({ index, parts }: WholePiece): boolean {
    const { size, pieceSize, hashes } = this.#manifest
    let leaf = 0
    for (const part of parts) leaf = hashLeaves(part, leaves, leaf)
    const hash = pieceHash(leaves.subarray(0, leaf * HASH_SIZE), pieceSize, size <= pieceSize)
    return hash.equals(hashes.subarray(index * HASH_SIZE, (index + 1) * HASH_SIZE))
  }

  #write({ index, parts }: WholePiece): void {
    let position = index * this.#manifest.pieceSize
    try {
      for (const part of parts)
        for (let at = 0; at < part.length; ) {
          const count = writeSync(this.#job.fd, part, at, part.length - at, position)
          at += count
          position += count
        }
    } catch (error) {
      throw new DiskError('', { cause: error })
    }
  }

  /** Tells this at the end of the current read, and what came before it. */
  #add(event: FetchEvent): void {
    this.#addBytes()
    this.#events.push(event)
    this.#waiting += costOf(event)
    if (this.#waiting > MAX_WAITING) this.#stream.pause()
    if (this.#tellingSoon) return
    this.#tellingSoon = true
    queueMicrotask(() => this.#flush())
  }

  #addBytes(): void {
    if (this.#bytes === 0) return
    this.#events.push({ kind: 'bytes', bytes: this.#bytes })
    this.#waiting++
    this.#bytes = 0
  }

  #flush(): void {
    this.#tellingSoon = false
    clearTimeout(this.#telling)
    this.#telling = undefined
    this.#addBytes()
    if (this.#over || this.#events.length === 0) return
    this.#tell(this.#events)
    this.#events = []
  }

  #end(end: FetchEnd): void {
    if (this.#over) return
    this.#over = true
    clearTimeout(this.#telling)
    this.#messages.close()
    this.#addBytes()
    this.#tell(this.#events, end)
  }

  #send(message: Uint8Array): void {
    const prefixed = Buffer.alloc(PREFIX + message.length)
    prefixed.writeUInt32BE(message.length, 1)
    prefixed.set(message, PREFIX)
    this.#stream.write(prefixed)
  }
}
