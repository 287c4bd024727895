import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { PieceSource } from './source.ts'

/** One content to be fetched, from whoever has it. */
export interface Download {
  readonly id: ContentId
  /** Under which names it is published; asked when it is whole. The first is the one that people see. */
  names(): readonly FileName[]
  /** the whole conversation with no bytes; nothing is opened or written here */
  readonly dummy: boolean
  /** known at the start, in the order in which they are tried */
  readonly sources: readonly PieceSource[]
  /**
   * Who has it besides: asked soon after the start, then now and then, and more often where no provider is left.
   * A failure to find out is not a failure of the download.
   */
  discover?(signal: AbortSignal): Promise<readonly PieceSource[]>
  /** where all providers are gone: wait until one is back, rather than fail */
  readonly patient: boolean
  /** bytes a second that it may fetch; asked again and again; undefined: no limit */
  rate?(): number | undefined
  readonly observer?: DownloadObserver
}

/** How it stands with one provider. */
export interface ProviderReport {
  readonly peer: PeerId
  readonly address: string
  /** `dropped`: not asked any more, or not before some time has passed; `reason` tells people why */
  readonly state: 'connected' | 'dropped' | 'banned'
  readonly reason: string | undefined
  /** pieces that it has, as far as it told */
  readonly pieces: number
  /** bytes a second of late */
  readonly rate: number
}

/** What happens on the way. Called synchronously, often: to be quick, and not to throw. */
export interface DownloadObserver {
  /** The manifest is proven, and so many bytes are there already, verified. */
  onManifest?(manifest: Manifest, resumedBytes: number): void
  /** Payload bytes came over the network, of use or not; never in a dummy conversation. */
  onReceived?(bytes: number): void
  /** A piece from this peer is verified and on disk; in a dummy conversation, would be. */
  onVerified?(peer: PeerId, bytes: number, piece: number): void
  /** Providers came, went, or told what they have. */
  onProviders?(providers: readonly ProviderReport[]): void
  /** No provider is there: it waits for one, and asks again after so many ms. `onResumed` when one is back. */
  onWaiting?(retryMs: number): void
  onResumed?(): void
  /** All pieces are there; the file is being made durable. */
  onWhole?(): void
  /** What went wrong without ending the download, in words for people. */
  onNote?(note: string): void
}

export interface DownloadResult {
  /** `simulated`: asked for by `dummy`, or all that the providers offered; nothing was published */
  readonly outcome: 'done' | 'simulated'
  readonly manifest: Manifest
  /** that came in this attempt and were kept; simulated: that would have */
  readonly bytes: number
}
