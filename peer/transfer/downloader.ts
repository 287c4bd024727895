import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import { type Manifest, pieceCount, proveManifest } from '../../common/merkle.ts'
import type { Download, DownloadObserver, DownloadResult } from './download.ts'
import { PieceStore, type PieceStoreDeps } from './piece-store.ts'
import type { Contact, PieceSource } from './source.ts'
import { Swarm, type SwarmOptions } from './swarm.ts'
import { SwarmState } from './swarm-state.ts'

/** Where a download offers what it has so far, and how others that take the same are reached. */
export interface Neighbourhood {
  /** how this peer is reached, told to every provider; undefined where it serves nothing */
  taker(): Omit<Contact, 'host'> | undefined
  /** Serves these pieces to whoever asks, until the answer is called. */
  serve(store: PieceStore): () => void
  /**
   * How to reach a taker that the provider at `from` (host:port) named; undefined where it is nobody to call, or this
   * peer itself.
   */
  sourceAt(contact: Contact, from: string): PieceSource | undefined
}

export interface DownloaderDeps extends PieceStoreDeps {
  clock: Clock
  random?: () => number
  /** absent: this process takes, and gives nothing */
  neighbourhood?: Neighbourhood
  /** bytes a second that all downloads together may fetch; undefined: no limit */
  rate?: () => number | undefined
}

export type DownloaderOptions = Omit<SwarmOptions, 'patient'>

/** Another provider is asked for the manifest after this long, ms. */
const ASK_NEXT_MS = 1000

/** A download whose manifest is proven. */
interface Attempt {
  readonly download: Download
  readonly manifest: Manifest
  /** those that could not even tell the manifest */
  readonly failed: ReadonlyMap<PieceSource, NetworkError>
  readonly signal: AbortSignal
}

/**
 * Fetches one content: manifest, proven; then the missing pieces from all providers at once, each verified before it
 * counts, and served to others from then on; then the file under its names.
 */
export class Downloader {
  readonly #deps: DownloaderDeps
  readonly #options: DownloaderOptions
  #running = 0

  constructor(deps: DownloaderDeps, options: DownloaderOptions = {}) {
    this.#deps = deps
    this.#options = options
  }

  /**
   * @throws NetworkError `unavailable` where no provider is left: what is verified stays for the next attempt;
   *   `corrupt` where what ended it was a lie; `cancelled`; as `Landing` where the disk or the name refuses
   */
  async run(download: Download, signal: AbortSignal): Promise<DownloadResult> {
    this.#running++
    try {
      const store = download.dummy ? undefined : await PieceStore.resume(this.#deps, download.id, signal)
      if (store) return await this.#fetch({ download, manifest: store.manifest, failed: new Map(), signal }, store)
      const attempt = await this.#prove(download, signal)
      if (download.dummy) return await this.#simulate(attempt, download.sources)
      return await this.#fetch(attempt, await PieceStore.open(this.#deps, attempt.manifest, signal))
    } catch (error) {
      if (signal.aborted)
        throw new NetworkError('cancelled', 'cancelled: what was verified is kept for the next attempt', {}, error)
      throw error
    } finally {
      this.#running--
    }
  }

  async #fetch(attempt: Attempt, store: PieceStore): Promise<DownloadResult> {
    const { download, manifest, signal } = attempt
    const { neighbourhood } = this.#deps
    const { observer } = download
    const leave = neighbourhood?.serve(store)
    try {
      observer?.onManifest?.(manifest, store.resumedBytes)
      if (store.damaged > 0)
        observer?.onNote?.(`pieces on disk that were damaged since and are fetched again: ${store.damaged}`)
      let received = 0
      // Once more where something else changed the file behind our back.
      do {
        const swarm = await this.#fetchMissing(attempt, store)
        received += swarm.received
        if (store.complete) continue
        if (swarm.simulators.length > 0) return await this.#simulate(attempt, swarm.simulators)
        throw nobodyLeft(swarm.faults, !store.blank)
      } while (!(await store.confirm(signal)))
      observer?.onWhole?.()
      for (const [name, { message }] of await store.publish(download.names()))
        observer?.onNote?.(`not kept as "${name}": ${message}`)
      return { outcome: 'done', manifest, bytes: manifest.size - store.resumedBytes, received }
    } finally {
      leave?.()
      if (store.blank && !signal.aborted) await store.discard()
      else await store.close()
    }
  }

