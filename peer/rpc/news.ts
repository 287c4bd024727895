import { performance } from 'node:perf_hooks'
import { Bucket } from '../../common/bucket.ts'
import { NetworkError } from '../../common/errors.ts'
import { areRuns, lengthOf, type Runs } from '../transfer/runs.ts'

/** Bytes of a message that is neither a frame nor tells of pieces: 64 contacts, a reason. */
const MAX_TALK = 8 * 1024
/** Each piece may be told of so often, since a changed file may be fetched again; and some more. */
const TIMES_A_PIECE = 4
const SPARE_PIECES = 1000
/**
 * Messages a second. A provider gathers its news for 10 ms at least, and those about takers for 50 ms: twice and half as
 * much again is let pass, and what gathers while this side reads nothing.
 */
const HAVES = { perSecond: 200, atOnce: 5000 }
const TALKS = { perSecond: 30, atOnce: 200 }

/** How much one provider may say in one conversation besides pieces: each message is work for this peer, however small. */
export class News {
  readonly #count: number
  readonly #haves: Bucket
  readonly #talks: Bucket
  #pieces: number

  /** @param count pieces of the content */
  constructor(count: number, now: () => number = () => performance.now()) {
    this.#count = count
    this.#pieces = TIMES_A_PIECE * count + SPARE_PIECES
    this.#haves = new Bucket(HAVES, now)
    this.#talks = new Bucket(TALKS, now)
  }

  /** @throws NetworkError `corrupt` */
  have(pieces: Runs): void {
    if (!areRuns(pieces, this.#count)) throw new NetworkError('corrupt', 'told of pieces that do not exist')
    this.#pieces -= lengthOf(pieces)
    if (this.#pieces < 0 || !this.#haves.take())
      throw new NetworkError('corrupt', 'told of the same pieces again and again')
  }

  /**
   * Anything else that is no frame.
   * @throws NetworkError `corrupt`
   */
  talk(bytes = 0): void {
    if (bytes > MAX_TALK) throw new NetworkError('corrupt', `sent a message of ${bytes} bytes that is no frame`)
    if (!this.#talks.take()) throw new NetworkError('corrupt', 'told of others again and again')
  }
}
