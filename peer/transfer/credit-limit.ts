import type { Clock } from '../../common/clock.ts'

/**
 * A limit at its taker: how many pieces may be asked for, so that no more comes than it allows. What it gives in a
 * second is saved up at most, or one piece.
 */
export class CreditLimit {
  readonly #clock: Clock
  readonly #pieceSize: number
  readonly #rate: () => number | undefined
  #bytes = 0
  #at: number

  /** `rate`: bytes a second at present; undefined: no limit */
  constructor(clock: Clock, pieceSize: number, rate: () => number | undefined = () => undefined) {
    this.#clock = clock
    this.#pieceSize = pieceSize
    this.#rate = rate
    this.#at = clock.now()
  }

  /** Of so many pieces, those that may be asked for now. */
  take(pieces: number): number {
    const rate = this.#rate()
    const now = this.#clock.now()
    const since = Math.max(0, now - this.#at)
    this.#at = now
    if (rate === undefined) return pieces
    this.#bytes = Math.min(Math.max(rate, this.#pieceSize), this.#bytes + (rate * since) / 1000)
    const granted = Math.min(pieces, Math.floor(this.#bytes / this.#pieceSize))
    this.#bytes -= granted * this.#pieceSize
    return granted
  }

  /**
   * What one of so many providers is told as its rate, so that bytes come evenly and not in bursts of pieces; undefined
   * where it need not be told anew.
   * @param told what it was told last, bytes a second; 0: no limit
   */
  share(told: number, providers: number): number | undefined {
    const all = this.#rate()
    const rate = all === undefined ? 0 : Math.max(1, Math.round(all / providers))
    return rate === told || (rate > 0 && Math.abs(rate - told) < 0.1 * rate) ? undefined : rate
  }
}
