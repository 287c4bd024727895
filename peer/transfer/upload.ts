import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import { LEAF_SIZE, pieceLength } from '../../common/merkle.ts'
import type { FrameBuffers } from './frame-buffers.ts'
import type { Gathered } from './gathered.ts'
import type { ContentLedger, Taker } from './ledger.ts'
import type { OutgoingFrame, ProviderSink, Served } from './outgoing.ts'
import { FRAME_HEADROOM } from './outgoing.ts'
import { Pacer } from './pacer.ts'
import { areRuns, type Runs, runsOf } from './runs.ts'
import type { Slot, Slots } from './slots.ts'
import type { Contact, Want } from './source.ts'
import type { Turn, Turns } from './turns.ts'
import type { Watchdog } from './watchdog.ts'

export interface UploadDeps {
  clock: Clock
  slots: Slots
  turns: Turns
  buffers: FrameBuffers
  ledger: ContentLedger
  sink: ProviderSink
  /** over the time that a frame waits to leave: until the taker is cut off, and until others go first */
  stall: Watchdog
  patience: Watchdog
  /** when takers are told of new pieces: thousands of small messages cost more than they are worth */
  soon: Gathered
  later: Gathered
}

/** Takers told of in one message. */
const MAX_INTRODUCED = 50
const EMPTY = Buffer.alloc(FRAME_HEADROOM)
/** A conversation with a limit sends frames that take this long at most, ms, but a leaf at least. */
const PACED_FRAME_MS = 250
/** A frame that leaves within this was quick, and one that takes longer than that was slow, ms. */
const QUICK_MS = 25
const SLOW_MS = 1000
/** What the system's buffers may take at once, bytes: that it left says little of the taker. Its frames are smaller meanwhile. */
const BUFFERED = 4 * 1024 * 1024
const FIRST_FRAME = 64 * 1024
/** A large frame may take longer to leave, by what this rate takes for it, bytes a second. */
const FRAME_RATE = 16_000

/** One conversation's sending: what the taker wants, which piece is next, and its frames. */
export class Upload implements Taker {
  readonly contact: Contact | undefined
  readonly #deps: UploadDeps
  readonly #served: Served
  readonly #signal: AbortSignal
  readonly #pacer: Pacer
  readonly #wanted: Uint8Array
  #credit = 0
  #cursor = 0
  #slot: Slot | undefined
  #turn: Turn | undefined
  /** the frame under way */
  #sending: { bytes: number; left: Promise<void> } | undefined
  /** bytes that left */
  #left = 0
  /** how long the last frame took to leave, ms */
  #took = 0
  /** the piece under way, and whether the taker has taken it back */
  #current = -1
  #takenBack = false
  /** the taker wants nothing more than it has said; or it said something wrong */
  #ended = false
  #fault: unknown
  /** something changed since it was last looked at what to send next */
  #changed = false
  #wake: (() => void) | undefined
  #tellable = new Set<number>()
  /** others that take the content, of whom this taker is not told yet */
  readonly #met = new Set<Contact>()
  #introducing = false
  #over = false

  constructor(deps: UploadDeps, served: Served, signal: AbortSignal) {
    this.#deps = deps
    this.#served = served
    this.contact = served.taker
    this.#signal = signal
    this.#pacer = new Pacer(deps.clock)
    this.#wanted = new Uint8Array(deps.ledger.pieces)
  }

