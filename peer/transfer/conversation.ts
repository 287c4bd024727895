import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import { pieceLength } from '../../common/merkle.ts'
import { PieceAssembler, type WholePiece } from './piece-assembler.ts'
import type { Frame, PieceSource, PieceStream } from './source.ts'
import type { SwarmState } from './swarm-state.ts'
import { Watchdog } from './watchdog.ts'

export interface ConversationOptions {
  /** bytes asked for from one provider and not come yet; two pieces at least (default 12 MiB) */
  pipelineBytes?: number
  /** bytes that came and are being verified and written; two pieces at least (default 8 MiB) */
  commitBytes?: number
  /** a provider that sends nothing for this long is dropped, ms (default 15,000) */
  stallMs?: number
}

export interface ConversationDeps {
  state: SwarmState
  clock: Clock
  /** Verifies and keeps a piece: false where its bytes are wrong, an error where this peer's own disk fails. */
  commit(piece: WholePiece): Promise<boolean>
  onVerified(peer: PeerId, bytes: number): void
}

/** This peer's own failure (its disk): no reason to drop the provider, nor to go on. */
export class LocalFailure extends Error {}

/** The provider simulates where real bytes were asked for. */
export class Simulates extends Error {}

/**
 * One conversation with one provider, over a swarm state that others may share: asks for what is missing as long as
 * there is some, in a bounded pipeline, and commits what comes, with bounded memory.
 */
export class Conversation {
  #deps: ConversationDeps
  #source: PieceSource
  #stream: PieceStream
  #assembler: PieceAssembler
  #dummy: boolean
  #signal: AbortSignal
  #limits: Required<ConversationOptions>
  #committing = 0
  #commits = new Set<Promise<void>>()
  #wake: (() => void) | undefined
  #interrupt: (() => void) | undefined
  #fault: Error | undefined

  constructor(
    deps: ConversationDeps,
    source: PieceSource,
    dummy: boolean,
    options: ConversationOptions,
    signal: AbortSignal,
  ) {
    const { manifest } = deps.state
    this.#deps = deps
    this.#source = source
    this.#dummy = dummy
    this.#signal = signal
    this.#limits = { pipelineBytes: 12 * 1024 * 1024, commitBytes: 8 * 1024 * 1024, stallMs: 15_000, ...options }
    this.#assembler = new PieceAssembler(manifest, dummy)
    this.#stream = source.open(manifest, dummy, signal)
  }

  /**
   * Runs until nothing is left to ask this provider for. What it was asked for and did not deliver is missing again.
   * @throws NetworkError the provider's fault: `corrupt` where it lied, `unavailable` where it vanished or stalled, or
   *   its own refusal; Simulates; LocalFailure
   */
  async run(): Promise<void> {
    const { state, clock } = this.#deps
    const { peer } = this.#source
    const stall = new Watchdog(clock, this.#limits.stallMs, () =>
      this.#fail(
        new NetworkError('unavailable', `sent nothing for ${this.#limits.stallMs / 1000} s`, { reason: 'timeout' }),
      ),
    )
    const abort = () => this.#fail(new NetworkError('cancelled', 'cancelled'))
    this.#signal.addEventListener('abort', abort, { once: true })
    try {
      if (this.#signal.aborted) abort()
      else this.#ask()
      if (this.#assembler.outstanding > 0) await this.#receive(stall)
    } catch (error) {
      this.#fault ??= error as Error
    } finally {
      this.#signal.removeEventListener('abort', abort)
      await stall.stop()
      this.#stream.close()
      await Promise.all(this.#commits)
      state.dropPeer(peer)
    }
    if (this.#fault) throw this.#fault
  }

  async #receive(stall: Watchdog): Promise<void> {
    const frames = this.#stream.frames()[Symbol.asyncIterator]()
    try {
      await this.#take(frames, stall)
    } finally {
      // Not awaited: a stream that stalls may never return.
      frames.return?.().catch(() => {})
    }
  }

  async #take(frames: AsyncIterator<Frame>, stall: Watchdog): Promise<void> {
    stall.begin()
    for (let next = await this.#next(frames); !next.done; next = await this.#next(frames)) {
      if (this.#fault) return
      const frame = next.value
      if (!this.#dummy && frame.simulated > 0 && frame.data.length === 0) throw new Simulates()
      const piece = this.#assembler.add(frame)
      if (piece) {
        stall.end()
        await this.#room(piece.length)
        if (this.#fault) return
        this.#start(piece)
        this.#ask()
        if (this.#assembler.outstanding === 0) return
      }
      stall.begin()
    }
    this.#fault ??= new NetworkError('unavailable', 'ended the conversation early')
  }

  /** The next frame, or the end where a fault comes first. */
  #next(frames: AsyncIterator<Frame>): Promise<IteratorResult<Frame>> {
    return new Promise((resolve, reject) => {
      this.#interrupt = () => resolve({ done: true, value: undefined })
      frames.next().then(resolve, reject)
    })
  }

  /** Asks for more, as far as the pipeline holds. */
  #ask(): void {
    const { state } = this.#deps
    const { pieceSize } = state.manifest
    const limit = Math.max(this.#limits.pipelineBytes, 2 * pieceSize)
    let first = -1
    let count = 0
    while (this.#assembler.outstanding + pieceSize <= limit) {
      const index = state.reserve(this.#source.peer)
      if (index === undefined) break
      this.#assembler.expect(index)
      if (count > 0 && index !== first + count) {
        this.#stream.request(first, count)
        count = 0
      }
      if (count === 0) first = index
      count++
    }
    if (count > 0) this.#stream.request(first, count)
  }

  /** Waits until a piece of `length` bytes may be committed besides those that are. */
  async #room(length: number): Promise<void> {
    const limit = Math.max(this.#limits.commitBytes, 2 * this.#deps.state.manifest.pieceSize)
    while (this.#committing > 0 && this.#committing + length > limit)
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
  }

  #start(piece: WholePiece): void {
    this.#committing += piece.length
    const commit = this.#commit(piece).finally(() => {
      this.#committing -= piece.length
      this.#commits.delete(commit)
      this.#wake?.()
    })
    this.#commits.add(commit)
  }

  async #commit(piece: WholePiece): Promise<void> {
    const { state, commit, onVerified } = this.#deps
    const { peer } = this.#source
    try {
      if (await commit(piece)) {
        state.verified(peer, piece.index)
        onVerified(peer, pieceLength(state.manifest, piece.index))
      } else {
        state.failed(peer, piece.index)
        this.#fail(new NetworkError('corrupt', `sent wrong bytes in piece ${piece.index}`))
      }
    } catch (error) {
      this.#fail(new LocalFailure('this peer could not keep a piece', { cause: error }))
    }
  }

  /** The first fault counts, but a failure of this peer's own more than any. */
  #fail(fault: Error): void {
    if (!this.#fault || (fault instanceof LocalFailure && !(this.#fault instanceof LocalFailure))) this.#fault = fault
    this.#stream.close()
    this.#wake?.()
    this.#interrupt?.()
  }
}
