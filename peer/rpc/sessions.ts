import { constants, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { performance } from 'node:perf_hooks'
import type { Server } from '@grpc/grpc-js'
import { oneParty } from '../../common/address.ts'
import { Bucket, type Rate } from './bucket.ts'
import { HostSlots } from './hosts.ts'

export interface SessionBounds {
  /** connections at the same time */
  max: number
  /** of one host */
  maxOfHost: number
  /** calls that the clients of one host take back before their first message was read */
  resets: Rate
}

/** Hosts that took back calls are looked through when there are this many. */
const MANY_HOSTS = 1000

/**
 * Bounds on the connections of a gRPC server. One that opens calls only to take them back costs a server much and a
 * client nothing: its connection is closed, and further ones of its host until that has calmed down.
 */
export class Sessions {
  readonly #bounds: SessionBounds
  readonly #now: () => number
  readonly #ofHost: HostSlots
  readonly #resets = new Map<string, Bucket>()

  constructor(bounds: SessionBounds, now: () => number = () => performance.now()) {
    this.#bounds = bounds
    this.#now = now
    this.#ofHost = new HostSlots(bounds.maxOfHost)
  }

  /** Of a server that listens. grpc-js has no public way to its HTTP/2 servers; a test holds this one. */
  guard(server: Server): void {
    const { http2Servers } = server as unknown as { http2Servers: Map<Http2Server, unknown> }
    for (const http2 of http2Servers.keys()) {
      http2.maxConnections = this.#bounds.max
      http2.on('session', (session) => this.#admit(session))
    }
  }

  /** To be told of each call. @returns to be told of its first message */
  watch(stream: ServerHttp2Stream): () => void {
    const session = stream.session as ServerHttp2Session | undefined
    let heard = false
    stream.once('close', () => {
      if (heard || !stream.aborted || cutHere.has(stream) || !session || session.destroyed) return
      if (!this.#bucket(hostOf(session)).take()) closeSoon(session)
    })
    return () => {
      heard = true
    }
  }

  #admit(session: ServerHttp2Session): void {
    const host = hostOf(session)
    const slot = this.#resets.get(host)?.empty ? undefined : this.#ofHost.tryAcquire(host)
    if (slot) session.once('close', () => slot.release())
    else closeSoon(session)
  }

  #bucket(host: string): Bucket {
    let bucket = this.#resets.get(host)
    if (bucket) return bucket
    if (this.#resets.size >= MANY_HOSTS)
      for (const [other, { full }] of this.#resets) if (full) this.#resets.delete(other)
    bucket = new Bucket(this.#bounds.resets, this.#now)
    this.#resets.set(host, bucket)
    return bucket
  }
}

/** Not at once: node 20 spins for good, in native code, where a session is destroyed while one of its streams closes. */
function closeSoon(session: ServerHttp2Session): void {
  setImmediate(() => session.destroy(undefined, constants.NGHTTP2_ENHANCE_YOUR_CALM))
}

const cutHere = new WeakSet<ServerHttp2Stream>()

/** Ends a call at once, with whatever is queued on it unsent: this peer's doing, not its client's. */
export function cutStream(stream: ServerHttp2Stream): void {
  cutHere.add(stream)
  stream.close(constants.NGHTTP2_CANCEL)
}

function hostOf({ socket }: ServerHttp2Session): string {
  return oneParty(socket?.remoteAddress ?? '')
}
