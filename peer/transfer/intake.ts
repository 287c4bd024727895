import { NetworkError } from '../../common/errors.ts'
import { pieceCount } from '../../common/merkle.ts'
import { PieceAssembler, type WholePiece } from './piece-assembler.ts'
import { areRuns, type Runs } from './runs.ts'
import {
  type Contact,
  type Frame,
  LocalFailure,
  type PieceSink,
  type PieceStream,
  type ProviderEvent,
  Simulates,
  type Want,
} from './source.ts'

/** What a provider says, taken apart but not checked. */
export type ProviderSays =
  | { readonly kind: 'frame'; readonly frame: Frame }
  | { readonly kind: 'have'; readonly pieces: Runs }
  | { readonly kind: 'takers'; readonly contacts: readonly Contact[] }
  | { readonly kind: 'abandoned'; readonly piece: number }

/** Both directions of a conversation, whatever carries it. */
export interface Wire {
  send(change: Want): void
  /** @throws NetworkError as the provider refused, or `unavailable` where it vanished */
  readonly messages: AsyncIterable<ProviderSays>
  /** Ends the conversation; `messages` then ends or throws. */
  close(): void
}

/** A conversation on this thread: messages in, pieces to the sink's `commit`, several at a time; what comes of it, out. */
export class Intake implements PieceStream {
  readonly #sink: PieceSink
  readonly #wire: Wire
  readonly #assembler: PieceAssembler
  readonly #events: ProviderEvent[] = []
  readonly #commits = new Set<Promise<void>>()
  #wake: (() => void) | undefined
  #closed = false
  #end: { error: Error } | undefined

  constructor(sink: PieceSink, wire: Wire) {
    this.#sink = sink
    this.#wire = wire
    this.#assembler = new PieceAssembler(sink.manifest, sink.dummy)
  }

  want(change: Want): void {
    this.#assembler.want(change)
    this.#wire.send(change)
  }

  async *events(): AsyncGenerator<ProviderEvent> {
    const reading = this.#read()
    try {
      for (;;) {
        const event = this.#events.shift()
        if (event) yield event
        else if (this.#end && this.#commits.size === 0) throw this.#end.error
        else if (this.#closed) return
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve
          })
      }
    } finally {
      this.#wire.close()
      // Where nobody asks any more, it is of no interest how it ended; a wire that stalls may never do.
      reading.catch(() => {})
    }
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#wire.close()
    this.#wake?.()
    await Promise.all(this.#commits)
  }

  async #read(): Promise<void> {
    try {
      for await (const message of this.#wire.messages) {
        if (this.#closed) return
        this.#take(message)
      }
      throw new NetworkError('unavailable', 'ended the conversation early')
    } catch (error) {
      this.#fail(error as Error)
    }
  }

  #take(message: ProviderSays): void {
    const { manifest, dummy } = this.#sink
    if (message.kind === 'frame') {
      const { frame } = message
      if (!dummy && frame.simulated > 0 && frame.data.length === 0) throw new Simulates()
      const { begun, whole } = this.#assembler.add(frame)
      if (begun) this.#tell({ kind: 'begun', piece: frame.piece })
      this.#tell({ kind: 'bytes', bytes: dummy ? frame.simulated : frame.data.length })
      if (whole) this.#commit(whole)
    } else if (message.kind === 'have') {
      if (!areRuns(message.pieces, pieceCount(manifest.size, manifest.pieceSize)))
        throw new NetworkError('corrupt', 'told of pieces that do not exist')
      this.#tell(message)
    } else {
      if (message.kind === 'abandoned') this.#assembler.abandon(message.piece)
      this.#tell(message)
    }
  }

  #commit({ index, parts }: WholePiece): void {
    const commit = this.#sink
      .commit(index, parts)
      .then(
        (right) => this.#tell({ kind: 'piece', piece: index, right }),
        (error) => this.#fail(new LocalFailure('this peer could not keep a piece', { cause: error })),
      )
      .finally(() => {
        this.#commits.delete(commit)
        this.#wake?.()
      })
    this.#commits.add(commit)
  }

  #tell(event: ProviderEvent): void {
    this.#events.push(event)
    this.#wake?.()
  }

  /** The first failure counts, but one of this peer's own more than any. */
  #fail(error: Error): void {
    if (!this.#end || (error instanceof LocalFailure && !(this.#end.error instanceof LocalFailure)))
      this.#end = { error }
    this.#wire.close()
    this.#wake?.()
  }
}
