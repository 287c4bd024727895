import { type Command, Option } from 'commander'
import { asNetworkError } from '../../common/errors.ts'
import { type FileName, parseFileName } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import { itemsOf } from './items.ts'
import { type Item, printUpload, type Uploaded } from './uploaded.ts'

interface UploadOptions {
  as?: FileName
  to?: string
  now?: boolean
  dummy?: boolean
}

export function define(command: Command, cli: Cli): void {
  command
    .argument('<path>', 'a file, or a folder with all that is in it')
    .option('--as <name>', 'the name that it gets (default: its own)', parseFileName)
    .option('--to <peer>', 'push it to this peer: its id, or its REST address')
    .addOption(new Option('--now', 'with --to: fail where that peer is away, and leave no offer for it'))
    .option('--dummy', 'simulate: say what would happen, move no byte')
    .addHelpText(
      'after',
      `
Without --to it is copied into the shared folder of the agent. A folder is uploaded file by file, under names that
begin with the name of the folder. Where the peer of --to is away, it is shared by the agent, with everybody, and an
offer waits for that peer, which fetches it when it is back: see "peer send --help" and "peer mailbox".

Examples:
  peer upload film.mkv
  peer upload notes.pdf --as lectures/week1.pdf
  peer upload lectures --to P2
  peer upload film.mkv --to http://192.168.1.21:8000 --dummy`,
    )
    .action(async (path: string, options: UploadOptions) => {
      const { items, leftOut } = await itemsOf(path, options.as, cli)
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

async function sender({ to, now, dummy = false }: UploadOptions, cli: Cli): Promise<(item: Item) => Promise<Uploaded>> {
  if (to === undefined) {
    const { agentUpload } = await import('./agent-upload.ts')
    return agentUpload(dummy, cli)
  }
  const { pushUpload } = await import('./push-upload.ts')
  try {
    return await pushUpload(to, dummy, cli)
  } catch (error) {
    const { details } = asNetworkError(error)
    if (details.away === undefined || now || dummy) throw error
    const { offerUpload } = await import('./offer-upload.ts')
    return offerUpload(to, cli)
  }
}
