import type { ContentId, FileName } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import type { Manifest } from '../../common/merkle.ts'
import { type FileEntry, LIMITS } from '../../common/schemas.ts'
import type { CatalogFile, CatalogStore } from './catalog-store.ts'

/** One batch: `to` is `from + 1`. What is added replaces what stood under its name; no name is in both lists. */
export interface CatalogEvent {
  readonly from: number
  readonly to: number
  readonly added: readonly FileEntry[]
  readonly removed: readonly FileName[]
  /** what stood under the removed names */
  readonly before: ReadonlyMap<FileName, ContentId>
}

/** A batch fits one message to the Maestro. */
const BATCH_FILES = LIMITS.filesPerRequest / 2

/** Changes of the catalog, in batches of bounded size: durable first, then told to whoever listens. */
export class ChangeFeed {
  #store: CatalogStore
  #log: Logger
  #listeners = new Set<(event: CatalogEvent) => void>()

  constructor(deps: { store: CatalogStore; log: Logger }) {
    this.#store = deps.store
    this.#log = deps.log
  }

  /** @returns how to stop listening */
  onChange(listener: (event: CatalogEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * Names to remove may be put again at once, or not be there at all. `manifests` are those of new contents.
   * @throws NetworkError `unavailable` where the disk is full; batches before that one are committed
   */
  commit(removed: readonly FileName[], put: readonly CatalogFile[], manifests: readonly Manifest[]): void {
    const store = this.#store
    const replaced = new Set(put.map(({ name }) => name))
    const before = new Map<FileName, ContentId>()
    for (const name of removed) {
      const file = replaced.has(name) ? undefined : store.get(name)
      if (file) before.set(name, file.id)
    }
    const gone = [...before.keys()]
    const fresh = new Map(manifests.map((manifest) => [manifest.id, manifest]))
    for (let at = 0; at < Math.max(gone.length, put.length); at += BATCH_FILES) {
      const [out, into] = [gone.slice(at, at + BATCH_FILES), put.slice(at, at + BATCH_FILES)]
      store.apply({ removed: out, put: into, manifests: into.flatMap(({ id }) => fresh.get(id) ?? []) })
      const to = store.revision
      this.#tell({ from: to - 1, to, added: into.map(entryOf), removed: out, before })
    }
  }

  #tell(event: CatalogEvent): void {
    for (const listener of this.#listeners) {
      try {
        listener(event)
      } catch (error) {
        this.#log.error({ err: error }, 'a listener to the catalog failed')
      }
    }
  }
}

export function entryOf({ name, size, id }: CatalogFile): FileEntry {
  return { name, size, id }
}
