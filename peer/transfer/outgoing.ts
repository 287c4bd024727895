import type { NetworkError } from '../../common/errors.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { ContentReader } from './contents.ts'
import type { Runs } from './runs.ts'
import type { Contact } from './source.ts'

/** What a provider's conversation is made of, whatever the protocol. */

/** Bytes left free in front of a frame's data, where a protocol may put its header without copying the data. */
export const FRAME_HEADROOM = 64

export interface OutgoingFrame {
  readonly piece: number
  /** of the data within the piece, bytes */
  readonly offset: number
  /** FRAME_HEADROOM bytes to be overwritten, then the data */
  readonly buffer: Buffer
  /** bytes of data; 0 in a dummy conversation */
  readonly length: number
  /** bytes that a dummy frame stands for; 0 in a real one */
  readonly simulated: number
}

/** Where what a provider says in one conversation goes. */
export interface ProviderSink {
  /**
   * Resolves once the frame has left, and its buffer may be used again.
   * @throws NetworkError where the taker is gone
   */
  send(frame: OutgoingFrame): Promise<void>
  /** These leave behind the frames that were sent before. */
  have(pieces: Runs): void
  takers(contacts: readonly Contact[]): void
  abandoned(piece: number): void
  /** Ends the conversation at once, unsent frames and all: what `send` still owes fails. */
  cut(reason: NetworkError): void
}

/** A bound on bytes a second, over all that ask it. */
export interface RateLimit {
  /** Resolves when so many bytes may leave; undefined where they may at once. */
  take(bytes: number, signal: AbortSignal): Promise<void> | undefined
}

/** What a conversation is about: no reader in a dummy one. */
export interface Served {
  readonly manifest: Manifest
  readonly reader: Pick<ContentReader, 'read' | 'holdings'> | undefined
  /** where the taker serves what it has */
  readonly taker?: Contact | undefined
  /** Called with the bytes of each frame that has left. */
  onSent?(bytes: number): void
}
