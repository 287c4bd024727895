import type { Clock } from '../../common/clock.ts'
import type { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import {
  type EndState,
  type FetchProgressBody,
  isEndState,
  type LookupStep,
  type StrategyName,
  type TransferBody,
  type TransferMode,
  type TransferState,
} from '../../common/schemas.ts'
import { type Before, type FetchProgress, NO_PROGRESS } from './progress.ts'

const MAX_NOTES = 50
/** While bytes should come, watchers see the rate this often, also where nothing changes but time. */
const RATE_SEEN_MS = 1000

export interface TransferIdentity {
  readonly number: string
  readonly mode: TransferMode
  /** default `download` */
  readonly direction?: TransferBody['direction']
  /** ms since the epoch (default: now) */
  readonly started?: number
}

/** Who is told what becomes of transfers. */
export interface TransferNews {
  /** It fetches for the first time in this run of the agent. */
  started(transfer: TransferBody): void
  ended(transfer: TransferBody): void
}

/** One transfer as people see it: how it stands, and who watches. Once ended it never changes. */
export class Transfer {
  readonly number: string
  readonly mode: TransferMode
  readonly direction: TransferBody['direction']
  /** ms since the epoch */
  readonly started: number
  /** as people read it: a folder ends with `/` */
  file: FileName | `${FileName}/` | null = null
  id: ContentId | null = null
  size: number | null = null
  via: StrategyName | null = null
  steps: readonly LookupStep[] = []
  readonly #clock: Clock
  readonly #news: TransferNews | undefined
  #isStarted = false
  /** undefined: as the fetch stands */
  #state: TransferState | undefined = 'locating'
  #fetch: { progress: FetchProgress; unlisten: () => void } | undefined
  /** the fetch before, which may still have been bringing something when it was left */
  #former: FetchProgress | undefined
  /** as it was left */
  #last: FetchProgressBody = NO_PROGRESS
  #joined: string | null = null
  #limit: number | null = null
  #retryMs = 0
  #activeMs = 0
  #activeSince: number | undefined
  #notes: string[] = []
  #error: NetworkError | undefined
  #version = 0
  #waiting = new Set<() => void>()
  readonly #end = new AbortController()

  constructor(
    deps: { clock: Clock; news?: TransferNews | undefined },
    { number, mode, direction, started }: TransferIdentity,
  ) {
    this.#clock = deps.clock
    this.#news = deps.news
    this.number = number
    this.mode = mode
    this.direction = direction ?? 'download'
    this.started = started ?? deps.clock.now()
    this.#activeSince = deps.clock.now()
  }

  get state(): TransferState {
    return this.#state ?? this.#fetch?.progress.phase ?? 'locating'
  }

  get ended(): boolean {
    return isEndState(this.state)
  }

  /** Grows with every change. */
  get version(): number {
    return this.#version
  }

  get limit(): number | null {
    return this.#limit
  }

  set limit(bytesPerSecond: number | null) {
    this.#limit = bytesPerSecond
    this.changed()
  }

  /** What it has brought so far, for an attempt to count on from; also what came while it was being stopped. */
  get before(): Before {
    return this.#former?.snapshot() ?? this.#last
  }

  /** Whether it had got as far as bytes that are proven to be of its content. */
  get begun(): boolean {
    return (this.#fetch?.progress.snapshot() ?? this.#last).size !== null
  }

  /** From now on it stands as this fetch does; `joined`: the other transfer that it was begun for. */
  attach(progress: FetchProgress, joined: string | null = null): void {
    if (this.ended) return
    this.#detach()
    this.#fetch = { progress, unlisten: progress.listen(() => this.changed()) }
    this.#joined = joined
    this.#enter(undefined)
    if (this.#isStarted) return
    this.#isStarted = true
    this.#news?.started(this.snapshot())
  }

  queued(): void {
    this.#enter('queued')
  }

  locating(): void {
    this.#enter('locating')
  }

  /** Nobody is there to fetch it from, and it asks again after so many ms. */
  waits(retryMs: number): void {
    this.#detach()
    this.#retryMs = retryMs
    this.#enter('waiting')
  }

  pause(): void {
    if (this.ended) return
    this.#stopTime()
    this.#detach()
    this.#enter('paused')
  }

  /** Its attempt has let go: what came while it was being paused counts, such as files that were verified and landed. */
  stopped(): void {
    if (this.ended || !this.#former) return
    this.#last = this.#former.snapshot()
    this.changed()
  }

  resume(): void {
    this.#activeSince = this.#clock.now()
    this.#enter('queued')
  }

  note(text: string): void {
    this.#notes.push(text)
    if (this.#notes.length > MAX_NOTES) this.#notes.shift()
    this.changed()
  }

  /** As `note`, but says nothing twice in a row. */
  noteOnce(text: string): void {
    if (this.#notes.at(-1) !== text) this.note(text)
  }

  end(state: EndState, error?: NetworkError): void {
    if (this.ended) return
    this.#error = error
    this.#stopTime()
    this.#detach()
    this.#enter(state)
    this.#former = undefined
    this.#end.abort()
    this.#news?.ended(this.snapshot())
  }

  /** Something that people see is different now. */
  changed(): void {
    this.#version++
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }

  snapshot(): TransferBody {
    const progress = this.#fetch?.progress.snapshot() ?? this.#last
    const { state } = this
    const size = progress.size ?? this.size
    const seconds = this.#seconds()
    const fetched = Math.max(0, progress.bytes - progress.resumed_bytes)
    const rate = this.ended && seconds > 0 ? Math.round(fetched / seconds) : state === 'running' ? progress.rate : 0
    return {
      ...progress,
      transfer: this.number,
      state,
      mode: this.mode,
      direction: this.direction,
      file: this.file,
      id: this.id,
      size,
      rate,
      waiting: state === 'waiting' ? (progress.waiting ?? { retry_ms: this.#retryMs }) : null,
      joined: this.#joined,
      limit: this.#limit,
      eta_s: state === 'running' && rate > 0 && size !== null ? (size - progress.bytes) / rate : null,
      via: this.via,
      steps: [...this.steps],
      notes: [...this.#notes, ...(this.#fetch?.progress.notes ?? [])].slice(-MAX_NOTES),
      error: this.#error ? this.#error.toBody().error : null,
      started: new Date(this.started).toISOString(),
      seconds,
    }
  }

  /**
   * The transfer now, then at changes, no more often than `intervalMs`, and at its end, where the iteration ends. A slow
   * reader misses what is between, never the end.
   */
  async *watch(intervalMs: number, signal: AbortSignal): AsyncGenerator<TransferBody, undefined> {
    const over = AbortSignal.any([signal, this.#end.signal])
    while (!signal.aborted) {
      const { version, ended } = this
      yield this.snapshot()
      if (ended) return
      await this.#clock.sleep(intervalMs, over)
      if (this.#version === version) await this.#change(signal)
    }
  }

  #enter(state: TransferState | undefined): void {
    if (this.ended) return
    this.#state = state
    this.changed()
  }

  #detach(): void {
    if (!this.#fetch) return
    const { progress, unlisten } = this.#fetch
    unlisten()
    this.#last = progress.snapshot()
    this.#former = progress
    for (const note of progress.notes) this.note(note)
    this.#fetch = undefined
  }

  #stopTime(): void {
    this.#activeMs += this.#clock.now() - (this.#activeSince ?? this.#clock.now())
    this.#activeSince = undefined
  }

  #seconds(): number {
    const running = this.#activeSince === undefined ? 0 : this.#clock.now() - this.#activeSince
    return (this.#activeMs + running) / 1000
  }

  /** Returns at the next change; where bytes should come, after a while at the latest. */
  async #change(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return
    const changed = new AbortController()
    const wake = () => changed.abort()
    this.#waiting.add(wake)
    signal.addEventListener('abort', wake, { once: true })
    const patience = this.state === 'running' ? RATE_SEEN_MS : Number.POSITIVE_INFINITY
    await untilAborted(changed.signal, patience, this.#clock)
    this.#waiting.delete(wake)
    signal.removeEventListener('abort', wake)
  }
}

function untilAborted(signal: AbortSignal, ms: number, clock: Clock): Promise<void> {
  if (Number.isFinite(ms)) return clock.sleep(ms, signal)
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    else signal.addEventListener('abort', () => resolve(), { once: true })
  })
}
