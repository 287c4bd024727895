import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, printable } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import type { LocatedProvider, LookupStep, StrategyName, TransferBody, TransferMode } from '../../common/schemas.ts'
import { choose } from './choose.ts'
import type { Landing } from './contents.ts'
import type { Downloader } from './downloader.ts'
import { identify } from './identify.ts'
import { Slots } from './slots.ts'
import type { NamedSource } from './source.ts'
import { Transfer } from './transfer.ts'

export interface DownloadRequest {
  /** what to download: by name, or by content id, or this content under this name */
  file?: FileName | undefined
  id?: ContentId | undefined
  /** name under which it lands (default: its own) */
  as?: FileName | undefined
  /** only this way of lookup */
  via?: StrategyName | undefined
  mode?: TransferMode | undefined
}

/** Who offers something: the part of the locator that is used here. */
interface ProviderLookup {
  locate(
    query: { kind: 'name'; name: FileName } | { kind: 'id'; id: ContentId },
    signal: AbortSignal,
    via?: StrategyName,
  ): Promise<{ providers: LocatedProvider[]; via: StrategyName | null; steps: LookupStep[] }>
}

export interface TransferManagerDeps {
  locator: ProviderLookup
  /** How to talk to a provider. */
  sources: (provider: LocatedProvider) => NamedSource
  landing: Landing
  downloader: Downloader
  clock: Clock
  log: Logger
}

export interface TransferManagerOptions {
  /** of transfers that do not say (default `real`) */
  mode?: TransferMode
  /** transfers that run at the same time, the next ones wait in line (default 8) */
  maxRunning?: number
  /** transfers that wait or run; more are refused (default 1,000) */
  maxActive?: number
  /** ended transfers that are remembered (default 1,000) */
  history?: number
}

interface Active {
  transfer: Transfer
  request: DownloadRequest
  cancel: AbortController
  finished: Promise<void>
}

/** Between two snapshots to one watcher. */
const WATCH_INTERVAL_MS = 200

/**
 * Every download of an agent: starts them, lets a second request for the same join the first, bounds how many run,
 * remembers how they went. `stop` cancels what runs; verified bytes stay for the next attempt.
 */
export class TransferManager {
  #deps: TransferManagerDeps
  #options: Required<TransferManagerOptions>
  #slots: Slots
  #transfers = new Map<string, Transfer>()
  #active = new Map<string, Active>()
  /** who fetches a content, by mode and content id */
  #fetching = new Map<string, Active>()
  #count = 0
  #stopped = false

  constructor(deps: TransferManagerDeps, options: TransferManagerOptions = {}) {
    this.#deps = deps
    this.#options = { mode: 'real', maxRunning: 8, maxActive: 1000, history: 1000, ...options }
    this.#slots = new Slots(this.#options.maxRunning)
  }

