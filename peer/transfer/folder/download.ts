import type { Clock } from '../../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../../common/errors.ts'
import { type FileName, type PeerId, printable } from '../../../common/ids.ts'
import type { Shelf } from '../contents.ts'
import type { DownloadObserver, DownloadResult } from '../download.ts'
import { DownloadShare } from '../download-share.ts'
import { Pacer } from '../pacer.ts'
import type { SmallSource } from '../small-source.ts'
import { BatchWriter } from './batch-writer.ts'
import { type FolderLister, type FolderProvider, listFolder } from './listing.ts'
import { type FolderPlan, planFolder, type Wanted } from './plan.ts'
import { SmallFetch, type SmallFetchOptions } from './small-fetch.ts'

/** A whole shared folder to be fetched: every file whose name begins with its name and `/`. */
export interface FolderDownload {
  /** without a slash at its end */
  readonly folder: FileName
  /** under which folder it lands (default: the same name) */
  readonly as?: FileName | undefined
  readonly dummy: boolean
  rate?(): number | undefined
  readonly observer?: FolderObserver
}

export interface FolderObserver {
  /** What there is to fetch, once it is known: files, bytes; of these, here already. */
  onListed?(total: { files: number; bytes: number }, here: { files: number; bytes: number }): void
  /** Besides, so many bytes are here already, verified: of a large file that an earlier attempt left unfinished. */
  onPartHere?(bytes: number): void
  /** So many files more are verified and under their names. */
  onFiles?(files: number, bytes: number): void
  /** So many bytes more of the folder are verified, thanks to this peer. What comes once may count for several names. */
  onVerified?(peer: PeerId, bytes: number): void
  /** Payload bytes came over the network, of use or not. */
  onReceived?(bytes: number): void
  onNote?(note: string): void
}

export interface FolderResult {
  readonly outcome: 'done' | 'simulated'
  readonly files: number
  /** that came in this attempt and were kept */
  readonly bytes: number
  /** files that could not be had, and why, in words for people; at most 50, `failed` counts all */
  readonly faults: readonly string[]
  readonly failed: number
}

/** Fetches folders: the manager starts it as it starts downloads. */
export interface FolderDownloader {
  /** @throws NetworkError `not_found` where nobody offers such a folder; `unavailable`; `cancelled`; `conflict` */
  run(download: FolderDownload, signal: AbortSignal): Promise<FolderResult>
}

export interface FolderDownloadsDeps {
  clock: Clock
  /** this peer: what it offers itself is no source */
  self: PeerId
  /** whom to ask what a folder has: asked at each download, since the friend list changes */
  listers: () => { maestro: FolderLister | undefined; friends: readonly FolderLister[] }
  source: (provider: FolderProvider) => SmallSource
  shelf: Shelf
  /** what small files may be fetched beside other downloads */
  share: DownloadShare
  /**
   * Fetches one large file from these providers, as any other download, and publishes it under its names.
   * @param rate bytes a second that it may fetch; undefined: no limit
   */
  file: (
    file: Wanted,
    context: { rate: () => number | undefined; observer: DownloadObserver },
    signal: AbortSignal,
  ) => Promise<DownloadResult['outcome']>
}

export interface FolderDownloadsOptions extends SmallFetchOptions {
  /** files of one folder; more are refused (default 1,000,000) */
  maxFiles?: number
  /** large files that are fetched at the same time (default 3) */
  maxLarge?: number
}

const MAX_FAULTS = 50
/** A file takes whole blocks of the disk. */
const BLOCK = 4096

/**
 * Fetches whole folders: lists what is in one, leaves out what is here already, fetches small files by the hundred and
 * large ones as any other download. What can't be had is told, and the rest goes on.
 */
export class FolderDownloads implements FolderDownloader {
  readonly #deps: FolderDownloadsDeps
  readonly #options: FolderDownloadsOptions

  constructor(deps: FolderDownloadsDeps, options: FolderDownloadsOptions = {}) {
    this.#deps = deps
    this.#options = options
  }

