import { closeSync, fstatSync } from 'node:fs'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError } from '../../common/errors.ts'
import { type FileName, printable } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import { MAX_FILE_SIZE, type Manifest } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import { stampOf, untouched } from './file-stamp.ts'
import type { FoundFile } from './scanner.ts'
import type { SharedFolder } from './shared-folder.ts'

export interface HashQueueDeps {
  folder: SharedFolder
  hasher: Hasher
  clock: Clock
  log: Logger
  /** A file's content is known; it is still what was found. */
  onHashed: (file: FoundFile, manifest: Manifest) => void
  /** A file isn't any more what was found. */
  onChanged: (name: FileName) => void
  /** A file can't be read, or is too large. */
  onRefused: (name: FileName) => void
  /** Nothing is left that could be hashed now. */
  onDrained: () => void
}

export interface HashQueueOptions {
  /** how long a file must have been left alone before it is hashed, ms */
  settleMs: number
}

interface Job {
  readonly file: FoundFile
  readonly due: number
  /** while it is hashed */
  stop?: AbortController
}

/** Files hashed at the same time. Small ones travel to the threads in batches; large ones take turns there. */
const ACTIVE = { small: 256, large: 4 } as const
type Lane = keyof typeof ACTIVE
const SMALL_FILE = 256 * 1024
/** Longest pause before a file is tried again that changes whenever it is hashed, ms. */
const MAX_PAUSE = 60_000

/**
 * Files on their way to a content id: they settle, wait, and are hashed. A file that changes meanwhile is reported and
 * forgotten: the next scan offers it again as it then is.
 */
export class HashQueue {
  #deps: HashQueueDeps
  #options: HashQueueOptions
  #jobs = new Map<FileName, Job>()
  #settling = new Set<Job>()
  #ready = { small: new Set<Job>(), large: new Set<Job>() }
  #active = { small: 0, large: 0 }
  #running = new Set<Promise<void>>()
  #due = Number.POSITIVE_INFINITY
  /** How often a file changed while it was hashed. */
  #restless = new Map<FileName, number>()
  #refused = new Map<FileName, FoundFile>()
  #warned = new Set<FileName>()
  /** In a turn of its own: thousands of small files must not keep the process from other work. */
  #refill: NodeJS.Immediate | undefined
  #waiting = new Set<{ left: Set<Job>; resolve: () => void }>()
  #closed = false

