import {
  type BigIntStats,
  closeSync,
  constants,
  type Dirent,
  existsSync,
  fstatSync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  unlinkSync,
} from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import { errnoOf, NetworkError } from '../../common/errors.ts'

/** Whether an open directory can be named by its descriptor, so that a path step can't be redirected meanwhile. */
export const NAMED_BY_DESCRIPTOR = existsSync('/proc/self/fd')

const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK } = constants

/**
 * An open directory, from which children are reached one component at a time and no symbolic link is ever followed.
 * Where the system has /proc/self/fd, a child is named relative to the open descriptor (what openat(2) does), so
 * whatever is swapped in above it has no effect. Elsewhere the real path is compared before and after each step.
 *
 * A component is one name without `/`, never `.` or `..`.
 */
export class OpenDirectory {
  readonly fd: number
  #path: string
  #byDescriptor: boolean

  private constructor(fd: number, path: string, byDescriptor: boolean) {
    this.fd = fd
    this.#path = path
    this.#byDescriptor = byDescriptor
  }

  /** @param path absolute and real; whoever configured it is trusted */
  static open(path: string, byDescriptor = NAMED_BY_DESCRIPTOR): OpenDirectory {
    return new OpenDirectory(openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW), path, byDescriptor)
  }

  /** @throws the system's error: ENOENT, ENOTDIR or ELOOP where `component` is no directory */
  child(component: string): OpenDirectory {
    const fd = openSync(this.#at(component), O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
    return this.#checked(fd, component, () => new OpenDirectory(fd, join(this.#path, component), this.#byDescriptor))
  }

  /**
   * Opens a regular file for reading. Never blocks, not even on a FIFO that was swapped in.
   * @throws NetworkError `not_found` where it is none
   */
  openFile(component: string): { fd: number; stats: BigIntStats } {
    if (!this.lstat(component).isFile()) throw noRegularFile()
    const fd = openSync(this.#at(component), O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
    return this.#checked(fd, component, () => {
      const stats = fstatSync(fd, { bigint: true })
      if (!stats.isFile()) throw noRegularFile()
      return { fd, stats }
    })
  }

  /** Opens with flags of the caller's choice; a symbolic link is refused (ELOOP). */
  openWith(component: string, flags: number, mode = 0o644): number {
    const fd = openSync(this.#at(component), flags | O_NOFOLLOW | O_NONBLOCK, mode)
    return this.#checked(fd, component, () => fd)
  }

  entries(): Dirent[] {
    return readdirSync(this.location, { withFileTypes: true })
  }

  lstat(component: string): BigIntStats {
    return lstatSync(this.#at(component), { bigint: true })
  }

  stat(): BigIntStats {
    return fstatSync(this.fd, { bigint: true })
  }

  mkdir(component: string): void {
    mkdirSync(this.#at(component))
  }

  /** Another name for `component`, in `directory`; fails with EEXIST where that name is taken. */
  link(component: string, directory: OpenDirectory, name: string): void {
    linkSync(this.#at(component), directory.#at(name))
  }

  /** Replaces what stands under the new name. */
  rename(component: string, directory: OpenDirectory, name: string): void {
    renameSync(this.#at(component), directory.#at(name))
  }

  /**
   * A copy of an open file, which goes by `component` here, as the new file `name`; this has to stay open meanwhile.
   * @param shared it takes no room, but shares that of the file: an error where the file system can't do that
   */
  async copy(fd: number, component: string, name: string, shared: boolean): Promise<void> {
    const source = this.#byDescriptor ? `/proc/self/fd/${fd}` : this.#at(component)
    const { COPYFILE_EXCL, COPYFILE_FICLONE_FORCE } = constants
    await copyFile(source, this.#at(name), COPYFILE_EXCL | (shared ? COPYFILE_FICLONE_FORCE : 0))
  }

  unlink(component: string): void {
    unlinkSync(this.#at(component))
  }

  /** Makes creations, renames and removals in this directory durable. */
  sync(): void {
    fsyncSync(this.fd)
  }

  close(): void {
    closeSync(this.fd)
  }

  /** A path of this directory for system calls, valid while it is open. */
  get location(): string {
    return this.#byDescriptor ? `/proc/self/fd/${this.fd}` : this.#path
  }

  #at(component: string): string {
    return `${this.location}/${component}`
  }

  /** Runs `then`; where that fails, or the portable check finds another file than was opened, closes `fd`. */
  #checked<T>(fd: number, component: string, then: () => T): T {
    try {
      if (!this.#byDescriptor) {
        const path = this.#at(component)
        const [opened, named] = [fstatSync(fd, { bigint: true }), lstatSync(path, { bigint: true })]
        if (opened.ino !== named.ino || opened.dev !== named.dev || realpathSync(path) !== path)
          throw new NetworkError('not_found', 'no such file')
      }
      return then()
    } catch (error) {
      closeSync(fd)
      throw error
    }
  }
}

function noRegularFile(): NetworkError {
  return new NetworkError('not_found', 'not a regular file')
}

/** Whether `error` says that nothing, or nothing of the right kind, is there: gone, a link, or no directory. */
export function isAbsent(error: unknown): boolean {
  if (error instanceof NetworkError) return error.code === 'not_found'
  return ['ENOENT', 'ENOTDIR', 'ELOOP', 'ENXIO', 'ENAMETOOLONG'].includes(errnoOf(error) ?? '')
}
