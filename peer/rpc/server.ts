import type { Server, UntypedServiceImplementation } from '@grpc/grpc-js'
import { ReflectionService } from '@grpc/reflection'
import { HealthImplementation } from 'grpc-health-check'
import { closeRpc, createRpcServer, listenRpc, loadProto, MAX_MESSAGE } from '../../common/rpc.ts'
import { boundCalls, type MethodBounds } from './beneath.ts'
import { FILE_SERVICE, TRANSFER_SERVICE } from './codec.ts'
import { MAX_FETCH_MESSAGE } from './fetch-messages.ts'
import { type FileServiceDeps, FileServiceHandlers } from './file-service.ts'
import { OVERLAY_SERVICE } from './overlay-codec.ts'
import { type OverlayServiceDeps, OverlayServiceHandlers } from './overlay-service.ts'
import { MAX_STORE, RING_SERVICE } from './ring-codec.ts'
import { type RingServiceDeps, RingServiceHandlers } from './ring-service.ts'
import { type SessionBounds, Sessions } from './sessions.ts'
import { type SmallServiceDeps, SmallServiceHandlers } from './small-service.ts'
import { type TransferServiceDeps, TransferServiceHandlers } from './transfer-service.ts'

/** A peer without a ring, or without neighbours, does not serve what belongs to them. */
export type RpcServerDeps = FileServiceDeps &
  TransferServiceDeps &
  SmallServiceDeps &
  Partial<RingServiceDeps & OverlayServiceDeps>

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

/** All there is, as reflection tells it to others: of files of one package that were loaded apart, it would tell one. */
const REFLECTED = loadProto('files.proto', 'transfer.proto', 'overlay.proto')

/** An offer: the hashes of the largest manifest (8 MiB), its name, their framing. */
const MAX_OFFER = 9 * 1024 * 1024

/** Bytes of a message that is no offer, no frame and no file. */
const SMALL = 64 * 1024
/** A small request is sent at once, with its head. */
const BODY_MS = 2000
/**
 * One host may have a part of the open calls, so that three that mean ill still leave room for others.
 * An agent opens two with a provider for each content, for at most 8 transfers: behind one address a lab of a hundred
 * agents may take what is shared here; takers that are refused ask again. Pushes are half of those received at a time.
 */
const BOUNDS: Record<string, MethodBounds> = {
  // A file waits for its place where it is, but for the window of its connection.
  [FILE_SERVICE.Upload.path]: { maxMessage: MAX_MESSAGE, maxOpen: 64, maxOfHost: 16, maxReading: 8, maxMs: 120_000 },
  [FILE_SERVICE.Download.path]: {
    maxMessage: SMALL,
    maxOpen: 256,
    maxOfHost: 64,
    maxReading: 8,
    bodyMs: BODY_MS,
    maxMs: 120_000,
  },
  // A small question with an answer of up to 8 MiB, which is in memory until it is taken.
  [TRANSFER_SERVICE.GetManifest.path]: {
    maxMessage: SMALL,
    maxOpen: 1000,
    maxOfHost: 250,
    maxReading: 32,
    bodyMs: BODY_MS,
    maxMs: 30_000,
  },
  [TRANSFER_SERVICE.Fetch.path]: { maxMessage: SMALL, maxOpen: 1000, maxOfHost: 250 },
  [TRANSFER_SERVICE.FetchSmall.path]: { maxMessage: SMALL, maxOpen: 32, maxOfHost: 16 },
  [TRANSFER_SERVICE.Push.path]: { maxMessage: MAX_OFFER, maxNext: MAX_FETCH_MESSAGE, maxOpen: 16, maxOfHost: 4 },
}
/**
 * Small questions with answers from memory. A lab of a hundred agents behind one address asks one of its own all at once
 * where many join; an answer that waits for another peer (`Stabilize`) takes half a second.
 */
