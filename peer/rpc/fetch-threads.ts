import { setMaxListeners } from 'node:events'
import { Worker } from 'node:worker_threads'
import { hostPort } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import { fromHeaders, http2Target } from '../../common/rpc.ts'
import {
  LocalFailure,
  type PieceSink,
  type PieceStream,
  type ProviderEvent,
  Simulates,
  type Want,
} from '../transfer/source.ts'
import { contactsOfWire, contactToWire, contentIdToWire, errorOfWire, TRANSFER_SERVICE } from './codec.ts'
import { costOf, type FetchEnd, type FetchEvent, type FromThread, type OpenJob, type ToThread } from './fetch-jobs.ts'
import { wantMessage } from './streams.ts'

export interface FetchThreadsDeps {
  /** Starts one thread. */
  startWorker?: () => Worker
}

export interface FetchThreadsOptions {
  /** threads at most (default 2) */
  size?: number
}

/** A peer's gRPC port. */
export interface FetchTarget {
  /** who this is, for reports */
  readonly peer: PeerId
  readonly host: string
  readonly port: number
}

interface Thread {
  readonly worker: Worker
  readonly streams: Map<number, ThreadStream>
}

/**
 * Conversations of the method Fetch in threads of their own, which receive, verify and write pieces. They are spread
 * evenly, those with one provider first of all. Threads start when first needed, and keep the process alive only while
 * they have conversations.
 */
export class FetchThreads {
  readonly #startWorker: () => Worker
  readonly #size: number
  #threads: Thread[] = []
  #nextId = 1
  #closed = false
  readonly #hashes = new WeakMap<Manifest, SharedArrayBuffer>()

  constructor(deps: FetchThreadsDeps = {}, options: FetchThreadsOptions = {}) {
    this.#startWorker = deps.startWorker ?? startFetchWorker
    this.#size = options.size ?? 2
  }

  /** Starts the threads ahead of the first conversation, which then need not wait for them. */
  warm(): void {
    while (!this.#closed && this.#threads.length < this.#size) this.#startThread()
  }

  /** Opens a conversation about the content of this sink, which is written to by its `fd`. */
  open(target: FetchTarget, sink: PieceSink, signal: AbortSignal): PieceStream {
    const id = this.#nextId++
    const stream = new ThreadStream(target)
    if (this.#closed || signal.aborted) {
      stream.fail(new NetworkError('cancelled', 'cancelled'))
      return stream
    }
    const thread = this.#threadFor(stream.address)
    const { manifest, dummy, taker, fd } = sink
    const open = {
      content_id: contentIdToWire(manifest.id),
      dummy,
      taker: taker ? contactToWire({ ...taker, host: '' }) : null,
    }
    const job: OpenJob = {
      target: http2Target(target.host, target.port),
      path: TRANSFER_SERVICE.Fetch.path,
      content: manifest.id,
      size: manifest.size,
      pieceSize: manifest.pieceSize,
      hashes: this.#shared(manifest),
      dummy,
      fd,
      message: TRANSFER_SERVICE.Fetch.requestSerialize({ kind: 'open', open }),
    }
    const abort = () => stream.abort()
    setMaxListeners(0, signal)
    signal.addEventListener('abort', abort, { once: true })
    thread.streams.set(id, stream)
    thread.worker.ref()
    stream.begin(
      (message) => thread.worker.postMessage(message),
      id,
      () => {
        signal.removeEventListener('abort', abort)
        thread.streams.delete(id)
        if (thread.streams.size === 0) thread.worker.unref()
      },
    )
    thread.worker.postMessage({ kind: 'open', id, job } satisfies ToThread)
    return stream
  }

  /** Ends every conversation and every thread. */
  async close(): Promise<void> {
    this.#closed = true
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
  }

  #shared(manifest: Manifest): SharedArrayBuffer {
    let shared = this.#hashes.get(manifest)
    if (!shared) {
      shared = new SharedArrayBuffer(manifest.hashes.length)
      Buffer.from(shared).set(manifest.hashes)
      this.#hashes.set(manifest, shared)
    }
    return shared
  }

  /** The thread with the fewest conversations with this address, then the fewest at all; a new one counts as empty. */
  #threadFor(address: string): Thread {
    const load = ({ streams }: Thread): number => {
      const same = [...streams.values()].filter((stream) => stream.address === address).length
      return same * 1_000_000 + streams.size
    }
    const best = this.#threads.reduce<Thread | undefined>(
      (least, thread) => (least && load(least) <= load(thread) ? least : thread),
      undefined,
    )
    return best && (best.streams.size === 0 || this.#threads.length >= this.#size) ? best : this.#startThread()
  }

  #startThread(): Thread {
    const worker = this.#startWorker()
    const thread: Thread = { worker, streams: new Map() }
    let cause: unknown
    worker.on('message', ({ id, events, end }: FromThread) => thread.streams.get(id)?.take(events, end))
    worker.on('error', (error) => {
      cause = error
    })
    worker.on('exit', () => {
      this.#threads = this.#threads.filter((other) => other !== thread)
      const error = this.#closed
        ? new NetworkError('cancelled', 'cancelled')
        : new NetworkError('internal', 'a fetching thread ended unexpectedly: try again', {}, cause)
      for (const stream of [...thread.streams.values()]) stream.fail(error)
    })
    worker.unref()
    this.#threads.push(thread)
    return thread
  }
}

