import { setMaxListeners } from 'node:events'
import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, PeerId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import { Intake, type ProviderSays } from './intake.ts'
import { FRAME_HEADROOM } from './outgoing.ts'
import type { TokenBucket } from './rate-limit.ts'
import type { ManifestClaim, PieceSink, PieceSource, PieceStream, ProviderEvent, Want } from './source.ts'
import { MemoryContents } from './transfer.fixture.ts'
import { Uploader } from './uploader.ts'

/** A queue that is read by one loop, until it ends. */
class Inbox<T> implements AsyncIterable<T> {
  #items: (T | Error)[] = []
  #ended = false
  #wake = () => {}

  put(item: T | Error): void {
    this.#items.push(item)
    this.#wake()
  }

  end(): void {
    this.#ended = true
    this.#wake()
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<T> {
    while (!this.#ended) {
      const item = this.#items.shift()
      if (item instanceof Error) throw item
      if (item !== undefined) yield item
      else
        await new Promise<void>((resolve) => {
          this.#wake = resolve
        })
    }
  }
}

/** As real sources do: every conversation of a swarm hears of the end of it. */
function listen(signal: AbortSignal, onAbort: () => void): void {
  setMaxListeners(0, signal)
  signal.addEventListener('abort', onAbort, { once: true })
}

/** A provider that says what a test tells it to, and remembers what it was told. */
export class ScriptedSource implements PieceSource {
  readonly peer: PeerId
  readonly address: string
  readonly hint: boolean
  readonly single: boolean
  opened = 0
  readonly wants: Want[] = []
  #inbox = new Inbox<ProviderEvent>()

  constructor(peer: string, options: { address?: string; hint?: boolean; single?: boolean } = {}) {
    this.peer = peer as PeerId
    this.address = options.address ?? `${peer}:50051`
    this.hint = options.hint ?? false
    this.single = options.single ?? false
  }

  async manifest(): Promise<ManifestClaim> {
    throw new NetworkError('not_found', 'knows no manifest')
  }

  says(event: ProviderEvent | Error): void {
    this.#inbox.put(event)
  }

  open(_: PieceSink, signal: AbortSignal): PieceStream {
    this.opened++
    const inbox = new Inbox<ProviderEvent>()
    this.#inbox = inbox
    listen(signal, () => inbox.end())
    return {
      want: (want) => this.wants.push(want),
      events: () => inbox,
      close: async () => inbox.end(),
    }
  }
}

/** An honest provider: the real uploader, joined to the real intake with no network between. */
export class UploadingSource implements PieceSource {
  readonly peer: PeerId
  readonly address: string
  readonly contents = new MemoryContents()
  readonly manifestOfAll: Manifest
  #uploader: Uploader

  constructor(peer: string, bytes: Buffer, clock: Clock, limit?: TokenBucket) {
    this.peer = peer as PeerId
    this.address = `${peer}:50051`
    this.manifestOfAll = this.contents.add('film', bytes)
    this.#uploader = new Uploader({ clock, ...(limit ? { limit } : {}) })
  }

  async manifest(_: ContentId): Promise<ManifestClaim> {
    return this.manifestOfAll
  }

  open(sink: PieceSink, signal: AbortSignal): PieceStream {
    const wants = new Inbox<Want>()
    const says = new Inbox<ProviderSays>()
    const over = new AbortController()
    const close = () => {
      over.abort()
      wants.end()
      says.end()
    }
    listen(signal, close)
    const open = { id: this.manifestOfAll.id, dummy: false, taker: undefined }
    const to = {
      send: async ({
        piece,
        offset,
        buffer,
        length,
      }: {
        piece: number
        offset: number
        buffer: Buffer
        length: number
      }) =>
        says.put({
          kind: 'frame',
          frame: {
            piece,
            offset,
            simulated: 0,
            data: new Uint8Array(buffer.subarray(FRAME_HEADROOM, FRAME_HEADROOM + length)),
          },
        }),
      have: (pieces: readonly number[]) => says.put({ kind: 'have', pieces }),
      takers: () => {},
      abandoned: (piece: number) => says.put({ kind: 'abandoned', piece }),
      cut: close,
    }
    this.#uploader.serve(this.contents, open, wants[Symbol.asyncIterator](), to, over.signal).catch(close)
    return new Intake(sink, { send: (want) => wants.put(want), messages: says[Symbol.asyncIterator](), close })
  }
}
