import { type FileHandle, open } from 'node:fs/promises'
import type { Command } from 'commander'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Cli } from './cli.ts'

export function define(command: Command, cli: Cli): void {
  command
    .argument('<path...>', 'files')
    .addHelpText(
      'after',
      `
Examples:
  peer hash film.mkv
  peer hash *.iso --json | jq -r '.files[].id'

The content id is the BitTorrent v2 pieces root; for a file of at most 16 KiB it is what sha256sum prints.`,
    )
    .action(async (paths: string[]) => {
      const files = []
      for (const path of paths) {
        const file = { path, ...(await hashPath(path, cli)) }
        files.push(file)
        cli.out.line(`${file.id}  ${path}`)
      }
      cli.out.document({ files })
    })
}

/**
 * The content id of a file, with progress.
 * @throws NetworkError `not_found`, `invalid` for what is no regular file, `conflict` where it shrinks meanwhile
 */
export async function hashPath(path: string, cli: Cli): Promise<{ id: ContentId; size: number }> {
  const file = await openRegular(path)
  try {
    const { id, size } = await hashOpen(file, path, cli)
    return { id, size }
  } finally {
    await file.close()
  }
}

/** The manifest of an open file, with progress. */
export async function hashOpen(file: FileHandle, path: string, cli: Cli): Promise<Manifest> {
  const hasher = await cli.hasher()
  const progress = cli.out.progress(`hashing ${path}`)
  try {
    const { size } = await file.stat()
    return await hasher.hashFile(file.fd, size, cli.io.signal, (bytes) => progress.update(bytes, size))
  } finally {
    progress.stop()
  }
}

/** A regular file open for reading; the caller closes it. */
export async function openRegular(path: string) {
  const { O_RDONLY, O_NONBLOCK } = (await import('node:fs')).constants
  // A FIFO that nobody writes to must not be waited for.
  const file = await open(path, O_RDONLY | O_NONBLOCK).catch((error: unknown) => {
    const known = asNetworkError(error)
    throw known.code === 'not_found' ? new NetworkError('not_found', `there is no file ${path}`, {}, error) : known
  })
  if ((await file.stat()).isFile()) return file
  await file.close()
  throw new NetworkError('invalid', `${path} is not a regular file`)
}
