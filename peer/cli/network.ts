import { setMaxListeners } from 'node:events'
import type { Command } from 'commander'
import type { z } from 'zod'
import { asNetworkError, type NetworkError } from '../../common/errors.ts'
import type { MaestroClient } from '../../common/maestro-client.ts'
import type { KnownPeersResponse, PeerInfo, PeerRow } from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'
import { seenText } from './known.ts'
import { count, styled } from './text.ts'

/** Names shown of one peer, unless all are asked for. */
const NAMES = 8
/** Peers asked where there is no Maestro to ask, all at a time, and how long each answer may take, ms. */
const ASKED = 32
const ANSWER_MS = 3000

type Known = z.infer<typeof KnownPeersResponse>['peers'][number]

/** A peer as shown: what the Maestro or the peer itself says of it. */
interface Row {
  id: string
  rest: string
  grpc_port: number
  status: string
  last_seen: string | null
  files: string[]
  file_count: number
}

export function define(command: Command, cli: Cli): void {
  command
    .option('--wide', 'up to 100 file names a peer')
    .addHelpText(
      'after',
      `
Examples:
  peer network
  peer network --json | jq '.peers[] | {id, files}'
  peer list --agent http://192.168.1.20:8000     all files of one of them`,
    )
    .action(async ({ wide }: { wide?: boolean }) => {
      const agent = await cli.agent()
      const info = await agent.info()
      const seen = info.maestro_url === null ? undefined : await askMaestro(await cli.maestro(info.maestro_url), cli)
      const rows = seen?.peers ?? (await askKnown(agent, info, seen?.problem, cli))
      cli.out.document({
        maestro: { url: info.maestro_url, answers: seen?.peers !== undefined },
        peers: rows,
      })
      show(rows, wide ? 100 : NAMES, cli)
    })
}

type Asked = { peers: Row[]; problem?: never } | { problem: NetworkError; peers?: never }

async function askMaestro(maestro: MaestroClient, cli: Cli): Promise<Asked> {
  const peers: PeerRow[] = []
  try {
    for await (const peer of maestro.allPeers({ signal: cli.io.signal })) peers.push(peer)
  } catch (error) {
    const problem = asNetworkError(error)
    if (problem.code === 'cancelled') throw problem
    return { problem }
  }
  return { peers }
}

/** Without the Maestro: this agent, and whoever answers of those that it knows. */
async function askKnown(
  agent: PeerClient,
  info: PeerInfo,
  problem: NetworkError | undefined,
  cli: Cli,
): Promise<Row[]> {
  const { peers } = await agent.knownPeers()
  const others = peers.filter(({ id, rest, status }) => status !== 'self' && id !== info.id && rest !== info.rest_url)
  // Who answered the last time first, then friends, then those that others told of.
  const rank = ({ status, friend }: Known) => (status === 'alive' ? 0 : friend ? 1 : status === 'lost' ? 3 : 2)
  const asked = others.sort((a, b) => rank(a) - rank(b)).slice(0, ASKED)
  const why = problem ? `${problem.message}; ` : 'no Maestro is configured; '
  const more = others.length > ASKED ? ` of ${others.length}` : ''
  cli.out.note(
    styled(
      'yellow',
      `${why}this list comes from this agent and ${asked.length}${more} ${noun(others.length)} it knows`,
    ),
  )
  // Each that is asked listens for an interruption, and that many are no leak.
  setMaxListeners(2 * ASKED, cli.io.signal)
  const rows = asked.map((known) => rowOfKnown(known, cli))
  return [await rowOf(agent, info), ...(await Promise.all(rows))]
}

function noun(peers: number): string {
  return peers === 1 ? 'peer that' : 'peers that'
}

async function rowOfKnown({ id, rest, grpc_port, seen }: Known, cli: Cli): Promise<Row> {
  try {
    const peer = await cli.peer(rest, ANSWER_MS)
    return await rowOf(peer, await peer.info())
  } catch (error) {
    if (asNetworkError(error).code === 'cancelled') throw error
    const nothing = { files: [], file_count: 0 }
    return {
      id: id ?? '?',
      rest,
      grpc_port: grpc_port ?? 0,
      status: 'unreachable',
      last_seen: seen ?? null,
      ...nothing,
    }
  }
}

async function rowOf(peer: PeerClient, info: PeerInfo): Promise<Row> {
  const files: string[] = []
  for await (const { name } of peer.files()) {
    files.push(name)
    if (files.length === 100) break
  }
  const { id, rest_url, grpc_port } = info
  return { id, rest: rest_url, grpc_port, status: 'alive', last_seen: null, files, file_count: info.files }
}

function show(rows: readonly Row[], names: number, cli: Cli): void {
  if (rows.length === 0) {
    cli.out.line('No peer is registered at the Maestro.')
    return
  }
  cli.out.table(
    [
      { title: 'PEER' },
      { title: 'ADDRESS', shrinks: true },
      { title: 'GRPC', align: 'right' },
      { title: 'STATUS' },
      { title: 'SEEN' },
      { title: 'FILES', shrinks: true },
    ],
    rows.map((row) => [
      { style: 'bold', text: row.id },
      row.rest,
      row.grpc_port === 0 ? '-' : String(row.grpc_port),
      { style: row.status === 'alive' ? 'green' : 'red', text: row.status },
      row.last_seen === null ? '-' : seenText(row.last_seen),
      filesOf(row, names),
    ]),
  )
  const alive = rows.filter(({ status }) => status === 'alive')
  const files = alive.reduce((sum, { file_count }) => sum + file_count, 0)
  cli.out.line({ style: 'dim', text: `${count(alive.length, 'peer')} alive, ${count(files, 'file')}` })
}

function filesOf({ files, file_count, status }: Row, names: number): string[] {
  const shown = files.slice(0, names)
  if (shown.length === 0) return [status === 'alive' ? 'none' : '-']
  const more = file_count - shown.length
  return more > 0 ? [...shown, `… and ${more} more`] : shown
}
