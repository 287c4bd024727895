import type { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import {
  ChannelCredentials,
  type ChannelOptions,
  compressionAlgorithms,
  logVerbosity,
  Metadata,
  Server,
  ServerCredentials,
  type ServerInterceptor,
  type ServiceError,
  type StatusObject,
  setLogVerbosity,
} from '@grpc/grpc-js'
import { loadSync, type PackageDefinition } from '@grpc/proto-loader'
import { hostPort } from './address.ts'
import { asNetworkError, GRPC_STATUS, isErrorCode, NetworkError } from './errors.ts'
import { printable } from './ids.ts'
import { listenFailure } from './listen-failure.ts'
import { projectFile } from './project.ts'

/** The one place where gRPC credentials, channels and servers are made. A closed network changes this file. */

// Its failures come back as errors, which say more; lines of its own would only break up what people and scripts read.
setLogVerbosity(logVerbosity.NONE)

/** Bytes of one message either way: the largest manifest (8 MiB), a whole small file, with room for their framing. */
export const MAX_MESSAGE = 17 * 1024 * 1024
/** Bytes of a whole file in one unary message. */
export const MAX_UNARY_FILE = 16 * 1024 * 1024

const LIMITS = {
  'grpc.max_receive_message_length': MAX_MESSAGE,
  'grpc.max_send_message_length': MAX_MESSAGE,
} as const

const SERVER_OPTIONS: ChannelOptions = {
  ...LIMITS,
  'grpc.max_concurrent_streams': 1000,
  // Without a call for so long, or without a first one.
  'grpc.max_connection_idle_ms': 60_000,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.default_compression_algorithm': compressionAlgorithms.identity,
}

const CHANNEL_OPTIONS: ChannelOptions = {
  ...LIMITS,
  // Before a server would close the connection, perhaps in the face of a call.
  'grpc.client_idle_timeout_ms': 45_000,
  'grpc.keepalive_time_ms': 30_000,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.enable_http_proxy': 0,
  'grpc.default_compression_algorithm': compressionAlgorithms.identity,
  'grpc-node.flow_control_window': 4 * 1024 * 1024,
  // Peers fail over among themselves; a channel that retries by itself would only hide who is dead.
  'grpc.enable_retries': 0,
  'grpc.use_local_subchannel_pool': 1,
}

export interface ChannelParts {
  address: string
  credentials: ChannelCredentials
  options: ChannelOptions
}

/**
 * What a gRPC client's constructor takes, for the peer at `host:port`.
 * @param maxMessage bytes of an answer's message
 */
export function channelTo(host: string, port: number, maxMessage = MAX_MESSAGE): ChannelParts {
  return {
    address: hostPort(host, port),
    credentials: ChannelCredentials.createInsecure(),
    options: { ...CHANNEL_OPTIONS, 'grpc.max_receive_message_length': maxMessage },
  }
}

/** The same for a thread that speaks HTTP/2 by itself, to which this can be posted. */
export interface Http2Target {
  readonly authority: string
  /** whether `options` are for `tls.connect`, else for `net.connect` */
  readonly secure: boolean
  readonly options: { readonly host: string; readonly port: number }
}

export function http2Target(host: string, port: number): Http2Target {
  return { authority: hostPort(host, port), secure: false, options: { host, port } }
}

export function createRpcServer(interceptors: ServerInterceptor[] = []): Server {
  return new Server({ ...SERVER_OPTIONS, interceptors })
}

/**
 * Listens; the answer is the port in fact, also where 0 was asked for.
 * @throws NetworkError `unavailable` where the port is taken
 */
export function listenRpc(server: Server, ip: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(hostPort(ip, port), ServerCredentials.createInsecure(), (error, bound) => {
      if (!error) {
        holdConnections(server)
        return resolve(bound)
      }
      const errno = /EADDRINUSE|EADDRNOTAVAIL|EACCES/.exec(error.message)?.[0]
      reject(listenFailure(errno ? Object.assign(error, { code: errno }) : error, ip, port, '--grpc-port'))
    })
  })
}

