import { closeSync, constants, fstatSync } from 'node:fs'
import { errnoOf, NetworkError } from '../../common/errors.ts'
import { type FileName, printable } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import type { OpenDirectory } from './open-directory.ts'
import type { SharedFolder } from './shared-folder.ts'

/** How a hidden file comes to its name: never over another file, and never by way of a link. */

/** An open file under a hidden name. */
export interface HiddenFile {
  readonly directory: OpenDirectory
  readonly name: string
  readonly fd: number
}

const LINKS_REFUSED = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK']

/**
 * The directory `path` in which `name` will stand, made where it is missing; the caller closes it.
 * @throws NetworkError `conflict` where a file or a link is in the way
 */
export function openParent(folder: SharedFolder, path: string, name: FileName): OpenDirectory {
  try {
    return folder.makeDirectory(path)
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
export function place(hidden: HiddenFile, directory: OpenDirectory, name: string): boolean {
  try {
    hidden.directory.link(hidden.name, directory, name)
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false
    if (!LINKS_REFUSED.includes(errnoOf(error) ?? '')) throw error
    return placeWithoutLink(hidden, directory, name)
  }
  if (directory.lstat(name).ino !== fstatSync(hidden.fd, { bigint: true }).ino) {
    directory.unlink(name)
    throw new NetworkError('conflict', 'the partial file was replaced by another: try again')
  }
  hidden.directory.unlink(hidden.name)
  return true
}

/** Where the file system has no links: takes the name first, exclusively, then renames over it. */
function placeWithoutLink(hidden: HiddenFile, directory: OpenDirectory, name: string): boolean {
  try {
    closeSync(directory.openWith(name, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL))
  } catch (error) {
    if (errnoOf(error) === 'EEXIST') return false
    throw error
  }
  try {
    hidden.directory.rename(hidden.name, directory, name)
  } catch (error) {
    directory.unlink(name)
    throw error
  }
  return true
}

/** Whether what stands under the path is this very content. */
export async function holds(
  { folder, hasher }: { folder: SharedFolder; hasher: Hasher },
  path: string,
  { id, size }: Manifest,
): Promise<boolean> {
  try {
    const { fd, stats } = folder.openFile(path)
    try {
      return Number(stats.size) === size && (await hasher.hashFile(fd, size)).id === id
    } finally {
      closeSync(fd)
    }
  } catch (error) {
    if (error instanceof NetworkError && (error.code === 'not_found' || error.code === 'conflict')) return false
    throw error
  }
}

/** The name has other content. */
export function taken(name: FileName): NetworkError {
  return new NetworkError(
    'conflict',
    `${printable(name)} exists already with other content: choose another name, or remove it first`,
    { name },
  )
}
