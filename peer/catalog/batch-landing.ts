import { randomUUID } from 'node:crypto'
import { type BigIntStats, closeSync, constants, fstatSync, fsync, write } from 'node:fs'
import { promisify } from 'node:util'
import type { NetworkError } from '../../common/errors.ts'
import type { FileName } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import type { Shelved, SmallFile } from '../transfer/contents.ts'
import type { OpenDirectory } from './open-directory.ts'
import { holds, openParent, place, taken } from './placing.ts'
import { type SharedFolder, split } from './shared-folder.ts'

export interface PublishedFile {
  readonly name: FileName
  readonly path: string
  readonly stats: BigIntStats
  readonly manifest: Manifest
}

export interface BatchLandingDeps {
  folder: SharedFolder
  hasher: Hasher
  /** Where names differ from paths on disk: the path of a name. */
  pathOf: (name: FileName) => string
  /** What a failure to write means to people. */
  fault: (error: unknown) => NetworkError
  /** Called in the same turn in which these files appear under their names. */
  onPublished: (files: readonly PublishedFile[]) => void
}

/** Hidden files of batches begin with this; nobody resumes them. */
export const BATCH_PREFIX = '.p2p-batch-'
/** Files written and synced at the same time. The thread pool takes fewer, and should not run dry. */
const WRITING = 16

const writeAt = promisify(write)
const directorySync = promisify(fsync)

/**
 * Where small files land, many at a time: all are written to hidden files and made durable, then linked to their names
 * in one turn with the catalog's knowledge of them, then the directories are made durable, each once. A power cut at any
 * moment leaves whole files under names, and hidden ones that the next start removes. See docs/adr/0010.
 */
export class BatchLanding {
  readonly #deps: BatchLandingDeps

  constructor(deps: BatchLandingDeps) {
    this.#deps = deps
  }

  /** As `Shelf.landAll`; the files of one call have their descriptors open at the same time. */
  async land(files: readonly SmallFile[]): Promise<Shelved[]> {
    try {
      const batch = new Batch(this.#deps, files)
      try {
        await batch.write()
        batch.place()
        return await batch.settle()
      } finally {
        batch.close()
      }
    } catch (error) {
      throw this.#deps.fault(error)
    }
  }
}

interface Item {
  readonly file: SmallFile
  readonly path: string
  readonly hidden: string
  fd: number
  /** undefined: not decided yet, its hidden file is still there */
  outcome: Shelved | undefined
}

class Batch {
  readonly #deps: BatchLandingDeps
  readonly #items: Item[]
  readonly #root: OpenDirectory
  readonly #parents = new Map<string, OpenDirectory>()

  constructor(deps: BatchLandingDeps, files: readonly SmallFile[]) {
    this.#deps = deps
    const key = `${BATCH_PREFIX}${randomUUID()}`
    this.#items = files.map((file, index) => ({
      file,
      path: deps.pathOf(file.name),
      hidden: `${key}-${index}.part`,
      fd: -1,
      outcome: undefined,
    }))
    this.#root = deps.folder.root()
  }

  /** Every byte is durable when this is over. */
  async write(): Promise<void> {
    const items = this.#items.values()
    let failed = false
    const writer = async () => {
      for (const item of items) {
        if (failed) return
        try {
          await this.#write(item)
        } catch (error) {
          failed = true
          throw error
        }
      }
    }
    // All of them have ended before a descriptor is closed: its number would soon be another file's.
    for (const ended of await Promise.allSettled(Array.from({ length: WRITING }, writer)))
      if (ended.status === 'rejected') throw ended.reason
  }

  async #write(item: Item): Promise<void> {
    // A write is durable when it is over: a call of its own for that would be a second trip to the thread pool.
    const { O_RDWR, O_CREAT, O_EXCL, O_DSYNC } = constants
    item.fd = this.#root.openWith(item.hidden, O_RDWR | O_CREAT | O_EXCL | O_DSYNC)
    const { data } = item.file
    for (let offset = 0; offset < data.length; ) {
      const { bytesWritten } = await writeAt(item.fd, data, offset, data.length - offset, offset)
      offset += bytesWritten
    }
  }

  /** Synchronous, with the catalog told in the same turn: no scan meets files that it would have to hash. */
  place(): void {
    const published: PublishedFile[] = []
    try {
      for (const item of this.#items) {
        try {
          if (!this.#place(item)) continue
        } catch (error) {
          const fault = this.#deps.fault(error)
          if (fault.code === 'unavailable' || fault.code === 'internal') throw error
          item.outcome = fault
          this.#unlink(item)
          continue
        }
        item.outcome = 'landed'
        const { name, manifest } = item.file
        published.push({ name, path: item.path, stats: fstatSync(item.fd, { bigint: true }), manifest })
      }
    } finally {
      if (published.length > 0) this.#deps.onPublished(published)
    }
  }

  #place({ path, hidden, fd, file }: Item): boolean {
    const { parent, name } = split(path)
    let directory = this.#parents.get(parent)
    if (!directory) {
      directory = openParent(this.#deps.folder, parent, file.name)
      this.#parents.set(parent, directory)
    }
    return place({ directory: this.#root, name: hidden, fd }, directory, name)
  }

  /** Makes the names durable, and looks at what stood in the way of some. */
  async settle(): Promise<Shelved[]> {
    await Promise.all(Array.from(this.#parents.values(), (directory) => directorySync(directory.fd)))
    const outcomes: Shelved[] = []
    for (const item of this.#items) {
      if (item.outcome === undefined) {
        const { manifest, name } = item.file
        item.outcome = (await holds(this.#deps, item.path, manifest)) ? 'here' : taken(name)
        this.#unlink(item)
      }
      outcomes.push(item.outcome)
    }
    return outcomes
  }

  close(): void {
    for (const item of this.#items) {
      if (item.fd < 0) continue
      if (item.outcome === undefined) this.#unlink(item)
      closeSync(item.fd)
    }
    for (const directory of this.#parents.values()) directory.close()
    this.#root.close()
  }

  /** What can't be removed now is removed at the next start. */
  #unlink(item: Item): void {
    try {
      this.#root.unlink(item.hidden)
    } catch {
      // It stays hidden.
    }
  }
}