/** What the thread is told of used events is gathered until it counts this much. */
const TELL_USED = 64

class ThreadStream implements PieceStream {
  readonly address: string
  readonly #peer: PeerId
  #id = 0
  #post: ((message: ToThread) => void) | undefined
  #done: (() => void) | undefined
  #events: FetchEvent[] = []
  #used = 0
  #wake: (() => void) | undefined
  #closed = false
  /** the thread touches nothing of this conversation any more */
  #over = false
  #overSoon: (() => void)[] = []
  #error: Error | undefined

  constructor({ peer, host, port }: FetchTarget) {
    this.address = hostPort(host, port)
    this.#peer = peer
  }

  begin(post: (message: ToThread) => void, id: number, done: () => void): void {
    this.#post = post
    this.#id = id
    this.#done = done
  }

  want(change: Want): void {
    if (this.#over) return
    const { add = [], remove = [], credit = 0 } = change
    const message = TRANSFER_SERVICE.Fetch.requestSerialize(wantMessage(change))
    this.#post?.({ kind: 'want', id: this.#id, change: { add, remove, credit }, message })
  }

  async *events(): AsyncGenerator<ProviderEvent> {
    try {
      for (;;) {
        const events = this.#events
        this.#events = []
        for (const event of events) {
          yield event.kind === 'message' ? this.#read(event.message) : event
          this.#markUsed(event)
        }
        if (events.length > 0) continue
        if (this.#error) throw this.#error
        if (this.#closed) return
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
      }
    } finally {
      void this.close()
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#wake?.()
    if (this.#over) return
    this.#post?.({ kind: 'close', id: this.#id })
    await new Promise<void>((resolve) => this.#overSoon.push(resolve))
  }

  abort(): void {
    this.#error ??= new NetworkError('cancelled', 'cancelled')
    void this.close()
  }

  take(events: readonly FetchEvent[], end: FetchEnd | undefined): void {
    this.#events.push(...events)
    if (end) this.#finish(this.#errorOf(end))
    this.#wake?.()
  }

  /** The thread is gone. */
  fail(error: Error): void {
    this.#finish(error)
    this.#wake?.()
  }

  #finish(error: Error | undefined): void {
    if (this.#over) return
    this.#over = true
    this.#error ??= error
    this.#done?.()
    for (const resolve of this.#overSoon) resolve()
  }

  #markUsed(event: FetchEvent): void {
    this.#used += costOf(event)
    if (this.#used < TELL_USED || this.#over) return
    this.#post?.({ kind: 'used', id: this.#id, cost: this.#used })
    this.#used = 0
  }

  #read(bytes: Uint8Array): ProviderEvent {
    const message = decode(bytes)
    switch (message?.kind) {
      case 'takers':
        return { kind: 'takers', contacts: contactsOfWire(message.takers.contacts) }
      case 'refusal':
        throw errorOfWire(message.refusal, this.#peer)
      default:
        throw new NetworkError('corrupt', `sent ${message ? `"${message.kind}"` : 'garbage'} where frames were due`)
    }
  }

  #errorOf(end: FetchEnd): Error | undefined {
    switch (end.kind) {
      case 'closed':
        return undefined
      case 'simulates':
        return new Simulates()
      case 'failed':
        return NetworkError.fromBody(end.body)
      case 'local':
        return new LocalFailure('this peer could not keep a piece', { cause: NetworkError.fromBody(end.body) })
      case 'stream':
        return this.#streamError(end)
    }
  }

  #streamError({ end, headers }: Extract<FetchEnd, { kind: 'stream' }>): NetworkError {
    const early = new NetworkError('unavailable', 'ended the conversation early', { peer: this.#peer })
    switch (end.kind) {
      case 'ended':
        return fromHeaders(headers, this.#peer) ?? early
      case 'reset':
        return headers.has('grpc-status') ? (fromHeaders(headers, this.#peer) ?? early) : early
      case 'lost': {
        const details = { peer: this.#peer, reason: 'unreachable' }
        return new NetworkError('unavailable', `${this.#peer} does not answer`, details, new Error(end.reason))
      }
      case 'broken':
        return new NetworkError('corrupt', `broke the protocol: ${end.reason}`, { peer: this.#peer })
    }
  }
}

function decode(bytes: Uint8Array): ReturnType<typeof TRANSFER_SERVICE.Fetch.responseDeserialize> | undefined {
  try {
    return TRANSFER_SERVICE.Fetch.responseDeserialize(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length))
  } catch {
    return undefined
  }
}

/** Run from source, the thread needs a TypeScript loader first; built, it is plain JavaScript. */
export function startFetchWorker(): Worker {
  const file = import.meta.url.endsWith('.ts') ? './fetch-worker-from-source.mjs' : './fetch-worker.js'
  const resourceLimits = { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64 }
  return new Worker(new URL(file, import.meta.url), { execArgv: [], resourceLimits })
}
