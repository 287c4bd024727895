import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import { LEAF_SIZE } from '../../common/merkle.ts'
import type { RateLimit } from './outgoing.ts'

/** A piece is begun while those under way get a frame through the limit within this, ms: takers wait 15 s for one. */
const ROUND_MS = 4000

/** The right to send one piece through the limit. */
export interface Turn {
  /** It is not under way any more, or its taker holds it up. May be called more than once. */
  release(): void
}

/**
 * The limit over all conversations, and whose piece is begun next under it. Who gets nothing of a piece for some seconds
 * gives it up, and what came of it is lost for both sides: so no more pieces are under way than the limit carries a frame
 * of within `ROUND_MS`, and one at least; the others wait in line. What the limit is need not be known: the next piece is
 * begun when the first frame of the last one has passed, by how long that took.
 */
export class Turns {
  readonly #limit: RateLimit | undefined
  readonly #clock: Clock
  readonly #waiting = new Set<(turn: Turn) => void>()
  #underWay = 0
  /** frames that wait, also of those that gave their turn back */
  #asking = 0
  /** of those with a turn, the one that no frame of has passed yet */
  #untried: Turn | undefined
  /** how long the last frame waited, ms; 0 where it passed at once */
  #waited = 0

  constructor(clock: Clock, limit: RateLimit | undefined) {
    this.#clock = clock
    this.#limit = limit
  }

  /** Whether the limit makes frames wait. */
  get tight(): boolean {
    return this.#waited > 0
  }

  /** A turn where one is to be had at once; undefined otherwise. */
  tryTake(): Turn | undefined {
    return this.#waiting.size === 0 && this.#mayBegin ? this.#turn() : undefined
  }

  /** @throws NetworkError `cancelled` where the signal aborts while waiting */
  take(signal: AbortSignal): Promise<Turn> {
    if (signal.aborted) return Promise.reject(new NetworkError('cancelled', 'cancelled'))
    const turn = this.tryTake()
    if (turn) return Promise.resolve(turn)
    return new Promise((resolve, reject) => {
      const begin = (turn: Turn) => {
        signal.removeEventListener('abort', giveUp)
        resolve(turn)
      }
      const giveUp = () => {
        this.#waiting.delete(begin)
        reject(new NetworkError('cancelled', 'cancelled'))
      }
      this.#waiting.add(begin)
      signal.addEventListener('abort', giveUp, { once: true })
    })
  }

  /**
   * A frame of so many bytes may leave when `wait` resolves; where there is one, of a leaf only. Large ones that wait
   * would be a debt that nobody else gets a frame through for long, where the limit has just been lowered.
   * `wait` rejects with a NetworkError `cancelled` where the signal aborts.
   */
  pass(turn: Turn | undefined, bytes: number, signal: AbortSignal): { bytes: number; wait: Promise<void> | undefined } {
    if (!this.#limit) return { bytes, wait: undefined }
    const asked = this.#clock.now()
    const passed = (ms: number) => {
      this.#waited = ms
      if (this.#untried === turn) this.#untried = undefined
      this.#next()
    }
    const large = bytes > LEAF_SIZE ? new AbortController() : undefined
    let wait = this.#limit.take(bytes, large?.signal ?? signal)
    if (wait && large) {
      wait.catch(() => {})
      large.abort()
      bytes = LEAF_SIZE
      wait = this.#limit.take(bytes, signal)
    }
    if (!wait) {
      passed(0)
      return { bytes, wait }
    }
    this.#asking++
    const passedLate = wait.then(
      () => {
        this.#asking--
        passed(Math.max(1, this.#clock.now() - asked))
      },
      (error) => {
        this.#asking--
        this.#next()
        throw error
      },
    )
    return { bytes, wait: passedLate }
  }

  get #mayBegin(): boolean {
    const underWay = Math.max(this.#underWay, this.#asking)
    if (underWay === 0) return true
    return this.#untried === undefined && this.#waited * (1 + 1 / underWay) < ROUND_MS
  }

  #turn(): Turn {
    const turn = {
      release: () => {
        if (!held) return
        held = false
        this.#underWay--
        if (this.#untried === turn) this.#untried = undefined
        this.#next()
      },
    }
    let held = true
    this.#underWay++
    if (this.#limit) this.#untried = turn
    return turn
  }

  #next(): void {
    const [next] = this.#waiting
    if (!next || !this.#mayBegin) return
    this.#waiting.delete(next)
    next(this.#turn())
  }
}
