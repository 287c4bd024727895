import type { Clock } from '../../common/clock.ts'

interface Event {
  readonly due: number
  readonly order: number
  readonly run: () => void
}

/**
 * Time that passes only as far as something is due: a simulated hour takes as long as what happens in it. What is due
 * together runs in the order in which it was asked for, and all that follows from it at once, before time goes on; so a
 * simulation repeats itself exactly.
 */
export class VirtualClock implements Clock {
  #now = 0
  #order = 0
  /** a binary heap, what is due first on top */
  readonly #heap: Event[] = []

  now(): number {
    return this.#now
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) return Promise.resolve()
    const due = this.#now + Math.max(0, ms)
    if (!signal) return new Promise((resolve) => this.at(due, resolve))
    return new Promise((resolve) => {
      const wake = () => {
        signal.removeEventListener('abort', wake)
        resolve()
      }
      signal.addEventListener('abort', wake, { once: true })
      this.at(due, wake)
    })
  }

  /** Runs something at a time, ms. */
  at(due: number, run: () => void): void {
    this.#push({ due: Math.max(due, this.#now), order: this.#order++, run })
  }

  /** Lets time pass until `until`, ms. */
  async runUntil(until: number): Promise<void> {
    await settled()
    for (let next = this.#heap[0]; next !== undefined && next.due <= until; next = this.#heap[0]) {
      this.#now = next.due
      for (let top = this.#heap[0]; top !== undefined && top.due <= this.#now; top = this.#heap[0]) this.#pop().run()
      await settled()
    }
    this.#now = Math.max(this.#now, until)
  }

  /** Lets time pass until a promise is settled. @throws Error where nothing is due any more and it is not */
  async run<T>(promise: Promise<T>): Promise<T> {
    let done = false
    const end = promise.finally(() => {
      done = true
    })
    end.catch(() => {})
    await settled()
    while (!done) {
      const next = this.#heap[0]
      if (next === undefined) throw new Error('the simulation waits for something that never happens')
      await this.runUntil(next.due)
    }
    return end
  }

  #push(event: Event): void {
    const heap = this.#heap
    let at = heap.length
    heap.push(event)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(event, heap[parent]!)) break
      heap[at] = heap[parent]!
      at = parent
    }
    heap[at] = event
  }

  #pop(): Event {
    const heap = this.#heap
    const top = heap[0]!
    const last = heap.pop()!
    if (heap.length === 0) return top
    let at = 0
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && isBefore(heap[child + 1]!, heap[child]!)) child++
      if (!isBefore(heap[child]!, last)) break
      heap[at] = heap[child]!
      at = child
    }
    heap[at] = last
    return top
  }
}

function isBefore(a: Event, b: Event): boolean {
  return a.due < b.due || (a.due === b.due && a.order < b.order)
}

/** All that follows from what has happened is done: promises come before this. */
function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
