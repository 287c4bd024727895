import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { LocatedProvider, LookupStep, StrategyName, TransferMode } from '../../common/schemas.ts'
import { type Choice, choose } from './choose.ts'
import { type ContentDownloader, ContentFetch, otherContent } from './content-fetch.ts'
import type { Landing } from './contents.ts'
import type { FolderDownloader } from './folder/download.ts'
import { identify } from './identify.ts'
import { FetchProgress } from './progress.ts'
import { Slots } from './slots.ts'
import type { NamedSource, PieceSource } from './source.ts'
import type { Transfer } from './transfer.ts'

export interface DownloadRequest {
  /** what to download: by name, or by content id, or this content under this name */
  file?: FileName | undefined
  id?: ContentId | undefined
  /** or a whole folder, without a slash at its end */
  folder?: FileName | undefined
  /** name under which it lands (default: its own) */
  as?: FileName | undefined
  /** only this way of lookup */
  via?: StrategyName | undefined
  mode?: TransferMode | undefined
  /** bytes a second at most; null: no limit */
  limit?: number | null | undefined
}

/** Who offers something: the part of the locator that is used here. */
interface ProviderLookup {
  locate(
    query: { kind: 'name'; name: FileName } | { kind: 'id'; id: ContentId },
    signal: AbortSignal,
    via?: StrategyName,
  ): Promise<{ providers: LocatedProvider[]; via: StrategyName | null; steps: LookupStep[] }>
  /** All who have a content, as far as anybody who can be asked cheaply knows. */
  locateAll(id: ContentId, signal: AbortSignal): Promise<LocatedProvider[]>
}

export interface FetcherDeps {
  locator: ProviderLookup
  /** How to talk to a provider. */
  sources: (provider: LocatedProvider) => NamedSource
  /** Who else has or takes this content, as far as the directory knows. */
  swarmPeers?: (id: ContentId, signal: AbortSignal) => Promise<readonly PieceSource[]>
  landing: Pick<Landing, 'existing'>
  downloader: ContentDownloader
  /** absent: folders are refused */
  folders?: FolderDownloader
  clock: Clock
}

export interface FetcherOptions {
  maxRunning: number
}

type Outcome = 'done' | 'simulated'

/**
 * Does what a transfer asks for: finds out which content is meant and who has it, and fetches it, once for all transfers
 * that want it at the same time.
 */
export class Fetcher {
  readonly #deps: FetcherDeps & { onFound: () => void }
  readonly #slots: Slots
  /** by mode and content id: what is under way */
  readonly #fetches = new Map<string, ContentFetch>()
  /** folders under way, by what stops them: when nothing of one runs any more */
  readonly #folders = new Map<AbortSignal, Promise<void>>()

  /** `onFound` hears that a transfer has learnt its name and content. */
  constructor(deps: FetcherDeps & { onFound: () => void }, options: FetcherOptions) {
    this.#deps = deps
    this.#slots = new Slots(options.maxRunning)
  }

