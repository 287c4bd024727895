import { setMaxListeners } from 'node:events'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import { type Manifest, pieceCount } from '../../common/merkle.ts'
import type { Download, DownloadResult } from './download.ts'
import { DownloadShare } from './download-share.ts'
import { KnownProviders } from './known-providers.ts'
import { PieceStore, type PieceStoreDeps } from './piece-store.ts'
import { prove } from './prove.ts'
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
  /** absent: this process takes, and gives nothing */
  neighbourhood?: Neighbourhood
  /** what it may fetch beside others; absent: no limit */
  share?: DownloadShare
}

export type DownloaderOptions = Omit<SwarmOptions, 'patient'>

/** Another provider is asked for the manifest after this long, ms. */
const ASK_NEXT_MS = 1000
/** Times that one is asked for the manifest which is too busy. */
const ASK_AT_MOST = 5

/** A download whose manifest is proven. */
interface Attempt {
  readonly download: Download
  readonly manifest: Manifest
  /** from the first one who is asked for the manifest to the end: who lied once is not asked again */
  readonly providers: KnownProviders
  readonly signal: AbortSignal
}

/**
 * Fetches one content: manifest, proven; then the missing pieces from all providers at once, each verified before it
 * counts, and served to others from then on; then the file under its names.
 */
export class Downloader {
  readonly #deps: DownloaderDeps
  readonly #options: DownloaderOptions
  readonly #share: DownloadShare

  constructor(deps: DownloaderDeps, options: DownloaderOptions = {}) {
    this.#deps = deps
    this.#options = options
    this.#share = deps.share ?? new DownloadShare()
  }

