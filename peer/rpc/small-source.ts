import { NetworkError } from '../../common/errors.ts'
import type { ContentId, PeerId } from '../../common/ids.ts'
import { fromStatus } from '../../common/rpc.ts'
import type { SmallContent, SmallSource, SmallStream } from '../transfer/small-source.ts'
import { asItCame, type RpcClients, type RpcTarget, read } from './client.ts'
import { contentIdOfWire, contentIdToWire, errorOfWire, TRANSFER_SERVICE, type WireSmallContent } from './codec.ts'
import { messagesOf } from './streams.ts'

type Request = { content_ids: Buffer[] }

const { path, requestSerialize, responseDeserialize } = TRANSFER_SERVICE.FetchSmall
const METHOD = { path, requestSerialize, responseDeserialize: asItCame }

/** The taker's end of Transfer.FetchSmall. */
export class GrpcSmallSource implements SmallSource {
  readonly peer: PeerId
  readonly #clients: RpcClients
  readonly #target: RpcTarget

  constructor(clients: RpcClients, target: RpcTarget) {
    this.peer = target.peer
    this.#clients = clients
    this.#target = target
  }

  open(signal: AbortSignal): SmallStream {
    const { call } = this.#clients.duplex<Request, Buffer>(this.#target, METHOD, signal)
    const messages = messagesOf<Buffer>(call)
    return {
      request: (ids) => {
        if (call.writable) call.write({ content_ids: ids.map(contentIdToWire) })
      },
      answers: () => this.#answers(messages),
      close: () => call.cancel(),
    }
  }

  async *#answers(messages: AsyncIterable<Buffer>): AsyncGenerator<SmallContent[]> {
    try {
      for await (const message of messages)
        yield read(responseDeserialize, message, this.peer).contents.map((content) => this.#parse(content))
    } catch (error) {
      throw fromStatus(error, this.peer)
    }
  }

  #parse(content: WireSmallContent): SmallContent {
    let id: ContentId
    try {
      id = contentIdOfWire(content.content_id)
    } catch (error) {
      throw new NetworkError('corrupt', `${this.peer} sent a content without an id`, {}, error)
    }
    return content.code === '' ? { id, data: content.data } : { id, fault: errorOfWire(content, this.peer) }
  }
}
