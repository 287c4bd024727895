import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { type Manifest, pieceCount, proveManifest } from '../../common/merkle.ts'
import {
  Conversation,
  type ConversationDeps,
  type ConversationOptions,
  LocalFailure,
  Simulates,
} from './conversation.ts'
import type { WholePiece } from './piece-assembler.ts'
import { PieceStore, type PieceStoreDeps } from './piece-store.ts'
import type { PieceSource } from './source.ts'
import { SwarmState } from './swarm-state.ts'

export interface DownloaderDeps extends PieceStoreDeps {
  clock: Clock
}

export type DownloaderOptions = ConversationOptions

export interface Download {
  id: ContentId
  /** under which it is published */
  name: FileName
  /** in the order in which they are tried */
  sources: readonly PieceSource[]
  /** the whole conversation with no bytes; nothing is opened or written here */
  dummy: boolean
  observer?: DownloadObserver
}

/** What happens on the way. */
export interface DownloadObserver {
  /** The manifest is proven, and so many bytes are there already, verified. */
  onManifest?(manifest: Manifest, resumedBytes: number): void
  /** A piece from this peer is verified and on disk; in a dummy conversation, would be. */
  onVerified?(peer: PeerId, bytes: number): void
  /** All pieces are there; the file is being made durable. */
  onWhole?(): void
  /** What went wrong without ending the download, in words for people. */
  onNote?(note: string): void
}

export interface DownloadResult {
  /** `simulated`: asked for by `dummy`, or all that the providers offered; nothing was published */
  outcome: 'done' | 'simulated'
  manifest: Manifest
  /** that came in this attempt; simulated: that would have */
  bytes: number
}

/** A download whose manifest is proven. */
interface Attempt {
  readonly manifest: Manifest
  /** those that have not failed yet */
  readonly sources: readonly PieceSource[]
  /** why providers were dropped so far; grows */
  readonly faults: NetworkError[]
  readonly observer: DownloadObserver | undefined
  readonly signal: AbortSignal
}

/**
 * Fetches one content: manifest, proven; then the missing pieces from one provider after the other, each verified before
 * it counts; then the file under its name. A provider that lies, stalls or vanishes is dropped with a note.
 */
export class Downloader {
  #deps: DownloaderDeps
  #options: DownloaderOptions

  constructor(deps: DownloaderDeps, options: DownloaderOptions = {}) {
    this.#deps = deps
    this.#options = options
  }

  /**
   * @throws NetworkError `unavailable` where no provider is left: what is verified stays for the next attempt;
   *   `corrupt` where what ended it was a lie; `cancelled`; as `Landing` where the disk or the name refuses
   */
  async run(download: Download, signal: AbortSignal): Promise<DownloadResult> {
    const attempt = await this.#begin(download, signal)
    if (download.dummy) return this.#simulate(attempt, attempt.sources)
    const { manifest, observer } = attempt
    const store = await PieceStore.open(this.#deps, manifest, signal)
    try {
      observer?.onManifest?.(manifest, store.resumedBytes)
      const state = new SwarmState(manifest, store.missing())
      const commit = ({ index, parts }: WholePiece) => store.commit(index, parts)
      const simulators = await this.#converse(attempt, attempt.sources, { state, commit, dummy: false })
      if (store.complete) {
        observer?.onWhole?.()
        await store.publish(download.name)
        return { outcome: 'done', manifest, bytes: manifest.size - store.resumedBytes }
      }
      if (simulators.length > 0) return await this.#simulate(attempt, simulators)
      throw nobodyLeft(attempt.faults, store)
    } finally {
      if (store.blank) await store.discard()
      else await store.close()
    }
  }

  /** The first manifest that can be proven, and the providers that are left: those before it failed. */
  async #begin({ id, sources, observer }: Download, signal: AbortSignal): Promise<Attempt> {
    const faults: NetworkError[] = []
    for (const [index, source] of sources.entries()) {
      try {
        const manifest = proveManifest(id, await source.manifest(id, signal))
        return { manifest, sources: sources.slice(index), faults, observer, signal }
      } catch (error) {
        throwIfCancelled(signal)
        faults.push(dropped(source, asNetworkError(error), observer))
      }
    }
    throw nobodyLeft(faults)
  }

  async #simulate(attempt: Attempt, sources: readonly PieceSource[]): Promise<DownloadResult> {
    const { manifest, faults, observer } = attempt
    const state = new SwarmState(manifest, Array(pieceCount(manifest.size, manifest.pieceSize)).keys())
    observer?.onManifest?.(manifest, 0)
    await this.#converse(attempt, sources, { state, commit: async () => true, dummy: true })
    if (!state.complete) throw nobodyLeft(faults)
    return { outcome: 'simulated', manifest, bytes: manifest.size }
  }

  /** One provider after the other, until nothing is missing. The answer: those that only simulate. */
  async #converse(
    { faults, observer, signal }: Attempt,
    sources: readonly PieceSource[],
    { dummy, ...target }: Pick<ConversationDeps, 'state' | 'commit'> & { dummy: boolean },
  ): Promise<PieceSource[]> {
    const onVerified = (peer: PeerId, bytes: number) => observer?.onVerified?.(peer, bytes)
    const deps = { ...target, onVerified, clock: this.#deps.clock }
    const simulators: PieceSource[] = []
    for (const source of sources) {
      if (deps.state.complete) break
      try {
        await new Conversation(deps, source, dummy, this.#options, signal).run()
      } catch (error) {
        throwIfCancelled(signal)
        if (error instanceof LocalFailure) throw asNetworkError(error.cause)
        if (error instanceof Simulates) {
          simulators.push(source)
          observer?.onNote?.(`${source.peer} is in dummy mode and only simulates`)
        } else faults.push(dropped(source, asNetworkError(error), observer))
      }
    }
    throwIfCancelled(signal)
    return simulators
  }
}

function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new NetworkError('cancelled', 'cancelled: what was verified is kept for the next attempt')
}

function dropped(source: PieceSource, fault: NetworkError, observer: DownloadObserver | undefined): NetworkError {
  const told = fault.message.includes(source.peer) ? fault.message : `${source.peer}: ${fault.message}`
  observer?.onNote?.(`dropped ${told}`)
  return new NetworkError(fault.code, told, fault.details, fault)
}

/** The error that ends a download: the worst that a provider did, so that a lie is not taken for an absence. */
function nobodyLeft(faults: NetworkError[], store?: PieceStore): NetworkError {
  const kept = store && !store.blank ? '; what was verified is kept, start it again to resume' : ''
  const worst = faults.find(({ code }) => code === 'corrupt') ?? faults.at(-1)
  if (!worst) return new NetworkError('unavailable', `no provider is left${kept}`)
  const why = faults.length === 1 ? worst.message : `${worst.message} (and ${faults.length - 1} more)`
  return new NetworkError(worst.code, `no provider is left: ${why}${kept}`, { faults: faults.map((f) => f.message) })
}