/** Lets running calls end for up to `graceMs`, then cuts them, and the connections of clients that hang. */
export function closeRpc(server: Server, graceMs = 2000): Promise<void> {
  return new Promise((resolve) => {
    const cut = setTimeout(() => {
      server.forceShutdown()
      for (const socket of connections.get(server) ?? []) socket.destroy()
    }, graceMs)
    server.tryShutdown(() => {
      clearTimeout(cut)
      server.forceShutdown()
      resolve()
    })
  })
}

/** Those to each server: a session that has said goodbye waits for that of its client, for ever where that hangs. */
const connections = new WeakMap<Server, Set<Socket>>()

/** grpc-js has no public way to its HTTP/2 servers; a test holds this one. */
function holdConnections(server: Server): void {
  const { http2Servers } = server as unknown as { http2Servers: Map<EventEmitter, unknown> }
  const sockets = connections.get(server) ?? new Set<Socket>()
  connections.set(server, sockets)
  for (const http2 of http2Servers.keys())
    http2.on('connection', (socket: Socket) => {
      sockets.add(socket)
      socket.once('close', () => sockets.delete(socket))
    })
}

type ProtoFile = 'files.proto' | 'transfer.proto' | 'ring.proto' | 'overlay.proto'

/** Files of proto/, with those that they import. */
export function loadProto(...files: ProtoFile[]): PackageDefinition {
  const paths = files.map((file) => projectFile('proto', file))
  return loadSync(paths, { keepCase: true, longs: Number, defaults: true, oneofs: true })
}

const CODE_KEY = 'p2p-code'

/** What the caller is told. What an unexpected failure was is for the log, not for a stranger. */
export function wordsFor({ code, message }: NetworkError): string {
  return code === 'internal' ? 'an internal error; the log of the peer tells more' : message
}

/** The gRPC status that says this error. */
export function toStatus(error: unknown): Partial<StatusObject> {
  const known = asNetworkError(error)
  const metadata = new Metadata()
  metadata.set(CODE_KEY, known.code)
  return { code: GRPC_STATUS[known.code], details: wordsFor(known), metadata }
}

/** The typed error behind a failed call to `who`. */
export function fromStatus(error: unknown, who: string): NetworkError {
  if (error instanceof NetworkError) return error
  const { code, details, metadata } = error as Partial<ServiceError>
  if (typeof code !== 'number') return asNetworkError(error)
  const sent = metadata?.get(CODE_KEY)[0]
  if (isErrorCode(sent)) return new NetworkError(sent, printable(details ?? '', 1000), { peer: who }, error)
  // In the words of grpc-js at this side: gRPC has no code of its own for it.
  if (details?.startsWith('Received message larger than max'))
    return new NetworkError('corrupt', `${who} sent a message beyond its bounds`, { peer: who }, error)
  const known = NetworkError.codeOfGrpc(code)
  if (code === 4)
    return new NetworkError('unavailable', `${who} does not answer in time`, { peer: who, reason: 'timeout' }, error)
  if (known === 'unavailable')
    return new NetworkError('unavailable', `${who} does not answer`, { peer: who, reason: 'unreachable' }, error)
  return new NetworkError(known, printable(details || `${who} failed`, 1000), { peer: who }, error)
}

/**
 * The typed error behind the headers that ended a call to `who`: its trailers, or the answer of something that speaks
 * no gRPC. Undefined where the call ended well.
 */
export function fromHeaders(headers: ReadonlyMap<string, string>, who: string): NetworkError | undefined {
  const status = headers.get('grpc-status')
  if (status === '0') return undefined
  const metadata = new Metadata()
  const sent = headers.get(CODE_KEY)
  if (isErrorCode(sent)) metadata.set(CODE_KEY, sent)
  const code = status === undefined ? codeOfHttp(headers.get(':status')) : Number.parseInt(status, 10) || UNKNOWN
  return fromStatus({ code, details: percentDecoded(headers.get('grpc-message') ?? ''), metadata }, who)
}

const UNKNOWN = 2

/** https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md */
function codeOfHttp(status: string | undefined): number {
  const codes: Record<string, number> = { 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14 }
  return codes[status ?? ''] ?? UNKNOWN
}

function percentDecoded(text: string): string {
  try {
    return decodeURIComponent(text)
  } catch {
    return text
  }
}
