import { SingleBar } from 'cli-progress'
import type { Terminal } from './io.ts'
import { count, duration, rate, shorten, size, width } from './text.ts'

/** What is known besides bytes. */
export interface ProgressDetails {
  /** bytes a second, where it is known better than from the calls */
  readonly rate?: number
  /** what else is counted: `461/1024 pieces` */
  readonly parts?: string | undefined
  readonly peers?: number
}

/** What is shown of something that takes a while. */
export interface Progress {
  /** `bytes` of `total` */
  update(bytes: number, total: number, details?: ProgressDetails): void
  /** What goes on before or after bytes move. */
  phase(text: string): void
  /** Nobody is there to fetch from; it asks again after so many ms. */
  waiting(retryMs: number): void
  /** `say` writes whole lines to the same terminal; what is shown comes back below them. */
  interject(say: () => void): void
  stop(): void
}

export const noProgress: Progress = {
  update: () => {},
  phase: () => {},
  waiting: () => {},
  interject: (say) => say(),
  stop: () => {},
}

/** Columns left free at the end of the line: a terminal echoes Ctrl-C as `^C`, and where that wraps the line stays behind. */
const FREE = 3

/** Seconds over which the rate is averaged. */
const RATE_WINDOW = 2

/** A bar that is shorter gives way to numbers, and one that is shorter than the least to nothing. */
const COMFORTABLE_BAR = 10
const LEAST_BAR = 4

/** One line at the bottom of a terminal, gone when it stops. `label` has no control characters. */
export class TerminalProgress implements Progress {
  readonly #bar: SingleBar
  readonly #terminal: Terminal
  readonly #now: () => number
  readonly #meter: RateMeter
  #details: ProgressDetails = {}
  /** in place of the bar */
  #text: (() => string) | undefined = () => ''

  constructor(label: string, terminal: Terminal, now: () => number = () => performance.now()) {
    this.#terminal = terminal
    this.#now = now
    this.#meter = new RateMeter(now)
    this.#bar = new SingleBar({
      stream: terminal as NodeJS.WritableStream,
      fps: 8,
      clearOnComplete: true,
      hideCursor: true,
      // Ctrl-C takes the bar away at once, and shows the cursor again.
      gracefulExit: true,
      linewrap: true,
      format: (_options, { value, total }) => {
        const columns = terminal.columns ?? 80
        if (this.#text) return shorten(`${label}  ${this.#text()}`, columns - FREE)
        return progressLine({ label, bytes: value, total, rate: 0, ...this.#details, columns })
      },
    })
    this.#bar.start(0, 0)
  }

  update(bytes: number, total: number, details: ProgressDetails = {}): void {
    this.#text = undefined
    this.#details = { rate: this.#meter.at(bytes), ...details }
    this.#bar.setTotal(total)
    this.#bar.update(bytes)
  }

  phase(text: string): void {
    this.#text = () => `${text}…`
  }

  waiting(retryMs: number): void {
    const until = this.#now() + retryMs
    this.#text = () => waitingText(until - this.#now())
  }

  interject(say: () => void): void {
    this.#terminal.write('\r\x1b[2K')
    say()
    // The library goes back to the place that was kept at its start: it is this line from now on.
    this.#terminal.write('\x1b7')
  }

  stop(): void {
    this.#bar.stop()
  }
}

/** `no provider at the moment; asks again in 8 s` */
export function waitingText(ms: number): string {
  const seconds = Math.ceil(ms / 1000)
  const when = seconds <= 0 ? 'now' : `in ${seconds < 60 ? `${seconds} s` : duration(seconds)}`
  return `no provider at the moment; asks again ${when}`
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

interface LineState extends ProgressDetails {
  readonly label: string
  readonly bytes: number
  readonly total: number
  readonly rate: number
  readonly columns: number
}

/**
 * `film.mkv ━━━━━━━━────── 45 %  1.2 of 2.7 GB  461/1024 pieces  5 peers  412 MB/s  3.6 s left`, in at most
 * `columns` - 3. Where that is too little, the parts go first, then the peers, then the bar.
 */
export function progressLine(p: LineState): string {
  const { parts, peers, ...least } = p
  const variants: [LineState, number][] = [
    [p, COMFORTABLE_BAR],
    [{ ...least, ...(peers === undefined ? {} : { peers }) }, COMFORTABLE_BAR],
    [least, LEAST_BAR],
  ]
  for (const [state, leastBar] of variants) {
    const line = barLine(state, leastBar)
    if (line !== undefined) return line
  }
  const room = p.columns - FREE
  return shorten(`${shownLabel(p.label, room, numbersOf(least))} ${numbersOf(least)}`, room)
}

/** The line with a bar; undefined where it would be shorter than that. */
function barLine(state: LineState, leastBar: number): string | undefined {
  const room = state.columns - FREE
  const numbers = numbersOf(state)
  const label = shownLabel(state.label, room, numbers)
  const bar = Math.min(40, room - width(label) - width(numbers) - 2)
  if (bar < leastBar) return undefined
  const done = Math.floor(shareOf(state) * bar)
  return `${label} ${'━'.repeat(done)}${'─'.repeat(bar - done)} ${numbers}`
}

function shownLabel(label: string, room: number, numbers: string): string {
  return shorten(label, Math.max(8, Math.min(40, room - width(numbers) - 14)))
}

function numbersOf(state: LineState): string {
  const { bytes, total, parts, peers } = state
  const known = [
    `${String(Math.floor(shareOf(state) * 100)).padStart(3)} %`,
    amount(bytes, total),
    parts,
    peers === undefined ? undefined : count(peers, 'peer'),
    rate(state.rate),
    state.rate > 0 ? `${duration((total - bytes) / state.rate)} left` : undefined,
  ]
  return known.filter((text) => text !== undefined).join('  ')
}

function shareOf({ bytes, total }: Pick<LineState, 'bytes' | 'total'>): number {
  return total === 0 ? 1 : Math.min(1, bytes / total)
}

/** `450 MB of 1 GB`, `1.2 of 2.7 GB` */
export function amount(bytes: number, total: number): string {
  const [number, unit] = size(bytes).split(' ')
  const all = size(total)
  return all.endsWith(` ${unit}`) ? `${number} of ${all}` : `${size(bytes)} of ${all}`
}
