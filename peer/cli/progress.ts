import { SingleBar } from 'cli-progress'
import type { Terminal } from './io.ts'
import { duration, rate, shorten, size, width } from './text.ts'

/** What is shown of something that takes a while. */
export interface Progress {
  /** `bytes` of `total`; `bytesPerSecond` where it is known better than from these calls */
  update(bytes: number, total: number, bytesPerSecond?: number): void
  /** What goes on before or after bytes move. */
  phase(text: string): void
  stop(): void
}

export const noProgress: Progress = { update: () => {}, phase: () => {}, stop: () => {} }

/** Columns left free at the end of the line: a terminal echoes Ctrl-C as `^C`, and where that wraps the line stays behind. */
const FREE = 3

/** Seconds over which the rate is averaged. */
const RATE_WINDOW = 2

/** One line at the bottom of a terminal, gone when it stops. `label` has no control characters. */
export class TerminalProgress implements Progress {
  readonly #bar: SingleBar
  readonly #meter: RateMeter
  #rate = 0
  #phase: string | undefined = ''

  constructor(label: string, terminal: Terminal, now: () => number = () => performance.now()) {
    this.#meter = new RateMeter(now)
    this.#bar = new SingleBar({
      stream: terminal as NodeJS.WritableStream,
      fps: 8,
      clearOnComplete: true,
      hideCursor: true,
      // Ctrl-C takes the bar away at once, and shows the cursor again.
      gracefulExit: true,
      linewrap: true,
      format: (_options, { value, total }) =>
        this.#phase === undefined
          ? progressLine({ label, bytes: value, total, rate: this.#rate, columns: terminal.columns ?? 80 })
          : shorten(`${label}  ${this.#phase}…`, (terminal.columns ?? 80) - FREE),
    })
    this.#bar.start(0, 0)
  }

  update(bytes: number, total: number, bytesPerSecond?: number): void {
    this.#phase = undefined
    this.#rate = bytesPerSecond ?? this.#meter.at(bytes)
    this.#bar.setTotal(total)
    this.#bar.update(bytes)
  }

  phase(text: string): void {
    this.#phase = text
  }

  stop(): void {
    this.#bar.stop()
  }
}

/** Bytes a second of late: an average that forgets. */
export class RateMeter {
  readonly #now: () => number
  #last: { at: number; bytes: number } | undefined
  #rate: number | undefined

  constructor(now: () => number) {
    this.#now = now
  }

  at(bytes: number): number {
    const at = this.#now()
    if (this.#last === undefined) this.#last = { at, bytes }
    const seconds = (at - this.#last.at) / 1000
    if (seconds < 0.1) return this.#rate ?? 0
    const fresh = Math.max(0, bytes - this.#last.bytes) / seconds
    const weight = 1 - Math.exp(-seconds / RATE_WINDOW)
    this.#rate = this.#rate === undefined ? fresh : this.#rate + weight * (fresh - this.#rate)
    this.#last = { at, bytes }
    return this.#rate
  }
}

/** `film.mkv ━━━━━━━━────── 45 %  1.2 GB of 2.7 GB  412 MB/s  3.6 s left`, in at most `columns` - 3. */
export function progressLine(p: {
  label: string
  bytes: number
  total: number
  rate: number
  columns: number
}): string {
  const room = p.columns - FREE
  const share = p.total === 0 ? 1 : Math.min(1, p.bytes / p.total)
  const left = p.rate > 0 ? `  ${duration((p.total - p.bytes) / p.rate)} left` : ''
  const numbers = `${String(Math.floor(share * 100)).padStart(3)} %  ${size(p.bytes)} of ${size(p.total)}  ${rate(p.rate)}${left}`
  const label = shorten(p.label, Math.max(8, Math.min(40, room - width(numbers) - 14)))
  const bar = Math.min(40, room - width(label) - width(numbers) - 2)
  if (bar < 4) return shorten(`${label} ${numbers}`, room)
  const done = Math.floor(share * bar)
  return `${label} ${'━'.repeat(done)}${'─'.repeat(bar - done)} ${numbers}`
}
