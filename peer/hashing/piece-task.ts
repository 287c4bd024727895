import { NetworkError } from '../../common/errors.ts'
import { HASH_SIZE, MAX_PIECE_SIZE, pieceCount } from '../../common/merkle.ts'
import type { PieceRange } from './jobs.ts'

/** Bytes of one step of a large file: short enough that other work soon has its turn (some 4 ms), and whole pieces. */
const STEP = 2 * MAX_PIECE_SIZE

export interface PieceTaskEvents {
  /** Bytes hashed so far. */
  progress(bytes: number): void
  /** Called once, when no step of the task is under way any more. */
  settled(error: NetworkError | undefined): void
}

/** The hashing of all pieces of one file, handed out in steps that may run at the same time. */
export class PieceTask {
  readonly size: number
  readonly hashes: Buffer
  /** Which pieces could be read in full. */
  readonly whole: boolean[]
  #fd: number
  #pieceSize: number
  #events: PieceTaskEvents
  #next = 0
  #underWay = 0
  #done = 0
  #error: NetworkError | undefined
  #settled = false
  #cancelled: Int32Array | undefined

  constructor(fd: number, size: number, pieceSize: number, events: PieceTaskEvents) {
    this.#fd = fd
    this.size = size
    this.#pieceSize = pieceSize
    this.#events = events
    const count = pieceCount(size, pieceSize)
    this.hashes = Buffer.alloc(count * HASH_SIZE)
    this.whole = new Array<boolean>(count).fill(false)
  }

  /** Whether every step has been handed out, or none is wanted any more. */
  get exhausted(): boolean {
    return this.#next >= this.size || this.#error !== undefined
  }

  /** Shared with the threads: not 0 once nobody wants the answer. */
  get cancelled(): Int32Array {
    this.#cancelled ??= new Int32Array(new SharedArrayBuffer(4))
    return this.#cancelled
  }

  /** The next step, to be handed out and answered. */
  takeStep(): PieceRange {
    const position = this.#next
    const length = Math.min(STEP, this.size - position)
    this.#next += length
    this.#underWay++
    return { fd: this.#fd, position, length, pieceSize: this.#pieceSize, onlyPiece: this.size <= this.#pieceSize }
  }

  answered(step: PieceRange, result: Uint8Array | NetworkError): void {
    this.#underWay--
    if (result instanceof NetworkError) this.fail(result)
    else {
      const first = step.position / this.#pieceSize
      this.hashes.set(result, first * HASH_SIZE)
      this.whole.fill(true, first, first + result.length / HASH_SIZE)
      this.#done += step.length
      if (!this.#error) this.#events.progress(this.#done)
      this.#settle()
    }
  }

  /** Gives the task up; it settles once the steps under way have ended. */
  fail(error: NetworkError): void {
    this.#error ??= error
    if (this.#cancelled) Atomics.store(this.#cancelled, 0, 1)
    this.#settle()
  }

  #settle(): void {
    if (this.#settled || this.#underWay > 0 || !this.exhausted) return
    this.#settled = true
    this.#events.settled(this.#error)
  }
}