  async #fetchMissing(attempt: Attempt, store: PieceStore): Promise<Swarm> {
    const { download, manifest } = attempt
    const state = new SwarmState(manifest, store.missing(), this.#stateOptions)
    const unlisten = store.onLost((piece) => state.lost(piece, this.#deps.clock.now()))
    const sink = {
      manifest,
      dummy: false,
      fd: store.fd,
      commit: (index: number, parts: Uint8Array[]) => store.commit(index, parts),
      taker: this.#deps.neighbourhood?.taker(),
    }
    const keep = (piece: number) => store.verified(piece)
    const swarm = new Swarm(
      { ...this.#swarmDeps(download, state), sink, keep },
      { ...this.#options, patient: download.patient },
    )
    try {
      await this.#runSwarm(swarm, attempt, download.sources)
    } finally {
      unlisten()
    }
    return swarm
  }

  async #simulate(attempt: Attempt, sources: readonly PieceSource[]): Promise<DownloadResult> {
    const { download, manifest } = attempt
    const state = new SwarmState(
      manifest,
      Array(pieceCount(manifest.size, manifest.pieceSize)).keys(),
      this.#stateOptions,
    )
    download.observer?.onManifest?.(manifest, 0)
    const sink = { manifest, dummy: true, fd: -1, commit: async () => true, taker: undefined }
    const swarm = new Swarm({ ...this.#swarmDeps(download, state), sink, keep: () => {} }, this.#options)
    await this.#runSwarm(swarm, attempt, sources)
    if (!state.complete) throw nobodyLeft(swarm.faults, false)
    return { outcome: 'simulated', manifest, bytes: manifest.size, received: 0 }
  }

  get #stateOptions() {
    return this.#deps.random ? { random: this.#deps.random } : {}
  }

  #swarmDeps(download: Download, state: SwarmState) {
    const { clock, neighbourhood } = this.#deps
    return {
      clock,
      state,
      discover: download.discover && ((signal: AbortSignal) => download.discover!(signal)),
      sourceAt: neighbourhood && ((contact: Contact, from: string) => neighbourhood.sourceAt(contact, from)),
      rate: () => this.#rate(download),
      observer: download.observer,
    }
  }

  /** The download's own limit, or its share of what all may fetch. */
  #rate(download: Download): number | undefined {
    const all = this.#deps.rate?.()
    const own = download.rate?.()
    if (all === undefined) return own
    return Math.min(own ?? Number.POSITIVE_INFINITY, all / this.#running)
  }

  async #runSwarm(swarm: Swarm, { failed, signal }: Attempt, sources: readonly PieceSource[]): Promise<void> {
    for (const source of sources) swarm.add(source, failed.get(source))
    await swarm.run(signal)
  }

  /** The first manifest that can be proven. Who takes long for it is not waited for: the next is asked, too. */
  async #prove(download: Download, signal: AbortSignal): Promise<Attempt> {
    const { id, sources, observer } = download
    const failed = new Map<PieceSource, NetworkError>()
    const over = new AbortController()
    const bound = AbortSignal.any([signal, over.signal])
    const asked: Promise<Manifest>[] = []
    const first = () => Promise.any(asked).catch(() => undefined)
    try {
      for (const source of sources) {
        const answer = manifestFrom(source, id, bound)
        asked.push(answer)
        answer.catch((error) => {
          if (!bound.aborted) failed.set(source, dropped(source, asNetworkError(error), observer))
        })
        const manifest = await Promise.race([first(), this.#deps.clock.sleep(ASK_NEXT_MS, bound)])
        if (manifest) return { download, manifest, failed, signal }
      }
      const manifest = await first()
      if (manifest) return { download, manifest, failed, signal }
      throw nobodyLeft([...failed.values()], false)
    } finally {
      over.abort()
    }
  }
}

async function manifestFrom(source: PieceSource, id: ContentId, signal: AbortSignal): Promise<Manifest> {
  return proveManifest(id, await source.manifest(id, signal))
}

function dropped(source: PieceSource, fault: NetworkError, observer: DownloadObserver | undefined): NetworkError {
  const told = fault.message.includes(source.peer) ? fault.message : `${source.peer}: ${fault.message}`
  observer?.onNote?.(`${fault.code === 'corrupt' ? 'banned' : 'dropped'} ${told}`)
  return new NetworkError(fault.code, told, fault.details, fault)
}

/** The error that ends a download: the worst that a provider did, so that a lie is not taken for an absence. */
function nobodyLeft(faults: readonly NetworkError[], keeps: boolean): NetworkError {
  const kept = keeps ? '; what was verified is kept, start it again to resume' : ''
  const worst = faults.find(({ code }) => code === 'corrupt') ?? faults.at(-1)
  if (!worst) return new NetworkError('unavailable', `no provider is left${kept}`)
  const why = faults.length === 1 ? worst.message : `${worst.message} (and ${faults.length - 1} more)`
  return new NetworkError(worst.code, `no provider is left: ${why}${kept}`, { faults: faults.map((f) => f.message) })
}
