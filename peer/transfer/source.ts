import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'

/** A manifest as a provider states it, not yet proven. */
export interface ManifestClaim {
  /** bytes */
  readonly size: number
  /** bytes */
  readonly pieceSize: number
  readonly hashes: Uint8Array
}

/** A provider of contents, as a taker sees it. `rpc/` implements it over gRPC, tests in memory. */
export interface PieceSource {
  /** who this is, for reports */
  readonly peer: PeerId
  /**
   * The provider's manifest, not yet proven.
   * @throws NetworkError `not_found`, `unavailable`, …
   */
  manifest(id: ContentId, signal: AbortSignal): Promise<ManifestClaim>
  /** Opens a conversation about this content. */
  open(manifest: Manifest, dummy: boolean, signal: AbortSignal): PieceStream
}

/** A provider that can be asked by name as well. */
export interface NamedSource extends PieceSource {
  /**
   * The content that the provider has under `name`.
   * @throws NetworkError `not_found`, `unavailable`, …
   */
  resolve(name: FileName, signal: AbortSignal): Promise<{ id: ContentId; size: number }>
}

/** One conversation: requests out, frames in. */
export interface PieceStream {
  /** Asks for pieces first … first+count-1, to come after those asked for before. */
  request(first: number, count: number): void
  /**
   * The frames, in order.
   * @throws NetworkError as the provider refused, or `unavailable` where it vanished
   */
  frames(): AsyncIterable<Frame>
  close(): void
}

export interface Frame {
  readonly piece: number
  /** of `data` within the piece, bytes */
  readonly offset: number
  /** owned by the receiver, who may transfer its memory to another thread; empty in a dummy conversation */
  readonly data: Uint8Array
  /** bytes that a dummy frame stands for; 0 in a real one */
  readonly simulated: number
}
