import type { Clock } from '../../common/clock.ts'
import type { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import {
  type EndState,
  isEndState,
  type LookupStep,
  type StrategyName,
  type TransferBody,
  type TransferMode,
  type TransferState,
} from '../../common/schemas.ts'

const RATE_WINDOW_MS = 3000
const RATE_SAMPLE_MS = 100
const MAX_NOTES = 50

/** One transfer as people see it: how it stands, and who watches. Once ended it never changes. */
export class Transfer {
  readonly number: string
  readonly mode: TransferMode
  file: FileName | null
  id: ContentId | null
  size: number | null = null
  via: StrategyName | null = null
  steps: readonly LookupStep[] = []
  #clock: Clock
  #started: number
  #endedAt: number | undefined
  #state: TransferState = 'locating'
  #bytes = 0
  #resumedBytes = 0
  #providers = new Map<PeerId, number>()
  #notes: string[] = []
  #error: NetworkError | undefined
  #samples: { at: number; bytes: number }[] = []
  #version = 0
  #waiting = new Set<() => void>()
  #end = new AbortController()

  constructor(
    deps: { clock: Clock },
    { number, mode, file, id }: { number: string; mode: TransferMode; file: FileName | null; id: ContentId | null },
  ) {
    this.#clock = deps.clock
    this.#started = deps.clock.now()
    this.number = number
    this.mode = mode
    this.file = file
    this.id = id
  }

  get ended(): boolean {
    return isEndState(this.#state)
  }

  /** It has begun to fetch, with so many bytes here already. */
  running(size: number, resumedBytes: number): void {
    this.size = size
    this.#bytes = resumedBytes
    this.#resumedBytes = resumedBytes
    this.#samples = [{ at: this.#clock.now(), bytes: resumedBytes }]
    this.#enter('running')
  }

  received(peer: PeerId, bytes: number): void {
    this.#bytes += bytes
    this.#providers.set(peer, (this.#providers.get(peer) ?? 0) + bytes)
    const now = this.#clock.now()
    if (now - (this.#samples.at(-1)?.at ?? 0) >= RATE_SAMPLE_MS) {
      this.#samples.push({ at: now, bytes: this.#bytes })
      while (this.#samples.length > 2 && now - this.#samples[1]!.at >= RATE_WINDOW_MS) this.#samples.shift()
    }
    this.changed()
  }

  verifying(): void {
    this.#enter('verifying')
  }

  note(text: string): void {
    this.#notes.push(text)
    if (this.#notes.length > MAX_NOTES) this.#notes.shift()
    this.changed()
  }

  /** The content was here in full before anything was fetched. */
  alreadyHere(size: number): void {
    this.size = size
    this.#bytes = size
    this.#resumedBytes = size
  }

  end(state: EndState, error?: NetworkError): void {
    if (this.ended) return
    this.#error = error
    this.#endedAt = this.#clock.now()
    this.#enter(state)
    this.#end.abort()
  }

  /** Something that people see is different now. */
  changed(): void {
    this.#version++
    for (const wake of this.#waiting) wake()
    this.#waiting.clear()
  }

  snapshot(): TransferBody {
    const now = this.#endedAt ?? this.#clock.now()
    return {
      transfer: this.number,
      state: this.#state,
      mode: this.mode,
      file: this.file,
      id: this.id,
      size: this.size,
      bytes: this.#bytes,
      resumed_bytes: this.#resumedBytes,
      rate: this.#rate(now),
      via: this.via,
      providers: [...this.#providers].map(([peer, bytes]) => ({ peer, bytes })),
      steps: [...this.steps],
      notes: [...this.#notes],
      error: this.#error ? this.#error.toBody().error : null,
      started: new Date(this.#started).toISOString(),
      seconds: (now - this.#started) / 1000,
    }
  }

  /**
   * The transfer now, then at changes, no more often than `intervalMs`, and at its end, where the iteration ends. A slow
   * reader misses what is between, never the end.
   */
  async *watch(intervalMs: number, signal: AbortSignal): AsyncGenerator<TransferBody, undefined> {
    for (let seen = -1; !signal.aborted; ) {
      if (seen === this.#version) await this.#change(signal)
      else {
        seen = this.#version
        const { ended } = this
        yield this.snapshot()
        if (ended) return
        await this.#clock.sleep(intervalMs, this.#end.signal)
      }
    }
  }

  #enter(state: TransferState): void {
    if (this.ended) return
    this.#state = state
    this.changed()
  }

  /** Bytes a second over the last few seconds; after the end, over all of it. */
  #rate(now: number): number {
    if (this.#endedAt !== undefined) {
      const seconds = (this.#endedAt - this.#started) / 1000
      return seconds > 0 ? Math.round((this.#bytes - this.#resumedBytes) / seconds) : 0
    }
    const first = this.#samples[0]
    if (!first || now <= first.at) return 0
    return Math.round(((this.#bytes - first.bytes) * 1000) / (now - first.at))
  }

  #change(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        signal.removeEventListener('abort', wake)
        this.#waiting.delete(wake)
        resolve()
      }
      this.#waiting.add(wake)
      signal.addEventListener('abort', wake, { once: true })
    })
  }
}