  /** @throws NetworkError as `Uploader.serve` */
  async run(wants: AsyncIterable<Want>): Promise<void> {
    const { ledger, sink } = this.#deps
    const holdings = this.#served.reader?.holdings
    const unlisten = holdings?.onVerified((piece) => this.#tell(piece))
    const abort = () => this.#change()
    this.#signal.addEventListener('abort', abort, { once: true })
    try {
      const held = holdings ? holdings.held() : ledger.pieces > 0 ? [0, ledger.pieces] : []
      if (held.length > 0) sink.have(held)
      ledger.join(this)
      this.#cursor = ledger.firstCursor()
      // Its failure is met below, at the next look at what is wanted.
      void this.#listen(wants)
      for (let piece = await this.#next(); piece !== undefined; piece = await this.#next()) await this.#piece(piece)
      await this.#flushed()
    } finally {
      this.#over = true
      this.#signal.removeEventListener('abort', abort)
      unlisten?.()
      ledger.leave(this)
      this.yieldSlot()
      this.#yieldTurn()
    }
  }

  meet(others: readonly Contact[]): void {
    if (!this.#introducing) this.#deps.later.run(() => this.#introduce())
    this.#introducing = true
    for (const other of others) this.#met.add(other)
    // Those that came last are there still.
    for (const first of this.#met) {
      if (this.#met.size <= MAX_INTRODUCED) break
      this.#met.delete(first)
    }
  }

  part(other: Contact): void {
    this.#met.delete(other)
  }

  /** Those who came since the last time, together: where many come at once, each one's news would go to all the others. */
  #introduce(): void {
    this.#introducing = false
    if (this.#over || this.#met.size === 0) return
    this.#deps.sink.takers([...this.#met])
    this.#met.clear()
  }

  /** Its taker takes nothing: what this conversation holds goes to others meanwhile. */
  heldUp(): void {
    this.yieldSlot()
    this.#yieldTurn()
  }

  /** Gives the slot to the next in line; this conversation asks for another when it goes on. */
  yieldSlot(): void {
    this.#slot?.release()
    this.#slot = undefined
  }

  #yieldTurn(): void {
    this.#turn?.release()
    this.#turn = undefined
  }

  async #listen(wants: AsyncIterable<Want>): Promise<void> {
    try {
      for await (const want of wants) {
        if (this.#over) return
        this.#apply(want)
        this.#change()
      }
    } catch (error) {
      this.#fault = error
    }
    this.#ended = true
    this.#change()
  }

  #change(): void {
    this.#changed = true
    this.#wake?.()
  }

  #apply({ add = [], remove = [], credit = 0, rate }: Want): void {
    const count = this.#wanted.length
    if (!areRuns(add, count) || !areRuns(remove, count))
      throw new NetworkError('invalid', `wants pieces that are not among the ${count} of this content`)
    this.#mark(remove, 0)
    if (isAmong(remove, this.#current)) this.#takenBack = true
    this.#mark(add, 1)
    this.#credit = Math.min(this.#credit + credit, Number.MAX_SAFE_INTEGER)
    if (rate !== undefined) this.#pacer.rate = rate
  }

  /** At the speed of memory: a few bytes from a stranger may name 262,144 pieces. */
  #mark(runs: Runs, wanted: 0 | 1): void {
    for (let i = 0; i < runs.length; i += 2) this.#wanted.fill(wanted, runs[i]!, runs[i]! + runs[i + 1]!)
  }

  /** The next piece to be sent; undefined at the end. */
  async #next(): Promise<number | undefined> {
    const holdings = this.#served.reader?.holdings
    const has = (piece: number) => holdings?.has(piece) ?? true
    for (;;) {
      this.#changed = false
      if (this.#fault) throw this.#fault
      if (this.#signal.aborted) throw new NetworkError('cancelled', 'the taker is gone')
      if (this.#credit > 0) {
        // The slot first: which piece is best is known best at the moment of sending.
        const any = this.#deps.ledger.choose(this.#wanted, this.#cursor, has)
        if (any !== undefined) {
          if (this.#served.reader) this.#slot ??= await this.#deps.slots.acquire(this.#signal)
          const piece = this.#deps.ledger.choose(this.#wanted, this.#cursor, has)
          if (piece === undefined || (holdings && !(await holdings.check(piece))) || this.#wanted[piece] === 0) continue
          if (this.#takesTurn()) return piece
          this.yieldSlot()
          this.#turn = await this.#deps.turns.take(this.#signal)
          continue
        }
      }
      this.heldUp()
      if (this.#ended) return undefined
      await this.#flushed()
      if (!this.#changed)
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      this.#wake = undefined
    }
  }

  /** Whether a piece may be begun now. A simulated one moves no bytes. */
  #takesTurn(): boolean {
    if (!this.#served.reader) return true
    this.#turn ??= this.#deps.turns.tryTake()
    return this.#turn !== undefined
  }

  /** Sends one piece; its last frame may be under way still. */
  async #piece(index: number): Promise<void> {
    const { ledger, sink, slots } = this.#deps
    this.#wanted[index] = 0
    this.#credit--
    this.#current = index
    this.#takenBack = false
    this.#cursor = index + 1 < ledger.pieces ? index + 1 : 0
    ledger.begin(index)
    const whole = await this.#frames(index)
    this.#yieldTurn()
    this.#current = -1
    if (whole) ledger.finish(index)
    else {
      ledger.abandon(index)
      sink.abandoned(index)
    }
    // Where others wait, what is under way must leave first: the slots bound the memory of all conversations together.
    if (slots.contended) await this.#flushed()
    this.yieldSlot()
  }

  /** False where the taker has taken the piece back in the middle. */
  async #frames(index: number): Promise<boolean> {
    const { buffers, slots } = this.#deps
    const { manifest, reader } = this.#served
    const length = pieceLength(manifest, index)
    for (let offset = 0; offset < length; ) {
      if (this.#takenBack && offset > 0) return false
      // A dummy conversation moves no bytes and needs no memory: one frame a piece says it all.
      if (!reader) {
        await this.#send({ piece: index, offset, buffer: EMPTY, length: 0, simulated: length }, length)
        return true
      }
      const bytes = await this.#allowed(Math.min(this.#step(), length - offset))
      this.#slot ??= await slots.acquire(this.#signal)
      const buffer = buffers.take(bytes)
      try {
        const position = index * manifest.pieceSize + offset
        await reader.read(buffer.subarray(FRAME_HEADROOM, FRAME_HEADROOM + bytes), position)
      } catch (error) {
        buffers.give(buffer)
        throw error
      }
      await this.#send({ piece: index, offset, buffer, length: bytes, simulated: 0 }, bytes)
      offset += bytes
    }
    return true
  }

  /** Bytes of the next frame: small ones where a limit holds them back, so that many takers see signs of life in time. */
  #step(): number {
    const { buffers, turns } = this.#deps
    const { rate } = this.#pacer
    if (turns.tight) return LEAF_SIZE
    if (rate > 0) {
      const fit = (rate * PACED_FRAME_MS) / 1000
      return Math.max(LEAF_SIZE, Math.min(buffers.small, Math.floor(fit / LEAF_SIZE) * LEAF_SIZE))
    }
    // The first one tells whether there is a limit.
    if (this.#left === 0 || this.#took > SLOW_MS) return LEAF_SIZE
    if (this.#left < BUFFERED) return Math.min(FIRST_FRAME, buffers.small)
    return this.#took < QUICK_MS ? buffers.large : buffers.small
  }

  /** Waits for the limits; others have the slot meanwhile. @returns how many of these bytes may leave */
  async #allowed(wanted: number): Promise<number> {
    const paced = this.#pacer.take(wanted, this.#signal)
    if (paced) {
      this.heldUp()
      await paced
    }
    const { bytes, wait } = this.#deps.turns.pass(this.#turn, wanted, this.#signal)
    if (wait) {
      this.yieldSlot()
      await wait
    }
    return bytes
  }

  async #flushed(): Promise<void> {
    const { stall, patience } = this.#deps
    if (!this.#sending) return
    const { bytes, left } = this.#sending
    stall.begin((bytes * 1000) / FRAME_RATE)
    patience.begin()
    try {
      await left
    } finally {
      stall.end()
      patience.end()
    }
    this.#sending = undefined
  }

  async #send(frame: OutgoingFrame, bytes: number): Promise<void> {
    const { buffers, clock, ledger, sink } = this.#deps
    await this.#flushed()
    if (this.#fault) throw this.#fault
    if (this.#signal.aborted) throw new NetworkError('cancelled', 'the taker is gone')
    const begin = clock.now()
    const left = sink.send(frame).then(() => {
      this.#took = clock.now() - begin
      this.#left += frame.length
      if (frame.length > 0) buffers.give(frame.buffer)
      ledger.bytes += frame.length
      this.#served.onSent?.(bytes)
    })
    // Its failure is met by whoever awaits it next, which may be after a read.
    left.catch(() => {})
    this.#sending = { bytes: frame.length, left }
  }

  /** A taker that has nothing to ask for is told soon, one that has is told of several pieces together. */
  #tell(piece: number): void {
    this.#tellable.add(piece)
    if (this.#wanted[piece] === 1 && this.#credit > 0) this.#change()
    const tell = () => this.#tellNow()
    if (this.#credit === 0 && this.#current < 0) this.#deps.soon.run(tell)
    else this.#deps.later.run(tell)
  }

  #tellNow(): void {
    if (this.#over || this.#tellable.size === 0) return
    const pieces = [...this.#tellable].sort((a, b) => a - b)
    this.#tellable.clear()
    this.#deps.sink.have(runsOf(pieces))
  }
}

function isAmong(runs: Runs, piece: number): boolean {
  for (let i = 0; i < runs.length; i += 2) if (piece >= runs[i]! && piece < runs[i]! + runs[i + 1]!) return true
  return false
}