  /**
   * @throws NetworkError `unavailable` where no provider is left: what is verified stays for the next attempt;
   *   `corrupt` where what ended it was a lie; `cancelled`; as `Landing` where the disk or the name refuses
   */
  async run(download: Download, signal: AbortSignal): Promise<DownloadResult> {
    try {
      const providers = new KnownProviders((note) => download.observer?.onNote?.(note))
      for (const source of download.sources) providers.add(source)
      const store = download.dummy ? undefined : await PieceStore.resume(this.#deps, download.id, signal)
      if (store) return await this.#fetch({ download, manifest: store.manifest, providers, signal }, store)
      const attempt = { download, manifest: await this.#prove(download.id, providers, signal), providers, signal }
      if (download.dummy) return await this.#simulate(attempt)
      return await this.#fetch(attempt, await PieceStore.open(this.#deps, attempt.manifest, signal))
    } catch (error) {
      if (signal.aborted)
        throw new NetworkError('cancelled', 'cancelled: what was verified is kept for the next attempt', {}, error)
      throw error
    }
  }

  async #fetch(attempt: Attempt, store: PieceStore): Promise<DownloadResult> {
    const { download, manifest, providers, signal } = attempt
    const { neighbourhood } = this.#deps
    const { observer } = download
    const leave = neighbourhood?.serve(store)
    try {
      observer?.onManifest?.(manifest, store.resumedBytes)
      if (store.damaged > 0)
        observer?.onNote?.(`pieces on disk that were damaged since and are fetched again: ${store.damaged}`)
      // Once more where something else changed the file behind our back.
      do {
        await this.#fetchMissing(attempt, store)
        if (store.complete) continue
        const { simulators } = providers
        if (simulators) return await this.#simulate({ ...attempt, providers: simulators })
        throw nobodyLeft(providers.faults, !store.blank)
      } while (!(await store.confirm(signal)))
      observer?.onWhole?.()
      for (const [name, { message }] of await store.publish(download.names()))
        observer?.onNote?.(`not kept as "${name}": ${message}`)
      return { outcome: 'done', manifest, bytes: manifest.size - store.resumedBytes }
    } finally {
      leave?.()
      if (store.blank && !signal.aborted) await store.discard()
      else await store.close()
    }
  }

  async #fetchMissing(attempt: Attempt, store: PieceStore): Promise<void> {
    const { download, manifest, signal } = attempt
    const state = new SwarmState(manifest, store.missing())
    const part = this.#share.enter({ own: () => download.rate?.(), fetching: () => state.fetching })
    const unlisten = store.onLost((piece) => state.lost(piece, this.#deps.clock.now()))
    const sink = {
      manifest,
      dummy: false,
      fd: store.fd,
      commit: (index: number, parts: Uint8Array[]) => store.commit(index, parts),
      taker: this.#deps.neighbourhood?.taker(),
    }
    const keep = (piece: number) => store.verified(piece)
    const options = { ...this.#options, patient: download.patient }
    const swarm = new Swarm({ ...this.#swarmDeps(attempt, state), rate: part.rate, sink, keep }, options)
    try {
      await swarm.run(signal)
    } finally {
      part.leave()
      unlisten()
    }
  }

  async #simulate(attempt: Attempt): Promise<DownloadResult> {
    const { download, manifest, providers, signal } = attempt
    const pieces = Array(pieceCount(manifest.size, manifest.pieceSize)).keys()
    const state = new SwarmState(manifest, pieces)
    download.observer?.onManifest?.(manifest, 0)
    const sink = { manifest, dummy: true, fd: -1, commit: async () => true, taker: undefined }
    const swarm = new Swarm({ ...this.#swarmDeps(attempt, state), sink, keep: () => {} }, this.#options)
    await swarm.run(signal)
    if (!state.complete) throw nobodyLeft(providers.faults, false)
    return { outcome: 'simulated', manifest, bytes: manifest.size }
  }

  #swarmDeps({ download, providers }: Attempt, state: SwarmState) {
    const { clock, neighbourhood } = this.#deps
    return {
      clock,
      state,
      providers,
      discover: download.discover && ((signal: AbortSignal) => download.discover!(signal)),
      sourceAt: neighbourhood && ((contact: Contact, from: string) => neighbourhood.sourceAt(contact, from)),
      // A simulation moves no bytes, and so has no part of what all may fetch.
      rate: () => download.rate?.(),
      observer: download.observer,
    }
  }

  /** The first manifest that can be proven. Who takes long for it is not waited for: the next is asked, too. */
  async #prove(id: ContentId, providers: KnownProviders, signal: AbortSignal): Promise<Manifest> {
    const { clock } = this.#deps
    const over = new AbortController()
    const bound = AbortSignal.any([signal, over.signal])
    // Each call listens until it is answered.
    setMaxListeners(0, bound)
    const asked: Promise<Manifest>[] = []
    const first = () => Promise.any(asked).catch(() => undefined)
    try {
      for (const known of [...providers.all]) {
        const answer = manifestFrom(known.source, id, clock, bound)
        asked.push(answer)
        answer.catch((error) => {
          if (!bound.aborted) providers.failed(known, asNetworkError(error), clock.now())
        })
        const manifest = await Promise.race([first(), clock.sleep(ASK_NEXT_MS, bound)])
        if (manifest) return manifest
      }
      const manifest = await first()
      if (manifest) return manifest
      throw nobodyLeft(providers.faults, false)
    } finally {
      over.abort()
    }
  }
}

/** Who is asked by too many at present (`limited`) is asked again. */
async function manifestFrom(source: PieceSource, id: ContentId, clock: Clock, signal: AbortSignal): Promise<Manifest> {
  for (let attempt = 1; ; attempt++)
    try {
      return await prove(id, await source.manifest(id, signal), signal)
    } catch (error) {
      if (asNetworkError(error).code !== 'limited' || attempt === ASK_AT_MOST || signal.aborted) throw error
      await clock.sleep(ASK_NEXT_MS, signal)
    }
}

/** The error that ends a download: the worst that a provider did, so that a lie is not taken for an absence. */
function nobodyLeft(faults: readonly NetworkError[], keeps: boolean): NetworkError {
  const kept = keeps ? '; what was verified is kept, start it again to resume' : ''
  const worst = faults.find(({ code }) => code === 'corrupt') ?? faults.at(-1)
  if (!worst) return new NetworkError('unavailable', `no provider is left${kept}`)
  const why = faults.length === 1 ? worst.message : `${worst.message} (and ${faults.length - 1} more)`
  return new NetworkError(worst.code, `no provider is left: ${why}${kept}`, { faults: faults.map((f) => f.message) })
}
