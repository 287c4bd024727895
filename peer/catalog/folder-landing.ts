import { type BigIntStats, closeSync, fstatSync, ftruncateSync } from 'node:fs'
import { asNetworkError, errnoOf, NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, shortId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import type { Landing, PartialFile } from '../transfer/contents.ts'
import { journaledManifest } from '../transfer/journal.ts'
import { isAbsent } from './open-directory.ts'
import { PartialDownload, type PartialDownloadDeps } from './partial-download.ts'
import { acquireLock } from './partial-lock.ts'
import type { SharedFolder } from './shared-folder.ts'

export interface FolderLandingDeps {
  folder: SharedFolder
  hasher: Hasher
  /** Where the contents of the folder are known: what stands under a name. */
  contentOf?: (name: FileName) => ContentId | undefined
  /** Where names differ from paths on disk: the path of a name (default: the name itself). */
  pathOf?: (name: FileName) => string
  /** Called in the same turn in which a file appears under its name. */
  onPublished?: (name: FileName, path: string, stats: BigIntStats, manifest: Manifest) => void
}

export interface FolderLandingOptions {
  /** free disk space that no download may touch, bytes */
  reserveBytes: number
}

/** Names of the hidden files of one content, in the root of the folder. */
const partialName = (id: ContentId) => `.p2p-${id}.part`
const journalName = (id: ContentId) => `.p2p-${id}.journal`
/** With the beginning that a start of the catalog clears away (see Reception). */
const copyName = (id: ContentId) => `.p2p-upload-${id}.part`
const lockName = (id: ContentId) => `.p2p-${id}.lock`
const JOURNAL_NAME = /^\.p2p-([0-9a-f]{64})\.journal$/

/**
 * Where downloads land: a hidden partial file in the root of the folder, linked into place when it is whole, and its
 * journal beside it. Serves the shared folder, and any other folder that a user names.
 */
export class FolderLanding implements Landing {
  #deps: FolderLandingDeps
  #options: FolderLandingOptions
  #open = new Set<PartialDownload>()

  constructor(deps: FolderLandingDeps, options: FolderLandingOptions) {
    this.#deps = deps
    this.#options = options
  }

  existing(name: FileName): ContentId | 'unknown' | undefined {
    const known = this.#deps.contentOf?.(name)
    if (known) return known
    const { folder } = this.#deps
    const path = this.#pathOf(name)
    for (let slash = path.indexOf('/'); slash >= 0; slash = path.indexOf('/', slash + 1)) {
      const parent = folder.stat(path.slice(0, slash))
      if (!parent) return undefined
      if (!parent.isDirectory()) return 'unknown'
    }
    return folder.stat(path) ? 'unknown' : undefined
  }

  async openPartial(manifest: Manifest): Promise<PartialFile> {
    const { folder } = this.#deps
    try {
      const what = `${shortId(manifest.id)}…`
      const unlock = acquireLock(folder, lockName(manifest.id), what)
      try {
        return this.#openLocked(manifest, unlock)
      } catch (error) {
        unlock()
        throw error
      }
    } catch (error) {
      throw this.fault(error)
    }
  }

  #openLocked(manifest: Manifest, unlock: () => void): PartialDownload {
    const name = partialName(manifest.id)
    const fd = this.#openHidden(name)
    try {
      const stats = fstatSync(fd)
      const resumed = stats.size > 0
      const partial = this.#partial(fd, name, manifest, resumed, unlock)
      try {
        this.reserve(manifest.size - Math.min(stats.blocks * 512, manifest.size))
      } catch (error) {
        if (!resumed) this.#deps.folder.within('', (root) => root.unlink(name))
        throw error
      }
      if (stats.size !== manifest.size) ftruncateSync(fd, manifest.size)
      this.#open.add(partial)
      return partial
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }

  /** Opens a hidden file that nothing but this code writes to, making it where it is missing. */
  #openHidden(name: string): number {
    const { folder } = this.#deps
    let fd = folder.openOrCreate(name, false)
    try {
      const stats = fstatSync(fd)
      if (!stats.isFile()) throw new NetworkError('conflict', `${folder.path}/${name} is in the way: remove it`)
      if (stats.nlink > 1) {
        // A crash between link and unlink left it as a second name of a finished file, which must not be written to.
        folder.within('', (root) => root.unlink(name))
        closeSync(fd)
        fd = -1
        fd = folder.openOrCreate(name, true)
      }
      return fd
    } catch (error) {
      if (fd >= 0) closeSync(fd)
      throw error
    }
  }

  unfinished(): readonly ContentId[] {
    const { folder } = this.#deps
    const journaled = folder
      .within('', (root) => root.entries())
      .flatMap(({ name }) => JOURNAL_NAME.exec(name)?.[1] ?? [])
    return (journaled as ContentId[]).filter((id) => {
      if (folder.stat(partialName(id))) return true
      this.#removeStaleJournal(id)
      return false
    })
  }

  unfinishedManifest(id: ContentId): Manifest | undefined {
    const { folder } = this.#deps
    if (!folder.stat(partialName(id))) return undefined
    try {
      const { fd } = folder.openFile(journalName(id))
      try {
        return journaledManifest(fd, id)
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      if (isAbsent(error)) return undefined
      throw this.fault(error)
    }
  }

  /** Somebody removed the partial file. Under the lock, because it may come into being this very moment. */
  #removeStaleJournal(id: ContentId): void {
    const { folder } = this.#deps
    try {
      const unlock = acquireLock(folder, lockName(id), `${shortId(id)}…`)
      try {
        if (!folder.stat(partialName(id))) folder.within('', (root) => root.unlink(journalName(id)))
      } finally {
        unlock()
      }
    } catch {
      // It harms nobody, and is looked at again.
    }
  }

  /** Takes over an open hidden file in the root that holds just this content already. */
  adopt(hidden: string, fd: number, manifest: Manifest): PartialFile {
    const partial = this.#partial(fd, hidden, manifest, false, () => {})
    this.#open.add(partial)
    return partial
  }

  /** @throws NetworkError `unavailable` where the disk lacks these bytes, beside what open partial files still need */
  reserve(bytes: number): void {
    const { folder } = this.#deps
    let promised = 0
    for (const partial of this.#open) promised += partial.missingBytes
    const free = folder.freeBytes() - this.#options.reserveBytes - promised
    if (bytes > free)
      throw new NetworkError(
        'unavailable',
        `no room for ${bytes} bytes in ${folder.path}: ${Math.max(free, 0)} are free beyond the reserve; free some space`,
        { reason: 'disk_full' },
      )
  }

  #partial(fd: number, name: string, manifest: Manifest, resumed: boolean, onClosed: () => void): PartialDownload {
    const { folder, hasher, onPublished } = this.#deps
    const deps: PartialDownloadDeps = {
      folder,
      hasher,
      onPublished,
      pathOf: (name) => this.#pathOf(name),
      fault: (error) => this.fault(error),
      openHidden: (name) => this.#openHidden(name),
      reserve: (bytes) => this.reserve(bytes),
      adopt: (hidden, fd, manifest) => this.adopt(hidden, fd, manifest),
      onClosed: (partial) => {
        this.#open.delete(partial)
        onClosed()
      },
    }
    const { id } = manifest
    return new PartialDownload(deps, { fd, name, journal: journalName(id), copy: copyName(id), manifest, resumed })
  }

  #pathOf(name: FileName): string {
    return this.#deps.pathOf?.(name) ?? name
  }

  /** What a failure to write here means to people. */
  fault(error: unknown): NetworkError {
    const { path } = this.#deps.folder
    if (['EROFS', 'EACCES', 'EPERM'].includes(errnoOf(error) ?? ''))
      return new NetworkError('forbidden', `nothing can be saved in ${path}: it is read-only`, { path }, error)
    if (errnoOf(error) === 'ENAMETOOLONG') return new NetworkError('invalid', 'the file name is too long for the disk')
    if (isAbsent(error) && !(error instanceof NetworkError))
      return new NetworkError(
        'unavailable',
        `nothing can be saved in ${path}: it is not there any more`,
        { path },
        error,
      )
    return asNetworkError(error)
  }
}
