import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import type { LocatedProvider, LookupStep, StrategyName, TransferBody } from '../../common/schemas.ts'
import type { ContentDownloader } from './content-fetch.ts'
import type { Download, DownloadResult } from './download.ts'
import {
  type DownloadRequest,
  TransferManager,
  type TransferManagerDeps,
  type TransferManagerOptions,
} from './manager.ts'
import type { NamedSource } from './source.ts'

/** For tests of the manager: a network that is a list, a shared folder that is a map, and a downloader that a test drives. */

export const PIECE = 100

export function idOf(digit: string): ContentId {
  return digit.repeat(64) as ContentId
}

interface Offered {
  readonly peer: PeerId
  readonly file: FileName
  readonly id: ContentId
  readonly size: number
  /** registered by its bare name: only the peer itself can tell the id */
  readonly bare: boolean
  readonly resolve: () => Promise<{ id: ContentId; size: number }>
}

/** One run of the downloader, which goes as far as the test lets it. */
export class Run {
  readonly download: Download
  readonly signal: AbortSignal
  readonly result: Promise<DownloadResult>
  /** names under which nothing can be kept */
  readonly refused = new Set<FileName>()
  #resolve: (result: DownloadResult) => void = () => {}
  #reject: (error: unknown) => void = () => {}
  #came = 0
  #landing: Map<FileName, ContentId>

  constructor(download: Download, signal: AbortSignal, landing: Map<FileName, ContentId>) {
    this.download = download
    this.signal = signal
    this.#landing = landing
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
  }

  get from(): string[] {
    return this.download.sources.map(({ peer }) => peer)
  }

  begin(size: number, resumed = 0): this {
    this.download.observer?.onManifest?.(
      { id: this.download.id, size, pieceSize: PIECE, hashes: Buffer.alloc(0) },
      resumed,
    )
    return this
  }

  piece(bytes = PIECE, peer = this.from[0]): this {
    this.#came += bytes
    this.download.observer?.onReceived?.(bytes)
    this.download.observer?.onVerified?.(peer as PeerId, bytes, 0)
    return this
  }

  finish(): void {
    const { download } = this
    const names = download.dummy ? [] : download.names()
    download.observer?.onWhole?.()
    for (const name of names) if (!this.refused.has(name)) this.#landing.set(name, download.id)
    const manifest = { id: download.id, size: this.#came, pieceSize: PIECE, hashes: Buffer.alloc(0) }
    this.#resolve({ outcome: download.dummy ? 'simulated' : 'done', manifest, bytes: this.#came })
  }

  fail(error: unknown): void {
    this.#reject(error)
  }
}

export class FakeNetwork {
  readonly offers: Offered[] = []
  /** what is in the shared folder */
  readonly landing = new Map<FileName, ContentId>()
  steps: LookupStep[] = []
  /** what was looked up: names and ids, with `@` and the way */
  readonly lookups: string[] = []
  /** lookups wait for this */
  gate: Promise<void> = Promise.resolve()
  readonly runs: Run[] = []
  /** a journal of it is here, so that a run can begin with no provider */
  journal = false
  /** runs do all that is to be done by themselves */
  automatic = true

  offer(peer: string, file: string, id: ContentId, more: { size?: number; bare?: boolean } = {}): Offered {
    const { size = 4 * PIECE, bare = false } = more
    const offered = {
      peer: peer as PeerId,
      file: file as FileName,
      id,
      size,
      bare,
      resolve: async () => ({ id, size }),
    }
    this.offers.push(offered)
    return offered
  }

  readonly locator: TransferManagerDeps['locator'] = {
    locate: async (query, signal, via?: StrategyName) => {
      this.lookups.push(`${query.kind === 'name' ? query.name : query.id}${via ? `@${via}` : ''}`)
      await this.gate
      signal.throwIfAborted()
      const found = this.offers.filter(({ file, id, bare }) =>
        query.kind === 'name' ? file === query.name : !bare && id === query.id,
      )
      const providers = found.map(
        ({ peer, file, id, size, bare }): LocatedProvider => ({
          peer,
          file,
          rest: 'http://127.0.0.1:8000',
          grpc_port: 50051,
          via: 'maestro',
          ...(bare ? { id: null, size: null } : { id, size }),
        }),
      )
      return { providers, via: providers.length > 0 ? 'maestro' : null, steps: this.steps }
    },
    locateAll: async (id, signal) => {
      const { providers } = await this.locator.locate({ kind: 'id', id }, signal)
      this.lookups.push(`${this.lookups.pop()}@all`)
      return providers
    },
  }

  readonly downloader: ContentDownloader = {
    run: (download, signal) => {
      if (download.sources.length === 0 && !this.journal)
        return Promise.reject(new NetworkError('unavailable', 'no provider is left'))
      const run = new Run(download, signal, this.landing)
      signal.addEventListener('abort', () => run.fail(new NetworkError('cancelled', 'cancelled')), { once: true })
      if (signal.aborted) run.fail(new NetworkError('cancelled', 'cancelled'))
      this.runs.push(run)
      if (this.automatic) {
        const { size } = this.offers.find(({ id }) => id === download.id)!
        run.begin(size)
        for (let left = size; left > 0; left -= PIECE) run.piece(Math.min(PIECE, left))
        run.finish()
      }
      return run.result
    },
  }

  /** An agent's manager in this network. */
  manager(deps: Partial<TransferManagerDeps> = {}, options: TransferManagerOptions = {}): TransferManager {
    return new TransferManager(
      {
        locator: this.locator,
        sources: ({ peer, file }) => this.#source(peer, file),
        landing: { existing: (name) => this.landing.get(name) },
        downloader: this.downloader,
        clock: systemClock,
        log: silentLog,
        ...deps,
      },
      options,
    )
  }

  #source(peer: PeerId, file: FileName): NamedSource {
    const { resolve } = this.offers.find((offered) => offered.peer === peer && offered.file === file)!
    const never = () => {
      throw new Error('the fake downloader asks for no bytes')
    }
    return { peer, address: `${peer}:50051`, resolve, manifest: never, open: never }
  }
}

/** The transfer at its end. */
export async function ended(manager: TransferManager, { transfer }: TransferBody): Promise<TransferBody> {
  let last: TransferBody | undefined
  for await (const snapshot of manager.watch(transfer, new AbortController().signal)) last = snapshot
  return last!
}

export function downloaded(manager: TransferManager, request: DownloadRequest): Promise<TransferBody> {
  return ended(manager, manager.start(request))
}
