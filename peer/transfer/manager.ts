import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, type PeerId, printable } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import type { TransferBody, TransferMode, TransferState } from '../../common/schemas.ts'
import type { DownloadObserver } from './download.ts'
import { type DownloadRequest, Fetcher, type FetcherDeps, fileOf, isAbsence } from './fetcher.ts'
import { FetchProgress, NOTHING_BEFORE } from './progress.ts'
import { Transfer, type TransferNews } from './transfer.ts'
import { forgetful, type SavedTransfer, type TransferLog } from './transfer-log.ts'
import { watchAll } from './watch-all.ts'

export type { DownloadRequest } from './fetcher.ts'

export interface TransferManagerDeps extends FetcherDeps {
  /** what is unfinished outlives the process there (default: nothing does) */
  saved?: TransferLog
  /** default: nobody is told */
  news?: TransferNews
  log: Logger
}

export interface TransferManagerOptions {
  /** of transfers that do not say (default `real`) */
  mode?: TransferMode
  /** transfers that run at the same time, the next ones wait in line (default 8); who waits for a provider is not counted */
  maxRunning?: number
  /** transfers that have not ended; more are refused (default 1,000) */
  maxActive?: number
  /** ended transfers that are remembered (default 1,000) */
  history?: number
}

/** A push that comes in, as the list of transfers shows it. */
export interface IncomingPush {
  /** aborts where the user cancels it */
  readonly signal: AbortSignal
  readonly observer: DownloadObserver
  end(outcome: 'done' | 'simulated' | NetworkError): void
}

/** A transfer that has not ended. */
interface Active {
  readonly transfer: Transfer
  /** undefined: a push */
  readonly request: DownloadRequest | undefined
  /** of the attempt under way, or the last one */
  attempt: AbortController
  /** when no attempt runs any more */
  finished: Promise<void>
  /** it has got somewhere before: that nobody is there now is no reason to give up */
  perseveres: boolean
  /** Asks again now, where it waits. */
  nudge: () => void
}

/** Between two snapshots of one transfer to one watcher. */
const WATCH_INTERVAL_MS = 200
/** Between two lookups of a transfer that perseveres: doubled each time, up to the second. */
const FIRST_RETRY_MS = 1000
const MAX_RETRY_MS = 30_000
/** What the user asked for is saved at once; what is found out, or can be found out again, within this. */
const SAVE_MS = 100

/**
 * Every download of an agent: starts them, lets a second request for the same join the first, bounds how many run,
 * pauses and resumes them, remembers how they went. Pushes by others are shown beside them. Whatever stops a transfer,
 * its verified bytes stay for the next attempt.
 */
export class TransferManager {
  readonly #deps: TransferManagerDeps
  readonly #options: Required<TransferManagerOptions>
  readonly #saved: TransferLog
  readonly #fetcher: Fetcher
  readonly #transfers = new Map<string, Transfer>()
  readonly #active = new Map<string, Active>()
  /** under way, also those of transfers that were cancelled */
  readonly #attempts = new Set<Promise<void>>()
  readonly #stopping = new AbortController()
  #count: number
  #saving: Promise<void> | undefined

  /** What was saved is listed at once, and goes on with `restore`. */
  constructor(deps: TransferManagerDeps, options: TransferManagerOptions = {}) {
    this.#deps = deps
    this.#options = { mode: 'real', maxRunning: 8, maxActive: 1000, history: 1000, ...options }
    this.#fetcher = new Fetcher({ ...deps, onFound: () => this.#saveSoon() }, this.#options)
    this.#saved = deps.saved ?? forgetful
    const { count, transfers } = this.#saved.load()
    this.#count = Math.max(count, ...transfers.map(({ transfer }) => Number(transfer)))
    for (const saved of transfers) this.#remember(saved)
  }

