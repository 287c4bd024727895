import { LRUCache } from 'lru-cache'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, shortId } from '../../common/ids.ts'
import type { Component } from '../../common/lifecycle.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { FileEntry } from '../../common/schemas.ts'
import type { ContentReader, Contents, Landing, PartialFile, Shelf, Shelved, SmallFile } from '../transfer/contents.ts'
import { BatchLanding, type PublishedFile } from './batch-landing.ts'
import type { CatalogFile } from './catalog-store.ts'
import { type CatalogEvent, ChangeFeed, entryOf } from './change-feed.ts'
import { FileReader } from './content-reader.ts'
import { sameBytes, stampOf } from './file-stamp.ts'
import { FolderLanding, type FolderLandingOptions } from './folder-landing.ts'
import { FolderTracker, type FolderTrackerDeps, type FolderTrackerOptions } from './folder-tracker.ts'
import { Reception } from './reception.ts'
import { searchNames } from './search.ts'

export type CatalogDeps = Omit<FolderTrackerDeps, 'feed'>
export type CatalogOptions = FolderTrackerOptions & FolderLandingOptions

const CACHED_MANIFEST_BYTES = 16 * 1024 * 1024

/**
 * What this peer shares: the files of the shared folder, each with its content id. Known files are served while others
 * are still hashed. A file that changed is withdrawn first, and added again once its new id is known.
 */
