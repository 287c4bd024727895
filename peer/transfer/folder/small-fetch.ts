import { setMaxListeners } from 'node:events'
import type { Clock } from '../../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../../common/errors.ts'
import type { PeerId } from '../../../common/ids.ts'
import { EMPTY_ID, manifestOf } from '../../../common/merkle.ts'
import type { SmallSource } from '../small-source.ts'
import type { BatchWriter, SmallFiles } from './batch-writer.ts'
import type { FolderProvider } from './listing.ts'
import type { Wanted } from './plan.ts'
import { Simulating, SmallConversation, type SmallConversationOptions } from './small-conversation.ts'
import { WorkQueue } from './work-queue.ts'

export interface SmallFetchDeps {
  clock: Clock
  source: (provider: FolderProvider) => SmallSource
  writer: Pick<BatchWriter, 'put'>
  paced: () => boolean
  pace: (bytes: number, signal: AbortSignal) => Promise<void> | undefined
  /** `bytes` of the folder: those of a content count once for each of its names. */
  onVerified: (peer: PeerId, bytes: number) => void
  onReceived: (bytes: number) => void
  onNote: (note: string) => void
  /** Nobody can give it. */
  onFailed: (content: Wanted, fault: NetworkError) => void
}

export interface SmallFetchOptions extends SmallConversationOptions {
  /** providers asked at the same time (default 8) */
  maxProviders?: number
  /** a provider that has too many takers is asked again after this long, ms (default 1,000) … */
  restMs?: number
  /** … and so many times in a row (default 60) */
  maxRests?: number
}

/** A disk that takes no more is no provider's fault. */
class DiskFailure extends Error {}

/** Fetches small contents from all who have them; what one provider does not give, another is asked for. */
export class SmallFetch {
  readonly #deps: SmallFetchDeps
  readonly #options: Required<Omit<SmallFetchOptions, 'stallMs'>> & SmallConversationOptions
  readonly #queue: WorkQueue
  readonly #empty: readonly Wanted[]
  /** why providers were dropped */
  readonly #faults = new Map<FolderProvider, NetworkError>()
  readonly #simulating = new Set<FolderProvider>()
  /** conversations under way */
  #conversations = 0

  constructor(deps: SmallFetchDeps, contents: readonly Wanted[], options: SmallFetchOptions) {
    this.#deps = deps
    this.#options = { maxProviders: 8, restMs: 1000, maxRests: 60, ...options }
    this.#queue = new WorkQueue(contents.filter(({ id }) => id !== EMPTY_ID))
    this.#empty = contents.filter(({ id }) => id === EMPTY_ID)
  }

  /** Whether anybody is asked at present. Not so where all who could be are at rest. */
  get asking(): boolean {
    return this.#conversations > 0
  }

  /**
   * @returns contents that only providers have which simulate
   * @throws NetworkError `cancelled`; where the disk takes no more
   */
  async run(signal: AbortSignal): Promise<readonly Wanted[]> {
    try {
      // Empty contents need no provider.
      for (const { names } of this.#empty)
        await this.#land({ names, manifest: manifestOf(NOTHING), data: NOTHING }, signal)
      for (let pending = this.#pending(); pending.length > 0; pending = this.#pending())
        await this.#round(pending, signal)
    } catch (error) {
      if (signal.aborted) throw new NetworkError('cancelled', 'cancelled', {}, error)
      throw error instanceof DiskFailure ? error.cause : error
    }
    const simulated: Wanted[] = []
    for (const content of this.#queue.left()) {
      if (content.providers.some((provider) => this.#simulating.has(provider))) simulated.push(content)
      else {
        const fault = content.providers
          .map((provider) => this.#faults.get(provider))
          .find((known) => known !== undefined)
        this.#deps.onFailed(content, fault ?? new NetworkError('unavailable', 'no provider is left'))
      }
    }
    return simulated
  }

  /** Providers that have something which nobody was asked for, in random order: takers of one folder spread. */
  #pending(): FolderProvider[] {
    const pending = this.#queue.providers.filter((provider) => this.#queue.has(provider))
    for (let i = pending.length - 1; i > 0; i--) {
      const j = Math.floor(Math.random() * (i + 1))
      ;[pending[i], pending[j]] = [pending[j]!, pending[i]!]
    }
    return pending
  }

  /** Every provider is asked until it has nothing more, or is dropped. */
  async #round(providers: readonly FolderProvider[], outer: AbortSignal): Promise<void> {
    const over = new AbortController()
    // Each conversation listens, and each that waits for its rate.
    setMaxListeners(0, over.signal)
    const abort = () => over.abort()
    outer.addEventListener('abort', abort, { once: true })
    if (outer.aborted) abort()
    const queue = providers.values()
    let failure: { error: unknown } | undefined
    const worker = async () => {
      for (const provider of queue) {
        if (over.signal.aborted) return
        try {
          await this.#ask(provider, over.signal)
        } catch (error) {
          failure ??= { error }
          abort()
        }
      }
    }
    try {
      await Promise.all(Array.from({ length: this.#options.maxProviders }, worker))
    } finally {
      outer.removeEventListener('abort', abort)
    }
    if (failure) throw failure.error
    if (outer.aborted) throw new NetworkError('cancelled', 'cancelled')
  }

  async #ask(provider: FolderProvider, signal: AbortSignal): Promise<void> {
    const { clock, source, onReceived, onNote } = this.#deps
    for (let rests = 0; this.#queue.has(provider); rests++) {
      try {
        const conversation = new SmallConversation(
          {
            clock,
            queue: this.#queue,
            paced: this.#deps.paced,
            pace: this.#deps.pace,
            onReceived,
            onVerified: (content, manifest, data) => {
              rests = 0
              this.#deps.onVerified(provider.peer, content.names.length * data.length)
              return this.#land({ names: content.names, manifest, data }, signal)
            },
            onRefused: (content, fault) => {
              if (!this.#queue.refused(content, provider)) this.#deps.onFailed(content, fault)
            },
          },
          { provider, source: source(provider) },
          this.#options,
          signal,
        )
        this.#conversations++
        try {
          await conversation.run()
        } finally {
          this.#conversations--
        }
      } catch (error) {
        if (signal.aborted || error instanceof DiskFailure) throw error
        if (error instanceof Simulating) {
          this.#simulating.add(provider)
          this.#queue.drop(provider)
          return onNote(`${provider.peer} is in dummy mode and only simulates`)
        }
        const fault = asNetworkError(error)
        if (fault.code === 'limited' && rests < this.#options.maxRests) {
          await clock.sleep(this.#options.restMs * (0.5 + Math.random()), signal)
          continue
        }
        this.#faults.set(provider, fault)
        this.#queue.drop(provider)
        return onNote(`dropped ${fault.message.includes(provider.peer) ? '' : `${provider.peer}: `}${fault.message}`)
      }
    }
  }

  #land(content: SmallFiles, signal: AbortSignal): Promise<void> | undefined {
    return this.#deps.writer.put(content, signal)?.catch((cause: unknown) => {
      throw new DiskFailure('the disk takes no more', { cause })
    })
  }
}

const NOTHING = Buffer.alloc(0)
