import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { TransferMode } from '../../common/schemas.ts'
import type { Landing } from './contents.ts'
import type { Download, DownloadResult } from './download.ts'
import { FetchProgress } from './progress.ts'
import type { Slot } from './slots.ts'
import type { PieceSource } from './source.ts'
import type { Transfer } from './transfer.ts'

/** What fetches a content: the downloader. */
export interface ContentDownloader {
  run(download: Download, signal: AbortSignal): Promise<DownloadResult>
}

export interface ContentFetchDeps {
  downloader: ContentDownloader
  landing: Pick<Landing, 'existing'>
  clock: Clock
  /** the right to run, held while it does not wait for a provider */
  slot: Slot
}

export interface ContentFetchOptions {
  readonly id: ContentId
  readonly mode: TransferMode
  readonly sources: readonly PieceSource[]
  readonly discover: NonNullable<Download['discover']>
}

type Outcome = DownloadResult['outcome']

interface Wish {
  readonly name: FileName
  resolve(outcome: Outcome): void
  reject(error: unknown): void
}

/**
 * One content on its way here, and the transfers that want it, each under its name. It runs from the first `join` on, as
 * long as one of them wants it.
 */
export class ContentFetch {
  readonly id: ContentId
  /** when nothing of it runs any more */
  readonly over: Promise<void>
  readonly #deps: ContentFetchDeps
  readonly #options: ContentFetchOptions
  readonly #progress: FetchProgress
  readonly #first: Transfer
  readonly #wishes = new Map<Transfer, Wish>()
  readonly #unwanted = new AbortController()
  #open = true

  /** Begins at once, for the sake of `first`, which joins before anything else happens. */
  constructor(deps: ContentFetchDeps, options: ContentFetchOptions, first: Transfer) {
    this.#deps = deps
    this.#options = options
    this.#first = first
    this.id = options.id
    this.#progress = new FetchProgress(deps, first.before)
    this.over = Promise.resolve().then(() => this.#run())
  }

  /** Whether others may join: not once its names are fixed, nor once it ends. */
  get open(): boolean {
    return this.#open
  }

  /**
   * How it ends, for this transfer. A transfer that leaves by its signal gets `cancelled` at once; the fetch goes on for
   * the others.
   * @throws NetworkError as the downloader
   */
  join(transfer: Transfer, name: FileName, signal: AbortSignal): Promise<Outcome> {
    return new Promise((resolve, reject) => {
      const leave = () => {
        this.#wishes.delete(transfer)
        if (this.#wishes.size === 0) this.#abandon()
        reject(new NetworkError('cancelled', 'cancelled'))
      }
      if (signal.aborted) return leave()
      signal.addEventListener('abort', leave, { once: true })
      const settled = () => {
        this.#wishes.delete(transfer)
        signal.removeEventListener('abort', leave)
      }
      this.#wishes.set(transfer, {
        name,
        resolve: (outcome) => {
          settled()
          resolve(outcome)
        },
        reject: (error) => {
          settled()
          reject(error)
        },
      })
      transfer.attach(this.#progress, transfer === this.#first ? null : this.#first.number)
    })
  }

  #abandon(): void {
    this.#open = false
    this.#unwanted.abort()
  }

  async #run(): Promise<void> {
    const { downloader, slot } = this.#deps
    const { id, mode, sources, discover } = this.#options
    const dummy = mode === 'dummy'
    try {
      const { outcome } = await downloader.run(
        {
          id,
          names: () => this.#names(),
          dummy,
          sources,
          discover,
          patient: !dummy,
          rate: () => this.#rate(),
          observer: this.#observer(),
        },
        this.#unwanted.signal,
      )
      if (outcome === 'done') this.#refuseMissing()
      for (const wish of [...this.#wishes.values()]) wish.resolve(outcome)
    } catch (error) {
      for (const wish of [...this.#wishes.values()]) wish.reject(error)
    } finally {
      this.#open = false
      slot.release()
    }
  }

  /** While it waits for a provider others may run; once one is back it goes on, also beyond their bound. */
  #observer(): FetchProgress {
    const progress = this.#progress
    const unlisten = progress.listen(() => {
      if (progress.phase !== 'waiting') return
      unlisten()
      this.#deps.slot.release()
    })
    return progress
  }

  /** Fixes under which names it is published. One that was taken by other content meanwhile fails its own transfer only. */
  #names(): FileName[] {
    this.#open = false
    for (const { name, reject } of [...this.#wishes.values()]) {
      const existing = this.#deps.landing.existing(name)
      if (this.#wishes.size > 1 && existing !== undefined && existing !== this.id) reject(otherContent(name))
    }
    return [...new Set([...this.#wishes.values()].map(({ name }) => name))]
  }

  /** Of several names one may have been refused, for which the others are no reason to fail. */
  #refuseMissing(): void {
    if (this.#wishes.size < 2) return
    for (const { name, reject } of [...this.#wishes.values()]) {
      const existing = this.#deps.landing.existing(name)
      if (existing === undefined)
        reject(new NetworkError('unavailable', `it came, but could not be kept as "${name}": its notes say why`))
      else if (existing !== this.id && existing !== 'unknown') reject(otherContent(name))
    }
  }

  /** The most that one of those who want it allows; no limit where one has none. */
  #rate(): number | undefined {
    let most = 0
    for (const { limit } of this.#wishes.keys()) {
      if (limit === null) return undefined
      most = Math.max(most, limit)
    }
    return most === 0 ? undefined : most
  }
}

export function otherContent(name: FileName): NetworkError {
  return new NetworkError('conflict', `"${name}" is here with other content: choose another name for this one`)
}
