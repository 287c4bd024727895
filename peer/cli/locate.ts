import type { Command } from 'commander'
import { NetworkError } from '../../common/errors.ts'
import { shortId } from '../../common/ids.ts'
import type { LocatedProvider, PeerLocateResponse, StrategyName } from '../../common/schemas.ts'
import { noneAnswered, silentProviders } from '../locate/outcome.ts'
import { choicesOf, showChoices } from './choices.ts'
import type { Cli } from './cli.ts'
import { EXIT } from './exit.ts'
import { beginningHint, type ExactQuery, parseQuery, queryText, viaOption } from './query.ts'
import { noteDegradation, showLevel, showSteps, whoIsDown } from './steps.ts'
import { count, size, styled } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .argument('<file>', 'its exact name, or its content id')
    .addOption(viaOption())
    .option('--explain', 'every step of the lookup: whom, how long, how many messages and hops, with what outcome')
    .option('--wide', 'whole content ids')
    .addHelpText(
      'after',
      `
Examples:
  peer locate film.mkv
  peer locate lectures/week1.pdf --explain
  peer locate film.mkv --via friends --json
  peer locate film.mkv --via chord --explain     which members of the ring were asked
  peer locate film.mkv --via flood --explain     how far a query went from neighbour to neighbour`,
    )
    .action(async (text: string, options: { via?: StrategyName; explain?: boolean; wide?: boolean }) => {
      const query = parseQuery(text)
      const found = await (await cli.agent()).locate(query, options.via)
      cli.out.document(found)
      if (options.explain) {
        showSteps(found.steps, cli.out)
        showLevel(found.network, cli.out)
      }
      if (found.peers.length === 0) return nobody(query, found, cli)
      noteDegradation(found.steps, found.peers, cli.out)
      if (options.explain) cli.out.line()
      cli.out.line(
        styled('bold', found.file ?? found.peers[0]?.file ?? text),
        `: ${count(found.peers.length, 'peer')}, via ${found.via ?? 'nobody'}`,
      )
      showProviders(found.peers, query, options.wide ?? false, cli)
      const choices = choicesOf(found.peers)
      if (choices.length > 1) {
        cli.out.note(styled('yellow', `${queryText(query)} stands for ${choices.length} different contents:`))
        showChoices(choices, cli.out)
      }
    })
}

function nobody(query: ExactQuery, found: PeerLocateResponse, cli: Cli): void {
  const error = notFound(query, found.steps)
  cli.exitCode = error.code === 'unavailable' ? EXIT.unreachable : EXIT.notFound
  // With --json the answer is there already, and says the same by its empty list.
  if (!cli.out.json) cli.out.error(error)
}

/** Why nobody was found: nobody has it, or nobody could be asked. */
export function notFound(query: ExactQuery, steps: PeerLocateResponse['steps']): NetworkError {
  const down = whoIsDown(steps)
  if (noneAnswered(steps))
    return new NetworkError(
      'unavailable',
      `nobody could be asked for ${queryText(query)}: no answer from ${down}; "peer discover" shows whom the agent knows, "peer discover URL" has it meet others`,
    )
  const silent = silentProviders(steps, queryText(query))
  if (silent) return silent
  const gap = down === '' ? '' : ` (no answer from ${down})`
  return new NetworkError(
    'not_found',
    `nobody offers ${queryText(query)}${gap}: look for a part of its name with "peer search"${beginningHint(query)}`,
  )
}

function showProviders(peers: readonly LocatedProvider[], query: ExactQuery, wide: boolean, cli: Cli): void {
  const byId = query.id !== undefined
  cli.out.table(
    [
      { title: 'PEER' },
      { title: 'ADDRESS', shrinks: true },
      { title: 'GRPC', align: 'right' },
      { title: 'SIZE', align: 'right' },
      byId ? { title: 'NAME', shrinks: true } : { title: 'CONTENT' },
    ],
    peers.map((peer) => [
      peer.peer,
      peer.rest,
      String(peer.grpc_port),
      peer.size === null ? '?' : size(peer.size),
      byId ? peer.file : { style: 'cyan', text: peer.id === null ? 'unknown' : wide ? peer.id : shortId(peer.id) },
    ]),
  )
}
