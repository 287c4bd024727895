import type { Dirent } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, join, relative, resolve, sep } from 'node:path'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type FileName, parseFileName } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import type { Item } from './uploaded.ts'

/** Left out files that are named one by one. */
const NAMED = 20

export interface Items {
  items: Item[]
  leftOut: { path: string; why: string }[]
}

/**
 * The files that PATH stands for, with their names, and those that can't be shared.
 * @throws NetworkError `not_found` also where there is nothing to share in it
 */
export async function itemsOf(path: string, as: FileName | undefined, cli: Cli): Promise<Items> {
  const found = await stat(path).catch((error: unknown) => {
    const known = asNetworkError(error)
    throw known.code === 'not_found' ? new NetworkError('not_found', `there is no file or folder ${path}`) : known
  })
  const name = as ?? parseFileName(basename(resolve(path)))
  if (found.isFile()) return { items: [{ path, name }], leftOut: [] }
  if (!found.isDirectory()) throw new NetworkError('invalid', `${path} is neither a file nor a folder`)
  const items: Item[] = []
  const leftOut: Items['leftOut'] = []
  for (const entry of await readdir(path, { withFileTypes: true, recursive: true })) {
    if (entry.isDirectory()) continue
    const inner = join(entry.parentPath, entry.name)
    const inside = [name, ...relative(path, inner).split(sep)].join('/')
    try {
      if (!entry.isFile()) throw new NetworkError('invalid', kindFault(entry))
      items.push({ path: inner, name: parseFileName(inside) })
    } catch (error) {
      leftOut.push({ path: inner, why: asNetworkError(error).message })
    }
  }
  for (const { path, why } of leftOut.slice(0, NAMED)) cli.out.note(`left out ${path}: ${why}`)
  const more = leftOut.length - NAMED
  if (more > 0) cli.out.note(`left out ${more} more; --json names them all`)
  if (items.length === 0) throw new NetworkError('not_found', `there is no file to share in ${path}`)
  items.sort((a, b) => (a.name < b.name ? -1 : 1))
  return { items, leftOut }
}

/** Why what is no regular file isn't shared. */
function kindFault(entry: Dirent): string {
  if (entry.isSymbolicLink()) return 'it is a symbolic link'
  return entry.isFIFO() ? 'it is a pipe' : 'it is no regular file'
}
