import { type BigIntStats, closeSync, constants, fdatasync, fstatSync, fsync, ftruncateSync } from 'node:fs'
import { promisify } from 'node:util'
import { asNetworkError, errnoOf, NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, printable, shortId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import type { Landing, PartialFile } from '../transfer/contents.ts'
import { isAbsent, type OpenDirectory } from './open-directory.ts'
import { acquireLock } from './partial-lock.ts'
import { type SharedFolder, split } from './shared-folder.ts'

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

const dataSync = promisify(fdatasync)
const directorySync = promisify(fsync)

/**
 * Where downloads land: a hidden partial file in the root of the folder, linked into place when it is whole. Serves the
 * shared folder, and any other folder that a user names.
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
      const unlock = acquireLock(folder, `.p2p-${manifest.id}.lock`, what)
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
    const { folder } = this.#deps
    const name = `.p2p-${manifest.id}.part`
    let fd = folder.openOrCreate(name, false)
    try {
      let stats = fstatSync(fd)
      if (!stats.isFile()) throw new NetworkError('conflict', `${folder.path}/${name} is in the way: remove it`)
      if (stats.nlink > 1) {
        // A crash between link and unlink left it as a second name of a finished file, which must not be written to.
        folder.within('', (root) => root.unlink(name))
        closeSync(fd)
        fd = -1
        fd = folder.openOrCreate(name, true)
        stats = fstatSync(fd)
      }
      const resumed = stats.size > 0 && stats.blocks > 0
      const partial = new PartialDownload(this.#partialDeps(unlock), { fd, name, manifest, resumed })
      try {
        this.reserve(manifest.size - Math.min(stats.blocks * 512, manifest.size))
      } catch (error) {
        if (!resumed) folder.within('', (root) => root.unlink(name))
        throw error
      }
      if (stats.size !== manifest.size) ftruncateSync(fd, manifest.size)
      this.#open.add(partial)
      return partial
    } catch (error) {
      if (fd >= 0) closeSync(fd)
      throw error
    }
  }

  /** Takes over an open hidden file in the root that holds just this content already. */
  adopt(hidden: string, fd: number, manifest: Manifest): PartialFile {
    const partial = new PartialDownload(
      this.#partialDeps(() => {}),
      { fd, name: hidden, manifest, resumed: false },
    )
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

  #partialDeps(unlock: () => void): PartialDeps {
    return {
      ...this.#deps,
      pathOf: (name) => this.#pathOf(name),
      fault: (error) => this.fault(error),
      onClosed: (partial) => {
        this.#open.delete(partial)
        unlock()
      },
    }
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

interface PartialDeps extends FolderLandingDeps {
  pathOf: (name: FileName) => string
  fault: (error: unknown) => NetworkError
  onClosed: (partial: PartialDownload) => void
}

class PartialDownload implements PartialFile {
  readonly fd: number
  readonly resumed: boolean
  #deps: PartialDeps
  #name: string
  #manifest: Manifest
  #closed = false

  constructor(deps: PartialDeps, file: { fd: number; name: string; manifest: Manifest; resumed: boolean }) {
    this.#deps = deps
    this.fd = file.fd
    this.resumed = file.resumed
    this.#name = file.name
    this.#manifest = file.manifest
  }

  /** Bytes that the disk has still to take. */
  get missingBytes(): number {
    return Math.max(0, this.#manifest.size - fstatSync(this.fd).blocks * 512)
  }

  async publish(name: FileName): Promise<void> {
    const { folder, pathOf, onPublished, fault } = this.#deps
    try {
      await dataSync(this.fd)
      const path = pathOf(name)
      const { parent, name: last } = split(path)
      const directory = this.#parent(parent, name)
      try {
        if (folder.within('', (root) => this.#place(root, directory, last))) {
          onPublished?.(name, path, fstatSync(this.fd, { bigint: true }), this.#manifest)
          await directorySync(directory.fd)
        } else if (await this.#isSame(path)) folder.within('', (root) => root.unlink(this.#name))
        else throw taken(name)
      } finally {
        directory.close()
      }
    } catch (error) {
      throw fault(error)
    }
    await this.close()
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    closeSync(this.fd)
    this.#deps.onClosed(this)
  }

  async discard(): Promise<void> {
    try {
      if (!this.#closed) this.#deps.folder.within('', (root) => root.unlink(this.#name))
    } catch (error) {
      if (!isAbsent(error)) throw error
    } finally {
      await this.close()
    }
  }

  #parent(path: string, name: FileName): OpenDirectory {
    try {
      return this.#deps.folder.makeDirectory(path)
    } catch (error) {
      if (['ENOTDIR', 'ELOOP', 'EEXIST'].includes(errnoOf(error) ?? ''))
        throw new NetworkError(
          'conflict',
          `${printable(name)} can't be made: a file or link stands where a folder has to be`,
        )
      throw error
    }
  }

  /** Moves the file to its name without ever replacing another; false where the name is taken. */
  #place(root: OpenDirectory, directory: OpenDirectory, name: string): boolean {
    try {
      root.link(this.#name, directory, name)
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return false
      if (!LINKS_REFUSED.includes(errnoOf(error) ?? '')) throw error
      return this.#placeWithoutLink(root, directory, name)
    }
    if (directory.lstat(name).ino !== fstatSync(this.fd, { bigint: true }).ino) {
      directory.unlink(name)
      throw new NetworkError('conflict', 'the partial file was replaced by another: try again')
    }
    root.unlink(this.#name)
    return true
  }

  /** Where the file system has no links: takes the name first, exclusively, then renames over it. */
  #placeWithoutLink(root: OpenDirectory, directory: OpenDirectory, name: string): boolean {
    try {
      closeSync(directory.openWith(name, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL))
    } catch (error) {
      if (errnoOf(error) === 'EEXIST') return false
      throw error
    }
    try {
      root.rename(this.#name, directory, name)
    } catch (error) {
      directory.unlink(name)
      throw error
    }
    return true
  }

  /** Whether what stands under the name is this very content. */
  async #isSame(path: string): Promise<boolean> {
    const { folder, hasher } = this.#deps
    try {
      const { fd, stats } = folder.openFile(path)
      try {
        const { size, id } = this.#manifest
        return Number(stats.size) === size && (await hasher.hashFile(fd, size)).id === id
      } finally {
        closeSync(fd)
      }
    } catch (error) {
      if (error instanceof NetworkError && (error.code === 'not_found' || error.code === 'conflict')) return false
      throw error
    }
  }
}

const LINKS_REFUSED = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']

function taken(name: FileName): NetworkError {
  return new NetworkError(
    'conflict',
    `${printable(name)} exists already with other content: choose another name, or remove it first`,
    { name },
  )
}
