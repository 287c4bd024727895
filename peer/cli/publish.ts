import { stat } from 'node:fs/promises'
import { type Command, InvalidArgumentError } from 'commander'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type FileName, parseFileName } from '../../common/ids.ts'
import { agentUpload } from './agent-upload.ts'
import type { Cli } from './cli.ts'
import { parseDuration } from './duration.ts'
import { EXIT } from './exit.ts'
import { awaitHolders } from './holders.ts'
import { itemsOf } from './items.ts'
import { type Shared, sharedBefore, sharing } from './share.ts'
import { count, duration, list, styled } from './text.ts'
import { printUpload } from './uploaded.ts'

interface PublishOptions {
  as?: FileName
  wait?: number
  timeout?: number
}

const MAX_WAIT = 100_000
/** Peers that are named in a line. */
const NAMED = 10

export function define(command: Command, cli: Cli): void {
  command
    .argument('<file>', 'a file of this machine, or the name or content id of what the agent shares')
    .option('--as <name>', 'the name that it gets (default: its own)', parseFileName)
    .option('--wait <peers>', 'return once so many other peers hold a verified copy (default: 0, at once)', parsePeers)
    .option('--timeout <duration>', 'wait no longer than 30s, 10m, 12h (default: as long as it takes)', parseDuration)
    .addHelpText(
      'after',
      `
The agent shares the file; those who follow its name ("peer follow") fetch it, or whoever wants it. With --wait it is a
barrier: the exit code is 0 once so many other peers hold it, and 1 where time is over before. The file stays shared
either way, also after Ctrl-C.

Examples:
  peer publish film.mkv --wait 25
  peer publish build.tar --as builds/42.tar --wait 8 --timeout 10m && ./start-all
  peer publish builds/42.tar --wait 8 --json | jq .holders`,
    )
    .action(async (file: string, options: PublishOptions) => {
      const { name, id, size } = await share(file, options.as, cli)
      const { wait = 0 } = options
      if (wait === 0) return cli.out.document({ name, id, size, wait, holders: [], seconds: 0 })
      await barrier({ name, id, size }, wait, options.timeout ?? Number.POSITIVE_INFINITY, cli)
    })
}

async function barrier(file: Shared, wait: number, timeout: number, cli: Cli): Promise<void> {
  const agent = await cli.agent()
  const { id: self } = await agent.info()
  const progress = cli.out.progress(file.name)
  const begin = performance.now()
  const seconds = () => (performance.now() - begin) / 1000
  let peers: readonly string[] = []
  const show = () => progress.phase(`${stand(peers, wait)}, ${duration(seconds())}${named(peers)}`)
  const timer = setInterval(show, 1000)
  try {
    show()
    const holders = await awaitHolders(
      agent,
      { id: file.id, self },
      { wanted: wait, seconds: timeout },
      (now) => {
        peers = now.peers
        show()
      },
      cli,
    )
    peers = holders.peers
  } catch (error) {
    const { code, message, details } = asNetworkError(error)
    const why = code === 'cancelled' ? 'stopped waiting' : message
    throw new NetworkError(code, `${why}: ${stand(peers, wait)}; it is still shared`, details, error)
  } finally {
    clearInterval(timer)
    progress.stop()
  }
  const took = seconds()
  cli.out.document({ ...file, wait, holders: peers, seconds: took })
  if (peers.length >= wait) {
    const all = `${count(peers.length, 'other peer')} ${peers.length === 1 ? 'has' : 'have'} it`
    cli.out.line(styled('bold', file.name), ': ', styled('green', all), ` after ${duration(took)}${named(peers)}`)
  } else {
    cli.out.note(
      styled('red', 'peer:'),
      ` ${stand(peers, wait)} after ${duration(took)}${named(peers)}; it is still shared, and the same command goes on waiting`,
    )
    cli.exitCode = EXIT.failed
  }
}

/** What FILE stands for, once the agent shares it. */
async function share(file: string, as: FileName | undefined, cli: Cli): Promise<Shared> {
  const found = await stat(file).catch((error: unknown) => asNetworkError(error))
  if (found instanceof NetworkError) {
    if (found.code !== 'not_found') throw found
    const shared = await sharedBefore(file, undefined, cli)
    if (as === undefined || as === shared.name) return shared
    throw new NetworkError(
      'invalid',
      `the agent shares ${shared.name} already, and that name stays: leave out --as, or give the path of a file`,
    )
  }
  if (found.isDirectory())
    throw new NetworkError('invalid', `${file} is a folder: publish its files one by one, or "peer upload" all of it`)
  const [item] = (await itemsOf(file, as, cli)).items
  // Those who follow a name hear of a content under that name alone.
  const uploaded = await (as === undefined ? await sharing(cli) : await agentUpload(false, cli))(item!)
  printUpload(uploaded, cli)
  return { name: uploaded.name, id: uploaded.id, size: uploaded.size }
}

/** `17 of 25 other peers have it` */
function stand(peers: readonly string[], wait: number): string {
  return `${peers.length} of ${count(wait, 'other peer')} ${wait === 1 ? 'has' : 'have'} it`
}

/** `: P2, P3 and 5 more` */
function named(peers: readonly string[]): string {
  if (peers.length === 0) return ''
  const more = peers.length - NAMED
  return `: ${list([...peers.slice(0, NAMED), ...(more > 0 ? [`${more} more`] : [])])}`
}

function parsePeers(text: string): number {
  const peers = Number(text)
  if (/^\d+$/.test(text) && peers <= MAX_WAIT) return peers
  throw new InvalidArgumentError(`it must be a whole number of other peers, up to ${MAX_WAIT.toLocaleString('en-US')}`)
}
