import { type BigIntStats, constants, realpathSync, statfsSync } from 'node:fs'
import { basename, dirname, relative, resolve, sep } from 'node:path'
import { asNetworkError, errnoOf, NetworkError } from '../../common/errors.ts'
import { printable } from '../../common/ids.ts'
import { isAbsent, NAMED_BY_DESCRIPTOR, OpenDirectory } from './open-directory.ts'

const MODE_OF_PARTIAL = 0o644

/**
 * A folder below which files are read and written. This is the only way to paths in it: every step is taken relative
 * to an open directory, and no symbolic link below the root is followed. Paths are relative, with `/`, as on disk.
 */
export class SharedFolder {
  /** absolute; a symbolic link to the root is resolved once, when it is opened */
  readonly path: string
  #byDescriptor: boolean

  private constructor(path: string, byDescriptor: boolean) {
    this.path = path
    this.#byDescriptor = byDescriptor
  }

  /**
   * @param byDescriptor whether to walk by /proc/self/fd (default: where the system has it)
   * @throws NetworkError `invalid`, naming the folder, where it is missing, unreadable or no folder
   */
  static open(path: string, byDescriptor = NAMED_BY_DESCRIPTOR): SharedFolder {
    try {
      const folder = new SharedFolder(realpathSync(path), byDescriptor)
      const root = folder.root()
      try {
        root.entries()
      } finally {
        root.close()
      }
      return folder
    } catch (error) {
      const reason = FAULTS[errnoOf(error) ?? ''] ?? `it can't be opened (${(error as Error).message})`
      throw new NetworkError(
        'invalid',
        `the folder ${printable(resolve(path))} can't be used: ${reason}`,
        { path },
        error,
      )
    }
  }

  /** The folder itself, open; the caller closes it. */
  root(): OpenDirectory {
    return OpenDirectory.open(this.path, this.#byDescriptor)
  }

  /**
   * The directory `path`, open (`''` is the root); the caller closes it.
   * @throws the system's error where it isn't there (see isAbsent)
   */
  directory(path: string): OpenDirectory {
    let directory = this.root()
    try {
      for (const component of components(path)) directory = step(directory, directory.child(component))
      return directory
    } catch (error) {
      directory.close()
      throw error
    }
  }

  /** Runs `use` with the directory `path` open. */
  within<T>(path: string, use: (directory: OpenDirectory) => T): T {
    const directory = this.directory(path)
    try {
      return use(directory)
    } finally {
      directory.close()
    }
  }

  /**
   * Opens a file for reading; the caller closes `fd`.
   * @throws NetworkError `not_found` where there is no regular file on a way without links; `forbidden` where it
   *   can't be read
   */
  openFile(path: string): { fd: number; stats: BigIntStats } {
    const { parent, name } = split(path)
    try {
      return this.within(parent, (directory) => directory.openFile(name))
    } catch (error) {
      throw isAbsent(error) ? new NetworkError('not_found', `no such file: ${printable(path)}`) : asNetworkError(error)
    }
  }

  /** What is under `path`; undefined where nothing is. */
  stat(path: string): BigIntStats | undefined {
    const { parent, name } = split(path)
    try {
      return this.within(parent, (directory) => directory.lstat(name))
    } catch (error) {
      if (isAbsent(error)) return undefined
      throw error
    }
  }

  /** Opens the directory `path`, making what is missing of it; the caller closes it. */
  makeDirectory(path: string): OpenDirectory {
    let directory = this.root()
    try {
      for (const component of components(path)) {
        let child: OpenDirectory
        try {
          child = directory.child(component)
        } catch (error) {
          if (errnoOf(error) !== 'ENOENT') throw error
          directory.mkdir(component)
          directory.sync()
          child = directory.child(component)
        }
        directory = step(directory, child)
      }
      return directory
    } catch (error) {
      directory.close()
      throw error
    }
  }

  /** Opens a file in the root for reading and writing, making it where it is missing. */
  openOrCreate(name: string, exclusive: boolean): number {
    const { O_RDWR, O_CREAT, O_EXCL } = constants
    return this.within('', (root) => root.openWith(name, O_RDWR | O_CREAT | (exclusive ? O_EXCL : 0), MODE_OF_PARTIAL))
  }

  /** Bytes that an ordinary user may still write to the disk. */
  freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.path)
    return bavail * bsize
  }

  /** Whether an existing file of this absolute path is among what is shared: below the root, and with no hidden part. */
  wouldShare(path: string): boolean {
    const parts = relative(this.path, join(realpathSync(dirname(path)), basename(path))).split(sep)
    return !parts.some((part) => part.startsWith('.'))
  }
}

const FAULTS: Record<string, string> = {
  ENOENT: 'there is no such folder; make it, or correct the path',
  ENOTDIR: 'it is not a folder',
  EACCES: 'it may not be read by this user',
  EPERM: 'it may not be read by this user',
  ELOOP: 'its symbolic links lead in a circle',
}

/** Closes the directory left behind. */
function step(from: OpenDirectory, to: OpenDirectory): OpenDirectory {
  from.close()
  return to
}

function components(path: string): string[] {
  return path === '' ? [] : path.split('/')
}

export function join(directory: string, name: string): string {
  return directory === '' ? name : `${directory}/${name}`
}

/** The directory of a path and its last component. */
export function split(path: string): { parent: string; name: string } {
  const slash = path.lastIndexOf('/')
  return { parent: slash < 0 ? '' : path.slice(0, slash), name: path.slice(slash + 1) }
}
