import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { LocateQuery } from '../locate/strategy.ts'

/** What neighbours of the unstructured network say to each other: gRPC carries it between agents, the simulator within one process. */

export interface FloodQuery {
  /** 16 random bytes, hex: by it each peer knows a query that it has seen */
  readonly id: string
  readonly what: LocateQuery
  /** how many more times it may be passed on; 0: answer for yourself only */
  readonly ttl: number
  /** over how many links it came here; the asking peer itself is at 0 */
  readonly hops: number
  /** ms that its answer may take */
  readonly timeMs: number
  /** over which links it goes: all, or those that have proved to be no detour */
  readonly scope: 'all' | 'tree'
}

/** A provider's own answer. Its host is the one at which the neighbour that asked it did so, never one that it names. */
export interface FloodHit {
  readonly provider: PeerContact
  readonly name: FileName
  readonly content: ContentId
  /** bytes */
  readonly size: number
  /** links between the asking peer and the provider */
  readonly hops: number
}

export type FloodAnswer =
  | { readonly kind: 'hits'; readonly hits: readonly FloodHit[] }
  /** it had seen the query before, and does nothing about it */
  | { readonly kind: 'seen' }
  /** the last one: how many peers looked, and how many messages the query took behind it, as far as it was told */
  | { readonly kind: 'done'; readonly peers: number; readonly messages: number }

export interface FloodNetwork {
  /**
   * Passes a query to a neighbour. To leave the loop, or to abort, takes the query back there, and behind it.
   * @throws NetworkError `unavailable`; `limited` where the neighbour has had too many
   */
  query(to: PeerContact, query: FloodQuery, signal: AbortSignal): AsyncIterable<FloodAnswer>
}

/** Who passed a query on. A caller's port is not the one that it serves at, so it says who it is: a word to know a link by. */
export interface FloodSender {
  /** the IP address that its connection comes from */
  readonly host: string
  /** as it says; undefined where it says nothing */
  readonly peer: PeerId | undefined
}

/** The side of the one that is asked. */
export interface FloodHandlers {
  onQuery(from: FloodSender, query: FloodQuery, signal: AbortSignal): AsyncIterable<FloodAnswer>
}

/** Hits in one message, and in a whole answer. */
export const MAX_HITS_MESSAGE = 100
export const MAX_HITS = 1000
