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

/** What is to be hashed of an open file. */
export interface PiecesOfFile {
  readonly fd: number
  /** of the file, bytes */
  readonly size: number
  /** bytes */
  readonly pieceSize: number
  /** ascending; undefined: all */
  readonly pieces: readonly number[] | undefined
}

/** Neighbouring pieces that are to be hashed. */
interface Run {
  readonly first: number
  readonly count: number
  /** of its first piece among all that are hashed */
  readonly place: number
}

/** The hashing of pieces of one file, handed out in steps that may run at the same time. */
export class PieceTask {
  /** of all the pieces together, bytes */
  readonly size: number
  /** 32 bytes a piece, in their order */
  readonly hashes: Buffer
  /** Which pieces could be read in full. */
  readonly whole: boolean[]
  #file: PiecesOfFile
  #events: PieceTaskEvents
  /** not handed out yet, the next one last */
  #runs: Run[]
  /** where the answer of a step belongs: the place of its first piece */
  #places = new Map<PieceRange, number>()
  #done = 0
  #error: NetworkError | undefined
  #settled = false
  #cancelled: Int32Array | undefined

  constructor(file: PiecesOfFile, events: PieceTaskEvents) {
    this.#file = file
    this.#events = events
    this.#runs = runsOf(file)
    let [count, size] = [0, 0]
    for (const run of this.#runs) {
      count += run.count
      size += this.#bytesOf(run)
    }
    this.size = size
    this.hashes = Buffer.alloc(count * HASH_SIZE)
    this.whole = new Array<boolean>(count).fill(false)
    this.#runs.reverse()
  }

  /** Whether every step has been handed out, or none is wanted any more. */
  get exhausted(): boolean {
    return this.#runs.length === 0 || this.#error !== undefined
  }

  /** Shared with the threads: not 0 once nobody wants the answer. */
  get cancelled(): Int32Array {
    this.#cancelled ??= new Int32Array(new SharedArrayBuffer(4))
    return this.#cancelled
  }

  /** The next step, to be handed out and answered. */
  takeStep(): PieceRange {
    const { fd, size, pieceSize } = this.#file
    const { first, count, place } = this.#runs.pop()!
    const taken = Math.min(STEP / pieceSize, count)
    if (taken < count) this.#runs.push({ first: first + taken, count: count - taken, place: place + taken })
    const length = this.#bytesOf({ first, count: taken })
    const step = { fd, position: first * pieceSize, length, pieceSize, onlyPiece: size <= pieceSize }
    this.#places.set(step, place)
    return step
  }

  answered(step: PieceRange, result: Uint8Array | NetworkError): void {
    const place = this.#places.get(step)!
    this.#places.delete(step)
    if (result instanceof NetworkError) this.fail(result)
    else {
      this.hashes.set(result, place * HASH_SIZE)
      this.whole.fill(true, place, place + result.length / HASH_SIZE)
      this.#done += step.length
      if (!this.#error) this.#events.progress(this.#done)
      this.#settle()
    }
  }

  #bytesOf({ first, count }: Pick<Run, 'first' | 'count'>): number {
    const { size, pieceSize } = this.#file
    return Math.min((first + count) * pieceSize, size) - first * pieceSize
  }

  /** Gives the task up; it settles once the steps under way have ended. */
  fail(error: NetworkError): void {
    this.#error ??= error
    if (this.#cancelled) Atomics.store(this.#cancelled, 0, 1)
    this.#settle()
  }

  #settle(): void {
    if (this.#settled || this.#places.size > 0 || !this.exhausted) return
    this.#settled = true
    this.#events.settled(this.#error)
  }
}

function runsOf({ size, pieceSize, pieces }: PiecesOfFile): Run[] {
  if (!pieces) return size === 0 ? [] : [{ first: 0, count: pieceCount(size, pieceSize), place: 0 }]
  const runs: Run[] = []
  for (let place = 0; place < pieces.length; ) {
    const first = pieces[place]!
    let count = 1
    while (pieces[place + count] === first + count) count++
    runs.push({ first, count, place })
    place += count
  }
  return runs
}
