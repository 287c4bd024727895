import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { isEndState, type TransferBody, type TransferRequest } from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'
import type { Progress } from './progress.ts'

/** Starts a download at the agent and stays with it until it ends, with progress. Ctrl-C cancels it there. */
export async function followTransfer(agent: PeerClient, request: TransferRequest, cli: Cli): Promise<TransferBody> {
  const started = await agent.startTransfer(request)
  const progress = cli.out.progress(started.file ?? request.file ?? 'download')
  try {
    for await (const transfer of states(agent, started)) {
      if (isEndState(transfer.state)) return transfer
      show(transfer, progress)
    }
    throw gone(agent)
  } catch (error) {
    if (cli.io.signal.aborted) throw await cancel(agent, started)
    throw asNetworkError(error).code === 'unavailable' ? gone(agent, error) : error
  } finally {
    progress.stop()
  }
}

function show({ state, id, size, bytes, rate }: TransferBody, progress: Progress): void {
  if (state === 'locating') progress.phase(id === null ? 'asking who has it' : 'checking what is here already')
  else if (state === 'verifying') progress.phase('all is here and verified; saving it')
  else if (size !== null) progress.update(bytes, size, rate)
}

/** What the agent tells of it; where its events break off, what it says when asked. */
async function* states(agent: PeerClient, started: TransferBody): AsyncGenerator<TransferBody> {
  yield started
  if (isEndState(started.state)) return
  try {
    yield* agent.transferEvents(started.transfer)
  } catch (error) {
    if (asNetworkError(error).code === 'cancelled') throw error
  }
  yield await agent.transfer(started.transfer)
}

async function cancel(agent: PeerClient, { transfer }: TransferBody): Promise<NetworkError> {
  try {
    const { bytes, size } = await agent.cancelTransfer(transfer)
    const share = size === null || size === 0 ? '' : ` at ${Math.floor((bytes / size) * 100)} %`
    return new NetworkError(
      'cancelled',
      `cancelled in the agent${share}: what arrived is kept, and the same command resumes`,
    )
  } catch (error) {
    const { code, message } = asNetworkError(error)
    if (code === 'conflict') return new NetworkError('cancelled', 'it had ended already: see "peer transfers"')
    return new NetworkError('cancelled', `stopped watching, but the agent goes on with it: ${message}`)
  }
}

function gone(agent: PeerClient, cause?: unknown): NetworkError {
  return new NetworkError(
    'unavailable',
    `the agent at ${agent.url} went away during the transfer: once it runs again, the same command resumes`,
    {},
    cause,
  )
}
