import type { Dirent } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { basename, join, relative, resolve, sep } from 'node:path'
import type { Command } from 'commander'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type FileName, parseFileName } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import { type Item, printUpload, type Uploaded } from './uploaded.ts'

/** Left out files that are named one by one. */
const NAMED = 20

interface UploadOptions {
  as?: FileName
  to?: string
  dummy?: boolean
}

export function define(command: Command, cli: Cli): void {
  command
    .argument('<path>', 'a file, or a folder with all that is in it')
    .option('--as <name>', 'the name that it gets (default: its own)', parseFileName)
    .option('--to <peer>', 'push it to this peer: its id, or its REST address')
    .option('--dummy', 'simulate: say what would happen, move no byte')
    .addHelpText(
      'after',
      `
Without --to it is copied into the shared folder of the agent. A folder is uploaded file by file, under names that
begin with the name of the folder.

Examples:
  peer upload film.mkv
  peer upload notes.pdf --as lectures/week1.pdf
  peer upload lectures --to P2
  peer upload film.mkv --to http://192.168.1.21:8000 --dummy`,
    )
    .action(async (path: string, options: UploadOptions) => {
      const { items, leftOut } = await itemsOf(path, options.as)
      for (const { path, why } of leftOut.slice(0, NAMED)) cli.out.note(`left out ${path}: ${why}`)
      const more = leftOut.length - NAMED
      if (more > 0) cli.out.note(`left out ${more} more; --json names them all`)
      if (items.length === 0) throw new NetworkError('not_found', `there is no file to share in ${path}`)
      const send = await sender(options, cli)
      const uploaded: Uploaded[] = []
      for (const item of items) {
        const done = await send(item)
        uploaded.push(done)
        printUpload(done, cli)
      }
      cli.out.document({ files: uploaded, left_out: leftOut })
    })
}

async function sender(options: UploadOptions, cli: Cli): Promise<(item: Item) => Promise<Uploaded>> {
  const dummy = options.dummy ?? false
  if (options.to === undefined) {
    const { agentUpload } = await import('./agent-upload.ts')
    return agentUpload(dummy, cli)
  }
  const { pushUpload } = await import('./push-upload.ts')
  return pushUpload(options.to, dummy, cli)
}

interface Items {
  items: Item[]
  leftOut: { path: string; why: string }[]
}

/** The files that PATH stands for, with their names, and those that can't be shared. */
async function itemsOf(path: string, as: FileName | undefined): Promise<Items> {
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
  items.sort((a, b) => (a.name < b.name ? -1 : 1))
  return { items, leftOut }
}

/** Why what is no regular file isn't shared. */
function kindFault(entry: Dirent): string {
  if (entry.isSymbolicLink()) return 'it is a symbolic link'
  return entry.isFIFO() ? 'it is a pipe' : 'it is no regular file'
}
