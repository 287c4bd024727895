import type { PeerContact } from '../contact.ts'
import type { RingRecord } from './protocol.ts'
import { fitting } from './record-messages.ts'
import type { Word } from './words.ts'

/** Words as one message says them to members of the ring. */
export interface Message {
  readonly words: readonly Word[]
  /** of the words, as they were then */
  readonly versions: readonly number[]
  readonly records: RingRecord[]
  readonly withdraw: RingRecord[]
}

/** Each is made when it is asked for. */
export function* messagesOf(words: readonly Word[], self: PeerContact): Generator<Message> {
  for (let at = 0; at < words.length; ) {
    const some = fitting(eachFrom(words, at)).flat()
    at += some.length
    yield messageOf(some, self)
  }
}

function messageOf(words: readonly Word[], { peer, host, restPort, grpcPort }: PeerContact): Message {
  const provider = { peer, host, restPort, grpcPort }
  const recordOf = ({ key, name, content, size }: Word) => ({ key, name, content, size, provider, ageMs: 0 })
  return {
    words,
    versions: words.map(({ version }) => version),
    records: words.filter(({ isGone }) => !isGone).map(recordOf),
    withdraw: words.filter(({ isGone }) => isGone).map(recordOf),
  }
}

function* eachFrom(words: readonly Word[], at: number): Generator<[Word]> {
  for (let i = at; i < words.length; i++) yield [words[i]!]
}
