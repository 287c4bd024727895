import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, type PeerId, parseFileName, printable } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Landing } from './contents.ts'
import type { DownloadResult } from './download.ts'
import type { Downloader } from './downloader.ts'
import type { TransferManager } from './manager.ts'
import { prove } from './prove.ts'
import { Slots } from './slots.ts'
import type { ManifestClaim, PieceSink, PieceSource, PieceStream } from './source.ts'

/** A content that another peer pushes here, as it came in. */
export interface Offer {
  readonly filename: string
  readonly id: ContentId
  readonly claim: ManifestClaim
  readonly dummy: boolean
}

export interface ReceiverDeps {
  landing: Landing
  downloader: Downloader
  /** where a push is shown while it comes in; absent: nowhere */
  transfers?: Pick<TransferManager, 'receiving'>
}

export interface ReceiverOptions {
  /** whether others may push files here (default true) */
  accept?: boolean
  /** nothing is taken: offers get the answer that a simulation would end with (default false) */
  dummy?: boolean
  /** pushes under way at the same time; more are refused (default 8) */
  maxPushes?: number
}

export interface Received {
  readonly outcome: DownloadResult['outcome'] | 'already here'
  readonly name: FileName
  /** that came in this conversation; simulated: that would have */
  readonly bytes: number
}

/** Takes what others push: the same download as any other, from the one provider that opened the conversation. */
export class Receiver {
  #deps: ReceiverDeps
  #accept: boolean
  #dummy: boolean
  #slots: Slots
  #maxPushes: number

  constructor(deps: ReceiverDeps, options: ReceiverOptions = {}) {
    this.#deps = deps
    this.#accept = options.accept ?? true
    this.#dummy = options.dummy ?? false
    this.#maxPushes = options.maxPushes ?? 8
    this.#slots = new Slots(this.#maxPushes)
  }

  /**
   * Before anything of an offer is read.
   * @throws NetworkError `forbidden` where this peer takes no uploads
   */
  accept(): void {
    if (!this.#accept) throw new NetworkError('forbidden', 'this peer takes no uploads')
  }

  /**
   * The name under which an upload may land here, and whether exactly this content is there already.
   * @throws NetworkError `forbidden` where this peer takes no uploads; `invalid` name; `conflict` where the name is taken
   */
  admit(filename: string, id: ContentId): { name: FileName; here: boolean } {
    this.accept()
    const name = parseFileName(filename)
    const existing = this.#deps.landing.existing(name)
    if (existing !== undefined && existing !== id)
      throw new NetworkError('conflict', `"${name}" has other content here: upload it under another name`)
    return { name, here: existing === id }
  }

  /**
   * @throws NetworkError as `admit`; `limited`; `corrupt` where the offer or its bytes are false; as the landing refuses
   */
  async receive(
    offer: Offer,
    from: PeerId,
    open: (sink: PieceSink) => PieceStream,
    signal: AbortSignal,
  ): Promise<Received> {
    const { name, here } = this.admit(offer.filename, offer.id)
    const manifest = await prove(offer.id, offer.claim, signal)
    if (here) return { outcome: 'already here', name, bytes: 0 }
    // The pusher of real bytes can't be told to simulate: it is spared the conversation.
    if (this.#dummy && !offer.dummy) return { outcome: 'simulated', name, bytes: manifest.size }
    const slot = this.#slots.tryAcquire()
    if (!slot)
      throw new NetworkError('limited', `this peer takes ${this.#maxPushes} uploads at a time: try again later`)
    try {
      return await this.#take({ name, manifest, dummy: offer.dummy }, new PushedSource(from, manifest, open), signal)
    } catch (error) {
      const known = asNetworkError(error)
      throw new NetworkError(known.code, `"${printable(name)}" did not arrive: ${known.message}`, {}, error)
    } finally {
      slot.release()
    }
  }

  /** Shown among the transfers from here to its end. */
  async #take(
    { name, manifest, dummy }: { name: FileName; manifest: Manifest; dummy: boolean },
    source: PushedSource,
    signal: AbortSignal,
  ): Promise<Received> {
    const { id, size } = manifest
    const shown = this.#deps.transfers?.receiving({
      file: name,
      id,
      size,
      from: source.peer,
      mode: dummy ? 'dummy' : 'real',
    })
    const download = {
      id,
      names: () => [name],
      sources: [source],
      dummy,
      patient: false,
      ...(shown ? { observer: shown.observer } : {}),
    }
    const ended = shown ? AbortSignal.any([signal, shown.signal]) : signal
    try {
      const { outcome, bytes } = await this.#deps.downloader.run(download, ended)
      shown?.end(outcome)
      return { outcome, name, bytes }
    } catch (error) {
      shown?.end(
        signal.aborted ? new NetworkError('unavailable', `${source.peer} is gone`, {}, error) : asNetworkError(error),
      )
      throw error
    }
  }
}

/** The one who pushes, as a source: its manifest is in the offer, its conversation is open. */
class PushedSource implements PieceSource {
  readonly peer: PeerId
  readonly address: string
  readonly single = true
  readonly open: (sink: PieceSink) => PieceStream
  #manifest: Manifest

  constructor(peer: PeerId, manifest: Manifest, open: (sink: PieceSink) => PieceStream) {
    this.peer = peer
    this.address = `push from ${peer}`
    this.#manifest = manifest
    this.open = open
  }

  manifest(): Promise<ManifestClaim> {
    return Promise.resolve(this.#manifest)
  }
}
