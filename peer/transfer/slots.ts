import { NetworkError } from '../../common/errors.ts'

/** A right to work, out of a bounded number; `release` may be called more than once. */
export interface Slot {
  release(): void
}

/** A semaphore whose slots are given in the order in which they were asked for. */
export class Slots {
  #free: number
  #waiting = new Set<(slot: Slot) => void>()

  constructor(count: number) {
    this.#free = count
  }

  /** Whether someone waits for a slot. */
  get contended(): boolean {
    return this.#waiting.size > 0
  }

  /** A slot where one is free at once; undefined otherwise. */
  tryAcquire(): Slot | undefined {
    if (this.#free === 0) return undefined
    this.#free--
    return this.#slot()
  }

  /** @throws NetworkError `cancelled` where the signal aborts while waiting */
  acquire(signal: AbortSignal): Promise<Slot> {
    if (signal.aborted) return Promise.reject(new NetworkError('cancelled', 'cancelled'))
    const slot = this.tryAcquire()
    if (slot) return Promise.resolve(slot)
    return new Promise((resolve, reject) => {
      const take = (slot: Slot) => {
        signal.removeEventListener('abort', giveUp)
        resolve(slot)
      }
      const giveUp = () => {
        this.#waiting.delete(take)
        reject(new NetworkError('cancelled', 'cancelled'))
      }
      this.#waiting.add(take)
      signal.addEventListener('abort', giveUp, { once: true })
    })
  }

  #slot(): Slot {
    let held = true
    return {
      release: () => {
        if (!held) return
        held = false
        const [next] = this.#waiting
        if (next) {
          this.#waiting.delete(next)
          next(this.#slot())
        } else this.#free++
      },
    }
  }
}
