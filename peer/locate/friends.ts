import type { PeerId } from '../../common/ids.ts'
import type { PeerFile, PeerSearchQuery } from '../../common/schemas.ts'
import type { LocateQuery, LocateStrategy, Provider, Trace } from './strategy.ts'

/** One friend, as lookups see it: it is asked for what it has itself. */
export interface FriendPeer {
  readonly url: string
  search(
    query: PeerSearchQuery,
    signal: AbortSignal,
  ): Promise<{ peer: PeerId; grpc_port: number; matches: readonly PeerFile[] }>
  /** Asks who it is. */
  identify(signal: AbortSignal): Promise<PeerId>
}

/** Asks one friend. The address of what it offers is the one it was asked at, not one that it names. */
export class FriendStrategy implements LocateStrategy {
  readonly name = 'friends'
  readonly #friend: FriendPeer

  constructor(friend: FriendPeer) {
    this.#friend = friend
  }

  get asked(): string {
    return this.#friend.url
  }

  async probe(signal: AbortSignal): Promise<void> {
    await this.#friend.identify(signal)
  }

  async *locate(query: LocateQuery, trace: Trace, signal: AbortSignal): AsyncIterable<Provider> {
    trace.messages = 1
    const answer = await this.#friend.search(searchFor(query), signal)
    for (const { name, id, size } of answer.matches) {
      // A friend answers for what was asked, or it is not listened to.
      if ((query.kind === 'name' && name !== query.name) || (query.kind === 'id' && id !== query.id)) continue
      yield { peer: answer.peer, rest: this.#friend.url, grpc_port: answer.grpc_port, file: name, id, size }
    }
  }
}

function searchFor(query: LocateQuery): PeerSearchQuery {
  switch (query.kind) {
    case 'name':
      return { file: query.name }
    case 'id':
      return { id: query.id }
    case 'text':
      return { q: query.text }
  }
}
