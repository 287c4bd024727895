import { NetworkError } from '../../common/errors.ts'
import { type FileName, printable } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import { fromStatus } from '../../common/rpc.ts'
import type { ContentReader } from '../transfer/contents.ts'
import type { Want } from '../transfer/source.ts'
import type { Uploader } from '../transfer/uploader.ts'
import type { RpcClients, RpcTarget } from './client.ts'
import { errorOfWire, manifestToWire, type ProviderOutput, type TakerMessage, TRANSFER_SERVICE } from './codec.ts'
import { CallSink, messagesOf, writeThrough } from './streams.ts'

export interface Push {
  /** under which it lands at the other side */
  filename: FileName
  manifest: Manifest
  /** of the file's bytes; not read in a dummy push */
  reader: Pick<ContentReader, 'read'>
  dummy: boolean
  /** Bytes that have left in this conversation; the other side may have had some before. */
  onProgress?(sent: number): void
}

export interface PushResult {
  /** what the other side says for people: stored, already there, simulated */
  message: string
  /** that it fetched in this conversation; simulated: that it would have */
  bytes: number
  simulated: boolean
}

/**
 * Offers a file to another peer, and serves what that one lacks of it: in constant memory, with no agent here.
 * @throws NetworkError as the other side refused or failed; `conflict` where the file changed meanwhile; `unavailable`
 */
export async function pushFile(
  deps: { clients: RpcClients; uploader: Uploader },
  target: RpcTarget,
  push: Push,
  signal: AbortSignal,
): Promise<PushResult> {
  const { call, gone } = deps.clients.duplex<ProviderOutput, TakerMessage>(target, TRANSFER_SERVICE.Push, signal)
  const messages = messagesOf<TakerMessage>(call)
  let result: Extract<TakerMessage, { kind: 'result' }>['result'] | undefined
  // Stepped by hand: to leave the loop must not end the messages, the result is yet to come.
  async function* wants(): AsyncGenerator<Want> {
    for (let next = await messages.next(); !next.done; next = await messages.next()) {
      const message = next.value
      if (message.kind === 'want') yield message.want
      else if (message.kind === 'result') {
        result = message.result
        return
      } else throw new NetworkError('corrupt', `${target.peer} sent "${message.kind}" where a want was due`)
    }
  }
  let sent = 0
  const onSent = (bytes: number) => {
    sent += bytes
    push.onProgress?.(sent)
  }
  let cutFor: NetworkError | undefined
  const sink = new CallSink(writeThrough(call), gone, (reason) => {
    cutFor = reason
    call.cancel()
  })
  const { filename, manifest, dummy, reader } = push
  try {
    call.write({ kind: 'offer', offer: { filename, manifest: manifestToWire(manifest), dummy } })
    const served = { manifest, reader: dummy ? undefined : reader, onSent }
    try {
      await deps.uploader.serveFrom(served, wants(), sink, signal)
    } catch (error) {
      // A receiver that has enough of it says why and hangs up, while frames are under way: its word counts.
      if (!gone.aborted) throw error
      for await (const _ of wants()) if (signal.aborted) break
      if (!result) throw error
    }
  } catch (error) {
    if (signal.aborted)
      throw new NetworkError('cancelled', 'cancelled: what arrived is kept there for the next attempt')
    throw cutFor ?? fromStatus(error, target.peer)
  } finally {
    call.cancel()
  }
  if (!result)
    throw new NetworkError('unavailable', `${target.peer} ended the conversation early`, { peer: target.peer })
  if (!result.ok) throw errorOfWire(result, target.peer)
  return { message: printable(result.message, 1000), bytes: result.bytes, simulated: result.simulated }
}