  async run(download: FolderDownload, signal: AbortSignal): Promise<FolderResult> {
    const { folder, observer } = download
    const as = download.as ?? folder
    const { self, shelf, listers } = this.#deps
    if (shelf.get(as)) throw new NetworkError('conflict', `"${as}" is a file here: choose another folder with "as"`)
    const onNote = (note: string) => observer?.onNote?.(note)
    const bounds = { self, maxFiles: this.#options.maxFiles ?? 1_000_000 }
    const listing = await listFolder(folder, listers(), bounds, onNote, signal)
    if (listing.bare > 0) onNote(`${files(listing.bare)} left out: announced without a content id`)
    if (listing.unfit > 0) onNote(`${files(listing.unfit)} left out: no names of files in "${printable(folder)}"`)
    const plan = await planFolder(listing, { folder, as }, shelf)
    if (signal.aborted) throw new NetworkError('cancelled', 'cancelled')
    observer?.onListed?.({ ...plan.total }, { ...plan.here })
    const run = new Run(this.#deps, this.#options, download, plan, signal)
    return download.dummy ? run.simulate() : run.fetch()
  }
}

class Run {
  readonly #deps: FolderDownloadsDeps
  readonly #options: FolderDownloadsOptions
  readonly #download: FolderDownload
  readonly #plan: FolderPlan
  readonly #signal: AbortSignal
  readonly #faults: string[] = []
  #failed = 0
  #worst: NetworkError | undefined
  #files = 0
  #bytes = 0
  /** the download's own limit, split among its small files and the large ones that are fetched now */
  readonly #own: DownloadShare

  constructor(
    deps: FolderDownloadsDeps,
    options: FolderDownloadsOptions,
    download: FolderDownload,
    plan: FolderPlan,
    signal: AbortSignal,
  ) {
    this.#deps = deps
    this.#options = options
    this.#download = download
    this.#plan = plan
    this.#signal = signal
    this.#own = new DownloadShare(() => download.rate?.())
    for (const fault of plan.faults) this.#fault(fault)
  }

  /** Nothing is opened, neither here nor at a provider: what would come is in the listing. */
  simulate(): FolderResult {
    const { onVerified, onFiles } = this.#download.observer ?? {}
    for (const { providers, size, names } of [...this.#plan.small, ...this.#plan.large]) {
      onVerified?.call(this.#download.observer, providers[0]!.peer, size * names.length)
      onFiles?.call(this.#download.observer, names.length, size * names.length)
      this.#count(names.length, size * names.length)
    }
    return this.#result('simulated')
  }

  async fetch(): Promise<FolderResult> {
    const { small, large, here } = this.#plan
    this.#deps.shelf.reserve(small.reduce((sum, { size, names }) => sum + names.length * wholeBlocks(size), 0))
    const over = new AbortController()
    const abort = () => over.abort()
    this.#signal.addEventListener('abort', abort, { once: true })
    try {
      const queue = large.values()
      const parts = [this.#fetchSmall(small, over.signal)]
      while (parts.length <= (this.#options.maxLarge ?? 3)) parts.push(this.#fetchLarge(queue, over.signal))
      // The first failure that ends one ends the others, and all are over before anyone is told.
      for (const part of parts) part.catch(abort)
      const ended = await Promise.allSettled(parts)
      if (this.#signal.aborted) throw new NetworkError('cancelled', 'cancelled: the files that came are kept')
      const failures = ended.flatMap((part) => (part.status === 'rejected' ? [part.reason] : []))
      if (failures.length > 0) throw failures.find((reason) => !isCancelled(reason)) ?? failures[0]
      const simulated = ended.flatMap((part) => (part.status === 'fulfilled' ? part.value : []))
      return this.#settle(simulated, here.files)
    } finally {
      this.#signal.removeEventListener('abort', abort)
    }
  }

  #settle(simulated: readonly Wanted[], here: number): FolderResult {
    if (simulated.length > 0 && this.#files === 0 && this.#failed === 0) {
      for (const { names, size } of simulated) this.#count(names.length, names.length * size)
      return this.#result('simulated')
    }
    for (const content of simulated)
      this.#fail(content, new NetworkError('unavailable', 'all that have it are in dummy mode and only simulate'))
    // Nothing of it could be had: one failure, told as such.
    if (this.#worst && this.#files === 0 && here === 0)
      throw new NetworkError(
        this.#worst.code,
        `nothing of "${printable(this.#download.folder)}" could be had: ${this.#faults[0]}`,
        { ...this.#worst.details, faults: this.#faults },
        this.#worst,
      )
    return this.#result('done')
  }

  /** @returns contents that only providers have which simulate */
  async #fetchSmall(contents: readonly Wanted[], signal: AbortSignal): Promise<readonly Wanted[]> {
    if (contents.length === 0) return []
    const { observer } = this.#download
    const writer = new BatchWriter({
      clock: this.#deps.clock,
      shelf: this.#deps.shelf,
      onLanded: (files, bytes, landed) => {
        this.#count(landed.files, landed.bytes)
        observer?.onFiles?.(files, bytes)
      },
      onRefused: (name, fault) => this.#refuse(name, fault),
    })
    const fetching = () => fetch.asking
    const own = this.#own.enter({ fetching })
    const part = this.#deps.share.enter({ own: own.rate, fetching })
    const pacer = new Pacer(this.#deps.clock)
    const fetch = new SmallFetch(
      {
        clock: this.#deps.clock,
        source: this.#deps.source,
        writer,
        paced: () => part.rate() !== undefined,
        pace: (bytes, until) => {
          pacer.rate = part.rate() ?? 0
          return pacer.take(bytes, until)
        },
        onVerified: (peer, bytes) => observer?.onVerified?.(peer, bytes),
        onReceived: (bytes) => observer?.onReceived?.(bytes),
        onNote: (note) => observer?.onNote?.(note),
        onFailed: (content, fault) => this.#fail(content, fault),
      },
      contents,
      this.#options,
    )
    try {
      return await fetch.run(signal)
    } finally {
      part.leave()
      own.leave()
      // What was verified lands, whatever ended the rest.
      await writer.flush()
    }
  }

  /** One file after another, until the queue is empty. @returns as `#fetchSmall` */
  async #fetchLarge(queue: Iterable<Wanted>, signal: AbortSignal): Promise<readonly Wanted[]> {
    const { observer } = this.#download
    const simulated: Wanted[] = []
    for (const file of queue) {
      if (signal.aborted) throw new NetworkError('cancelled', 'cancelled')
      const { names, size } = file
      const own = this.#own.enter({ fetching: () => true })
      try {
        const progress: DownloadObserver = {
          onManifest: (_, resumedBytes) => observer?.onPartHere?.(names.length * resumedBytes),
          onVerified: (peer, bytes) => observer?.onVerified?.(peer, names.length * bytes),
          onReceived: (bytes) => observer?.onReceived?.(bytes),
          onNote: (note) => observer?.onNote?.(`${printable(names[0]!)}: ${note}`),
        }
        const outcome = await this.#deps.file(file, { rate: own.rate, observer: progress }, signal)
        if (outcome === 'simulated') simulated.push(file)
        else {
          this.#count(names.length, names.length * size)
          observer?.onFiles?.(names.length, names.length * size)
        }
      } catch (error) {
        const fault = asNetworkError(error)
        if (signal.aborted || fault.details.reason === 'disk_full') throw fault
        this.#fail(file, fault)
      } finally {
        own.leave()
      }
    }
    return simulated
  }

  #count(files: number, bytes: number): void {
    this.#files += files
    this.#bytes += bytes
  }

  #fail(content: Wanted, fault: NetworkError): void {
    for (const name of content.names) this.#refuse(name, fault)
  }

  #refuse(name: string, fault: NetworkError): void {
    if (this.#worst?.code !== 'corrupt') this.#worst = fault
    this.#fault(fault.message.includes(name) ? fault.message : `"${printable(name)}": ${fault.message}`)
  }

  #fault(fault: string): void {
    this.#failed++
    if (this.#faults.length < MAX_FAULTS) this.#faults.push(fault)
  }

  #result(outcome: FolderResult['outcome']): FolderResult {
    return {
      outcome,
      files: this.#files,
      bytes: this.#bytes,
      faults: this.#faults,
      failed: this.#failed,
    }
  }
}

function isCancelled(error: unknown): boolean {
  return error instanceof NetworkError && error.code === 'cancelled'
}

function wholeBlocks(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK
}

function files(count: number): string {
  return count === 1 ? '1 file' : `${count} files`
}
