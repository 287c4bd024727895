import { basename, dirname } from 'node:path'
import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import { FolderLanding } from '../catalog/folder-landing.ts'
import { SharedFolder } from '../catalog/shared-folder.ts'
import { WorkerHasher } from '../hashing/worker-hasher.ts'
import { RpcClients } from '../rpc/client.ts'
import type { Choice } from '../transfer/choose.ts'
import { Downloader, type DownloadObserver } from '../transfer/downloader.ts'
import type { Cli } from './cli.ts'
import { destination, sizeThere } from './destination.ts'
import { type DownloadOptions, findProviders } from './find-providers.ts'
import type { Progress } from './progress.ts'
import type { ExactQuery } from './query.ts'
import { type Fetched, summary } from './summary.ts'

/** Downloads in this process, to a path of this machine. */
export async function leech(query: ExactQuery, options: DownloadOptions, cli: Cli): Promise<void> {
  const clients = new RpcClients()
  cli.onClose(async () => clients.close())
  const choice = await findProviders(query, options, clients, cli)
  const { id, name, via, steps } = choice
  const path = await destination(name, options.output)
  const there = await sizeThere(path, id, cli)
  const { notes, ...fetched } =
    there === undefined ? await fetchTo(path, choice, clients, options.dummy ?? false, cli) : nothingFetched(there)
  cli.out.document({ file: name, id, path, via, ...fetched, steps, notes })
  cli.out.line(...summary({ ...fetched, via, name: basename(path), where: `in ${path}` }))
}

type Outcome = Omit<Fetched, 'name' | 'where' | 'via'> & { notes: string[] }

function nothingFetched(size: number): Outcome {
  return { state: 'done', size, bytes: size, resumed_bytes: size, seconds: 0, providers: [], notes: [] }
}

async function fetchTo(
  path: string,
  { id, name, providers }: Choice,
  clients: RpcClients,
  dummy: boolean,
  cli: Cli,
): Promise<Outcome> {
  const hasher = new WorkerHasher()
  cli.onClose(() => hasher.close())
  const folder = SharedFolder.open(dirname(path))
  const landing = new FolderLanding({ folder, hasher, pathOf: () => basename(path) }, { reserveBytes: 0 })
  const downloader = new Downloader({ landing, hasher, clock: systemClock })
  const sources = providers.map((provider) => clients.source(provider))
  const progress = cli.out.progress(basename(path))
  progress.phase('checking what is there already')
  const tally = new Tally(progress)
  const begin = performance.now()
  try {
    const { outcome } = await downloader.run({ id, name, sources, dummy, observer: tally }, cli.io.signal)
    return {
      state: outcome,
      size: tally.size,
      bytes: tally.bytes,
      resumed_bytes: tally.resumed,
      seconds: (performance.now() - begin) / 1000,
      providers: [...tally.taken].map(([peer, bytes]) => ({ peer, bytes })),
      notes: tally.notes,
    }
  } catch (error) {
    if (!cli.io.signal.aborted) throw error
    const share = tally.size === 0 ? '' : ` at ${Math.floor((tally.bytes / tally.size) * 100)} %`
    throw new NetworkError(
      'cancelled',
      `cancelled${share}: what arrived is kept, and the same command resumes`,
      {},
      error,
    )
  } finally {
    progress.stop()
    for (const note of tally.notes) cli.out.note(note)
  }
}

/** Keeps count of a download as it goes. Bytes. */
class Tally implements DownloadObserver {
  size = 0
  resumed = 0
  bytes = 0
  readonly taken = new Map<PeerId, number>()
  readonly notes: string[] = []
  readonly #progress: Progress

  constructor(progress: Progress) {
    this.#progress = progress
  }

  onManifest({ size }: { size: number }, resumedBytes: number): void {
    this.size = size
    this.resumed = resumedBytes
    this.bytes = resumedBytes
    this.#progress.update(this.bytes, size)
  }

  onVerified(peer: PeerId, bytes: number): void {
    this.taken.set(peer, (this.taken.get(peer) ?? 0) + bytes)
    this.bytes += bytes
    this.#progress.update(this.bytes, this.size)
  }

  onNote(note: string): void {
    this.notes.push(note)
  }
}
