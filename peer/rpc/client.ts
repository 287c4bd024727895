import type { EventEmitter } from 'node:events'
import { type Call, Client, type ClientDuplexStream, type ClientReadableStream, connectivityState } from '@grpc/grpc-js'
import type { MethodDefinition } from '@grpc/proto-loader'
import { hostPort, parseRestUrl } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { channelTo, fromStatus, MAX_MESSAGE } from '../../common/rpc.ts'
import type { Contact, ManifestClaim, NamedSource, PieceSink, PieceStream } from '../transfer/source.ts'
import { contentIdOfWire, contentIdToWire, manifestOfWire, TRANSFER_SERVICE, type WireManifest } from './codec.ts'
import { FetchThreads } from './fetch-threads.ts'

/** A peer as its gRPC port is reached. */
export interface RpcTarget {
  readonly peer: PeerId
  /** its REST URL: the host counts */
  readonly rest: string
  readonly grpc_port: number
}

/** One of whom perhaps only the address is known: its id, or that. */
export interface RpcAddress extends Omit<RpcTarget, 'peer'> {
  readonly peer: string
}

/** What a caller needs of a method. */
export interface RpcMethod<Request, Answer>
  extends Pick<MethodDefinition<Request, Answer>, 'path' | 'requestSerialize' | 'responseDeserialize'> {
  /** bytes of an answer's message (default: those of the largest manifest) */
  readonly maxAnswer?: number
}

export interface RpcClientsOptions {
  /** channels kept, the least recently used are closed beyond (default 64); those in use are kept anyway */
  maxChannels?: number
}

/** Bound on a manifest's way here. */
const MANIFEST_MS = 15_000

/** Bytes of a message in a conversation: 1 MiB of small contents or 1,024 reasons why they can't be had, a want. */
export const MAX_SAID = 2 * 1024 * 1024

interface Channel {
  client: Client
  calls: number
}

/**
 * gRPC channels to other peers, one a host and port and bound on messages, opened when first used and closed when idle.
 * A call holds its channel; a channel without calls may be closed to make room.
 */
export class RpcClients {
  #channels = new Map<string, Channel>()
  #maxChannels: number
  /** conversations about pieces, in threads of their own */
  readonly fetches = new FetchThreads()

  constructor(options: RpcClientsOptions = {}) {
    this.#maxChannels = options.maxChannels ?? 64
  }

  source(target: RpcTarget): NamedSource {
    return new GrpcSource(this, target)
  }

  /** The peer at a contact that somebody named. */
  sourceAt({ peer, host, grpcPort }: Contact): NamedSource {
    return new GrpcSource(this, { peer, rest: `http://${hostPort(host, grpcPort)}`, grpc_port: grpcPort }, true)
  }

  /** @throws NetworkError as the peer answered; `unavailable` */
  unary<Request, Answer>(
    target: RpcAddress,
    method: RpcMethod<Request, Answer>,
    request: Request,
    deadlineMs: number,
    signal: AbortSignal,
  ): Promise<Answer> {
    const channel = this.#hold(target, method.maxAnswer ?? MAX_MESSAGE)
    return new Promise<Buffer>((resolve, reject) => {
      if (signal.aborted) throw new NetworkError('cancelled', 'cancelled')
      const call = channel.client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        asItCame,
        request,
        { deadline: Date.now() + deadlineMs },
        (error, answer) => {
          signal.removeEventListener('abort', cancel)
          if (error) reject(fromStatus(error, target.peer))
          else resolve(answer!)
        },
      )
      const cancel = () => call.cancel()
      signal.addEventListener('abort', cancel, { once: true })
    })
      .then((answer) => read(method.responseDeserialize, answer, target.peer))
      .finally(() => this.#release(channel))
  }

