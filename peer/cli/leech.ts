import { basename, dirname } from 'node:path'
import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import { FolderLanding } from '../catalog/folder-landing.ts'
import { SharedFolder } from '../catalog/shared-folder.ts'
import { WorkerHasher } from '../hashing/worker-hasher.ts'
import { RpcClients } from '../rpc/client.ts'
import type { Choice } from '../transfer/choose.ts'
import { Downloader } from '../transfer/downloader.ts'
import { FetchProgress } from '../transfer/progress.ts'
import type { Cli } from './cli.ts'
import { destination, sizeThere } from './destination.ts'
import { explain } from './explain.ts'
import { type DownloadOptions, findAgain, findProviders } from './find-providers.ts'
import { shareText, show } from './follow.ts'
import { Patience } from './patience.ts'
import type { ExactQuery } from './query.ts'
import { efficiency, type Fetched, summary } from './summary.ts'
import { rate, styled } from './text.ts'

/** Downloads in this process, to a path of this machine. */
export async function leech(query: ExactQuery, options: DownloadOptions, cli: Cli): Promise<void> {
  const clients = new RpcClients()
  cli.onClose(async () => clients.close())
  const choice = await findProviders(query, options, clients, cli)
  const { id, name, via, steps } = choice
  const path = await destination(name, options.output)
  const there = await sizeThere(path, id, cli)
  const limit = there === undefined ? await limitOf(options, cli) : null
  const progress = new FetchProgress({ clock: systemClock })
  let disturbed = false
  progress.listen(() => {
    disturbed ||= progress.phase === 'waiting'
  })
  const begin = performance.now()
  let state: Fetched['state'] = 'done'
  try {
    if (there !== undefined) progress.alreadyHere(there)
    else state = await fetchTo(path, choice, progress, clients, { ...options, limit }, cli)
  } finally {
    for (const note of progress.notes) cli.out.note(note)
    if (options.explain) explain({ steps, providers: progress.snapshot().providers }, cli.out)
  }
  const seconds = (performance.now() - begin) / 1000
  const { waiting: _, ...numbers } = progress.snapshot()
  const fetched = { ...numbers, state, seconds }
  const bound = efficiency({ ...fetched, disturbed })
  const { notes } = progress
  cli.out.document({ file: name, id, path, via, limit, ...fetched, ...bound, steps, notes })
  cli.out.line(...summary({ ...fetched, disturbed, via, name: basename(path), where: `in ${path}` }))
}

/**
 * Bytes a second at most; null: no limit. Where none is given, what the agent may download at present: the line is the
 * same. Who names a Maestro or a peer does without the agent, and so without its limit.
 */
async function limitOf({ limit, maestro, peer }: DownloadOptions, cli: Cli): Promise<number | null> {
  if (limit !== undefined || maestro !== undefined || peer !== undefined) return limit ?? null
  const agent = await cli.agent()
  // To a stranger it does not tell them.
  const limits = await agent.limits().catch(() => undefined)
  const now = limits?.now.download ?? null
  if (now !== null)
    cli.out.note(styled('dim', `at most ${rate(now)}, as the agent may download now; --limit RATE is another`))
  return now
}

async function fetchTo(
  path: string,
  { id, name, providers }: Choice,
  progress: FetchProgress,
  clients: RpcClients,
  options: DownloadOptions,
  cli: Cli,
): Promise<'done' | 'simulated'> {
  const hasher = new WorkerHasher()
  cli.onClose(() => hasher.close())
  const folder = SharedFolder.open(dirname(path))
  const landing = new FolderLanding({ folder, hasher, pathOf: () => basename(path) }, { reserveBytes: 0 })
  const downloader = new Downloader({ landing, hasher, clock: systemClock })
  const patience = new Patience(options.wait)
  const bar = cli.out.progress(basename(path))
  const unlisten = progress.listen(() => {
    patience.waits(progress.phase === 'waiting')
    show({ ...progress.snapshot(), state: progress.phase, id }, bar)
  })
  bar.phase('checking what is there already')
  try {
    const { outcome } = await downloader.run(
      {
        id,
        names: () => [name],
        sources: providers.map((provider) => clients.source(provider)),
        discover: async () => (await findAgain(id, options, cli)).map((provider) => clients.source(provider)),
        dummy: options.dummy ?? false,
        patient: options.wait !== undefined,
        rate: () => options.limit ?? undefined,
        observer: progress,
      },
      AbortSignal.any([cli.io.signal, patience.signal]),
    )
    return outcome
  } catch (error) {
    const share = shareText(progress.snapshot())
    if (cli.io.signal.aborted)
      throw new NetworkError(
        'cancelled',
        `stopped${share}: what arrived is kept, and the same command resumes`,
        {},
        error,
      )
    if (patience.signal.aborted)
      throw new NetworkError(
        'unavailable',
        `${patience.error.message}${share}: what arrived is kept, and the same command resumes`,
        {},
        error,
      )
    throw error
  } finally {
    unlisten()
    patience.end()
    bar.stop()
  }
}
