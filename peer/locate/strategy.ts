import type { ContentId, FileName } from '../../common/ids.ts'
import type { LocatedProvider, LookupStep, StrategyName } from '../../common/schemas.ts'
import { type PeerContact, restOf } from '../contact.ts'

/** What is looked for: an exact name, a content, or part of a name. */
export type LocateQuery =
  | { readonly kind: 'name'; readonly name: FileName }
  | { readonly kind: 'id'; readonly id: ContentId }
  | { readonly kind: 'text'; readonly text: string }

export type Provider = Omit<LocatedProvider, 'via'>

/** How a strategy looked: it fills this in on the way, so that also one that fails has its explanation. */
export interface Trace {
  /** sent for it, as far as known: questions, and what they led to */
  messages: number
  /** chord: members that answered one after the other; flood: links to the nearest provider */
  hops: number | null
  /** the peers visited, in order */
  path: LookupStep['path']
  /** how long ago the providers of the records that were used said so, at most, ms */
  ageMs: number | null
  /** providers that said so, that long ago, and do not answer now */
  silent: LookupStep['silent']
  /** what else is worth telling */
  detail: string | null
}

/** Peers told of in one path. */
export const MAX_PATH = 100

export function newTrace(): Trace {
  return { messages: 0, hops: null, path: [], ageMs: null, silent: [], detail: null }
}

/** Adds a peer to the path; those beyond the most that are told are left out. */
export function visit(trace: Trace, contact: PeerContact, answered: boolean): void {
  if (trace.path.length < MAX_PATH) trace.path.push({ peer: contact.peer, rest: restOf(contact), answered })
}

export interface LocateStrategy {
  readonly name: StrategyName
  /** whom it asks, for the explanation: a URL, `this peer`, `the ring` */
  readonly asked: string
  /** bound on one lookup, ms, where it is another than that of a single question */
  readonly timeoutMs?: number
  /** what it can be asked for (default: anything) */
  readonly kinds?: readonly LocateQuery['kind'][]
  /**
   * A cheap question that shows that the one asked answers again. Where there is none, it is not left out after it did
   * not answer.
   */
  probe?(signal: AbortSignal): Promise<void>
  /**
   * Yields providers as they are found.
   * @throws NetworkError only where the strategy itself is unusable (`unavailable`, `limited`, …)
   */
  locate(query: LocateQuery, trace: Trace, signal: AbortSignal): AsyncIterable<Provider>
}