const RING: MethodBounds = {
  maxMessage: SMALL,
  maxOpen: 256,
  maxOfHost: 128,
  maxReading: 128,
  bodyMs: BODY_MS,
  maxMs: 5000,
}
const RING_BOUNDS: Record<string, MethodBounds> = {
  [RING_SERVICE.Stabilize.path]: RING,
  [RING_SERVICE.Step.path]: RING,
  [RING_SERVICE.Leave.path]: RING,
  // An answer of up to 600 KiB, which is in memory until it is taken.
  [RING_SERVICE.Find.path]: { ...RING, maxReading: 32 },
  [RING_SERVICE.Store.path]: { ...RING, maxReading: 32, maxMessage: MAX_STORE },
}
const OVERLAY_BOUNDS: Record<string, MethodBounds> = {
  [OVERLAY_SERVICE.Exchange.path]: { ...RING, maxOpen: 64, maxOfHost: 64, maxReading: 32 },
  // Each is open while those behind it are. A search that has found enough takes back what it has asked, which is normal;
  // a neighbour in a lab of a hundred agents passes on some hundred a second.
  [OVERLAY_SERVICE.Query.path]: {
    maxMessage: SMALL,
    maxOpen: 512,
    maxOfHost: 128,
    maxReading: 512,
    bodyMs: BODY_MS,
    maxMs: 6000,
    calls: { perSecond: 250, atOnce: 400 },
    resets: { perSecond: 100, atOnce: 300 },
  },
}
/** Health watches and reflection are streams that stay open: they are bounded in number, not in time. */
const OTHERS: MethodBounds = { maxMessage: SMALL, maxOpen: 256 }
/**
 * One host is a lab of a hundred agents at most. A taker takes one call back over each of its connections: that about
 * pieces, which has one of its own, when it has them; others now and then, with the answer of another peer.
 */
const SESSIONS: SessionBounds = {
  max: 5000,
  maxOfHost: 500,
  resets: { perSecond: 10, atOnce: 100 },
  // Who is refused waits, or asks another one.
  refusals: { perSecond: 50, atOnce: 500 },
  cuts: { perSecond: 0.05, atOnce: 2 },
}

/**
 * The peer's gRPC side: FileService, Transfer, Ring, Overlay, health, reflection. Every call is bounded in message size, number and
 * time: unary ones by a deadline of the server's own, conversations by stalls.
 */
export class RpcServer {
  #server: Server
  #health = new HealthImplementation({ '': 'SERVING' })
  #sessions = new Sessions(SESSIONS)
  #graceMs: number

  constructor(deps: RpcServerDeps, options: RpcServerOptions) {
    this.#graceMs = options.graceMs ?? 2000
    const dummy = options.dummy ?? false
    const files = new FileServiceHandlers(deps, { dummy })
    const transfer = new TransferServiceHandlers(deps, { dummy, idleMs: options.idleMs, host: options.host })
    const small = new SmallServiceHandlers(deps, { dummy })
    this.#server = createRpcServer([
      boundCalls({ ...BOUNDS, ...RING_BOUNDS, ...OVERLAY_BOUNDS }, OTHERS, this.#sessions),
    ])
    this.#server.addService({ ...FILE_SERVICE }, {
      Upload: files.upload,
      Download: files.download,
    } as UntypedServiceImplementation)
    this.#server.addService({ ...TRANSFER_SERVICE }, {
      GetManifest: transfer.getManifest,
      Fetch: transfer.fetch,
      Push: transfer.push,
      FetchSmall: small.fetchSmall,
    } as UntypedServiceImplementation)
    this.#health.addToServer(this.#server)
    const services = ['fileservice.FileService', 'p2p.v1.Transfer']
    if (this.#addRing(deps)) services.push('p2p.v1.Ring')
    if (this.#addOverlay(deps)) services.push('p2p.v1.Overlay')
    new ReflectionService(REFLECTED, { services }).addToServer(this.#server)
  }

  #addRing({ ring, self, log }: RpcServerDeps): boolean {
    if (!ring || !self) return false
    const handlers = new RingServiceHandlers({ ring, self, log })
    this.#server.addService({ ...RING_SERVICE }, {
      Stabilize: handlers.stabilize,
      Step: handlers.step,
      Find: handlers.find,
      Store: handlers.store,
      Leave: handlers.leave,
    } as UntypedServiceImplementation)
    return true
  }

  #addOverlay({ overlay, flood, self, log }: RpcServerDeps): boolean {
    if (!overlay || !flood || !self) return false
    const handlers = new OverlayServiceHandlers({ overlay, flood, self, log })
    this.#server.addService({ ...OVERLAY_SERVICE }, {
      Exchange: handlers.exchange,
      Query: handlers.query,
    } as UntypedServiceImplementation)
    return true
  }

  /**
   * Listens; the answer is the port in fact, also where 0 was asked for.
   * @throws NetworkError `unavailable` where the port is taken
   */
  async start(ip: string, port: number): Promise<number> {
    const bound = await listenRpc(this.#server, ip, port)
    this.#sessions.guard(this.#server)
    return bound
  }

  async stop(): Promise<void> {
    this.#health.setStatus('', 'NOT_SERVING')
    await closeRpc(this.#server, this.#graceMs)
  }
}
