import { setImmediate } from 'node:timers/promises'

/** Steps between two pauses: one to two ms of looking at files. */
const STEPS_A_SLICE = 256

/** Lets the process do other work now and then, in a loop that is long and synchronous. */
export class Pace {
  #steps = 0

  async step(): Promise<void> {
    if (++this.#steps % STEPS_A_SLICE === 0) await setImmediate()
  }
}
