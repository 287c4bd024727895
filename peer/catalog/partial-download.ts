import { type BigIntStats, closeSync, constants, fdatasync, fstatSync, fsync } from 'node:fs'
import { promisify } from 'node:util'
import { NetworkError } from '../../common/errors.ts'
import type { FileName } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import type { PartialFile } from '../transfer/contents.ts'
import { isAbsent } from './open-directory.ts'
import { holds, openParent, place, taken } from './placing.ts'
import { type SharedFolder, split } from './shared-folder.ts'

const dataSync = promisify(fdatasync)
const directorySync = promisify(fsync)

export interface PartialDownloadDeps {
  folder: SharedFolder
  hasher: Hasher
  pathOf: (name: FileName) => string
  onPublished: ((name: FileName, path: string, stats: BigIntStats, manifest: Manifest) => void) | undefined
  /** What a failure to write means to people. */
  fault: (error: unknown) => NetworkError
  /** Opens a hidden file of its own in the root, making it where it is missing. */
  openHidden: (name: string) => number
  /** @throws NetworkError where the disk lacks these bytes */
  reserve: (bytes: number) => void
  /** Takes over an open hidden file in the root that holds just this content. */
  adopt: (hidden: string, fd: number, manifest: Manifest) => PartialFile
  onClosed: (partial: PartialDownload) => void
}

export interface PartialDownloadFile {
  readonly fd: number
  /** hidden names in the root of the folder */
  readonly name: string
  readonly journal: string
  readonly copy: string
  readonly manifest: Manifest
  readonly resumed: boolean
}

/** A hidden file on its way to its names, and the journal beside it. */
export class PartialDownload implements PartialFile {
  readonly resumed: boolean
  #deps: PartialDownloadDeps
  #file: PartialDownloadFile
  #journal: number | undefined
  #closed = false

  constructor(deps: PartialDownloadDeps, file: PartialDownloadFile) {
    this.#deps = deps
    this.#file = file
    this.resumed = file.resumed
  }

  get fd(): number {
    return this.#file.fd
  }

  /** Bytes that the disk has still to take. */
  get missingBytes(): number {
    return Math.max(0, this.#file.manifest.size - fstatSync(this.fd).blocks * 512)
  }

  openJournal(): number {
    try {
      this.#journal ??= this.#deps.openHidden(this.#file.journal)
      return this.#journal
    } catch (error) {
      throw this.#deps.fault(error)
    }
  }

  look(): { size: number; held: number } {
    const { size, blocks, nlink } = fstatSync(this.fd)
    // A file system that counts no links says 0 always: so the name is asked for too.
    if (nlink === 0 && !this.#deps.folder.stat(this.#file.name)) throw removed()
    return { size, held: blocks * 512 }
  }

  openForReading(): number {
    const { folder } = this.#deps
    this.#check()
    const { fd, stats } = folder.openFile(this.#file.name)
    if (stats.ino === fstatSync(this.fd, { bigint: true }).ino) return fd
    closeSync(fd)
    throw exchanged()
  }

  async publish(name: FileName): Promise<void> {
    const { folder, hasher, pathOf, onPublished, fault } = this.#deps
    const { name: hidden, manifest } = this.#file
    try {
      await dataSync(this.fd)
      const path = pathOf(name)
      const { parent, name: last } = split(path)
      const directory = openParent(folder, parent, name)
      try {
        this.#check()
        if (folder.within('', (root) => place({ directory: root, name: hidden, fd: this.fd }, directory, last))) {
          onPublished?.(name, path, fstatSync(this.fd, { bigint: true }), manifest)
          await directorySync(directory.fd)
        } else if (await holds({ folder, hasher }, path, manifest)) this.#remove(hidden)
        else throw taken(name)
      } finally {
        directory.close()
      }
      if (this.#journal !== undefined) this.#remove(this.#file.journal)
    } catch (error) {
      throw fault(error)
    }
    await this.close()
  }

  async copyTo(name: FileName): Promise<void> {
    const { folder, hasher, pathOf, adopt, fault } = this.#deps
    const { copy: hidden, manifest } = this.#file
    try {
      this.#check()
      const path = pathOf(name)
      if (folder.stat(path)) {
        if (await holds({ folder, hasher }, path, manifest)) return
        throw taken(name)
      }
      const copy = adopt(hidden, await this.#copy(), manifest)
      try {
        // What was copied may have been exchanged: the copy has to be right by itself.
        if (copy.look().size !== manifest.size || (await hasher.hashFile(copy.fd, manifest.size)).id !== manifest.id)
          throw exchanged()
        await copy.publish(name)
      } catch (error) {
        await copy.discard()
        throw error
      }
    } catch (error) {
      throw fault(error)
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    // A journal of a file that somebody removed is of no use to anybody.
    if (this.#journal !== undefined && fstatSync(this.fd).nlink === 0) this.#remove(this.#file.journal)
    closeSync(this.fd)
    if (this.#journal !== undefined) closeSync(this.#journal)
    this.#deps.onClosed(this)
  }

  async discard(): Promise<void> {
    if (this.#closed) return
    try {
      this.#remove(this.#file.name)
      if (this.#journal !== undefined) this.#remove(this.#file.journal)
    } finally {
      await this.close()
    }
  }

  /** A hidden copy, open. */
  async #copy(): Promise<number> {
    const { folder, reserve } = this.#deps
    const { name, copy, manifest } = this.#file
    this.#remove(copy)
    const root = folder.root()
    try {
      try {
        await root.copy(this.fd, name, copy, true)
      } catch {
        reserve(manifest.size)
        await root.copy(this.fd, name, copy, false)
      }
      return root.openWith(copy, constants.O_RDWR)
    } finally {
      root.close()
    }
  }

  /** @throws NetworkError `conflict` where the hidden name is no longer that of this file */
  #check(): void {
    const stats = this.#deps.folder.stat(this.#file.name)
    if (!stats) throw removed()
    if (stats.ino !== fstatSync(this.fd, { bigint: true }).ino) throw exchanged()
  }

  /** Removes a hidden file, where it is there. */
  #remove(name: string): void {
    try {
      this.#deps.folder.within('', (root) => root.unlink(name))
    } catch (error) {
      if (!isAbsent(error)) throw error
    }
  }
}

function removed(): NetworkError {
  return new NetworkError('conflict', 'the partial file was removed: start the download again')
}

function exchanged(): NetworkError {
  return new NetworkError('conflict', 'the partial file was replaced by another: try again')
}
