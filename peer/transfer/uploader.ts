import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import { LEAF_SIZE, type Manifest, pieceCount, pieceLength } from '../../common/merkle.ts'
import { type ContentReader, type Contents, sharedManifest } from './contents.ts'
import { type Slot, Slots } from './slots.ts'
import { Watchdog } from './watchdog.ts'

/** Bytes left free in front of a frame's data, where a protocol may put its header without copying the data. */
export const FRAME_HEADROOM = 64

export interface OutgoingFrame {
  readonly piece: number
  /** of the data within the piece, bytes */
  readonly offset: number
  /** FRAME_HEADROOM bytes to be overwritten, then the data */
  readonly buffer: Buffer
  /** bytes of data; 0 in a dummy conversation */
  readonly length: number
  /** bytes that a dummy frame stands for; 0 in a real one */
  readonly simulated: number
}

/** Where the frames of one conversation go. */
export interface FrameSink {
  /**
   * Resolves once the frame has left, and its buffer may be used again.
   * @throws NetworkError where the taker is gone
   */
  send(frame: OutgoingFrame): Promise<void>
  /** Ends the conversation at once, unsent frames and all: what `send` still owes fails. */
  cut(reason: NetworkError): void
}

/** Pieces first … first+count-1. */
export interface PieceRange {
  readonly first: number
  readonly count: number
}

export interface UploaderOptions {
  /** pieces read and sent at the same time, over all conversations (default 16) */
  slots?: number
  /** bytes of data in a frame, a multiple of 16 KiB (default 128 KiB) */
  frameBytes?: number
  /** a taker that takes nothing for this long while a frame waits is cut off, ms (default 15,000) */
  stallMs?: number
  /** a slot whose taker takes nothing for this long goes to the next in line meanwhile, ms (default 250) */
  patienceMs?: number
}

/** What a conversation is about: no reader in a dummy one. */
export interface Served {
  readonly manifest: Manifest
  readonly reader: Pick<ContentReader, 'read'> | undefined
  /** Called with the bytes of each frame that has left. */
  onSent?(bytes: number): void
}

const SPARE_BUFFERS_PER_SLOT = 2

/**
 * The provider's side of conversations, whatever the protocol. One frame of a conversation is under way while the next
 * is read. Requests are pulled one at a time, so that a million of them wait where they came from.
 */
export class Uploader {
  #clock: Clock
  #slots: Slots
  #frameBytes: number
  #stallMs: number
  #patienceMs: number
  #buffers: FrameBuffers