  /** Goes on with what the last run of the agent left unfinished, except for what is paused. */
  restore(): void {
    for (const active of this.#active.values()) if (active.transfer.state === 'queued') this.#launch(active)
  }

  /**
   * Starts a download, or joins the one that does just this already; where that is paused, resumes it.
   * @throws NetworkError `limited` where too many wait; `unavailable` after `stop`
   */
  start(request: DownloadRequest): TransferBody {
    if (this.#stopping.signal.aborted)
      throw new NetworkError('unavailable', 'this peer is stopping: it starts no more transfers')
    const mode = request.mode ?? this.#options.mode
    for (const same of this.#active.values())
      if (same.request && same.transfer.mode === mode && sameRequest(request, same.request))
        return this.#askedAgain(same, request)
    if (this.#active.size >= this.#options.maxActive)
      throw new NetworkError('limited', `${this.#active.size} transfers wait already: try again when some are done`)
    const transfer = new Transfer(this.#deps, { number: String(++this.#count), mode })
    transfer.file = shownName(request, null)
    transfer.id = request.id ?? null
    transfer.limit = request.limit ?? null
    const active = this.#add(transfer, request)
    this.#launch(active)
    this.#saveNow()
    return transfer.snapshot()
  }

  /** Newest first. */
  list(filter: { state?: TransferState | undefined } = {}): TransferBody[] {
    return [...this.#transfers.values()]
      .filter(({ state }) => filter.state === undefined || state === filter.state)
      .reverse()
      .map((transfer) => transfer.snapshot())
  }

  get(number: string): TransferBody | undefined {
    return this.#transfers.get(number)?.snapshot()
  }

  /**
   * Stops it and keeps what it has, until `resume`; also the next run of the agent leaves it paused.
   * @throws NetworkError `not_found`; `conflict` where it has ended, is paused or is a push
   */
  pause(number: string): TransferBody {
    const active = this.#unended(number)
    const { transfer, request } = active
    if (!request)
      throw new NetworkError(
        'conflict',
        `transfer ${number} is pushed by another peer: it can be cancelled, not paused`,
      )
    if (transfer.state === 'paused')
      throw new NetworkError('conflict', `transfer ${number} is paused already: resume it, or cancel it`)
    transfer.pause()
    active.attempt.abort()
    this.#saveNow()
    return transfer.snapshot()
  }

  /** @throws NetworkError `not_found`; `conflict` where it has ended or is not paused */
  resume(number: string): TransferBody {
    const active = this.#unended(number)
    const { state } = active.transfer
    if (state !== 'paused')
      throw new NetworkError('conflict', `transfer ${number} is not paused: its state is ${state}`)
    active.transfer.resume()
    active.perseveres ||= active.transfer.mode === 'real' && active.transfer.begun
    this.#launch(active)
    this.#saveNow()
    return active.transfer.snapshot()
  }

  /**
   * `bytesPerSecond`: from now on; null: no limit of its own.
   * @throws NetworkError `not_found`; `conflict` where it has ended or is a push
   */
  setLimit(number: string, bytesPerSecond: number | null): TransferBody {
    const { transfer, request } = this.#unended(number)
    if (!request)
      throw new NetworkError('conflict', `transfer ${number} is pushed by another peer: it has no limit of its own`)
    transfer.limit = bytesPerSecond
    this.#saveNow()
    return transfer.snapshot()
  }

  /** @throws NetworkError `not_found`; `conflict` where it has ended */
  cancel(number: string): TransferBody {
    const active = this.#unended(number)
    active.transfer.end('cancelled')
    active.attempt.abort()
    this.#forget(active)
    this.#saveNow()
    return active.transfer.snapshot()
  }

  /**
   * The transfer now, at changes, and at its end, where the iteration ends.
   * @throws NetworkError `not_found`
   */
  watch(number: string, signal: AbortSignal): AsyncIterable<TransferBody> {
    const transfer = this.#find(number)
    return transfer.watch(WATCH_INTERVAL_MS, AbortSignal.any([signal, this.#stopping.signal]))
  }

  /** All transfers now, oldest first, then each that changed, however long it takes. */
  watchAll(signal: AbortSignal): AsyncIterable<TransferBody> {
    const over = AbortSignal.any([signal, this.#stopping.signal])
    return watchAll(() => this.#transfers.values(), { clock: this.#deps.clock, intervalMs: WATCH_INTERVAL_MS }, over)
  }

  /** Shows a push that another peer has begun; whoever calls ends it. */
  receiving(push: { file: FileName; id: ContentId; size: number; from: PeerId; mode: TransferMode }): IncomingPush {
    const { file, id, size, from, mode } = push
    const transfer = new Transfer(this.#deps, { number: String(++this.#count), mode, direction: 'push' })
    transfer.file = file
    transfer.id = id
    transfer.size = size
    const progress = new FetchProgress(this.#deps, { ...NOTHING_BEFORE, providers: [{ peer: from, bytes: 0 }] })
    transfer.attach(progress)
    const active = this.#add(transfer, undefined)
    return {
      signal: active.attempt.signal,
      observer: progress,
      end: (outcome) => {
        if (outcome instanceof NetworkError) this.#fail(transfer, outcome)
        else transfer.end(outcome)
        this.#forget(active)
      },
    }
  }

  /** Stops what runs, and returns when nothing runs any more. What is unfinished stays saved. */
  async stop(): Promise<void> {
    this.#saveNow()
    this.#stopping.abort()
    for (const { attempt } of this.#active.values()) attempt.abort()
    await Promise.all(this.#attempts)
    await this.#fetcher.over()
  }

  #find(number: string): Transfer {
    const transfer = this.#transfers.get(number)
    if (!transfer) throw new NetworkError('not_found', `there is no transfer "${printable(number)}"`)
    return transfer
  }

  #unended(number: string): Active {
    const transfer = this.#find(number)
    const active = this.#active.get(number)
    if (!active || transfer.ended)
      throw new NetworkError('conflict', `transfer ${number} has ended: ${transfer.snapshot().state}`)
    return active
  }

  #askedAgain(same: Active, { limit }: DownloadRequest): TransferBody {
    const { transfer } = same
    if (limit !== undefined) transfer.limit = limit
    if (transfer.state === 'paused') return this.resume(transfer.number)
    if (limit !== undefined) this.#saveNow()
    same.nudge()
    return transfer.snapshot()
  }

  #remember(saved: SavedTransfer): void {
    const { mode, request, name, id, paused, limit, started } = saved
    const transfer = new Transfer(this.#deps, { number: saved.transfer, mode, started })
    transfer.file = shownName(request, name)
    transfer.id = id
    transfer.limit = limit
    if (paused) transfer.pause()
    else transfer.queued()
    this.#add(transfer, request).perseveres = mode === 'real'
  }

  #add(transfer: Transfer, request: DownloadRequest | undefined): Active {
    const active: Active = {
      transfer,
      request,
      attempt: new AbortController(),
      finished: Promise.resolve(),
      perseveres: false,
      nudge: () => {},
    }
    this.#transfers.set(transfer.number, transfer)
    this.#active.set(transfer.number, active)
    return active
  }

  /** A new attempt, once the one before it has let go of everything. */
  #launch(active: Active): void {
    active.attempt = new AbortController()
    const { signal } = active.attempt
    const finished = active.finished.then(() => this.#run(active, signal))
    active.finished = finished
    this.#attempts.add(finished)
    void finished.then(() => this.#attempts.delete(finished))
  }

  /** Attempts until it ends, or is stopped: then whoever stopped it has said how it stands. */
  async #run(active: Active, signal: AbortSignal): Promise<void> {
    const { transfer, request } = active
    for (let retryMs = FIRST_RETRY_MS; !signal.aborted; retryMs = Math.min(2 * retryMs, MAX_RETRY_MS)) {
      try {
        const outcome = await this.#fetcher.fetch(transfer, request!, active, signal)
        if (!signal.aborted) transfer.end(outcome)
      } catch (error) {
        if (signal.aborted) return transfer.stopped()
        if (active.perseveres && isAbsence(error)) {
          transfer.noteOnce(asNetworkError(error).message)
          await this.#wait(active, retryMs, signal)
          continue
        }
        this.#fail(transfer, error)
      }
      if (!transfer.ended) return
      this.#forget(active)
      this.#saveSoon()
      return
    }
  }

  async #wait(active: Active, retryMs: number, signal: AbortSignal): Promise<void> {
    const nudged = new AbortController()
    active.nudge = () => nudged.abort()
    active.transfer.waits(retryMs)
    await this.#deps.clock.sleep(retryMs, AbortSignal.any([signal, nudged.signal]))
    active.nudge = () => {}
  }

  #fail(transfer: Transfer, error: unknown): void {
    const known = asNetworkError(error)
    if (known.code === 'internal') this.#deps.log.error({ transfer: transfer.number, err: error }, 'a transfer failed')
    if (known.code === 'cancelled') transfer.end('cancelled')
    else transfer.end('failed', known)
  }

  #forget({ transfer }: Active): void {
    this.#active.delete(transfer.number)
    let excess = this.#transfers.size - this.#active.size - this.#options.history
    for (const number of this.#transfers.keys()) {
      if (excess <= 0) return
      if (this.#active.has(number)) continue
      this.#transfers.delete(number)
      excess--
    }
  }

  #saveSoon(): void {
    this.#saving ??= this.#deps.clock.sleep(SAVE_MS, this.#stopping.signal).then(() => {
      this.#saving = undefined
      this.#saveNow()
    })
  }

  #saveNow(): void {
    if (this.#stopping.signal.aborted) return
    const transfers: SavedTransfer[] = []
    for (const { transfer, request } of this.#active.values()) {
      if (!request) continue
      const { number, mode, id, limit, started } = transfer
      const { file, folder, as, via } = request
      const paused = transfer.state === 'paused'
      const asked = { file, id: request.id, folder, as, via }
      transfers.push({
        transfer: number,
        mode,
        request: asked,
        name: fileOf(transfer) ?? null,
        id,
        paused,
        limit,
        started,
      })
    }
    this.#saved.save({ count: this.#count, transfers })
  }
}

/** How a transfer is called before more is known of it than what was asked for. */
function shownName({ file, folder, as }: DownloadRequest, found: FileName | null): Transfer['file'] {
  return folder === undefined ? (found ?? as ?? file ?? null) : `${as ?? folder}/`
}

function sameRequest(a: DownloadRequest, b: DownloadRequest): boolean {
  return a.file === b.file && a.id === b.id && a.folder === b.folder && a.as === b.as && a.via === b.via
}
