import type { Clock } from '../../common/clock.ts'
import type { PeerId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import { type FetchProgressBody, MAX_TRANSFER_PROVIDERS, type TransferProvider } from '../../common/schemas.ts'
import type { DownloadObserver, ProviderReport } from './download.ts'
import type { FolderObserver } from './folder/download.ts'
import { Throughput } from './throughput.ts'

/** What earlier attempts of the same download brought, and what was there before the first of them. */
export interface Before extends Pick<FetchProgressBody, 'received' | 'resumed_bytes'> {
  /** null: none got as far as to know */
  readonly size: number | null
  readonly providers: readonly Pick<TransferProvider, 'peer' | 'bytes'>[]
}

export const NOTHING_BEFORE: Before = { size: null, providers: [], received: 0, resumed_bytes: 0 }

/** How far a transfer is that nothing is known of yet. */
export const NO_PROGRESS: FetchProgressBody = {
  size: null,
  bytes: 0,
  resumed_bytes: 0,
  received: 0,
  pieces: null,
  files: null,
  rate: 0,
  peak_rate: 0,
  providers: [],
  waiting: null,
}

const MAX_NOTES = 50

/** How far the fetch of a content or a folder is: what its observer saw, in numbers for people and scripts. */
export class FetchProgress implements DownloadObserver, FolderObserver {
  /** as the states of a transfer */
  phase: 'locating' | 'running' | 'waiting' | 'verifying' = 'locating'
  readonly notes: string[] = []
  readonly #clock: Clock
  readonly #throughput = new Throughput()
  /** verified bytes of each peer, also of attempts before */
  readonly #given = new Map<PeerId, number>()
  readonly #before: Before
  /** in this attempt, as `#resumed` and `#fetched` */
  #received = 0
  #size: number | null = null
  /** bytes that were here, verified, when they were looked at */
  #resumed = 0
  /** bytes that were verified since */
  #fetched = 0
  #pieces: FetchProgressBody['pieces'] = null
  #files: FetchProgressBody['files'] = null
  #reports: readonly ProviderReport[] = []
  #retryMs: number | null = null
  #listeners = new Set<() => void>()

  constructor(deps: { clock: Clock }, before: Before = NOTHING_BEFORE) {
    this.#clock = deps.clock
    for (const { peer, bytes } of before.providers) this.#given.set(peer, (this.#given.get(peer) ?? 0) + bytes)
    this.#before = before
  }

  /** Calls `listener` at every change, until the function that it answers is called. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  onManifest({ size, pieceSize }: Pick<Manifest, 'size' | 'pieceSize'>, resumedBytes: number): void {
    // Only the last piece may be shorter, so these are whole numbers of pieces.
    this.#pieces = { total: Math.ceil(size / pieceSize), verified: Math.ceil(resumedBytes / pieceSize) }
    this.#begin(size, resumedBytes)
  }

  onListed(total: { files: number; bytes: number }, here: { files: number; bytes: number }): void {
    this.#files = { total: total.files, done: here.files }
    this.#begin(total.bytes, here.bytes)
  }

  onPartHere(bytes: number): void {
    this.#resumed += bytes
    this.#changed()
  }

  /** Told with the next change: that of `onVerified` is hardly ever far. */
  onReceived(bytes: number): void {
    this.#received += bytes
  }

  onVerified(peer: PeerId, bytes: number): void {
    this.#fetched += bytes
    this.#given.set(peer, (this.#given.get(peer) ?? 0) + bytes)
    // A piece that was damaged on disk since comes twice.
    if (this.#pieces) this.#pieces.verified = Math.min(this.#pieces.total, this.#pieces.verified + 1)
    this.#throughput.add(this.#clock.now(), this.#fetched)
    this.#changed()
  }

  /** `files` are so many more. */
  onFiles(files: number): void {
    if (this.#files) this.#files = { ...this.#files, done: this.#files.done + files }
    this.#changed()
  }

  onProviders(providers: readonly ProviderReport[]): void {
    this.#reports = providers
    this.#changed()
  }

  onWaiting(retryMs: number): void {
    this.#retryMs = retryMs
    this.#enter('waiting')
  }

  onResumed(): void {
    this.#retryMs = null
    this.#throughput.restart()
    this.#enter('running')
  }

  onWhole(): void {
    this.#enter('verifying')
  }

  /** Who is tried again and again fails again and again: once is enough to know. */
  onNote(note: string): void {
    if (this.notes.includes(note)) return
    this.notes.push(note)
    if (this.notes.length > MAX_NOTES) this.notes.shift()
    this.#changed()
  }

  /** All of it was here before anything was fetched. */
  alreadyHere(size: number): void {
    this.#begin(size, size)
  }

  snapshot(): FetchProgressBody {
    const bytes = this.#resumed + this.#fetched
    return {
      size: this.#size,
      // What was damaged on disk since comes twice.
      bytes: this.#size === null ? bytes : Math.min(this.#size, bytes),
      // A piece that was written as an attempt was stopped, and not counted any more, was not there before.
      resumed_bytes: this.#before.size === null ? this.#resumed : Math.min(this.#resumed, this.#before.resumed_bytes),
      received: this.#before.received + this.#received,
      pieces: this.#pieces && { ...this.#pieces },
      files: this.#files,
      rate: this.#throughput.rate(this.#clock.now()),
      peak_rate: this.#throughput.peak,
      providers: this.#providers(),
      waiting: this.#retryMs === null ? null : { retry_ms: this.#retryMs },
    }
  }

  /** Who is known by a report, with what it gave by count; then those who only gave. */
  #providers(): TransferProvider[] {
    const given = new Map(this.#given)
    const rows = this.#reports.map(({ peer, address, state, reason = null, pieces, rate }): TransferProvider => {
      const bytes = given.get(peer) ?? 0
      given.delete(peer)
      return { peer, address, state, reason, pieces, bytes, rate }
    })
    const unknown = { address: null, state: 'connected', reason: null, pieces: null, rate: 0 } as const
    for (const [peer, bytes] of given) rows.push({ peer, ...unknown, bytes })
    return rows.sort((a, b) => b.bytes - a.bytes).slice(0, MAX_TRANSFER_PROVIDERS)
  }

  #begin(size: number, here: number): void {
    this.#size = size
    this.#resumed = here
    this.#fetched = 0
    this.#throughput.restart()
    this.#enter('running')
  }

  #enter(phase: FetchProgress['phase']): void {
    this.phase = phase
    this.#changed()
  }

  #changed(): void {
    for (const listener of this.#listeners) listener()
  }
}