  constructor(deps: { clock: Clock }, options: UploaderOptions = {}) {
    const slots = options.slots ?? 16
    this.#clock = deps.clock
    this.#slots = new Slots(slots)
    this.#frameBytes = options.frameBytes ?? 128 * 1024
    if (this.#frameBytes % LEAF_SIZE !== 0) throw new Error('a frame holds whole leaves')
    this.#buffers = new FrameBuffers(this.#frameBytes, slots * SPARE_BUFFERS_PER_SLOT)
    this.#stallMs = options.stallMs ?? 15_000
    this.#patienceMs = options.patienceMs ?? 250
  }

  /**
   * Serves a content of this peer's own until the requests end.
   * @throws NetworkError `not_found`; `invalid` for a piece that is not there; `conflict` where the file changed: none of
   *   the changed bytes is sent; `unavailable` where the taker stalls
   */
  async serve(
    contents: Contents,
    id: ContentId,
    dummy: boolean,
    requests: AsyncIterable<PieceRange>,
    sink: FrameSink,
    signal: AbortSignal,
  ): Promise<void> {
    const manifest = sharedManifest(contents, { id })
    const reader = dummy ? undefined : contents.open(id)
    try {
      await this.serveFrom({ manifest, reader }, requests, sink, signal)
    } finally {
      reader?.close()
    }
  }

  /** The same for content that the caller has open; `reader` undefined simulates. */
  async serveFrom(
    served: Served,
    requests: AsyncIterable<PieceRange>,
    sink: FrameSink,
    signal: AbortSignal,
  ): Promise<void> {
    const pieces = pieceCount(served.manifest.size, served.manifest.pieceSize)
    const upload = new Upload(served, sink, this.#slots, this.#buffers, this.#frameBytes, signal)
    const stall = new Watchdog(this.#clock, this.#stallMs, () =>
      sink.cut(new NetworkError('unavailable', `the taker took nothing for ${this.#stallMs / 1000} s`)),
    )
    const patience = new Watchdog(this.#clock, this.#patienceMs, () => upload.yieldSlot())
    try {
      for await (const { first, count } of requests) {
        if (count < 1 || first + count > pieces)
          throw new NetworkError('invalid', `asked for pieces ${first} to ${first + count - 1} of ${pieces}`)
        for (let index = first; index < first + count; index++) await upload.piece(index, [stall, patience])
      }
      await upload.flushed([stall, patience])
    } finally {
      upload.yieldSlot()
      await Promise.all([stall.stop(), patience.stop()])
    }
  }
}

/** Buffers for frames with their headroom, used again and again. */
class FrameBuffers {
  #spare: Buffer[] = []
  #frameBytes: number
  #maxSpare: number

  constructor(frameBytes: number, maxSpare: number) {
    this.#frameBytes = frameBytes
    this.#maxSpare = maxSpare
  }

  take(): Buffer {
    return this.#spare.pop() ?? Buffer.allocUnsafeSlow(FRAME_HEADROOM + this.#frameBytes)
  }

  give(buffer: Buffer): void {
    if (this.#spare.length < this.#maxSpare) this.#spare.push(buffer)
  }
}

const EMPTY = Buffer.alloc(FRAME_HEADROOM)

/** One conversation's sending. */
class Upload {
  #served: Served
  #sink: FrameSink
  #slots: Slots
  #buffers: FrameBuffers
  #frameBytes: number
  #signal: AbortSignal
  #slot: Slot | undefined
  /** the frame under way */
  #sending: Promise<void> | undefined

  constructor(
    served: Served,
    sink: FrameSink,
    slots: Slots,
    buffers: FrameBuffers,
    frameBytes: number,
    signal: AbortSignal,
  ) {
    this.#served = served
    this.#sink = sink
    this.#slots = slots
    this.#buffers = buffers
    this.#frameBytes = frameBytes
    this.#signal = signal
  }

  /** Sends one piece; its last frame may be under way still. */
  async piece(index: number, waits: readonly Watchdog[]): Promise<void> {
    const { manifest, reader } = this.#served
    const length = pieceLength(manifest, index)
    // A dummy conversation moves no bytes and needs no memory: one frame a piece says it all.
    const step = reader ? this.#frameBytes : length
    for (let offset = 0; offset < length; offset += step) {
      const bytes = Math.min(step, length - offset)
      if (!reader) {
        await this.#send({ piece: index, offset, buffer: EMPTY, length: 0, simulated: bytes }, bytes, waits)
        continue
      }
      this.#slot ??= await this.#slots.acquire(this.#signal)
      const buffer = this.#buffers.take()
      try {
        const position = index * manifest.pieceSize + offset
        await reader.read(buffer.subarray(FRAME_HEADROOM, FRAME_HEADROOM + bytes), position)
      } catch (error) {
        this.#buffers.give(buffer)
        throw error
      }
      await this.#send({ piece: index, offset, buffer, length: bytes, simulated: 0 }, bytes, waits)
    }
    // Where others wait, what is under way must leave first: the slots bound the memory of all conversations together.
    if (this.#slots.contended) await this.flushed(waits)
    this.yieldSlot()
  }

  /** Gives the slot to the next in line; this conversation asks for another when it goes on. */
  yieldSlot(): void {
    this.#slot?.release()
    this.#slot = undefined
  }

  async flushed(waits: readonly Watchdog[]): Promise<void> {
    const sending = this.#sending
    if (!sending) return
    for (const wait of waits) wait.begin()
    try {
      await sending
    } finally {
      for (const wait of waits) wait.end()
    }
    this.#sending = undefined
  }

  async #send(frame: OutgoingFrame, bytes: number, waits: readonly Watchdog[]): Promise<void> {
    await this.flushed(waits)
    if (this.#signal.aborted) throw new NetworkError('cancelled', 'the taker is gone')
    const sending = this.#sink.send(frame).then(() => {
      if (frame.length > 0) this.#buffers.give(frame.buffer)
      this.#served.onSent?.(bytes)
    })
    // Its failure is met by whoever awaits it next, which may be after a read.
    sending.catch(() => {})
    this.#sending = sending
  }
}