  /**
   * How the transfer ends. `perseveres`: it has got somewhere before, and so begins also with nobody there.
   * @throws NetworkError `not_found`, `unavailable`, `conflict`, `cancelled`; as the downloader
   */
  async fetch(
    transfer: Transfer,
    request: DownloadRequest,
    { perseveres }: { perseveres: boolean },
    signal: AbortSignal,
  ): Promise<Outcome> {
    const free = this.#slots.tryAcquire()
    if (!free) transfer.queued()
    const slot = free ?? (await this.#slots.acquire(signal))
    let held = true
    try {
      throwIfCancelled(signal)
      transfer.locating()
      if (request.folder !== undefined) return await this.#fetchFolder(transfer, request.folder, request.as, signal)
      const choice = await this.#locate(transfer, request, signal).catch((error: unknown) => {
        const { id } = transfer
        const name = fileOf(transfer)
        // What is here of it can be served, and its providers waited for, with nobody there yet.
        if (perseveres && isAbsence(error) && id && name) return { id, name, providers: [] }
        throw error
      })
      const key = `${transfer.mode} ${choice.id}`
      for (let other = this.#fetches.get(key); other && !other.open; other = this.#fetches.get(key))
        await settled(other.over, signal)
      await this.#stopped(signal)
      throwIfCancelled(signal)
      if (this.#isHere(transfer, choice)) return transfer.mode === 'dummy' ? 'simulated' : 'done'
      const running = this.#fetches.get(key)
      if (running) {
        slot.release()
        return await running.join(transfer, choice.name, signal)
      }
      const { downloader, landing, clock, sources } = this.#deps
      const fetch = new ContentFetch(
        { downloader, landing, clock, slot },
        {
          id: choice.id,
          mode: transfer.mode,
          sources: choice.providers.map(sources),
          discover: (bound) => this.#discover(choice.id, transfer.mode, request.via, bound),
        },
        transfer,
      )
      held = false
      this.#fetches.set(key, fetch)
      void fetch.over.then(() => this.#fetches.delete(key))
      return await fetch.join(transfer, choice.name, signal)
    } finally {
      if (held) slot.release()
    }
  }

  /** What to fetch and from whom: by name until the content is known, by its id from then on. */
  async #locate(transfer: Transfer, request: DownloadRequest, signal: AbortSignal): Promise<Choice> {
    const { locator, sources } = this.#deps
    const id = transfer.id ?? request.id
    const query = id ? { kind: 'id' as const, id } : { kind: 'name' as const, name: request.file! }
    const located = await locator.locate(query, signal, request.via)
    transfer.via = located.via
    transfer.steps = located.steps
    transfer.changed()
    const providers = await identify(located.providers, sources, (note) => transfer.note(note), signal)
    const choice = choose({ file: request.file, id, as: request.as ?? fileOf(transfer) }, providers, located.steps)
    transfer.file = choice.name
    transfer.id = choice.id
    transfer.size = choice.providers[0]?.size ?? null
    transfer.changed()
    this.#deps.onFound()
    return choice
  }

  /** Whether exactly this is here under its name. @throws NetworkError `conflict` where other content is */
  #isHere(transfer: Transfer, { id, name }: Choice): boolean {
    const existing = this.#deps.landing.existing(name)
    if (existing === undefined) return false
    if (existing !== id) throw otherContent(name)
    if (transfer.mode === 'real' && transfer.size !== null) {
      const progress = new FetchProgress(this.#deps, transfer.before)
      transfer.attach(progress)
      progress.alreadyHere(transfer.size)
    }
    transfer.note(`already here: "${name}" has exactly this content`)
    return true
  }

  /**
   * Everybody who has it now, by every way of lookup at once; ways that fail find nobody. Who asks the swarm joins it,
   * which a simulation does not.
   */
  async #discover(
    id: ContentId,
    mode: TransferMode,
    via: StrategyName | undefined,
    signal: AbortSignal,
  ): Promise<PieceSource[]> {
    const { locator, sources, swarmPeers } = this.#deps
    const offered = async () => {
      const providers = via
        ? (await locator.locate({ kind: 'id', id }, signal, via)).providers
        : await locator.locateAll(id, signal)
      return providers.filter((provider) => provider.id === id).map(sources)
    }
    const found = await Promise.allSettled<readonly PieceSource[]>([
      offered(),
      ...(swarmPeers && mode !== 'dummy' ? [swarmPeers(id, signal)] : []),
    ])
    return found.flatMap((answer) => (answer.status === 'fulfilled' ? [...answer.value] : []))
  }

  async #fetchFolder(
    transfer: Transfer,
    folder: FileName,
    as: FileName | undefined,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const { folders } = this.#deps
    if (!folders) throw new NetworkError('unavailable', 'this peer can not fetch folders: fetch their files one by one')
    await this.#stopped(signal)
    const progress = new FetchProgress(this.#deps, transfer.before)
    transfer.attach(progress)
    const run = folders.run(
      { folder, as, dummy: transfer.mode === 'dummy', rate: () => transfer.limit ?? undefined, observer: progress },
      signal,
    )
    const over = run.then(
      () => {},
      () => {},
    )
    this.#folders.set(signal, over)
    void over.then(() => this.#folders.delete(signal))
    const { outcome, failed, faults } = await run
    for (const fault of faults) transfer.note(fault)
    if (failed === 0) return outcome
    const told = `${failed} ${failed === 1 ? 'file' : 'files'} of "${folder}/" could not be fetched: ask again`
    throw new NetworkError('unavailable', faults[0] === undefined ? told : `${told} (${faults[0]})`, { failed })
  }

  /** Waits for folders that are told to stop: what they have open of large files is nobody else's until then. */
  async #stopped(signal: AbortSignal): Promise<void> {
    for (const [{ aborted }, over] of this.#folders) if (aborted) await settled(over, signal)
  }

  /** When nothing runs any more, once nothing is wanted any more. */
  async over(): Promise<void> {
    await Promise.all([...this.#fetches.values()].map(({ over }) => over))
  }
}

/** The name under which it lands, where it is a file's. */
export function fileOf({ file }: Transfer): FileName | undefined {
  return file === null || file.endsWith('/') ? undefined : (file as FileName)
}

/** @throws NetworkError `cancelled` where the signal aborts first */
function settled(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(new NetworkError('cancelled', 'cancelled'))
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    promise.then(() => {
      signal.removeEventListener('abort', abort)
      resolve()
    })
  })
}

/** Whether nobody was there to fetch it from, which may change; a full disk will not by asking again. */
export function isAbsence(error: unknown): boolean {
  const { code, details } = asNetworkError(error)
  return (code === 'unavailable' || code === 'not_found') && details.reason !== 'disk_full' && !('failed' in details)
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new NetworkError('cancelled', 'cancelled')
}
