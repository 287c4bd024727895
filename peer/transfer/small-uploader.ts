import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type ContentId, shortId } from '../../common/ids.ts'
import type { ContentReader, Contents } from './contents.ts'
import { Slots } from './slots.ts'
import { MAX_ASKED, MAX_SMALL, type SmallContent } from './small-source.ts'
import { Watchdog } from './watchdog.ts'

/** Where the answers of one conversation go. */
export interface SmallSink {
  /**
   * Resolves once the answer has left.
   * @throws NetworkError where the taker is gone
   */
  send(contents: readonly SmallContent[]): Promise<void>
  /** Ends the conversation at once, with what is unsent: what `send` still owes fails. */
  cut(reason: NetworkError): void
}

export interface SmallUploaderDeps {
  clock: Clock
  /** how fast bytes may leave; undefined: at once */
  limit?: { take(bytes: number, signal: AbortSignal): Promise<void> | undefined }
}

export interface SmallUploaderOptions {
  /** answers read at the same time, over all conversations (default 8) */
  slots?: number
  /** bytes of contents in one answer (default 1 MiB) */
  answerBytes?: number
  /** a taker that takes nothing for this long while an answer waits is cut off, ms (default 15,000) */
  stallMs?: number
  /** a taker that asks for nothing for this long is sent away, ms (default 60,000) */
  idleMs?: number
}

/** Contents in one answer, which are files open at the same time. */
const ANSWER_FILES = 256
const NOTHING = Buffer.alloc(0)

/**
 * The provider's side of conversations about small contents. One answer is under way while the next is read; requests
 * are pulled one at a time, so that more of them wait where they came from.
 */
export class SmallUploader {
  readonly #deps: SmallUploaderDeps
  readonly #slots: Slots
  readonly #answerBytes: number
  readonly #stallMs: number
  readonly #idleMs: number

  constructor(deps: SmallUploaderDeps, options: SmallUploaderOptions = {}) {
    this.#deps = deps
    this.#slots = new Slots(options.slots ?? 8)
    this.#answerBytes = options.answerBytes ?? 1024 * 1024
    this.#stallMs = options.stallMs ?? 15_000
    this.#idleMs = options.idleMs ?? 60_000
  }

  /**
   * Serves until the requests end. A content that can't be had is part of the answer, with the reason.
   * @param dummy answers as one that simulates: no file is opened
   * @throws NetworkError `invalid` for a request of too many; `unavailable` where the taker stalls
   */
  async serve(
    contents: Contents,
    dummy: boolean,
    requests: AsyncIterator<readonly ContentId[]>,
    sink: SmallSink,
    signal: AbortSignal,
  ): Promise<void> {
    const watch = (ms: number, what: string) =>
      new Watchdog(this.#deps.clock, ms, () => sink.cut(new NetworkError('unavailable', `${what} for ${ms / 1000} s`)))
    const stall = watch(this.#stallMs, 'the taker took nothing')
    const idle = watch(this.#idleMs, 'no request')
    let sending: Promise<void> | undefined
    const flushed = async () => {
      stall.begin()
      await sending
      stall.end()
    }
    try {
      for (;;) {
        idle.begin()
        const next = await requests.next()
        idle.end()
        if (next.done) break
        const ids = next.value
        if (ids.length > MAX_ASKED)
          throw new NetworkError('invalid', `asked for ${ids.length} contents at once: ${MAX_ASKED} are the most`)
        for (let at = 0; at < ids.length; ) {
          const { answer, bytes } = dummy ? simulate(contents, ids) : await this.#read(contents, ids, at, signal)
          at += answer.length
          if (bytes > 0) await this.#deps.limit?.take(bytes, signal)
          await flushed()
          if (signal.aborted) throw new NetworkError('cancelled', 'the taker is gone')
          sending = sink.send(answer)
          // Its failure is met by whoever awaits it next.
          sending.catch(() => {})
        }
      }
      await flushed()
    } finally {
      await Promise.all([stall.stop(), idle.stop()])
    }
  }

  /** As many of the contents from number `at` on as one answer takes. */
  async #read(
    contents: Contents,
    ids: readonly ContentId[],
    at: number,
    signal: AbortSignal,
  ): Promise<{ answer: SmallContent[]; bytes: number }> {
    const slot = await this.#slots.acquire(signal)
    const opened: { id: ContentId; reader?: ContentReader; fault?: NetworkError }[] = []
    try {
      let bytes = 0
      for (const id of ids.slice(at, at + ANSWER_FILES)) {
        try {
          const reader = openSmall(contents, id)
          if (bytes + reader.size > this.#answerBytes && opened.length > 0) {
            reader.close()
            break
          }
          opened.push({ id, reader })
          bytes += reader.size
        } catch (error) {
          opened.push({ id, fault: asNetworkError(error) })
        }
      }
      const buffer = Buffer.allocUnsafeSlow(bytes)
      let position = 0
      const answer = opened.map(async ({ id, reader, fault }): Promise<SmallContent> => {
        if (!reader) return { id, fault: fault! }
        const data = buffer.subarray(position, position + reader.size)
        position += reader.size
        try {
          await reader.read(data, 0)
          return { id, data }
        } catch (error) {
          return { id, fault: asNetworkError(error) }
        }
      })
      return { answer: await Promise.all(answer), bytes }
    } finally {
      for (const { reader } of opened) reader?.close()
      slot.release()
    }
  }
}

/** @throws NetworkError as `Contents.open`; `too_large` where it is not small */
function openSmall(contents: Contents, id: ContentId): ContentReader {
  const reader = contents.open(id)
  const fault =
    reader.size > MAX_SMALL
      ? new NetworkError('too_large', `${shortId(id)}… has ${reader.size} bytes: fetch it by its pieces`)
      : reader.holdings
        ? new NetworkError('not_found', `${shortId(id)}… is not whole here yet`)
        : undefined
  if (!fault) return reader
  reader.close()
  throw fault
}

function simulate(contents: Contents, ids: readonly ContentId[]): { answer: SmallContent[]; bytes: number } {
  const answer = ids.map((id): SmallContent => {
    if (contents.manifest(id)) return { id, data: NOTHING }
    return { id, fault: new NetworkError('not_found', `${shortId(id)}… is not shared here`) }
  })
  return { answer, bytes: 0 }
}
