import type { Clock } from '../../../common/clock.ts'
import { NetworkError } from '../../../common/errors.ts'
import { shortId } from '../../../common/ids.ts'
import { EMPTY_ID, type Manifest, manifestOf } from '../../../common/merkle.ts'
import {
  ANSWER_BYTES,
  allowanceMs,
  MAX_ASKED,
  type SmallContent,
  type SmallSource,
  type SmallStream,
} from '../small-source.ts'
import { Watchdog } from '../watchdog.ts'
import type { FolderProvider } from './listing.ts'
import type { Wanted } from './plan.ts'
import type { WorkQueue } from './work-queue.ts'

export interface SmallConversationDeps {
  readonly clock: Clock
  readonly queue: WorkQueue
  /** Whether the rate is limited: then no request runs ahead of the answers. */
  paced(): boolean
  /** Resolves when so many bytes more may be asked for. */
  pace(bytes: number, signal: AbortSignal): Promise<void> | undefined
  /** These bytes are the content's. Where it has to wait for something, nothing more is read meanwhile. */
  onVerified(content: Wanted, manifest: Manifest, data: Buffer): Promise<void> | undefined
  /** This provider can't give it. */
  onRefused(content: Wanted, fault: NetworkError): void
  /** payload bytes that came, of use or not */
  onReceived(bytes: number): void
}

export interface SmallConversationOptions {
  /** what is due next is here by then, and the time that its bytes take over a slow line, ms (default 15,000) */
  stallMs?: number
}

/** The provider simulates: none of its answers has bytes. */
export class Simulating extends Error {}

/** Bytes asked for and not answered: what comes in half a second, within these bounds. */
const [LEAST_OUTSTANDING, MOST_OUTSTANDING] = [1024 * 1024, 8 * 1024 * 1024]
const OUTSTANDING_MS = 500
/** A request is a quarter of that, up to this. */
const MAX_REQUEST = 1024 * 1024
/** Contents asked for and not answered, however small. */
const MAX_OUTSTANDING = 4 * MAX_ASKED

interface Request {
  /** of it, what is not answered */
  contents: number
  bytes: number
  /** when all of it is to be here; undefined until it is the oldest */
  due: number | undefined
}

/**
 * One conversation with one provider, until there is nothing left that it has: requests run ahead of the answers, and
 * every content is verified as it comes.
 */
export class SmallConversation {
  readonly #deps: SmallConversationDeps
  readonly #provider: FolderProvider
  readonly #stream: SmallStream
  readonly #signal: AbortSignal
  readonly #stall: Watchdog
  readonly #stallMs: number
  readonly #started: number
  #cut: NetworkError | undefined
  /** asked for and not answered, from `#answered` on, in order */
  #asked: Wanted[] = []
  #answered = 0
  /** that are not answered, the oldest first */
  #requests: Request[] = []
  #outstanding = 0
  #received = 0

