import { type Slot, Slots } from '../transfer/slots.ts'

/** A semaphore for each host. */
export class HostSlots {
  readonly #most: number
  readonly #hosts = new Map<string, { slots: Slots; users: number }>()

  /** @param most slots of one host */
  constructor(most: number) {
    this.#most = most
  }

  /** A slot where one is free at once; undefined otherwise. */
  tryAcquire(host: string): Slot | undefined {
    const of = this.#enter(host)
    const slot = of.slots.tryAcquire()
    if (slot) return this.#leaving(host, slot)
    this.#leave(host)
    return undefined
  }

  /** @throws NetworkError `cancelled` where the signal aborts while waiting */
  async acquire(host: string, signal: AbortSignal): Promise<Slot> {
    try {
      return this.#leaving(host, await this.#enter(host).slots.acquire(signal))
    } catch (error) {
      this.#leave(host)
      throw error
    }
  }

  #enter(host: string): { slots: Slots; users: number } {
    const of = this.#hosts.get(host) ?? { slots: new Slots(this.#most), users: 0 }
    of.users++
    this.#hosts.set(host, of)
    return of
  }

  #leave(host: string): void {
    if (--this.#hosts.get(host)!.users === 0) this.#hosts.delete(host)
  }

  #leaving(host: string, slot: Slot): Slot {
    let held = true
    return {
      release: () => {
        if (!held) return
        held = false
        slot.release()
        this.#leave(host)
      },
    }
  }
}
