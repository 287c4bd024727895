import { stat } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { errnoOf, NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import { hashPath } from './hash.ts'

/**
 * Where a file called `name` lands: at `output`; inside it where it is a folder; without one, in the working folder.
 * @throws NetworkError `invalid` where there is no such folder
 */
export async function destination(name: string, output: string | undefined): Promise<string> {
  if (output === undefined) return resolve(basename(name))
  const isFolder = await stat(output).then(
    (found) => found.isDirectory(),
    () => false,
  )
  const path = isFolder || output.endsWith('/') ? join(resolve(output), basename(name)) : resolve(output)
  const folder = dirname(path)
  await stat(folder).catch((error: unknown) => {
    throw new NetworkError(
      'invalid',
      `there is no folder ${folder}: create it, or choose another place with -o`,
      {},
      error,
    )
  })
  return path
}

/**
 * The size of the file at the path where it is just this content, in bytes; undefined where nothing is there.
 * @throws NetworkError `conflict` where something else is
 */
export async function sizeThere(path: string, id: ContentId, cli: Cli): Promise<number | undefined> {
  const found = await stat(path).catch((error: unknown) => {
    if (errnoOf(error) === 'ENOENT') return undefined
    throw error
  })
  if (!found) return undefined
  if (found.isFile() && (await hashPath(path, cli)).id === id) return found.size
  throw new NetworkError(
    'conflict',
    `${path} exists with other content and stays as it is: choose another place with -o`,
  )
}
