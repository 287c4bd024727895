import type { Clock } from '../../../common/clock.ts'
import { NetworkError } from '../../../common/errors.ts'
import type { FileName } from '../../../common/ids.ts'
import type { Manifest } from '../../../common/merkle.ts'
import type { Shelf, SmallFile } from '../contents.ts'

export interface BatchWriterDeps {
  clock: Clock
  shelf: Pick<Shelf, 'landAll'>
  /** Of so many files more: under their names, durable. `landed`: of these, those that were not there before. */
  onLanded: (files: number, bytes: number, landed: { files: number; bytes: number }) => void
  onRefused: (name: FileName, fault: NetworkError) => void
}

/** A content whose bytes are proven, and the names under which it is to stand here: a million, if so listed. */
export interface SmallFiles {
  readonly names: readonly FileName[]
  readonly manifest: Manifest
  readonly data: Uint8Array
}

/** One batch: descriptors open at the same time, and bytes that are written before any of its names is seen. */
const BATCH_FILES = 256
const BATCH_BYTES = 4 * 1024 * 1024
/** Batches on their way to the disk; while there are so many and another one is full, nothing more is taken. */
const BATCHES = 2
/** A file lands after this long, however few others have come, ms: people see files arrive also at a low rate. */
const LINGER_MS = 1000

/** Gathers verified files into batches for the disk. The first failure of the disk ends it all. */
export class BatchWriter {
  readonly #deps: BatchWriterDeps
  #batch: SmallFile[] = []
  #bytes = 0
  /** the batch is not to wait for more */
  #due = false
  #lingering = new AbortController()
  /** none of them ever rejects */
  readonly #landing = new Set<Promise<void>>()
  #failure: { cause: unknown } | undefined

  constructor(deps: BatchWriterDeps) {
    this.#deps = deps
  }

  /**
   * Takes this content under all its names, no faster than the disk does.
   * @returns where the disk is behind: when there is room for more
   * @throws NetworkError (the promise) where the disk takes no more; `cancelled`: what was not taken by then is left out
   */
  put(content: SmallFiles, signal: AbortSignal): Promise<void> | undefined {
    const files = filesOf(content)
    return this.#take(files) ? undefined : this.#takeRest(files, signal)
  }

  /**
   * Lands what is left, and resolves when nothing is under way any more.
   * @throws NetworkError where the disk took not all
   */
  async flush(): Promise<void> {
    this.#landDue()
    while (this.#landing.size > 0) await Promise.race(this.#landing)
    this.#lingering.abort()
    this.#check()
  }

  /** @returns whether it took all; otherwise there is no room now */
  #take(files: Iterator<SmallFile, void>): boolean {
    while (!this.#full && !this.#failure) {
      const { value } = files.next()
      if (!value) return true
      this.#gather(value)
    }
    return false
  }

  async #takeRest(files: Iterator<SmallFile, void>, signal: AbortSignal): Promise<void> {
    do {
      while (this.#full && !this.#failure) await Promise.race(this.#landing)
      this.#check()
      if (signal.aborted) throw new NetworkError('cancelled', 'cancelled')
    } while (!this.#take(files))
  }

  get #full(): boolean {
    return this.#batch.length >= BATCH_FILES || this.#bytes >= BATCH_BYTES
  }

  #gather(file: SmallFile): void {
    if (this.#batch.length === 0) this.#linger()
    this.#batch.push(file)
    this.#bytes += file.data.length
    if (this.#full) this.#landDue()
  }

  #linger(): void {
    const over = new AbortController()
    this.#lingering = over
    void this.#deps.clock.sleep(LINGER_MS, over.signal).then(() => {
      if (!over.signal.aborted) this.#landDue()
    })
  }

  /** What is gathered lands: now, or when one that is under way has landed. */
  #landDue(): void {
    if (this.#batch.length === 0 || this.#failure) return
    this.#due = true
    if (this.#landing.size >= BATCHES) return
    const landing = this.#land(this.#batch)
      .catch((cause) => {
        this.#failure ??= { cause }
      })
      .then(() => {
        this.#landing.delete(landing)
        if (this.#due) this.#landDue()
      })
    this.#landing.add(landing)
    this.#batch = []
    this.#bytes = 0
    this.#due = false
    this.#lingering.abort()
  }

  async #land(batch: readonly SmallFile[]): Promise<void> {
    const [there, landed] = [
      { files: 0, bytes: 0 },
      { files: 0, bytes: 0 },
    ]
    for (const [index, outcome] of (await this.#deps.shelf.landAll(batch)).entries()) {
      const { name, data } = batch[index]!
      if (typeof outcome !== 'string') this.#deps.onRefused(name, outcome)
      else
        for (const sum of outcome === 'landed' ? [there, landed] : [there]) {
          sum.files++
          sum.bytes += data.length
        }
    }
    if (there.files > 0) this.#deps.onLanded(there.files, there.bytes, landed)
  }

  #check(): void {
    if (this.#failure) throw this.#failure.cause
  }
}

function* filesOf({ names, manifest, data }: SmallFiles): Generator<SmallFile, void> {
  for (const name of names) yield { name, manifest, data }
}
