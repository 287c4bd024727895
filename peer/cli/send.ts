import { stat } from 'node:fs/promises'
import type { Command } from 'commander'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type FileName, type PeerId, parseFileName, parsePeerId } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import { parseDuration } from './duration.ts'
import { EXIT } from './exit.ts'
import { type Items, itemsOf } from './items.ts'
import { isOver, noteUnknown, printOffer, stay, waitedText } from './offers.ts'
import { type Shared, sharedBefore, sharing } from './share.ts'
import { count } from './text.ts'

interface SendOptions {
  as?: FileName
  expires?: number
  wait?: number | true
}

/** So long a command that does not wait stays to see how the offers get away. */
const SETTLE_S = 1

export function define(command: Command, cli: Cli): void {
  command
    .argument('<file>', 'a file or folder of this machine, or the name or content id of what the agent shares')
    .argument('<peer...>', 'the ids of those who are to have it', (text: string, before: PeerId[] = []) => [
      ...before,
      parsePeerId(text),
    ])
    .option('--as <name>', 'the name that it gets at these peers (default: its own)', parseFileName)
    .option('--expires <duration>', 'how long the offer may wait: 12h, 7d, 2w (default: 30d)', parseDuration)
    .option('--wait [duration]', 'stay until all have it, or for so long: 30s, 10m, 12h', parseDuration)
    .addHelpText(
      'after',
      `
The agent shares the file, with everybody, and leaves an offer for each of these peers. One that is away finds it when
it is back, and fetches the content, verified, from whoever has it then. What becomes of it: queued, taken, delivered;
or refused, or expired. With --wait the exit code is 0 once all have it, and 1 where one refuses, or time is over.

Examples:
  peer send film.mkv P2
  peer send lectures/week1.pdf P2 P3 P4 --expires 7d
  peer send film.mkv P2 --wait
  peer send film.mkv P2 --wait 10m --json | jq '.offers[].state'`,
    )
    .action(async (file: string, peers: PeerId[], options: SendOptions) => {
      const agent = await cli.agent()
      const { shared, leftOut } = await share(file, options.as, cli)
      await noteUnknown(peers, cli)
      const expires = options.expires === undefined ? {} : { expires_s: Math.ceil(options.expires) }
      const made = []
      for (const { id, name } of shared) made.push(...(await agent.offer({ to: peers, id, name, ...expires })).offers)
      const { wait } = options
      const seconds = wait === undefined ? SETTLE_S : wait === true ? Number.POSITIVE_INFINITY : wait
      const until = wait === undefined ? ({ state }: { state: string }) => state !== 'sending' : () => false
      const offers = await stay(agent, made, { seconds, until }, cli)
      for (const offer of offers) printOffer(offer, cli)
      cli.out.document({ offers, left_out: leftOut })
      if (wait === undefined || offers.every(({ state }) => state === 'delivered')) return
      if (!offers.every(isOver)) cli.out.note(waitedText(offers, seconds))
      cli.exitCode = EXIT.failed
    })
}

/** Offers are made once all is shared: what was shared until then is told. */
function withProgress(error: unknown, done: number, all: number): NetworkError {
  const { code, message, details } = asNetworkError(error)
  const stand = `${done} of ${count(all, 'file')} are shared, and none is offered yet: the same command goes on`
  return new NetworkError(code, `${code === 'cancelled' ? 'stopped' : message}; ${stand}`, details, error)
}

/** What FILE stands for, once the agent shares it. */
async function share(
  file: string,
  as: FileName | undefined,
  cli: Cli,
): Promise<{ shared: Shared[]; leftOut: Items['leftOut'] }> {
  const isHere = await stat(file).then(
    () => true,
    (error: unknown) => asNetworkError(error).code !== 'not_found',
  )
  if (!isHere) return { shared: [await sharedBefore(file, as, cli)], leftOut: [] }
  const { items, leftOut } = await itemsOf(file, as, cli)
  const send = await sharing(cli)
  const shared: Shared[] = []
  for (const item of items) {
    const done = await send(item).catch((error: unknown) => {
      throw items.length === 1 ? error : withProgress(error, shared.length, items.length)
    })
    shared.push({ ...done, name: item.name })
  }
  return { shared, leftOut }
}
