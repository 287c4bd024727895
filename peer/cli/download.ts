import { type Command, Option } from 'commander'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { parseFileName, printable } from '../../common/ids.ts'
import { parseRate } from '../../common/rate.ts'
import type { TransferBody, TransferRequest } from '../../common/schemas.ts'
import { noneAnswered } from '../locate/outcome.ts'
import { pick } from './choices.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'
import { explain } from './explain.ts'
import type { DownloadOptions } from './find-providers.ts'
import { followTransfer } from './follow.ts'
import { notFound } from './locate.ts'
import { beginningHint, type ExactQuery, parseIdBeginning, parseQuery, viaOption } from './query.ts'
import { noteDegradation } from './steps.ts'
import { efficiency, isThereAlready, summary } from './summary.ts'
import { styled } from './text.ts'

type TypedOptions = Omit<DownloadOptions, 'limit'> & { limit?: string }

/** As long as a timer can wait. */
const MAX_WAIT_S = 2_000_000

export function define(command: Command, cli: Cli): void {
  command
    .argument('<file>', 'its exact name, its content id, or a folder with "/" at its end')
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
    .option(
      '--limit <rate>',
      'bytes a second at most, such as 5MB/s or 40Mbit, or none (default: what the agent may download)',
    )
    .addOption(
      new Option(
        '--wait <seconds>',
        'how long there may be no provider before it is given up (default: through the agent as long as it takes; with -o, --maestro or --peer not at all)',
      ).argParser(parseSeconds),
    )
    .addOption(
      new Option('-d, --detach', 'start it in the agent, print its number and return').conflicts([
        'output',
        'maestro',
        'peer',
        'wait',
        'explain',
      ]),
    )
    .option('--explain', 'show who was asked, who gave what, and who was dropped or banned and why')
    .addOption(new Option('--maestro <url>', 'without an agent: look it up in this Maestro').conflicts('peer'))
    .option('--peer <url>', 'without an agent: fetch it from this peer')
    .addHelpText(
      'after',
      `
Without -o it lands in the agent's shared folder, and so is offered onward. Every byte is verified. Ctrl-C pauses it in
the agent, and the same command goes on with it. With -o, --maestro or --peer Ctrl-C stops it: what arrived is kept
beside the place where it lands, and the same command resumes.

"1.08 of the bound" at the end compares its time with the least that its bytes could have taken: all of it at the rate
of the best second. That is what a taker can see; how fast the lines of others are, it can't. It is left out for less
than two seconds, which is too short to tell, and for a download that waited, was paused or got another limit.

Examples:
  peer download film.mkv
  peer download film.mkv -o ~/Videos
  peer download film.mkv --as copy.mkv --via friends
  peer download film.mkv --id 54acbf386a83
  peer download film.mkv --dummy
  peer download film.mkv --limit 5MB/s --detach
  peer download film.mkv --explain
  peer download lectures/
  peer download film.mkv --maestro http://192.168.1.10:9000 -o .`,
    )
    .action(async (text: string, { limit: rate, ...given }: TypedOptions) => {
      // Here and not as it is read: the library takes null, which is no limit, for a parser that failed.
      const options: DownloadOptions = rate === undefined ? given : { ...given, limit: parseRate(rate) }
      const here = options.output !== undefined || options.maestro !== undefined || options.peer !== undefined
      if (text.endsWith('/')) return throughAgent(folderRequest(text, here, options), options, await cli.agent(), cli)
      const query = parseQuery(text)
      const fetch = here ? (await import('./leech.ts')).leech : file
      await fetch(query, options, cli).catch(async (error: unknown) => {
        const known = asNetworkError(error)
        if (known.code !== 'not_found' || options.id !== undefined) throw known
        const hint = (await folderHint(query, options, cli)) + beginningHint(query)
        throw new NetworkError('not_found', `${known.message}${hint}`, known.details, known)
      })
    })
}

/** Where nobody has a file of this name, it may be a folder's. */
async function folderHint({ file }: ExactQuery, { maestro, peer }: DownloadOptions, cli: Cli): Promise<string> {
  if (file === undefined || maestro !== undefined || peer !== undefined) return ''
  const agent = await cli.agent()
  const { peers } = await agent.locate({ q: file }).catch(() => ({ peers: [] }))
  return peers.some((found) => found.file.startsWith(`${file}/`)) ? `; did you mean the folder "${file}/"?` : ''
}

function folderRequest(text: string, here: boolean, { id, via }: DownloadOptions): TransferRequest {
  const name = text.replace(/\/+$/, '')
  if (name === '')
    throw new NetworkError('invalid', `"${text}" names no folder: it is fetched by its name, such as lectures/`)
  const folder = parseFileName(name)
  if (here)
    throw new NetworkError(
      'invalid',
      `a folder is fetched by the agent into its shared folder: leave out -o, --maestro and --peer; --as gives "${folder}/" another name there`,
    )
  if (id !== undefined || via !== undefined)
    throw new NetworkError('invalid', 'a folder is fetched by its name from all who have it: leave out --id and --via')
  return { folder }
}

async function file(query: ExactQuery, options: DownloadOptions, cli: Cli): Promise<void> {
  const agent = await cli.agent()
  const { as, via } = options
  const what = options.id === undefined ? { ...query, as } : await chosen(options.id, query, options, agent)
  await throughAgent({ ...what, via }, options, agent, cli)
}

/** The agent fetches it into its shared folder. */
async function throughAgent(
  what: TransferRequest,
  options: DownloadOptions,
  agent: PeerClient,
  cli: Cli,
): Promise<void> {
  const { as = what.as, dummy, limit } = options
  const request = { ...what, as, mode: dummy ? ('dummy' as const) : undefined, limit }
  if (options.detach) {
    const { transfer, file } = await agent.startTransfer(request).then(told(cli))
    cli.out.line(
      styled('bold', file ?? 'download'),
      `: transfer ${transfer} goes on in the agent; "peer transfers --follow" shows it`,
    )
    return
  }
  const { disturbed, ...transfer } = await followTransfer(agent, request, options, cli)
  await tellTheWay(transfer, agent, cli)
  if (options.explain) explain(transfer, cli.out)
  if (transfer.state === 'failed' || transfer.state === 'cancelled')
    throw (
      NetworkError.fromBody(transfer) ??
      new NetworkError('cancelled', 'cancelled from elsewhere: run the same command again to resume')
    )
  cli.out.document({ ...transfer, ...efficiency({ ...transfer, disturbed }) })
  const name = transfer.file ?? transfer.id ?? ''
  cli.out.line(...summary({ ...transfer, disturbed, name, where: 'in the shared folder' }))
}

/** Tells the answer as a document, and hands it on. */
function told(cli: Cli): (answer: TransferBody) => TransferBody {
  return (answer) => {
    cli.out.document(answer)
    return answer
  }
}

/** @throws NetworkError `invalid` */
function parseSeconds(text: string): number {
  const seconds = Number(text)
  if (text.trim() !== '' && seconds >= 0 && seconds <= MAX_WAIT_S) return seconds
  throw new NetworkError(
    'invalid',
    `--wait is "${printable(text)}": it must be a number of seconds, up to ${MAX_WAIT_S}`,
  )
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
