import { editDistance } from '../../common/config.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'

/** Wrong names that a right one is looked for: each is compared with all that are known. */
const MOST_HINTS = 5

/** A peer that answers. */
export interface Target {
  peer: PeerId
  rest: string
  grpc_port: number
}

/**
 * A peer by its REST address, or by its id among those that the agent and the Maestro know.
 * @throws NetworkError `not_found`, `unavailable`; with the detail `away` where it was named by its id and is not there
 */
export async function findTarget(to: string, cli: Cli): Promise<{ target: Target; rest: PeerClient }> {
  const byAddress = /[:/]/.test(to)
  const rest = await cli.peer(byAddress ? to : await addressOf(to, cli))
  const { id, grpc_port } = await rest.info().catch((error: unknown) => {
    const { code, message, details } = asNetworkError(error)
    throw byAddress || code !== 'unavailable' ? error : new NetworkError(code, message, { ...details, away: to }, error)
  })
  if (!byAddress && id !== to)
    throw new NetworkError('unavailable', `${to} is away: at ${rest.url}, where it was, ${id} is now`, { away: to })
  return { target: { peer: id, rest: rest.url, grpc_port }, rest }
}

/**
 * Which of these peers neither the agent nor the Maestro knows at present, as far as they answer; `near`: the only known
 * one that is a letter away, looked for of the first few.
 */
export async function unknownPeers(
  ids: readonly PeerId[],
  cli: Cli,
): Promise<{ id: PeerId; near: PeerId | undefined }[]> {
  const agent = await cli.agent()
  const known = new Set<PeerId>()
  const unknown = new Set(ids)
  const know = (id: PeerId) => {
    known.add(id)
    unknown.delete(id)
  }
  for (const { id } of (await agent.knownPeers()).peers) if (id !== null) know(id)
  if (unknown.size > 0)
    await eachAtMaestro(agent, cli, ({ id }) => {
      know(id)
      return unknown.size === 0
    }).catch(() => {})
  return [...unknown].map((id, i) => ({ id, near: i < MOST_HINTS ? onlyNear(id, known) : undefined }))
}

function onlyNear(id: PeerId, known: ReadonlySet<PeerId>): PeerId | undefined {
  const near = [...known].filter((other) => editDistance(id, other) === 1)
  return near.length === 1 ? near[0] : undefined
}

async function addressOf(id: string, cli: Cli): Promise<string> {
  const agent = await cli.agent()
  const known = (await agent.knownPeers()).peers.filter((peer) => peer.id === id)
  // Where it was when it did not answer, or where others say, it may be no more: the Maestro knows better.
  const there = known.find(({ status, friend }) => status === 'alive' || status === 'self' || friend)
  if (there) return there.rest
  const told = known[0]?.rest
  let registered: string | undefined
  const found = eachAtMaestro(agent, cli, (peer) => {
    if (peer.id === id) registered = peer.rest
    return registered !== undefined
  })
  await found.catch((error: unknown) => {
    const { code, message, details } = asNetworkError(error)
    if (code !== 'unavailable') throw error
    if (told === undefined)
      throw new NetworkError(
        code,
        `${message}, and the agent knows no peer "${id}": give its address (http://…), or leave an offer for it with "peer send"`,
        details,
        error,
      )
  })
  const rest = registered ?? told
  if (rest !== undefined) return rest
  throw new NetworkError('not_found', `no peer "${id}" is known: see "peer network", or give its address (http://…)`, {
    away: id,
  })
}

/** Calls back for every peer that the Maestro lists, until it is answered with true. */
async function eachAtMaestro(
  agent: PeerClient,
  cli: Cli,
  enough: (peer: { id: PeerId; rest: string }) => boolean,
): Promise<void> {
  const { maestro_url } = await agent.info()
  if (maestro_url === null) return
  const maestro = await cli.maestro(maestro_url)
  for await (const peer of maestro.allPeers({ signal: cli.io.signal })) if (enough(peer)) return
}
