/** What a rate of late is measured over, and how often it is looked at. */
const WINDOW_MS = 3000
const SAMPLE_MS = 100
const PEAK_MS = 1000

interface Sample {
  readonly at: number
  readonly bytes: number
}

/** Bytes a second, from a count of bytes that grows: of late, and in the best second there was. */
export class Throughput {
  /** of the best second so far; 0 before one is over */
  peak = 0
  #samples: Sample[] = []
  #bytes = 0

  /** Begins anew with the next bytes: that none came before is no slowness. What was the best second stays. */
  restart(): void {
    this.#samples = []
  }

  /** `bytes`: all that there are by now */
  add(now: number, bytes: number): void {
    this.#bytes = bytes
    if (now - (this.#samples.at(-1)?.at ?? 0) < SAMPLE_MS) return
    this.#samples.push({ at: now, bytes })
    while (this.#samples.length > 2 && now - this.#samples[1]!.at >= WINDOW_MS) this.#samples.shift()
    const before = this.#samples.findLast(({ at }) => now - at >= PEAK_MS)
    if (before) this.peak = Math.max(this.peak, speed(before, { at: now, bytes }))
  }

  rate(now: number): number {
    const first = this.#samples[0]
    return first ? speed(first, { at: now, bytes: this.#bytes }) : 0
  }
}

function speed(from: Sample, to: Sample): number {
  return to.at > from.at ? Math.round(((to.bytes - from.bytes) * 1000) / (to.at - from.at)) : 0
}
