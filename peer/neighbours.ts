import { isIP } from 'node:net'
import { hostPort, parseAdvertised, parseRestUrl } from '../common/address.ts'
import { type ContentId, type PeerId, parsePeerId } from '../common/ids.ts'
import type { MaestroClient } from '../common/maestro-client.ts'
import { pieceCount } from '../common/merkle.ts'
import type { SwarmPeerBody } from '../common/schemas.ts'
import type { Neighbourhood } from './transfer/downloader.ts'
import type { PieceStore } from './transfer/piece-store.ts'
import { lengthOf } from './transfer/runs.ts'
import type { SharedContents } from './transfer/shared-contents.ts'
import type { Contact, PieceSource } from './transfer/source.ts'
import type { Uploader } from './transfer/uploader.ts'

/** A friend, as far as it knows who takes a content. */
export interface SwarmFriend {
  readonly url: string
  swarm(id: ContentId, signal: AbortSignal): Promise<readonly SwarmPeerBody[]>
}

export interface NeighboursDeps {
  self: () => { id: PeerId; host: string; grpcPort: number }
  contents: SharedContents
  uploader: Uploader
  clients: { sourceAt(contact: Contact): PieceSource }
  maestro: MaestroClient | undefined
  friends: () => readonly SwarmFriend[]
}

/** Friends asked for the takers of a content at a time. */
const MAX_FRIENDS_ASKED = 4

/** Who takes the same contents: takers find each other through the Maestro, their friends and the swarm itself. */
export class Neighbours implements Neighbourhood {
  readonly #deps: NeighboursDeps

  constructor(deps: NeighboursDeps) {
    this.#deps = deps
  }

  taker(): Omit<Contact, 'host'> {
    const { id, grpcPort } = this.#deps.self()
    return { peer: id, grpcPort }
  }

  /** Serves a running download; the Maestro hears where it ends. */
  serve(store: PieceStore): () => void {
    const leave = this.#deps.contents.serve(store)
    return () => {
      leave()
      const { id, grpcPort } = this.#deps.self()
      // It would be forgotten anyway.
      this.#deps.maestro?.swarm(store.manifest.id, { peer: id, grpc_port: grpcPort, left: true }).catch(() => {})
    }
  }

  sourceAt(contact: Contact, from: string): PieceSource | undefined {
    const { id, host, grpcPort } = this.#deps.self()
    const isSelf = contact.peer === id || (contact.host === host && contact.grpcPort === grpcPort)
    if (isSelf || !mayBeCalled(contact, from)) return undefined
    return this.#deps.clients.sourceAt(contact)
  }

  /** Others that take the content, as far as the Maestro and the friends know. Who doesn't answer is passed over. */
  async find(id: ContentId, signal: AbortSignal): Promise<PieceSource[]> {
    const asked = [this.#askMaestro(id, signal), ...this.#askFriends(id, signal)]
    const answers = await Promise.allSettled(asked)
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
  }

  /** What this peer knows of a swarm: itself, and those that take from it. */
  members(id: ContentId): SwarmPeerBody[] {
    const { contents, uploader, self } = this.#deps
    const me = self()
    const manifest = contents.manifest(id)
    if (!manifest) return []
    const pieces = pieceCount(manifest.size, manifest.pieceSize)
    const partial = contents.partial(id)
    const have = partial ? lengthOf(partial.pieces) : pieces
    const others = uploader
      .takers(id)
      .map(({ peer, host, grpcPort }) => ({ peer, host, grpc_port: grpcPort, have: 0, pieces }))
    return [{ peer: me.id, host: me.host, grpc_port: me.grpcPort, have, pieces }, ...others]
  }

  async #askMaestro(id: ContentId, signal: AbortSignal): Promise<PieceSource[]> {
    const { maestro, self } = this.#deps
    const me = this.members(id)[0]
    if (!maestro) return []
    const { id: peer, grpcPort } = self()
    const { peers } = await maestro.swarm(
      id,
      { peer, grpc_port: grpcPort, have: me?.have ?? 0, pieces: me?.pieces ?? 0 },
      signal,
    )
    return this.#sources(peers, maestro.url)
  }

  #askFriends(id: ContentId, signal: AbortSignal): Promise<PieceSource[]>[] {
    return this.#deps
      .friends()
      .slice(0, MAX_FRIENDS_ASKED)
      .map(async (friend) => this.#sources(await friend.swarm(id, signal), friend.url))
  }

  #sources(peers: readonly SwarmPeerBody[], from: string): PieceSource[] {
    return peers.slice(0, 64).flatMap(({ peer, host, grpc_port }) => {
      const contact = { peer: parsePeerId(peer), host, grpcPort: grpc_port }
      return this.sourceAt(contact, from.replace(/^\w+:\/\//, '')) ?? []
    })
  }
}

/**
 * Whether an address that somebody at `from` (host:port) names is one that a peer can have. A name could lead anywhere,
 * so only its own is taken.
 */
function mayBeCalled({ host, grpcPort }: Contact, from: string): boolean {
  try {
    const source = parseRestUrl(from).host
    if (isIP(host) === 0 && host !== source) return false
    parseAdvertised(`http://${hostPort(host, grpcPort)}`, source)
    return true
  } catch {
    return false
  }
}
