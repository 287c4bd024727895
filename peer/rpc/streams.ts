import type { Readable, Writable } from 'node:stream'
import { NetworkError } from '../../common/errors.ts'
import type { ProviderSays, Wire } from '../transfer/intake.ts'
import type { OutgoingFrame, ProviderSink } from '../transfer/outgoing.ts'
import type { Runs } from '../transfer/runs.ts'
import type { Contact, Want } from '../transfer/source.ts'
import {
  contactsOfWire,
  contactToWire,
  errorOfWire,
  type ProviderMessage,
  type ProviderOutput,
  type TakerMessage,
} from './codec.ts'
import type { News } from './news.ts'

/** Between calls of grpc-js and the conversations of `transfer/`. */

/** The messages of a call, read no faster than they are used. To leave the loop leaves the call open. */
export function messagesOf<T>(call: Readable): AsyncIterableIterator<T> {
  return call.iterator({ destroyOnReturn: false }) as AsyncIterableIterator<T>
}

/** What a provider says, in the words of `transfer/`, within the bounds of `news`. */
export async function* saysOf(
  messages: AsyncIterable<ProviderMessage>,
  who: string,
  news: News,
): AsyncGenerator<ProviderSays> {
  for await (const message of messages) {
    switch (message.kind) {
      case 'frame':
        yield message
        break
      case 'have':
        news.have(message.have.pieces)
        yield { kind: 'have', pieces: message.have.pieces }
        break
      case 'takers':
        news.talk()
        yield { kind: 'takers', contacts: contactsOfWire(message.takers.contacts) }
        break
      case 'abandoned':
        yield { kind: 'abandoned', piece: message.abandoned.piece }
        break
      case 'refusal':
        throw errorOfWire(message.refusal, who)
      case 'offer':
        throw new NetworkError('corrupt', 'made an offer where frames were due')
    }
  }
}

export async function* wantsOf(messages: AsyncIterable<TakerMessage>): AsyncGenerator<Want> {
  for await (const message of messages) {
    if (message.kind !== 'want') throw new NetworkError('invalid', `sent "${message.kind}" where a want was due`)
    yield message.want
  }
}

export function wantMessage({ add = [], remove = [], credit = 0, rate }: Want): TakerMessage {
  const want = { add: [...add], remove: [...remove], credit }
  return { kind: 'want', want: rate === undefined ? want : { ...want, rate } }
}

/** The receiving end of a conversation over a call of grpc-js. */
export class CallWire implements Wire {
  readonly messages: AsyncIterable<ProviderSays>
  readonly close: () => void
  readonly #call: Writable

  constructor(call: Writable, messages: AsyncIterable<ProviderSays>, close: () => void) {
    this.#call = call
    this.messages = messages
    this.close = close
  }

  send(change: Want): void {
    if (this.#call.writable) this.#call.write(wantMessage(change))
  }
}

/** Writes one message; the callback comes when a frame's buffer is free again. grpc-js forgets it where the call is gone. */
export type WriteMessage = (message: ProviderOutput, done?: (error?: Error | null) => void) => void

/** The sending end of a conversation over a call. */
export class CallSink implements ProviderSink {
  readonly #write: WriteMessage
  readonly #cut: (reason: NetworkError) => void
  #gone: NetworkError | undefined
  readonly #owed = new Set<(reason: NetworkError) => void>()

  /** @param cut ends the call at once, whatever is queued */
  constructor(write: WriteMessage, gone: AbortSignal, cut: (reason: NetworkError) => void) {
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
      this.#write({ kind: 'outgoing', frame }, (error) => {
        this.#owed.delete(reject)
        if (error) reject(new NetworkError('cancelled', 'the other side is gone', {}, error))
        else resolve()
      })
    })
  }

  have(pieces: Runs): void {
    if (!this.#gone) this.#write({ kind: 'have', have: { pieces: [...pieces] } })
  }

  takers(contacts: readonly Contact[]): void {
    if (!this.#gone) this.#write({ kind: 'takers', takers: { contacts: contacts.map(contactToWire) } })
  }

  abandoned(piece: number): void {
    if (!this.#gone) this.#write({ kind: 'abandoned', abandoned: { piece } })
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

export function writeThrough(call: Writable): WriteMessage {
  return (message, done) => call.write(message, done)
}
