import { parseRestUrl } from '../common/address.ts'
import { asNetworkError, NetworkError } from '../common/errors.ts'
import type { PeerId } from '../common/ids.ts'
import { RestClient } from '../common/rest-client.ts'
import { type DiscoverBody, type KnownPeerBody, KnownPeersResponse, PeerInfo } from '../common/schemas.ts'
import { type PeerContact, restOf } from './contact.ts'
import { addressOf } from './friends.ts'
import type { Exchange } from './overlay/exchange.ts'
import type { PeerBook } from './overlay/known-peers.ts'
import { reachable } from './overlay/reachable.ts'

export interface DiscoverDeps {
  self: () => PeerContact
  book: PeerBook
  exchange: Pick<Exchange, 'introduce'>
  /** bound on one question, ms */
  timeoutMs: number
}

type Outcome = DiscoverBody['peers'][number]
type Told = Pick<KnownPeerBody, 'id' | 'rest'> & { grpc_port?: number | null | undefined }

/** A stranger's list is not followed without end, and not all at once. */
const MOST = 100
const AT_A_TIME = 8

const Identity = PeerInfo.pick({ id: true, rest_url: true, grpc_port: true })

/**
 * Asks the peer at a REST URL for the peers that it knows, and keeps it and those of them that answer.
 * @throws NetworkError `unavailable` where it does not answer; `invalid` for no URL, or none of an agent
 */
export async function discover(deps: DiscoverDeps, text: string, signal: AbortSignal): Promise<DiscoverBody> {
  const { url, host } = parseRestUrl(text)
  const rest = new RestClient({ name: 'the peer', baseUrl: url, timeoutMs: deps.timeoutMs })
  try {
    const { id, rest_url, grpc_port } = await rest.call('GET', '/info', Identity, { signal })
    const address = addressOf(url, rest_url)
    if (!address)
      throw new NetworkError('invalid', `${url} does not say at which IP address it is: give its address instead`)
    const asked: Told = { id, rest: restOf({ peer: id, ...address, grpcPort: grpc_port }), grpc_port }
    // It first: where it is not kept, it told nothing that could be kept either.
    const first = await outcomeOf(deps, asked, address.host, signal)
    const { peers } = await rest.call('GET', '/peers', KnownPeersResponse, { signal })
    const others = peers.filter((told) => told.id !== id && told.rest !== asked.rest).slice(0, MOST)
    const outcomes: Outcome[] = [first]
    for (let i = 0; i < others.length; i += AT_A_TIME) {
      const batch = others.slice(i, i + AT_A_TIME)
      outcomes.push(...(await Promise.all(batch.map((told) => outcomeOf(deps, told, host, signal)))))
    }
    return { asked: url, peers: outcomes }
  } finally {
    await rest.close()
  }
}

/** What becomes of one that a peer at `from` tells of. @throws NetworkError `cancelled` */
async function outcomeOf(deps: DiscoverDeps, told: Told, from: string, signal: AbortSignal): Promise<Outcome> {
  const { id, rest } = told
  const self = deps.self()
  const outcome = (result: Outcome['outcome'], detail: string | null = null): Outcome => ({
    id,
    rest,
    outcome: result,
    detail,
  })
  if (id === self.peer || rest === restOf(self)) return outcome('self')
  try {
    if (id !== null && deps.book.contactOf(id)) return outcome('known')
    const contact = contactOf(told, id, from)
    if (!contact) return outcome('refused', 'it is told of without an address that a peer can have')
    const { self: there } = await deps.exchange.introduce(contact, signal)
    if (id !== null && there.peer !== id) return outcome('refused', `${there.peer} answers at that address`)
    return outcome('kept')
  } catch (error) {
    signal.throwIfAborted()
    return outcome('refused', asNetworkError(error).message)
  }
}

function contactOf({ rest, grpc_port }: Told, peer: PeerId | null, from: string): PeerContact | undefined {
  const { host, port } = parseRestUrl(rest)
  if (grpc_port == null) return undefined
  return reachable({ peer: peer ?? ('unknown' as PeerId), host, restPort: port, grpcPort: grpc_port }, from)
}
