import { asNetworkError, NetworkError } from '../../common/errors.ts'
import {
  type FetchProgressBody,
  isEndState,
  type TransferBody,
  type TransferProvider,
  type TransferRequest,
  type TransferState,
} from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'
import { Patience } from './patience.ts'
import type { Progress } from './progress.ts'

export interface FollowOptions {
  /** how long there may be no provider (default: as long as it takes), s */
  wait?: number | undefined
}

/** A transfer that has ended, and whether anything but its providers held it up on the way. */
export type Followed = TransferBody & { disturbed: boolean }

/** Starts a download at the agent and stays with it until it ends, with progress. Ctrl-C pauses it there. */
export async function followTransfer(
  agent: PeerClient,
  request: TransferRequest,
  { wait }: FollowOptions,
  cli: Cli,
): Promise<Followed> {
  const started = await agent.startTransfer(request)
  tellWhatWas(started, cli)
  const progress = cli.out.progress(started.file ?? request.file ?? 'download')
  const patience = new Patience(wait)
  let before = started
  // What was before, nobody has seen.
  let disturbed = !isEndState(started.state) && started.bytes > 0
  try {
    for await (const transfer of states(agent, started, patience.signal)) {
      if (isEndState(transfer.state)) return { ...transfer, disturbed }
      disturbed ||= HELD_UP.includes(transfer.state) || transfer.limit !== started.limit
      patience.waits(transfer.state === 'waiting')
      tellChange(before, transfer, progress, cli)
      show(transfer, progress)
      before = transfer
    }
    throw gone(agent)
  } catch (error) {
    if (cli.io.signal.aborted) throw await pause(agent, before)
    if (patience.signal.aborted) throw await giveUp(agent, started, patience)
    throw asNetworkError(error).code === 'unavailable' ? gone(agent, error) : error
  } finally {
    patience.end()
    progress.stop()
  }
}

const HELD_UP: readonly TransferState[] = ['queued', 'waiting', 'paused']

/** How a fetch stands, on the bar. */
export function show(fetch: FetchProgressBody & Pick<TransferBody, 'state' | 'id'>, progress: Progress): void {
  const { state, id, size, bytes, rate, pieces, files, providers, waiting } = fetch
  if (state === 'queued') progress.phase('waits for other transfers to end')
  else if (state === 'locating')
    progress.phase(id === null && files === null ? 'asking who has it' : 'checking what is here already')
  else if (state === 'waiting') progress.waiting(waiting?.retry_ms ?? 0)
  else if (state === 'paused') progress.phase('paused')
  else if (state === 'verifying') progress.phase('all is here and verified; saving it')
  else if (size !== null) {
    const whole = files ? `${files.done}/${files.total} files` : undefined
    const parts = whole ?? (pieces ? `${pieces.verified}/${pieces.total} pieces` : undefined)
    progress.update(bytes, size, { rate, parts, peers: providers.filter(isConnected).length })
  }
}

function isConnected(provider: TransferProvider): boolean {
  return provider.state === 'connected'
}

/** What was asked for may be under way already, or have been paused. */
function tellWhatWas(started: TransferBody, cli: Cli): void {
  const { transfer, state } = started
  const at = shareText(started)
  if (state === 'running' || state === 'waiting' || state === 'verifying')
    cli.out.note(`joined transfer ${transfer}, which runs already${at}`)
  else if (!isEndState(state) && started.bytes > 0) cli.out.note(`goes on with transfer ${transfer}${at}`)
}

function tellChange(before: TransferBody, now: TransferBody, progress: Progress, cli: Cli): void {
  const text =
    now.joined !== null && before.joined === null
      ? `joined transfer ${now.joined}, which runs already${shareText(now)}`
      : now.state === 'paused' && before.state !== 'paused'
        ? `paused from elsewhere${shareText(now)}: "peer transfers resume ${now.transfer}" goes on with it`
        : undefined
  if (text === undefined) return
  progress.interject(() => cli.out.note(text))
}

/** What the agent tells of it; where its events break off, what it says when asked. */
async function* states(agent: PeerClient, started: TransferBody, signal: AbortSignal): AsyncGenerator<TransferBody> {
  yield started
  if (isEndState(started.state)) return
  try {
    yield* agent.transferEvents(started.transfer, signal)
  } catch (error) {
    if (asNetworkError(error).code === 'cancelled' || signal.aborted) throw error
  }
  yield await agent.transfer(started.transfer)
}

/** `last`: as it was told last */
async function pause(agent: PeerClient, last: TransferBody): Promise<NetworkError> {
  const { transfer } = last
  const paused = (now: TransferBody) =>
    new NetworkError(
      'cancelled',
      `paused${shareText(now)}: "peer transfers resume ${transfer}" or the same command goes on with it`,
    )
  try {
    return paused(await agent.pauseTransfer(transfer))
  } catch (error) {
    const { code, message } = asNetworkError(error)
    // The agent has refused: it is paused already.
    if (code === 'conflict' && last.state === 'paused') return paused(last)
    if (code === 'conflict') return new NetworkError('cancelled', `stopped watching: ${message}`)
    return new NetworkError('cancelled', `stopped watching, but the agent goes on with it: ${message}`)
  }
}

async function giveUp(agent: PeerClient, { transfer }: TransferBody, patience: Patience): Promise<NetworkError> {
  const { message } = patience.error
  return agent.cancelTransfer(transfer).then(
    (ended) =>
      new NetworkError(
        'unavailable',
        `${message}${shareText(ended)}: what arrived is kept, and the same command resumes`,
      ),
    (error: unknown) =>
      new NetworkError('unavailable', `${message}, but the agent goes on with it: ${asNetworkError(error).message}`),
  )
}

/** ` at 41 %` */
export function shareText({ bytes, size }: Pick<TransferBody, 'bytes' | 'size'>): string {
  return size === null || size === 0 ? '' : ` at ${Math.floor((bytes / size) * 100)} %`
}

function gone(agent: PeerClient, cause?: unknown): NetworkError {
  return new NetworkError(
    'unavailable',
    `the agent at ${agent.url} went away during the transfer: once it runs again, the same command resumes`,
    {},
    cause,
  )
}
