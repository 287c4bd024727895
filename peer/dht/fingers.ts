import type { Clock } from '../../common/clock.ts'
import type { Random } from '../../common/random.ts'
import type { Pointers } from './pointers.ts'
import { plus } from './ring.ts'
import type { RingCalls } from './ring-calls.ts'

export interface FingersDeps {
  pointers: Pointers
  calls: RingCalls
  clock: Clock
  random: Random
}

export interface FingersOptions {
  /** between two looks at a finger, once all have been found, ms */
  fingerMs: number
}

/** A lookup of upkeep leaves those aside that would be asked after this; they may be silent one and all, ms. */
export const LOOKUP_MS = 10_000
/** So long fingers are looked for in one round, ms. */
const ROUND_MS = 3000

/** Keeps up the fingers of a member: all of them at first, then one at a time. They make lookups faster. */
export class Fingers {
  readonly #deps: FingersDeps
  readonly #fingerMs: number
  #isFound = false
  /** powers that are to be looked up yet */
  #unfound: number[] = []
  #nextPower = 0
  #dueAt = 0

  constructor(deps: FingersDeps, { fingerMs }: FingersOptions) {
    this.#deps = deps
    this.#fingerMs = fingerMs
  }

  /** They were set from outside, and are right. */
  resumed(): void {
    const { clock, random } = this.#deps
    this.#isFound = true
    this.#dueAt = clock.now() + this.#fingerMs * random()
  }

  async tick(signal: AbortSignal): Promise<void> {
    const { pointers, clock } = this.#deps
    const now = clock.now()
    const isDue = !this.#isFound || now >= this.#dueAt
    if (pointers.isLost || !(isDue || this.#unfound.length > 0)) return
    pointers.trimFingers()
    const powers = pointers.fingerPowers()
    if (powers.length === 0) return
    if (isDue) {
      this.#unfound.push(...(this.#isFound ? [powers[this.#nextPower++ % powers.length]!] : powers))
      this.#dueAt = now + this.#fingerMs
      this.#isFound = true
    }
    while (this.#unfound.length > 0 && clock.now() - now < ROUND_MS) await this.#find(this.#unfound.shift()!, signal)
  }

  async #find(power: number, signal: AbortSignal): Promise<void> {
    const { pointers, calls } = this.#deps
    const found = await calls
      .lookup(plus(pointers.id, power), LOOKUP_MS)
      .next(signal)
      .catch(() => undefined)
    signal.throwIfAborted()
    const finger = found?.owners.find((member) => !calls.isSuspect(member))
    if (finger) pointers.setFinger(power, finger)
  }
}
