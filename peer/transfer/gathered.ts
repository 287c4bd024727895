import type { Clock } from '../../common/clock.ts'

/** Runs what is due together, once, so many ms after the first of it was given. */
export class Gathered {
  readonly #clock: Clock
  readonly #ms: () => number
  #due: (() => void)[] = []

  constructor(clock: Clock, ms: () => number) {
    this.#clock = clock
    this.#ms = ms
  }

  run(callback: () => void): void {
    this.#due.push(callback)
    if (this.#due.length > 1) return
    void this.#clock.sleep(this.#ms()).then(() => {
      for (const due of this.#due.splice(0)) due()
    })
  }
}
