import { MessageChannel, parentPort } from 'node:worker_threads'
import { FetchConversation } from './fetch-conversation.ts'
import type { FromThread, ToThread } from './fetch-jobs.ts'
import { Arenas } from './fetch-messages.ts'

/** The thread that fetches: it receives, verifies and writes pieces, so that no byte of a file meets the main thread. */

/** Every read of every conversation goes here: small enough to stay in a core's cache, large enough for few reads. */
const READ_BYTES = 128 * 1024
const SPARE_ARENAS = 2

/** A closed port: what is sent there is freed at once, while the garbage collector would let tens of MB gather. */
const { port1: drain } = new MessageChannel()
drain.close()

const shared = {
  readBuffer: Buffer.allocUnsafeSlow(READ_BYTES),
  arenas: new Arenas(SPARE_ARENAS, (arena) => drain.postMessage(null, [arena.buffer as ArrayBuffer])),
}
const conversations = new Map<number, FetchConversation>()

const port = parentPort!
port.on('message', (message: ToThread) => {
  const { id } = message
  if (message.kind === 'open') {
    const conversation = new FetchConversation(message.job, shared, (events, end) => {
      if (end) conversations.delete(id)
      port.postMessage({ id, events, ...(end ? { end } : {}) } satisfies FromThread)
    })
    conversations.set(id, conversation)
    return
  }
  const conversation = conversations.get(id)
  if (message.kind === 'want') conversation?.want(message.change, message.message)
  else if (message.kind === 'used') conversation?.used(message.cost)
  else conversation?.close()
})
