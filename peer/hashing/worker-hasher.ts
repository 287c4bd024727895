import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { NetworkError } from '../../common/errors.ts'
import { HASH_SIZE, type Manifest, pieceLength, pieceSizeFor, rootOf } from '../../common/merkle.ts'
import type { Hasher } from './hasher.ts'
import { JobQueue } from './job-queue.ts'
import type { CommitRequest, HashReply, HashRequest, PieceRange } from './jobs.ts'
import { type PiecesOfFile, PieceTask } from './piece-task.ts'

export interface WorkerHasherDeps {
  /** Starts one hashing thread. */
  startWorker?: () => Worker
}

export interface WorkerHasherOptions {
  /** threads (default: one a core, at most 4) */
  size?: number
}

type Outcome<T> = { resolve: (value: T) => void; reject: (error: NetworkError) => void }
type Commit = Outcome<boolean> & { request: CommitRequest; transfer: ArrayBuffer[] }
/** What one message to a worker carries, and whom its answer is for. */
type Work = { commit: Commit } | { steps: { task: PieceTask; range: PieceRange }[] }
interface Thread {
  readonly worker: Worker
  readonly inFlight: Map<number, Work>
}

/** Files up to this many bytes are hashed several to a message. */
const SMALL_FILE = 256 * 1024
/** Messages under way to one worker: the second one bridges the time that an answer takes to come back. */
const DEPTH = 2

/**
 * A pool of hashing threads, started when first needed. It keeps the process alive only while there is work. A promise
 * settles only once no thread touches the file descriptor any more, so that the caller may close it then.
 */
export class WorkerHasher implements Hasher {
  #startWorker: () => Worker
  #size: number
  #threads: Thread[] = []
  #queue = new JobQueue<Commit, PieceTask>()
  #nextJob = 1
  #closed = false

  constructor(deps: WorkerHasherDeps = {}, options: WorkerHasherOptions = {}) {
    this.#startWorker = deps.startWorker ?? startHashWorker
    this.#size = options.size ?? Math.min(availableParallelism(), 4)
  }

  async hashFile(
    fd: number,
    size: number,
    signal?: AbortSignal,
    onProgress?: (bytes: number) => void,
  ): Promise<Manifest> {
    const pieceSize = pieceSizeFor(size)
    const { hashes, whole } = await this.#pieces({ fd, size, pieceSize, pieces: undefined }, signal, onProgress)
    if (!whole.every(Boolean)) throw new NetworkError('conflict', 'the file became shorter while it was read')
    return { id: rootOf(hashes, pieceSize), size, pieceSize, hashes }
  }

  async verifyFile(
    fd: number,
    { size, pieceSize, hashes }: Manifest,
    signal?: AbortSignal,
    pieces?: readonly number[],
  ): Promise<boolean[]> {
    const found = await this.#pieces({ fd, size, pieceSize, pieces }, signal)
    return found.whole.map((read, place) => {
      const index = pieces?.[place] ?? place
      const expected = hashes.subarray(index * HASH_SIZE, (index + 1) * HASH_SIZE)
      return read && found.hashes.subarray(place * HASH_SIZE, (place + 1) * HASH_SIZE).equals(expected)
    })
  }

