import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type ContentId, shortId } from '../../common/ids.ts'
import { LEAF_SIZE } from '../../common/merkle.ts'
import type { ContentReader, Contents } from './contents.ts'
import type { RateLimit } from './outgoing.ts'
import { Slots } from './slots.ts'
import { ANSWER_BYTES, allowanceMs, MAX_ASKED, MAX_SMALL, type SmallContent } from './small-source.ts'
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
  limit?: RateLimit
}

export interface SmallUploaderOptions {
  /** conversations that read at the same time (default 8) */
  slots?: number
  /** bytes of contents read at once (default 1 MiB) */
  readBytes?: number
  /** an answer has left by then, and the time that its bytes take over a slow line, or its taker is cut off, ms (default 15,000) */
  stallMs?: number
  /** a taker that has all its answers and asks for nothing for this long is sent away, ms (default 60,000) */
  idleMs?: number
}

/** Contents read at once, which are files open at the same time. */
const READ_FILES = 256
const NOTHING = Buffer.alloc(0)

/**
 * The provider's side of conversations about small contents. Some are read while those before them leave; requests are
 * pulled one at a time, so that more of them wait where they came from.
 */
export class SmallUploader {
  readonly #deps: SmallUploaderDeps
  readonly #slots: Slots
  readonly #readBytes: number
  readonly #stallMs: number
  readonly #idleMs: number

  constructor(deps: SmallUploaderDeps, options: SmallUploaderOptions = {}) {
    this.#deps = deps
    this.#slots = new Slots(options.slots ?? 8)
    this.#readBytes = options.readBytes ?? 1024 * 1024
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
    const over = new AbortController()
    const ended = AbortSignal.any([signal, over.signal])
    let sending: Promise<void> | undefined
    try {
      for (;;) {
        const asked = requests.next()
        asked.catch(() => {})
        // A taker that its answers are still on their way to need not ask for more.
        await Promise.race([asked, sending])
        idle.begin()
        const next = await asked
        idle.end()
        if (next.done) break
        const ids = next.value
        if (ids.length > MAX_ASKED)
          throw new NetworkError('invalid', `asked for ${ids.length} contents at once: ${MAX_ASKED} are the most`)
        for (let at = 0; at < ids.length; ) {
          const some = dummy ? simulate(contents, ids) : await this.#read(contents, ids, at, ended)
          at += some.length
          await sending
          sending = this.#send(some, sink, stall, ended)
          // Its failure is met by whoever awaits it next.
          sending.catch(() => {})
        }
      }
      await sending
    } finally {
      over.abort()
      await Promise.all([stall.stop(), idle.stop()])
    }
  }

  /** What may leave at once leaves together; before something has to wait for the limit, all that need not has left. */
  async #send(contents: readonly SmallContent[], sink: SmallSink, stall: Watchdog, signal: AbortSignal): Promise<void> {
    let answer: SmallContent[] = []
    let size = 0
    const leave = async () => {
      if (signal.aborted) throw new NetworkError('cancelled', 'the taker is gone')
      if (answer.length === 0) return
      stall.begin(allowanceMs(size))
      await sink.send(answer)
      stall.end()
      answer = []
      size = 0
    }
    for (const { unit, bytes } of unitsOf(contents)) {
      if (size + bytes > ANSWER_BYTES) await leave()
      const wait = bytes > 0 ? this.#deps.limit?.take(bytes, signal) : undefined
      if (wait) {
        wait.catch(() => {})
        await leave()
        await wait
      }
      answer.push(...unit)
      size += bytes
    }
    await leave()
  }

  /** As many of the contents from number `at` on as are read at once. */
  async #read(contents: Contents, ids: readonly ContentId[], at: number, signal: AbortSignal): Promise<SmallContent[]> {
    const slot = await this.#slots.acquire(signal)
    const opened: { id: ContentId; reader?: ContentReader; fault?: NetworkError }[] = []
    try {
      let bytes = 0
      for (const id of ids.slice(at, at + READ_FILES)) {
        try {
          const reader = openSmall(contents, id)
          if (bytes + reader.size > this.#readBytes && opened.length > 0) {
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
      const read = opened.map(async ({ id, reader, fault }): Promise<SmallContent> => {
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
      return await Promise.all(read)
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

function simulate(contents: Contents, ids: readonly ContentId[]): SmallContent[] {
  return ids.map((id): SmallContent => {
    if (contents.manifest(id)) return { id, data: NOTHING }
    return { id, fault: new NetworkError('not_found', `${shortId(id)}… is not shared here`) }
  })
}

/** What passes a limit at once: about a leaf, as of other conversations, so that none gets more of it for its larger bytes. */
function* unitsOf(contents: readonly SmallContent[]): Generator<{ unit: readonly SmallContent[]; bytes: number }> {
  let begin = 0
  let bytes = 0
  for (const [at, content] of contents.entries()) {
    const size = content.fault ? 0 : content.data.length
    if (bytes + size > LEAF_SIZE && at > begin) {
      yield { unit: contents.slice(begin, at), bytes }
      begin = at
      bytes = 0
    }
    bytes += size
  }
  yield { unit: contents.slice(begin), bytes }
}
