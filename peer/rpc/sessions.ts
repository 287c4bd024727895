import { constants, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { performance } from 'node:perf_hooks'
import type { Server } from '@grpc/grpc-js'
import { oneParty } from '../../common/address.ts'
import { Bucket, type Rate } from '../../common/bucket.ts'
import { HostSlots } from './hosts.ts'

export interface SessionBounds {
  /** connections at the same time */
  max: number
  /** of one host */
  maxOfHost: number
  /** calls that are taken back, over one connection; those of a method with a rate of its own count for that one */
  resets: Rate
  /** calls that are refused for there being too many, over one connection */
  refusals: Rate
  /** connections of one host that are cut for that */
  cuts: Rate
}

/** What a method counts for itself, over one connection. */
export interface CallRates {
  /** such calls */
  calls?: Rate
  /** such calls that are taken back, where that is normal (default: as all others together) */
  resets?: Rate
}

/** Hosts with connections that were cut are looked through when there are this many. */
const MANY_HOSTS = 1000

/**
 * Bounds on the connections of a gRPC server. To open calls only to take them back, or many more than are answered, costs
 * a server much and a client nothing, and to refuse them costs as much: such a connection is cut, and the host of several
 * gets no further one until it has calmed down.
 */
export class Sessions {
  readonly #bounds: SessionBounds
  readonly #now: () => number
  readonly #ofHost: HostSlots
  readonly #buckets = new WeakMap<ServerHttp2Session, Map<Rate, Bucket>>()
  readonly #cut = new WeakSet<ServerHttp2Session>()
  readonly #cuts = new Map<string, Bucket>()

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

  /**
   * To be told of each call.
   * @returns whether it is worth its while: its connection is not about to be cut
   */
  watch(stream: ServerHttp2Stream, { calls, resets = this.#bounds.resets }: CallRates = {}): boolean {
    const session = stream.session as ServerHttp2Session | undefined
    if (!session || this.#cut.has(session)) return false
    stream.once('close', () => {
      if (stream.aborted && !cutHere.has(stream) && !session.destroyed) this.#count(session, resets)
    })
    if (calls) this.#count(session, calls)
    return !this.#cut.has(session)
  }

  /** To be told of each call that is refused. */
  refused({ session }: ServerHttp2Stream): void {
    if (session) this.#count(session as ServerHttp2Session, this.#bounds.refusals)
  }

  #admit(session: ServerHttp2Session): void {
    const host = hostOf(session)
    const slot = this.#cuts.get(host)?.empty ? undefined : this.#ofHost.tryAcquire(host)
    if (slot) session.once('close', () => slot.release())
    else closeSoon(session)
  }

  /** One more of what may be so often over a connection; at the first one too many it is cut. */
  #count(session: ServerHttp2Session, rate: Rate): void {
    const buckets = this.#buckets.get(session) ?? new Map<Rate, Bucket>()
    this.#buckets.set(session, buckets)
    const bucket = buckets.get(rate) ?? new Bucket(rate, this.#now)
    buckets.set(rate, bucket)
    if (bucket.take() || this.#cut.has(session)) return
    this.#cut.add(session)
    this.#cutsOf(hostOf(session)).take()
    closeSoon(session)
  }

  #cutsOf(host: string): Bucket {
    let cuts = this.#cuts.get(host)
    if (cuts) return cuts
    if (this.#cuts.size >= MANY_HOSTS) for (const [other, { full }] of this.#cuts) if (full) this.#cuts.delete(other)
    cuts = new Bucket(this.#bounds.cuts, this.#now)
    this.#cuts.set(host, cuts)
    return cuts
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