export class Catalog implements Component, Contents, Landing, Shelf {
  #deps: CatalogDeps
  #feed: ChangeFeed
  #tracker: FolderTracker
  #landing: FolderLanding
  #reception: Reception
  #batches: BatchLanding
  #manifests = new LRUCache<ContentId, Manifest>({
    maxSize: CACHED_MANIFEST_BYTES,
    sizeCalculation: ({ hashes }) => hashes.length + 256,
  })

  constructor(deps: CatalogDeps, options: CatalogOptions) {
    this.#deps = deps
    this.#feed = new ChangeFeed(deps)
    this.#tracker = new FolderTracker({ ...deps, feed: this.#feed }, options)
    this.#landing = new FolderLanding(
      {
        folder: deps.folder,
        hasher: deps.hasher,
        contentOf: (name) => this.#standing(name)?.id,
        pathOf: (name) => this.#tracker.pathOf(name),
        onPublished: (name, path, stats, manifest) => this.#adopt([{ name, path, stats, manifest }]),
      },
      options,
    )
    this.#reception = new Reception({ folder: deps.folder, hasher: deps.hasher, landing: this.#landing })
    this.#batches = new BatchLanding({
      folder: deps.folder,
      hasher: deps.hasher,
      pathOf: (name) => this.#tracker.pathOf(name),
      fault: (error) => this.#landing.fault(error),
      onPublished: (files) => this.#adopt(files),
    })
  }

  /**
   * What was known at the last stop is there at once; the scan goes on in the background (see `ready`).
   * @throws NetworkError `invalid` where the catalog's own database would be shared
   */
  async start(): Promise<void> {
    const { folder, store } = this.#deps
    if (folder.wouldShare(store.path))
      throw new NetworkError('invalid', `${store.path} is inside the shared folder: set another "state_dir"`)
    this.#reception.clean()
    await this.#tracker.start()
  }

  /** The store and the hasher stay open: whoever opened them closes them. */
  async stop(): Promise<void> {
    await this.#tracker.stop()
  }

  /** Resolves when the first scan is done; files may still be waiting to be hashed. */
  ready(): Promise<void> {
    return this.#tracker.ready()
  }

  /**
   * Lands a body under a name, once it is whole and hashed.
   * @returns the file, and whether it is new: not where just this content was there already
   * @throws NetworkError `conflict`, `forbidden`, `unavailable` as `Landing`; whatever the body throws
   */
  async receive(name: FileName, body: AsyncIterable<Uint8Array>): Promise<{ file: CatalogFile; created: boolean }> {
    const before = this.get(name)?.id
    const { id } = await this.#reception.receive(name, body)
    const file = this.get(name)
    if (!file || file.id !== id)
      throw new NetworkError('conflict', `${name} was changed as soon as it was there: try again`)
    return { file, created: before !== id }
  }

  /** Scans everything now; resolves when all that was seen is hashed, but for files that keep changing. */
  refresh(): Promise<void> {
    return this.#tracker.refresh()
  }

  /** @returns how to stop listening */
  onChange(listener: (event: CatalogEvent) => void): () => void {
    return this.#feed.onChange(listener)
  }

  /** Grows by one with every batch of changes. */
  get revision(): number {
    return this.#deps.store.revision
  }

  /** Files. */
  get size(): number {
    return this.#deps.store.size
  }

  /** Bytes of all files together. */
  get bytes(): number {
    return this.#deps.store.bytes
  }

  /** Whether the first scan is still under way. */
  get scanning(): boolean {
    return this.#tracker.scanning
  }

  /** Files hashed since the start. */
  get hashed(): number {
    return this.#tracker.hashed
  }

  /** Files whose content id is not known yet. */
  get unhashed(): number {
    return this.#tracker.unhashed
  }

  get(name: FileName): CatalogFile | undefined {
    return this.#deps.store.get(name)
  }

  byId(id: ContentId): CatalogFile[] {
    return this.#deps.store.byId(id)
  }

  /** Sorted by name, in the order of its UTF-8 bytes; those after `after`. */
  list(page: { after?: string | undefined; limit: number }): CatalogFile[] {
    return this.#deps.store.list(page.after ?? '', page.limit)
  }

  /** Files whose names have all the words of `text`, or parts of words, in whatever case and accents; best first. */
  search(text: string, limit: number): CatalogFile[] {
    return searchNames(this.#deps.store.names(), text, limit).map((name) => this.get(name)!)
  }

  /** Everything, as it is announced, at the present revision. */
  entries(): FileEntry[] {
    return Array.from(this.#deps.store.files(), entryOf)
  }

  manifest(id: ContentId): Manifest | undefined {
    const { store } = this.#deps
    if (store.byId(id).length === 0) return undefined
    let manifest = this.#manifests.get(id)
    if (!manifest) {
      manifest = store.manifest(id)
      if (manifest) this.#manifests.set(id, manifest)
    }
    return manifest
  }

  open(id: ContentId): ContentReader {
    let fault = new NetworkError('not_found', `${shortId(id)}… is not shared here`)
    for (const file of this.byId(id)) {
      try {
        const { fd, stats } = this.#deps.folder.openFile(file.path)
        const reader = new FileReader(file, fd, () => this.#tracker.withdraw(file, false))
        if (sameBytes(stampOf(stats), file)) return reader
        reader.close()
        fault = new NetworkError('conflict', `${file.name} has changed since it was hashed: ask again later`)
        this.#tracker.withdraw(file, stampOf(stats).inode !== file.inode)
      } catch (error) {
        fault = asNetworkError(error)
        if (fault.code === 'not_found') this.#tracker.withdraw(file, true)
      }
    }
    throw fault
  }

  existing(name: FileName): ContentId | 'unknown' | undefined {
    return this.#landing.existing(name)
  }

  openPartial(manifest: Manifest): Promise<PartialFile> {
    return this.#landing.openPartial(manifest)
  }

  unfinished(): readonly ContentId[] {
    return this.#landing.unfinished()
  }

  unfinishedManifest(id: ContentId): Manifest | undefined {
    return this.#landing.unfinishedManifest(id)
  }

  reserve(bytes: number): void {
    this.#landing.reserve(bytes)
  }

  landAll(files: readonly SmallFile[]): Promise<Shelved[]> {
    return this.#batches.land(files)
  }

  #adopt(files: readonly PublishedFile[]): void {
    this.#tracker.adopt(
      files.map(({ name, path, stats, manifest }) => ({ name, path, id: manifest.id, ...stampOf(stats) })),
      files.map(({ manifest }) => manifest),
    )
  }

  /** The file of this name if it still is on the disk as it was hashed; where it isn't, nobody is told of it any more. */
  #standing(name: FileName): CatalogFile | undefined {
    const file = this.get(name)
    if (!file) return undefined
    const stats = this.#deps.folder.stat(file.path)
    if (stats && sameBytes(stampOf(stats), file)) return file
    this.#tracker.withdraw(file, !stats || stampOf(stats).inode !== file.inode)
    return undefined
  }
}