  commitPiece(fd: number, manifest: Manifest, index: number, parts: Uint8Array[]): Promise<boolean> {
    if (this.#closed) return Promise.reject(closed())
    const length = parts.reduce((sum, part) => sum + part.length, 0)
    if (length !== pieceLength(manifest, index)) return Promise.resolve(false)
    const given = parts.map(givenAway)
    return new Promise((resolve, reject) => {
      this.#queue.addCommit({
        resolve,
        reject,
        request: {
          job: this.#nextJob++,
          kind: 'commit',
          fd,
          position: index * manifest.pieceSize,
          pieceSize: manifest.pieceSize,
          onlyPiece: manifest.size <= manifest.pieceSize,
          expected: Uint8Array.from(manifest.hashes.subarray(index * HASH_SIZE, (index + 1) * HASH_SIZE)),
          parts: given,
        },
        transfer: [...new Set(given.map((part) => part.buffer))],
      })
      this.#dispatch()
    })
  }

  /** Work that has not begun is cancelled, work that has is given up. */
  async close(): Promise<void> {
    this.#closed = true
    for (let next = this.#queue.next(); next; next = this.#queue.next()) {
      if ('commit' in next) next.commit.reject(closed())
      else for (const task of 'small' in next ? next.small : [next.large]) task.fail(closed())
    }
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()))
  }

  #pieces(file: PiecesOfFile, signal?: AbortSignal, onProgress?: (bytes: number) => void): Promise<PieceTask> {
    return new Promise((resolve, reject) => {
      if (this.#closed) throw closed()
      if (signal?.aborted) throw new NetworkError('cancelled', 'cancelled')
      const abort = () => task.fail(new NetworkError('cancelled', 'cancelled'))
      const task = new PieceTask(file, {
        progress: (bytes) => onProgress?.(bytes),
        settled: (error) => {
          signal?.removeEventListener('abort', abort)
          if (error) reject(error)
          else resolve(task)
        },
      })
      if (task.exhausted) return resolve(task)
      signal?.addEventListener('abort', abort, { once: true })
      // So few bytes are one run, and so one step.
      if (task.size <= SMALL_FILE) this.#queue.addSmall(task)
      else this.#queue.addLarge(task)
      this.#dispatch()
    })
  }

  #dispatch(): void {
    while (!this.#closed && !this.#queue.isEmpty) {
      const thread = this.#freeThread()
      if (!thread) return
      const next = this.#queue.next()!
      if ('commit' in next) {
        const { request, transfer } = next.commit
        this.#send(thread, next, request, transfer)
        continue
      }
      const tasks = 'small' in next ? next.small : [next.large]
      const steps = tasks.map((task) => ({ task, range: task.takeStep() }))
      if ('large' in next) this.#queue.putBack(next.large)
      const ranges = steps.map(({ range }) => range)
      const cancelled = 'large' in next ? next.large.cancelled : undefined
      this.#send(thread, { steps }, { job: this.#nextJob++, kind: 'read', ranges, cancelled }, [])
    }
  }

  #send(thread: Thread, work: Work, request: HashRequest, transfer: ArrayBuffer[]): void {
    try {
      thread.worker.postMessage(request, transfer)
    } catch (error) {
      // Memory that was given away twice: the fault of whoever gave it, who is told.
      if ('commit' in work) work.commit.reject(new NetworkError('internal', (error as Error).message, {}, error))
      return
    }
    thread.inFlight.set(request.job, work)
    thread.worker.ref()
  }

  /** An idle thread, else a new one, else the least busy one that takes more. */
  #freeThread(): Thread | undefined {
    const least = this.#threads.reduce<Thread | undefined>(
      (best, thread) => (best && best.inFlight.size <= thread.inFlight.size ? best : thread),
      undefined,
    )
    if (least?.inFlight.size === 0) return least
    if (this.#threads.length < this.#size) return this.#startThread()
    return least && least.inFlight.size < DEPTH ? least : undefined
  }

  #startThread(): Thread {
    const worker = this.#startWorker()
    const thread: Thread = { worker, inFlight: new Map() }
    let cause: unknown
    worker.on('message', (reply: HashReply) => this.#answered(thread, reply))
    worker.on('error', (error) => {
      cause = error
    })
    worker.on('exit', () => this.#lost(thread, cause))
    worker.unref()
    this.#threads.push(thread)
    return thread
  }

  #answered(thread: Thread, reply: HashReply): void {
    const work = thread.inFlight.get(reply.job)
    thread.inFlight.delete(reply.job)
    if (thread.inFlight.size === 0) thread.worker.unref()
    if (work && 'commit' in work && reply.kind === 'commit') {
      if (typeof reply.result === 'boolean') work.commit.resolve(reply.result)
      else work.commit.reject(NetworkError.fromBody(reply.result)!)
    } else if (work && 'steps' in work && reply.kind === 'read') {
      for (const [i, { task, range }] of work.steps.entries()) {
        const result = reply.results[i]!
        task.answered(range, 'error' in result ? NetworkError.fromBody(result)! : result)
      }
    }
    this.#dispatch()
  }

  /** A thread ended: whatever it worked on fails, and the next work starts another. */
  #lost(thread: Thread, cause: unknown): void {
    this.#threads = this.#threads.filter((other) => other !== thread)
    const error = this.#closed
      ? closed()
      : new NetworkError('internal', 'a hashing thread ended unexpectedly: try again', {}, cause)
    for (const work of thread.inFlight.values()) {
      if ('commit' in work) work.commit.reject(error)
      else for (const { task, range } of work.steps) task.answered(range, error)
    }
    this.#dispatch()
  }
}

function closed(): NetworkError {
  return new NetworkError('cancelled', 'the hasher is closed')
}

/**
 * The part itself where its memory can move to another thread, else a copy. Buffers of a few KiB share one pooled
 * allocation, which can't move.
 */
function givenAway(part: Uint8Array): Uint8Array<ArrayBuffer> {
  const movable = part.buffer instanceof ArrayBuffer && part.buffer.byteLength > Buffer.poolSize
  return movable ? (part as Uint8Array<ArrayBuffer>) : new Uint8Array(part)
}

/** Run from source, the thread needs a TypeScript loader first; built, it is plain JavaScript. */
export function startHashWorker(): Worker {
  const file = import.meta.url.endsWith('.ts') ? './hash-worker-from-source.mjs' : './hash-worker.js'
  return new Worker(new URL(file, import.meta.url), { execArgv: [] })
}
