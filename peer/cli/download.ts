import { type Command, Option } from 'commander'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { parseFileName } from '../../common/ids.ts'
import type { TransferBody } from '../../common/schemas.ts'
import { noneAnswered } from '../locate/outcome.ts'
import { pick } from './choices.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'
import type { DownloadOptions } from './find-providers.ts'
import { followTransfer } from './follow.ts'
import { notFound } from './locate.ts'
import { beginningHint, type ExactQuery, parseIdBeginning, parseQuery, viaOption } from './query.ts'
import { noteDegradation } from './steps.ts'
import { isThereAlready, summary } from './summary.ts'

export function define(command: Command, cli: Cli): void {
  command
    .argument('<file>', 'its exact name, or its content id')
    .option(
      '-o, --output <path>',
      'where it lands: a file, or a folder (default: the shared folder of the agent; with --maestro or --peer, this folder)',
    )
    .addOption(
      new Option('--as <name>', 'the name that it gets in the shared folder (default: its own)')
        .argParser(parseFileName)
        .conflicts('output'),
    )
    .option('--id <digits>', 'of several contents with this name the one whose id begins so', parseIdBeginning)
    .addOption(viaOption().conflicts(['maestro', 'peer']))
    .option('--dummy', 'simulate: the whole conversation, but no byte moves')
    .addOption(new Option('--maestro <url>', 'without an agent: look it up in this Maestro').conflicts('peer'))
    .option('--peer <url>', 'without an agent: fetch it from this peer')
    .addHelpText(
      'after',
      `
Without -o it lands in the agent's shared folder, and so is offered onward. Every byte is verified. An interrupted
download resumes when the same command is given again.

Examples:
  peer download film.mkv
  peer download film.mkv -o ~/Videos
  peer download film.mkv --as copy.mkv --via friends
  peer download film.mkv --id 54acbf386a83
  peer download film.mkv --dummy
  peer download film.mkv --maestro http://192.168.1.10:9000 -o .`,
    )
    .action(async (text: string, options: DownloadOptions) => {
      const query = parseQuery(text)
      const here = options.output !== undefined || options.maestro !== undefined || options.peer !== undefined
      const fetch = here ? (await import('./leech.ts')).leech : throughAgent
      await fetch(query, options, cli).catch((error: unknown) => {
        const known = asNetworkError(error)
        if (known.code !== 'not_found' || options.id !== undefined) throw known
        throw new NetworkError('not_found', `${known.message}${beginningHint(query)}`, known.details, known)
      })
    })
}

/** The agent fetches it into its shared folder. */
async function throughAgent(query: ExactQuery, options: DownloadOptions, cli: Cli): Promise<void> {
  const agent = await cli.agent()
  const { as, via, dummy } = options
  const what = options.id === undefined ? { ...query, as } : await chosen(options.id, query, options, agent)
  const transfer = await followTransfer(agent, { ...what, via, mode: dummy ? 'dummy' : undefined }, cli)
  await tellTheWay(transfer, agent, cli)
  if (transfer.state === 'failed' || transfer.state === 'cancelled')
    throw (
      NetworkError.fromBody(transfer) ??
      new NetworkError('cancelled', 'cancelled from elsewhere: run the same command again to resume')
    )
  cli.out.document(transfer)
  const name = transfer.file ?? transfer.id ?? ''
  cli.out.line(...summary({ ...transfer, name, where: 'in the shared folder' }))
}

/** The content that begins so, under the name that was asked for. */
async function chosen(beginning: string, query: ExactQuery, { as, via }: DownloadOptions, agent: PeerClient) {
  const { peers, steps } = await agent.locate(query, via)
  if (peers.length === 0) throw notFound(query, steps)
  return { id: pick(beginning, peers), as: as ?? query.file }
}

/** Who was down, and what went wrong without ending it. */
async function tellTheWay(transfer: TransferBody, agent: PeerClient, cli: Cli): Promise<void> {
  const { steps } = transfer
  // Where nobody answered, the error says so.
  if (!cli.out.json && steps.some(({ strategy }) => strategy === 'friends') && !noneAnswered(steps)) {
    const { friends } = await agent.friends()
    const named = friends.flatMap(({ url, id }) => (id === null ? [] : [{ peer: id, rest: url }]))
    noteDegradation(steps, named, cli.out)
  }
  // That it is here already is the summary's to tell.
  if (transfer.state !== 'failed' && isThereAlready(transfer)) return
  for (const note of transfer.notes) cli.out.note(note)
}
