import type { NetworkError } from '../../../common/errors.ts'
import type { FileName } from '../../../common/ids.ts'
import type { Shelf, SmallFile } from '../contents.ts'

export interface BatchWriterDeps {
  shelf: Pick<Shelf, 'landAll'>
  /** Of so many files more: under their names, durable. `landed`: of these, those that were not there before. */
  onLanded: (files: number, bytes: number, landed: { files: number; bytes: number }) => void
  onRefused: (name: FileName, fault: NetworkError) => void
}

/** One batch: descriptors open at the same time, and bytes that are written before any of its names is seen. */
const BATCH_FILES = 256
const BATCH_BYTES = 4 * 1024 * 1024
/** Batches on their way to the disk; while there are more, nothing is taken from the network. */
const BATCHES = 2

/** Gathers verified files into batches for the disk. The first failure of the disk ends it all. */
export class BatchWriter {
  readonly #deps: BatchWriterDeps
  #batch: SmallFile[] = []
  #bytes = 0
  readonly #landing = new Set<Promise<void>>()
  #failure: { cause: unknown } | undefined

  constructor(deps: BatchWriterDeps) {
    this.#deps = deps
  }

  /**
   * @returns where the disk is behind: when there is room for more
   * @throws NetworkError where the disk takes no more
   */
  put(file: SmallFile): Promise<void> | undefined {
    this.#check()
    this.#batch.push(file)
    this.#bytes += file.data.length
    if (this.#batch.length < BATCH_FILES && this.#bytes < BATCH_BYTES) return undefined
    this.#start()
    return this.#landing.size < BATCHES ? undefined : this.#room()
  }

  async #room(): Promise<void> {
    while (this.#landing.size >= BATCHES) await Promise.race(this.#landing)
    this.#check()
  }

  /**
   * Lands what is left, and resolves when all is durable.
   * @throws NetworkError where the disk took not all
   */
  async flush(): Promise<void> {
    this.#start()
    await Promise.all(this.#landing)
    this.#check()
  }

  #start(): void {
    if (this.#batch.length === 0 || this.#failure) return
    const landing = this.#land(this.#batch).catch((cause) => {
      this.#failure ??= { cause }
    })
    this.#batch = []
    this.#bytes = 0
    this.#landing.add(landing)
    landing.then(() => this.#landing.delete(landing))
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