  /**
   * Starts a download, or joins the one that does just this already.
   * @throws NetworkError `limited` where too many wait; `unavailable` after `stop`
   */
  start(request: DownloadRequest): TransferBody {
    if (this.#stopped) throw new NetworkError('unavailable', 'this peer is stopping: it starts no more transfers')
    const mode = request.mode ?? this.#options.mode
    for (const other of this.#active.values())
      if (other.transfer.mode === mode && !other.transfer.ended && sameRequest(request, other.request))
        return other.transfer.snapshot()
    if (this.#active.size >= this.#options.maxActive)
      throw new NetworkError('limited', `${this.#active.size} transfers wait already: try again when some are done`)
    const number = String(++this.#count)
    const file = request.as ?? request.file ?? null
    const transfer = new Transfer(this.#deps, { number, mode, file, id: request.id ?? null })
    const active: Active = { transfer, request, cancel: new AbortController(), finished: Promise.resolve() }
    this.#transfers.set(number, transfer)
    this.#active.set(number, active)
    active.finished = this.#run(active)
    return transfer.snapshot()
  }

  /** Newest first. */
  list(): TransferBody[] {
    return [...this.#transfers.values()].reverse().map((transfer) => transfer.snapshot())
  }

  get(number: string): TransferBody | undefined {
    return this.#transfers.get(number)?.snapshot()
  }

  /** @throws NetworkError `not_found`; `conflict` where it has ended */
  cancel(number: string): TransferBody {
    const transfer = this.#find(number)
    if (transfer.ended) throw new NetworkError('conflict', `transfer ${number} has ended: ${transfer.snapshot().state}`)
    transfer.end('cancelled')
    this.#active.get(number)?.cancel.abort()
    return transfer.snapshot()
  }

  /**
   * The transfer now, at changes, and at its end, where the iteration ends.
   * @throws NetworkError `not_found`
   */
  watch(number: string, signal: AbortSignal): AsyncIterable<TransferBody> {
    return this.#find(number).watch(WATCH_INTERVAL_MS, signal)
  }

  /** Cancels what runs, and returns when nothing runs any more. */
  async stop(): Promise<void> {
    this.#stopped = true
    const running = [...this.#active.values()]
    for (const { transfer, cancel } of running) {
      transfer.end('cancelled')
      cancel.abort()
    }
    await Promise.all(running.map(({ finished }) => finished))
  }

  #find(number: string): Transfer {
    const transfer = this.#transfers.get(number)
    if (!transfer) throw new NetworkError('not_found', `there is no transfer "${printable(number)}"`)
    return transfer
  }

  async #run(active: Active): Promise<void> {
    const { transfer, cancel } = active
    try {
      const slot = await this.#slots.acquire(cancel.signal)
      try {
        transfer.end(await this.#download(active, cancel.signal))
      } finally {
        slot.release()
      }
    } catch (error) {
      const known = asNetworkError(error)
      if (cancel.signal.aborted || known.code === 'cancelled') transfer.end('cancelled')
      else {
        if (known.code === 'internal')
          this.#deps.log.error({ transfer: transfer.number, err: error }, 'a transfer failed')
        transfer.end('failed', known)
      }
    } finally {
      this.#active.delete(transfer.number)
      this.#forget()
    }
  }

  async #download(active: Active, signal: AbortSignal): Promise<'done' | 'simulated'> {
    const { transfer, request } = active
    const { locator, landing, downloader, sources } = this.#deps
    const query = request.id ? { kind: 'id' as const, id: request.id } : { kind: 'name' as const, name: request.file! }
    const located = await locator.locate(query, signal, request.via)
    transfer.via = located.via
    transfer.steps = located.steps
    const providers = await identify(located.providers, sources, (note) => transfer.note(note), signal)
    const choice = choose(request, providers, located.steps)
    transfer.file = choice.name
    transfer.id = choice.id
    transfer.size = choice.providers[0]?.size ?? null
    transfer.changed()
    const dummy = transfer.mode === 'dummy'
    const key = `${transfer.mode} ${choice.id}`
    for (let other = this.#fetching.get(key); other; other = this.#fetching.get(key)) {
      transfer.note(`waits for transfer ${other.transfer.number}, which fetches the same content`)
      await endOf(other, signal)
    }
    const existing = landing.existing(choice.name)
    if (existing === choice.id) {
      if (!dummy && transfer.size !== null) transfer.alreadyHere(transfer.size)
      transfer.note(`already here: "${choice.name}" has exactly this content`)
      return dummy ? 'simulated' : 'done'
    }
    if (existing !== undefined)
      throw new NetworkError(
        'conflict',
        `"${choice.name}" is here with other content: choose another name for this one`,
      )
    this.#fetching.set(key, active)
    try {
      const { outcome } = await downloader.run(
        {
          id: choice.id,
          name: choice.name,
          sources: choice.providers.map(sources),
          dummy,
          observer: {
            onManifest: ({ size }, resumed) => transfer.running(size, resumed),
            onVerified: (peer, bytes) => transfer.received(peer, bytes),
            onWhole: () => transfer.verifying(),
            onNote: (note) => transfer.note(note),
          },
        },
        signal,
      )
      return outcome
    } finally {
      this.#fetching.delete(key)
    }
  }

  #forget(): void {
    let excess = this.#transfers.size - this.#active.size - this.#options.history
    for (const number of this.#transfers.keys()) {
      if (excess <= 0) return
      if (this.#active.has(number)) continue
      this.#transfers.delete(number)
      excess--
    }
  }
}

function sameRequest(a: DownloadRequest, b: DownloadRequest): boolean {
  return a.file === b.file && a.id === b.id && a.as === b.as && a.via === b.via
}

/** @throws NetworkError `cancelled` where the signal aborts first */
function endOf({ finished }: Active, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new NetworkError('cancelled', 'cancelled'))
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    finished.finally(() => {
      signal.removeEventListener('abort', abort)
      resolve()
    })
  })
}
