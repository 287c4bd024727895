import type { Readable, Writable } from 'node:stream'
import { NetworkError } from '../../common/errors.ts'
import type { Frame, PieceStream } from '../transfer/source.ts'
import type { FrameSink, OutgoingFrame, PieceRange } from '../transfer/uploader.ts'
import { errorOfWire, type ProviderMessage, type ProviderOutput, type TakerMessage } from './codec.ts'

/** Between calls of grpc-js and the conversations of `transfer/`. */

/** The messages of a call, read no faster than they are used. To leave the loop leaves the call open. */
export function messagesOf<T>(call: Readable): AsyncIterableIterator<T> {
  return call.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<T>
}

export async function* framesOf(messages: AsyncIterable<ProviderMessage>, who: string): AsyncGenerator<Frame> {
  for await (const message of messages) {
    if (message.kind === 'frame') yield message.frame
    else if (message.kind === 'refusal') throw errorOfWire(message.refusal, who)
    else throw new NetworkError('corrupt', 'made an offer where frames were due')
  }
}

export async function* requestsOf(messages: AsyncIterable<TakerMessage>): AsyncGenerator<PieceRange> {
  for await (const message of messages) {
    if (message.kind !== 'request') throw new NetworkError('invalid', `sent "${message.kind}" where a request was due`)
    yield message.request
  }
}

/** The receiving end of a conversation over a call. */
export class CallPieceStream implements PieceStream {
  #call: Writable
  #frames: AsyncIterable<Frame>
  #close: () => void

  constructor(call: Writable, frames: AsyncIterable<Frame>, close: () => void) {
    this.#call = call
    this.#frames = frames
    this.#close = close
  }

  request(first: number, count: number): void {
    if (this.#call.writable) this.#call.write({ kind: 'request', request: { first, count } } satisfies TakerMessage)
  }

  frames(): AsyncIterable<Frame> {
    return this.#frames
  }

  close(): void {
    this.#close()
  }
}

/** Sends one frame; the callback comes when its buffer is free again. grpc-js forgets it where the call is gone. */
export type WriteFrame = (frame: OutgoingFrame, done: (error?: Error | null) => void) => void

/** The sending end of a conversation over a call. */
export class CallSink implements FrameSink {
  #write: WriteFrame
  #cut: (reason: NetworkError) => void
  #gone: NetworkError | undefined
  #owed = new Set<(reason: NetworkError) => void>()

  /** @param cut ends the call at once, whatever is queued */
  constructor(write: WriteFrame, gone: AbortSignal, cut: (reason: NetworkError) => void) {
    this.#write = write
    this.#cut = cut
    const fail = () => this.#fail(new NetworkError('cancelled', 'the other side is gone'))
    if (gone.aborted) fail()
    else gone.addEventListener('abort', fail, { once: true })
  }

  send(frame: OutgoingFrame): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#gone) return reject(this.#gone)
      this.#owed.add(reject)
      this.#write(frame, (error) => {
        this.#owed.delete(reject)
        if (error) reject(new NetworkError('cancelled', 'the other side is gone', {}, error))
        else resolve()
      })
    })
  }

  cut(reason: NetworkError): void {
    this.#fail(reason)
    this.#cut(reason)
  }

  #fail(reason: NetworkError): void {
    this.#gone ??= reason
    for (const reject of this.#owed) reject(this.#gone)
    this.#owed.clear()
  }
}

export function writeThrough(call: Writable): WriteFrame {
  return (frame, done) => call.write({ kind: 'outgoing', frame } satisfies ProviderOutput, done)
}
