import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Runs } from './runs.ts'

/** A manifest as a provider states it, not yet proven. */
export interface ManifestClaim {
  /** bytes */
  readonly size: number
  /** bytes */
  readonly pieceSize: number
  readonly hashes: Uint8Array
}

/** Where a peer serves contents. */
export interface Contact {
  readonly peer: PeerId
  /** an IP address or a host name */
  readonly host: string
  readonly grpcPort: number
}

/** A provider of contents, as a taker sees it. `rpc/` implements it over gRPC, tests in memory. */
export interface PieceSource {
  /** who this is, for reports */
  readonly peer: PeerId
  /** `host:port`: two sources of one address are one provider, whatever they call themselves */
  readonly address: string
  /** only another peer named it: worth a try, behind those that were located */
  readonly hint?: boolean
  /** cannot be opened twice at a time */
  readonly single?: boolean
  /**
   * The provider's manifest, not yet proven.
   * @throws NetworkError `not_found`, `unavailable`, …
   */
  manifest(id: ContentId, signal: AbortSignal): Promise<ManifestClaim>
  /** Opens a conversation about the content of this sink. */
  open(into: PieceSink, signal: AbortSignal): PieceStream
}

/** A provider that can be asked by name as well. */
export interface NamedSource extends PieceSource {
  /**
   * The content that the provider has under `name`.
   * @throws NetworkError `not_found`, `unavailable`, …
   */
  resolve(name: FileName, signal: AbortSignal): Promise<{ id: ContentId; size: number }>
}

/** Where the pieces of a conversation go: verified first, then written, and both off the main thread. */
export interface PieceSink {
  readonly manifest: Manifest
  /** frames carry no bytes, and nothing is written */
  readonly dummy: boolean
  /** open for writing, for a source that writes by itself; it may be closed once the stream's `close` is over */
  readonly fd: number
  /**
   * For a source that doesn't: verifies a piece, and writes it where it is right. The memory of `parts` is given away.
   * @returns whether it was right
   * @throws NetworkError where this peer's disk refuses
   */
  commit(index: number, parts: Uint8Array[]): Promise<boolean>
  /** Where this taker serves what it has; the provider tells others. */
  readonly taker: Omit<Contact, 'host'> | undefined
}

/** What a taker tells a provider: a change of the pieces it would take from it, and how many may be begun. */
export interface Want {
  readonly add?: Runs
  /** a piece that the provider has begun is given up in the middle, where it hears of it in time */
  readonly remove?: Runs
  /** pieces that may be begun, besides those granted before */
  readonly credit?: number
  /** bytes a second at most over this conversation, from now on; 0: no limit */
  readonly rate?: number
}

/** What comes from a provider, in order. Every piece is begun once, then whole or abandoned. */
export type ProviderEvent =
  /** it has these pieces, besides those it told of before; checked to be within the manifest */
  | { readonly kind: 'have'; readonly pieces: Runs }
  /** hints from a stranger: others that take this content too */
  | { readonly kind: 'takers'; readonly contacts: readonly Contact[] }
  | { readonly kind: 'begun'; readonly piece: number }
  /** so many bytes of the piece under way came (dummy: are stood for) */
  | { readonly kind: 'bytes'; readonly bytes: number }
  /** the piece came whole; `right`: it is verified and written */
  | { readonly kind: 'piece'; readonly piece: number; readonly right: boolean }
  /** the provider gave the piece up, which was taken back from it */
  | { readonly kind: 'abandoned'; readonly piece: number }

/** One conversation with one provider. */
export interface PieceStream {
  want(change: Want): void
  /**
   * What comes, read no faster than it is used.
   * @throws NetworkError `corrupt` where the provider breaks the protocol: sends a piece that is not wanted, or without
   *   credit, or frames that don't fit; as it refused; `unavailable` where it vanished; LocalFailure where this peer's
   *   disk refuses; Simulates where it sends dummy frames in a real conversation
   */
  events(): AsyncIterable<ProviderEvent>
  /** Ends the conversation; afterwards nothing is written to the sink any more. */
  close(): Promise<void>
}

/** This peer's own failure (its disk): no reason to drop the provider, nor to go on. The cause tells. */
export class LocalFailure extends Error {}

/** The provider simulates where real bytes were asked for. */
export class Simulates extends Error {}

/** A part of a piece, as it comes in. */
export interface Frame {
  readonly piece: number
  /** of `data` within the piece, bytes */
  readonly offset: number
  /** owned by the receiver, who may transfer its memory to another thread; empty in a dummy conversation */
  readonly data: Uint8Array
  /** bytes that a dummy frame stands for; 0 in a real one */
  readonly simulated: number
}
