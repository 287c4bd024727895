import type { NetworkError } from '../../common/errors.ts'
import type { ContentId, PeerId } from '../../common/ids.ts'
import { MIN_PIECE_SIZE } from '../../common/merkle.ts'

/** Small contents on their way: whole, many to a message, each proven by its content id alone. */

/** Bytes of the largest small content: one piece. */
export const MAX_SMALL = MIN_PIECE_SIZE
/** Contents in one request. */
export const MAX_ASKED = 1024
/**
 * Bytes of contents in one answer, but for a larger one that comes alone: an answer is of use when it is here whole, and
 * over a slow line that is the only sign of life.
 */
export const ANSWER_BYTES = 64 * 1024

/** How long so many bytes may take, ms: for less than 2 kB a second nobody waits. */
export function allowanceMs(bytes: number): number {
  return bytes / 2
}

/**
 * What a provider answers for one content. A provider that simulates sends no data for it, though it is not the empty
 * content, and no fault either.
 */
export type SmallContent =
  | { readonly id: ContentId; readonly data: Buffer; readonly fault?: undefined }
  | { readonly id: ContentId; readonly fault: NetworkError }

/** A provider of small contents, as a taker sees it. `rpc/` implements it over gRPC, tests in memory. */
export interface SmallSource {
  /** who this is, for reports */
  readonly peer: PeerId
  open(signal: AbortSignal): SmallStream
}

export interface SmallStream {
  /** At most MAX_ASKED contents. */
  request(ids: readonly ContentId[]): void
  /**
   * What was asked for, in that order, some at a time.
   * @throws NetworkError as the provider refused or failed
   */
  answers(): AsyncIterable<readonly SmallContent[]>
  /** Ends the conversation at once. */
  close(): void
}