  constructor(deps: HashQueueDeps, options: HashQueueOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** Files whose content id is not known yet. */
  get size(): number {
    return this.#jobs.size
  }

  /** When the next file has settled, ms; Infinity where none is settling. */
  get due(): number {
    return this.#due
  }

  offer(file: FoundFile): void {
    const { name } = file
    const known = this.#jobs.get(name)?.file ?? this.#refused.get(name)
    if (this.#closed || (known && known.path === file.path && untouched(known, file))) return
    this.#forget(name)
    if (file.size > MAX_FILE_SIZE) {
      this.#refuse(file, `larger than ${MAX_FILE_SIZE / 2 ** 40} TiB`)
      return
    }
    // A file of the future (a wrong clock somewhere) settles from now on.
    const since = Math.min(Number(file.ctimeNs / 1_000_000n), this.#deps.clock.now())
    const pause = this.#options.settleMs * 2 ** Math.min(this.#restless.get(name) ?? 0, 20)
    const due = since + Math.max(this.#options.settleMs, Math.min(pause, MAX_PAUSE))
    const job: Job = { file, due }
    this.#jobs.set(name, job)
    this.#settling.add(job)
    this.#due = Math.min(this.#due, due)
  }

  /** The file is gone, or its content is known otherwise. */
  drop(name: FileName): void {
    this.#forget(name)
    this.#restless.delete(name)
    this.#warned.delete(name)
  }

  /** Files that could not be read are tried once more when they are offered again. */
  retryRefused(): void {
    this.#refused.clear()
  }

  /** Starts on the files that have settled. */
  start(): void {
    const now = this.#deps.clock.now()
    if (this.#due <= now) {
      this.#due = Number.POSITIVE_INFINITY
      for (const job of this.#settling)
        if (job.due <= now) {
          this.#settling.delete(job)
          this.#ready[laneOf(job)].add(job)
        } else this.#due = Math.min(this.#due, job.due)
    }
    for (const lane of ['small', 'large'] as const) {
      for (const job of this.#ready[lane]) {
        if (this.#active[lane] >= ACTIVE[lane]) break
        this.#ready[lane].delete(job)
        this.#run(job, lane)
      }
    }
  }

  /** Resolves when every file now in the queue is hashed, refused, gone or has changed once more. */
  async settled(): Promise<void> {
    const left = new Set(this.#jobs.values())
    if (left.size > 0) await new Promise<void>((resolve) => this.#waiting.add({ left, resolve }))
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const name of [...this.#jobs.keys()]) this.#forget(name)
    await Promise.all(this.#running)
  }

  #run(job: Job, lane: Lane): void {
    this.#active[lane]++
    const running = this.#hash(job).finally(() => {
      this.#active[lane]--
      this.#running.delete(running)
      this.#finished(job)
      this.#refill ??= setImmediate(() => {
        this.#refill = undefined
        if (this.#closed) return
        this.start()
        if (this.#running.size === 0) this.#deps.onDrained()
      })
    })
    this.#running.add(running)
  }

  async #hash(job: Job): Promise<void> {
    const { file } = job
    job.stop = new AbortController()
    const outcome = await this.#manifest(file, job.stop.signal)
    if (this.#jobs.get(file.name) !== job) return
    this.#jobs.delete(file.name)
    if (outcome === 'changed') {
      this.#restless.set(file.name, (this.#restless.get(file.name) ?? 0) + 1)
      this.#deps.onChanged(file.name)
    } else if (outcome instanceof Error) this.#refuse(file, outcome.message)
    else {
      this.#restless.delete(file.name)
      this.#warned.delete(file.name)
      this.#deps.onHashed(file, outcome)
    }
  }

  /** Stamped before and after: a file that changes while it is hashed never gets an id that isn't its own. */
  async #manifest(file: FoundFile, signal: AbortSignal): Promise<Manifest | 'changed' | Error> {
    let fd: number | undefined
    try {
      const opened = this.#deps.folder.openFile(file.path)
      fd = opened.fd
      if (!untouched(stampOf(opened.stats), file)) return 'changed'
      const manifest = await this.#deps.hasher.hashFile(fd, file.size, signal)
      return untouched(stampOf(fstatSync(fd, { bigint: true })), file) ? manifest : 'changed'
    } catch (error) {
      const fault = asNetworkError(error)
      return fault.code === 'not_found' || fault.code === 'conflict' ? 'changed' : fault
    } finally {
      if (fd !== undefined) closeSync(fd)
    }
  }

  #refuse(file: FoundFile, reason: string): void {
    this.#refused.set(file.name, file)
    this.#deps.onRefused(file.name)
    if (this.#warned.has(file.name)) return
    this.#warned.add(file.name)
    this.#deps.log.warn({ file: printable(file.path), reason }, 'a file can not be shared')
  }

  #forget(name: FileName): void {
    this.#refused.delete(name)
    const job = this.#jobs.get(name)
    if (!job) return
    this.#jobs.delete(name)
    this.#settling.delete(job)
    this.#ready[laneOf(job)].delete(job)
    job.stop?.abort()
    this.#finished(job)
  }

  #finished(job: Job): void {
    for (const wait of this.#waiting)
      if (wait.left.delete(job) && wait.left.size === 0) {
        this.#waiting.delete(wait)
        wait.resolve()
      }
  }
}

function laneOf(job: Job): Lane {
  return job.file.size <= SMALL_FILE ? 'small' : 'large'
}
