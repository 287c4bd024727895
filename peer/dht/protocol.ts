import type { ContentId, FileName } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { Member, RingId } from './ring.ts'

/** What members of the ring say to each other: gRPC carries it between agents, the simulator within one process. */

/** What a record is found by: an exact name or a content. */
export type RecordKey = 'name' | 'content'

/** A provider's word, kept for it under a key: that it shares this content under this name. */
export interface RingRecord {
  readonly key: RecordKey
  readonly name: FileName
  readonly content: ContentId
  /** bytes */
  readonly size: number
  readonly provider: PeerContact
  /** ms since the provider said so last */
  readonly ageMs: number
}

/** What a member knows of its own surroundings. */
export interface RingView {
  readonly predecessor: Member | undefined
  /** clockwise, without the member itself */
  readonly successors: readonly Member[]
}

/** One step of a lookup, as the asked member sees it. */
export interface RingStep {
  /** where the asked one knows who follows the key: these members, nearest first; else empty */
  readonly owners: readonly Member[]
  /** members between the asked one and the key, nearest to the key first */
  readonly closer: readonly Member[]
  /** the asked one has lost its successors: who follows it is a guess */
  readonly unsure: boolean
}

export interface RingFound {
  readonly records: readonly RingRecord[]
  /** there are more than one answer holds */
  readonly more: boolean
  readonly predecessor: Member | undefined
}

/**
 * The members of the ring, as one of them reaches them. Each verb throws NetworkError: `unavailable` where `to` does not
 * answer, or is not the peer that was meant.
 */
export interface RingNetwork {
  /** Tells `to` that this member precedes it, and asks for its surroundings (Zave's stabilize, with the notice for rectify). */
  stabilize(to: Member, signal: AbortSignal): Promise<RingView>
  step(to: Member, key: RingId, signal: AbortSignal): Promise<RingStep>
  find(to: Member, key: RecordKey, of: FileName | ContentId, signal: AbortSignal): Promise<RingFound>
  /**
   * Gives records to keep: this member's own, or others' that `to` has to keep from now on; `withdraw` ones of this
   * member's own that are not so any more.
   * @returns how many were kept; fewer than were given where `to` has no room
   */
  store(
    to: Member,
    records: readonly RingRecord[],
    withdraw: readonly RingRecord[],
    signal: AbortSignal,
  ): Promise<number>
  /** Tells `to`, its successor or predecessor, that this member leaves. */
  leave(to: Member, signal: AbortSignal): Promise<void>
}

/**
 * The same from the side of the one that is asked. `from` told its own contact: an address to be tried, not trusted; `seen`
 * is the host that its call came from. What a peer says that it takes back, and that it leaves, comes from its own host.
 */
export interface RingHandlers {
  onStabilize(from: Member, seen: string): Promise<RingView>
  onStep(key: RingId): RingStep
  onFind(key: RecordKey, of: FileName | ContentId): RingFound
  onStore(from: Member, records: readonly RingRecord[], withdraw: readonly RingRecord[], seen: string): number
  onLeave(from: Member): void
}

/** Records in one message. */
export const MAX_RECORDS = 500
/** Members in one answer's list. */
export const MAX_MEMBERS = 64