  /** A conversation both ways; `gone` aborts at its end, however it ends. */
  duplex<Request, Answer>(
    target: RpcTarget,
    method: Pick<MethodDefinition<Request, never, never, Answer>, 'path' | 'requestSerialize' | 'responseDeserialize'>,
    signal: AbortSignal,
  ): { call: ClientDuplexStream<Request, Answer>; gone: AbortSignal } {
    const channel = this.#hold(target, MAX_SAID)
    const gone = new AbortController()
    const call = channel.client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize)
    this.#follow(call, channel, signal)
    call.once('status', () => gone.abort())
    return { call, gone: gone.signal }
  }

  /** A request with an answer of many messages. */
  serverStream<Request, Answer>(
    target: RpcAddress,
    method: RpcMethod<Request, Answer>,
    request: Request,
    deadlineMs: number,
    signal: AbortSignal,
  ): ClientReadableStream<Answer> {
    const channel = this.#hold(target, method.maxAnswer ?? MAX_MESSAGE)
    const { path, requestSerialize, responseDeserialize } = method
    const deadline = Date.now() + deadlineMs
    const call = channel.client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, {
      deadline,
    })
    this.#follow(call, channel, signal)
    return call
  }

  /** Until a stream ends, it holds its channel, and is taken back with the signal. */
  #follow(call: Pick<Call, 'cancel'> & EventEmitter, channel: Channel, signal: AbortSignal): void {
    const cancel = () => call.cancel()
    signal.addEventListener('abort', cancel, { once: true })
    // The reader of the messages meets the error; where nobody reads any more, nobody needs it.
    call.on('error', () => {})
    call.once('status', () => {
      signal.removeEventListener('abort', cancel)
      this.#release(channel)
    })
    if (signal.aborted) cancel()
  }

  /** Closes every channel; calls under way fail. */
  async close(): Promise<void> {
    for (const { client } of this.#channels.values()) client.close()
    this.#channels.clear()
    await this.fetches.close()
  }

  #hold(target: RpcAddress, maxMessage: number): Channel {
    const { host } = parseRestUrl(target.rest)
    const { address, credentials, options } = channelTo(host, target.grpc_port, maxMessage)
    const key = `${address} ${maxMessage}`
    let channel = this.#channels.get(key)
    if (!channel || isBackingOff(channel)) {
      channel?.client.close()
      channel = { client: new Client(address, credentials, options), calls: 0 }
    }
    channel.calls++
    this.#channels.delete(key)
    this.#channels.set(key, channel)
    this.#trim()
    return channel
  }

  #release(channel: Channel): void {
    channel.calls--
    this.#trim()
  }

  #trim(): void {
    let excess = this.#channels.size - this.#maxChannels
    if (excess <= 0) return
    for (const [key, { client, calls }] of this.#channels) {
      if (calls > 0) continue
      client.close()
      this.#channels.delete(key)
      if (--excess === 0) return
    }
  }
}

/**
 * After a failed connection grpc-js refuses every call for a second and more without trying. Whom to ask, and when
 * again, is for the callers here: their call is an attempt. (Nothing runs over such a channel that closing could cut.)
 */
function isBackingOff({ client }: Channel): boolean {
  return client.getChannel().getConnectivityState(false) === connectivityState.TRANSIENT_FAILURE
}

/** For a method whose answers are read by `read`. */
export function asItCame(bytes: Buffer): Buffer {
  return bytes
}

/**
 * An answer of `who`. What grpc-js can't read, it takes for an internal error.
 * @throws NetworkError `corrupt`
 */
export function read<T>(deserialize: (bytes: Buffer) => T, bytes: Buffer, who: string): T {
  try {
    return deserialize(bytes)
  } catch (error) {
    throw new NetworkError(
      'corrupt',
      `${who} sent what can't be read: ${(error as Error).message}`,
      { peer: who },
      error,
    )
  }
}

class GrpcSource implements NamedSource {
  readonly peer: PeerId
  readonly address: string
  readonly hint: boolean
  #clients: RpcClients
  #target: RpcTarget

  constructor(clients: RpcClients, target: RpcTarget, hint = false) {
    this.peer = target.peer
    this.address = hostPort(parseRestUrl(target.rest).host, target.grpc_port)
    this.hint = hint
    this.#clients = clients
    this.#target = target
  }

  async manifest(id: ContentId, signal: AbortSignal): Promise<ManifestClaim> {
    return manifestOfWire(await this.#getManifest({ content_id: contentIdToWire(id) }, signal))
  }

  async resolve(name: FileName, signal: AbortSignal): Promise<{ id: ContentId; size: number }> {
    const { content_id, size } = await this.#getManifest({ filename: name }, signal)
    return { id: contentIdOfWire(content_id), size }
  }

  open(sink: PieceSink, signal: AbortSignal): PieceStream {
    const { host } = parseRestUrl(this.#target.rest)
    return this.#clients.fetches.open({ peer: this.peer, host, port: this.#target.grpc_port }, sink, signal)
  }

  #getManifest(request: { content_id?: Buffer; filename?: string }, signal: AbortSignal): Promise<WireManifest> {
    return this.#clients.unary(this.#target, TRANSFER_SERVICE.GetManifest, request, MANIFEST_MS, signal)
  }
}
