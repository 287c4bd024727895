import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import { LEAF_SIZE } from '../../common/merkle.ts'
import { type Contents, sharedManifest } from './contents.ts'
import { FrameBuffers } from './frame-buffers.ts'
import { Gathered } from './gathered.ts'
import { Ledgers } from './ledger.ts'
import type { ProviderSink, RateLimit, Served } from './outgoing.ts'
import { Slots } from './slots.ts'
import type { Contact, Want } from './source.ts'
import { Turns } from './turns.ts'
import { Upload } from './upload.ts'
import { Watchdog } from './watchdog.ts'

export interface UploaderDeps {
  clock: Clock
  /** over all conversations together; absent: no limit */
  limit?: RateLimit
}

export interface UploaderOptions {
  /** pieces read and sent at the same time, over all conversations (default 16) */
  slots?: number
  /** bytes of data in a frame at most, a multiple of 16 KiB (default 512 KiB; a slow taker gets smaller ones) */
  frameBytes?: number
  /** a taker that takes nothing for this long while a frame waits is cut off, ms (default 15,000) */
  stallMs?: number
  /** what a taker holds that takes nothing for this long goes to the next in line meanwhile, ms (default 250) */
  patienceMs?: number
}

/** What a taker asks for. */
export interface Demand {
  readonly id: ContentId
  readonly dummy: boolean
  /** where it serves what it has; undefined where it doesn't */
  readonly taker: Contact | undefined
}

/** What is given of one content. */
export interface UploadReport {
  readonly id: ContentId
  /** conversations about it now */
  readonly takers: number
  readonly pieces: number
  /** pieces that have left in full at least once */
  readonly sent_once: number
  /** payload bytes that left, since somebody took it */
  readonly bytes: number
}

/**
 * Takers are told of new pieces after this long, ms: those that wait for them, and those that have others to ask for.
 * With many takers it is longer, since each message to each of them is work at both ends, whatever it carries.
 */
const TELL_SOON_MS = 10
const TELL_LATER_MS = 50
const TELL_MS_A_TAKER = 2

/** The provider's side of conversations, whatever the protocol. One frame of each is under way while the next is read. */
export class Uploader {
  readonly #deps: UploaderDeps
  readonly #slots: Slots
  readonly #turns: Turns
  readonly #stallMs: number
  readonly #patienceMs: number
  readonly #buffers: FrameBuffers
  readonly #soon: Gathered
  readonly #later: Gathered
  readonly #ledgers = new Ledgers()
  /** apart, since a simulated piece is sent to nobody */
  readonly #simulated = new Ledgers()
  #conversations = 0

  constructor(deps: UploaderDeps, options: UploaderOptions = {}) {
    const slots = options.slots ?? 16
    this.#deps = deps
    this.#slots = new Slots(slots)
    this.#turns = new Turns(deps.clock, deps.limit)
    const frameBytes = options.frameBytes ?? 512 * 1024
    if (frameBytes % LEAF_SIZE !== 0) throw new Error('a frame holds whole leaves')
    this.#buffers = new FrameBuffers(frameBytes)
    this.#soon = new Gathered(deps.clock, () => Math.max(TELL_SOON_MS, TELL_MS_A_TAKER * this.#conversations))
    this.#later = new Gathered(deps.clock, () => Math.max(TELL_LATER_MS, TELL_MS_A_TAKER * this.#conversations))
    this.#stallMs = options.stallMs ?? 15_000
    this.#patienceMs = options.patienceMs ?? 250
  }

  /** What is given, and was of late; the latest first. */
  list(): UploadReport[] {
    return this.#ledgers
      .list()
      .map(({ id, ledger: { takers, pieces, sentOnce, bytes } }) => ({
        id,
        takers,
        pieces,
        sent_once: sentOnce,
        bytes,
      }))
      .reverse()
  }

  /** Those that take a content from here now, and serve what they have of it. */
  takers(id: ContentId): Contact[] {
    return this.#ledgers.find(id)?.contacts() ?? []
  }

  /**
   * Serves a content of this peer's own until the wants end.
   * @throws NetworkError `not_found`; `invalid` for a piece that is not there; `conflict` where the file changed: none of
   *   the changed bytes is sent; `unavailable` where the taker stalls
   */
  async serve(
    contents: Contents,
    { id, dummy, taker }: Demand,
    wants: AsyncIterable<Want>,
    sink: ProviderSink,
    signal: AbortSignal,
  ): Promise<void> {
    const manifest = sharedManifest(contents, { id })
    const reader = dummy ? undefined : contents.open(id)
    try {
      await this.serveFrom({ manifest, reader, taker }, wants, sink, signal)
    } finally {
      reader?.close()
    }
  }

  /** The same for content that the caller has open; `reader` undefined simulates. */
  async serveFrom(served: Served, wants: AsyncIterable<Want>, sink: ProviderSink, signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    const stall = new Watchdog(clock, this.#stallMs, () =>
      sink.cut(new NetworkError('unavailable', `the taker took nothing for ${this.#stallMs / 1000} s`)),
    )
    const patience = new Watchdog(clock, this.#patienceMs, () => upload.heldUp())
    const upload = new Upload(
      {
        clock,
        slots: this.#slots,
        turns: this.#turns,
        buffers: this.#buffers,
        ledger: (served.reader ? this.#ledgers : this.#simulated).of(served.manifest),
        sink,
        stall,
        patience,
        soon: this.#soon,
        later: this.#later,
      },
      served,
      signal,
    )
    this.#conversations++
    try {
      await upload.run(wants)
    } finally {
      this.#conversations--
      await Promise.all([stall.stop(), patience.stop()])
    }
  }
}
