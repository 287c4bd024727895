import type { handleBidiStreamingCall, Server, UntypedServiceImplementation } from '@grpc/grpc-js'
import { ReflectionService } from '@grpc/reflection'
import { HealthImplementation } from 'grpc-health-check'
import { hostOf, oneParty } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import { closeRpc, createRpcServer, listenRpc, MAX_MESSAGE, toStatus } from '../../common/rpc.ts'
import { boundCalls, type MethodBounds, streamBeneath } from './beneath.ts'
import { FILE_SERVICE, REFLECTED, TRANSFER_SERVICE } from './codec.ts'
import { type FileServiceDeps, FileServiceHandlers } from './file-service.ts'
import { MAX_FRAME } from './frame-codec.ts'
import { type SmallServiceDeps, SmallServiceHandlers } from './small-service.ts'
import { type TransferServiceDeps, TransferServiceHandlers } from './transfer-service.ts'

export type RpcServerDeps = FileServiceDeps & TransferServiceDeps & SmallServiceDeps

export interface RpcServerOptions {
  /** every transfer from and to this peer is a simulation (default false) */
  dummy?: boolean
  /** a taker that says nothing for this long is sent away, ms (default 60,000) */
  idleMs?: number | undefined
  /** the host that others reach this peer at */
  host: () => string
  /** how long calls under way may go on at stop, ms (default 2,000) */
  graceMs?: number
}

/** An offer: the hashes of the largest manifest (8 MiB), its name, their framing. */
const MAX_OFFER = 9 * 1024 * 1024

const SMALL: MethodBounds = { maxMessage: 64 * 1024, maxMs: 30_000 }
const BOUNDS: Record<string, MethodBounds> = {
  [FILE_SERVICE.Upload.path]: { maxMessage: MAX_MESSAGE, maxReading: 8, maxMs: 120_000 },
  [FILE_SERVICE.Download.path]: { maxMessage: 64 * 1024, maxReading: 8, maxMs: 120_000 },
  // A small question with an answer of up to 8 MiB, which is in memory until it is taken.
  [TRANSFER_SERVICE.GetManifest.path]: { ...SMALL, maxReading: 32 },
  [TRANSFER_SERVICE.Fetch.path]: { maxMessage: 64 * 1024, maxOpen: 1000 },
  [TRANSFER_SERVICE.FetchSmall.path]: { maxMessage: 64 * 1024, maxOpen: 32 },
  [TRANSFER_SERVICE.Push.path]: { maxMessage: MAX_OFFER, maxOpen: 16, window: 4 * MAX_FRAME },
}

/**
 * Conversations that one host may have open, of all that may be, so that three that mean ill still leave room for others.
 * An agent opens two with a provider for each content, for at most 8 transfers: behind one address a lab of a hundred
 * agents may take what is shared here; takers that are refused ask again. Pushes are half of those received at a time.
 */
const OF_ONE_HOST = { Fetch: 250, FetchSmall: 16, Push: 4 } as const

/**
 * The peer's gRPC side: FileService, Transfer, health, reflection. Every call is bounded in message size, number and
 * time: unary ones by a deadline of the server's own, conversations by stalls.
 */
export class RpcServer {
  #server: Server
  #health = new HealthImplementation({ '': 'SERVING' })
  #graceMs: number

  constructor(deps: RpcServerDeps, options: RpcServerOptions) {
    this.#graceMs = options.graceMs ?? 2000
    const dummy = options.dummy ?? false
    const files = new FileServiceHandlers(deps, { dummy })
    const transfer = new TransferServiceHandlers(deps, { dummy, idleMs: options.idleMs, host: options.host })
    const small = new SmallServiceHandlers(deps, { dummy })
    // Health watches and reflection are streams that stay open: they are bounded in number, not in time.
    this.#server = createRpcServer([boundCalls(BOUNDS, { maxMessage: SMALL.maxMessage })])
    this.#server.addService({ ...FILE_SERVICE }, {
      Upload: files.upload,
      Download: files.download,
    } as UntypedServiceImplementation)
    this.#server.addService({ ...TRANSFER_SERVICE }, {
      GetManifest: transfer.getManifest,
      Fetch: ofOneHost(OF_ONE_HOST.Fetch, transfer.fetch),
      Push: ofOneHost(OF_ONE_HOST.Push, transfer.push),
      FetchSmall: ofOneHost(OF_ONE_HOST.FetchSmall, small.fetchSmall),
    } as UntypedServiceImplementation)
    this.#health.addToServer(this.#server)
    new ReflectionService(REFLECTED).addToServer(this.#server)
  }

  /**
   * Listens; the answer is the port in fact, also where 0 was asked for.
   * @throws NetworkError `unavailable` where the port is taken
   */
  start(ip: string, port: number): Promise<number> {
    return listenRpc(this.#server, ip, port)
  }

  async stop(): Promise<void> {
    this.#health.setStatus('', 'NOT_SERVING')
    await closeRpc(this.#server, this.#graceMs)
  }
}

/** The handler, which refuses calls from a host that has so many open already. */
function ofOneHost<Request, Answer>(
  most: number,
  handler: handleBidiStreamingCall<Request, Answer>,
): handleBidiStreamingCall<Request, Answer> {
  const open = new Map<string, number>()
  return (call) => {
    const stream = streamBeneath(call)
    const host = oneParty(hostOf(call.getPeer()) ?? '')
    const before = open.get(host) ?? 0
    if (before >= most) {
      const refusal = new NetworkError('limited', 'too many such calls from this address: try again later')
      return void call.emit('error', toStatus(refusal))
    }
    if (stream && !stream.destroyed) {
      open.set(host, before + 1)
      stream.once('close', () => {
        const left = open.get(host)! - 1
        if (left > 0) open.set(host, left)
        else open.delete(host)
      })
    }
    handler(call)
  }
}