  constructor(
    deps: SmallConversationDeps,
    { provider, source }: { provider: FolderProvider; source: SmallSource },
    options: SmallConversationOptions,
    signal: AbortSignal,
  ) {
    this.#deps = deps
    this.#provider = provider
    this.#signal = signal
    this.#started = deps.clock.now()
    this.#stream = source.open(signal)
    this.#stallMs = options.stallMs ?? 15_000
    this.#stall = new Watchdog(deps.clock, this.#stallMs, () => {
      this.#cut = new NetworkError('unavailable', `${provider.peer} is too slow: less than 2 kB a second`)
      this.#stream.close()
    })
  }

  /**
   * What was asked for and not answered goes back to the queue, however it ends.
   * @throws NetworkError why this provider is asked no more; Simulating; what `onVerified` throws
   */
  async run(): Promise<void> {
    try {
      await this.#ask()
      if (this.#asked.length === 0) return
      for await (const contents of this.#stream.answers()) {
        for (const content of contents) await this.#take(content)
        await this.#ask()
        if (this.#answered === this.#asked.length) return
      }
      throw new NetworkError('unavailable', `${this.#provider.peer} ended the conversation early`)
    } catch (error) {
      throw this.#cut ?? error
    } finally {
      this.#stream.close()
      await this.#stall.stop()
      this.#deps.queue.giveBack(this.#asked.slice(this.#answered))
    }
  }

  async #ask(): Promise<void> {
    const { queue, pace, paced } = this.#deps
    for (;;) {
      const waiting = this.#asked.length - this.#answered
      const window = paced() ? LEAST_OUTSTANDING : this.#window()
      const request = Math.min(window / 4, MAX_REQUEST)
      if (this.#outstanding + request > window || waiting + MAX_ASKED > MAX_OUTSTANDING) return
      if (waiting > 0 && paced()) return
      const contents = queue.take(this.#provider, { bytes: request, count: MAX_ASKED })
      if (contents.length === 0) return
      let bytes = 0
      for (const content of contents) {
        this.#asked.push(content)
        bytes += content.size
      }
      this.#outstanding += bytes
      await pace(bytes, this.#signal)
      if (this.#signal.aborted) throw new NetworkError('cancelled', 'cancelled')
      if (this.#requests.push({ contents: contents.length, bytes, due: undefined }) === 1) this.#expect()
      this.#stream.request(contents.map(({ id }) => id))
    }
  }

  #window(): number {
    const elapsed = Math.max(1, this.#deps.clock.now() - this.#started)
    const inTime = (this.#received * OUTSTANDING_MS) / elapsed
    return Math.min(Math.max(inTime, LEAST_OUTSTANDING), MOST_OUTSTANDING)
  }

  async #take(content: SmallContent): Promise<void> {
    const { peer } = this.#provider
    const wanted = this.#asked[this.#answered]
    if (!wanted || wanted.id !== content.id)
      throw new NetworkError('corrupt', `${peer} sent ${shortId(content.id)}…, which was not due`)
    if (content.fault) {
      this.#done(wanted)
      this.#deps.onRefused(wanted, content.fault)
      return
    }
    const { data } = content
    this.#received += data.length
    this.#deps.onReceived(data.length)
    if (data.length === 0 && wanted.id !== EMPTY_ID) throw new Simulating(`${peer} simulates`)
    const manifest = manifestOf(data)
    if (manifest.id !== wanted.id)
      throw new NetworkError('corrupt', `${peer} sent wrong bytes for "${wanted.names[0]}"`)
    this.#done(wanted)
    const waits = this.#deps.onVerified(wanted, manifest, data)
    if (!waits) return
    // A disk that is behind is not the provider's fault.
    this.#stall.end()
    const began = this.#deps.clock.now()
    await waits
    const [request] = this.#requests
    if (request?.due) request.due += this.#deps.clock.now() - began
    this.#expect()
  }

  #done({ size }: Wanted): void {
    this.#outstanding -= size
    this.#answered++
    if (this.#answered >= MAX_OUTSTANDING) {
      this.#asked = this.#asked.slice(this.#answered)
      this.#answered = 0
    }
    const request = this.#requests[0]!
    request.bytes -= size
    if (--request.contents === 0) this.#requests.shift()
    this.#expect()
  }

  /**
   * Waits for the next content, which may come in one answer with others. Who brings one of many from time to time would
   * keep the others from whoever is faster: so each request has its own bound, too.
   */
  #expect(): void {
    const [request] = this.#requests
    if (!request) {
      this.#stall.end()
      return
    }
    const now = this.#deps.clock.now()
    request.due ??= now + this.#stallMs + allowanceMs(request.bytes)
    const answer = Math.max(this.#asked[this.#answered]!.size, Math.min(ANSWER_BYTES, request.bytes))
    this.#stall.begin(Math.min(allowanceMs(answer), request.due - now - this.#stallMs))
  }
}
