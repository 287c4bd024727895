import { NetworkError } from '../../common/errors.ts'
import type { ContentId, PeerId } from '../../common/ids.ts'
import { fromStatus } from '../../common/rpc.ts'
import type { SmallContent, SmallSource, SmallStream } from '../transfer/small-source.ts'
import type { RpcClients, RpcTarget } from './client.ts'
import { contentIdOfWire, contentIdToWire, errorOfWire, TRANSFER_SERVICE, type WireSmallContent } from './codec.ts'
import { messagesOf } from './streams.ts'

type Request = { content_ids: Buffer[] }
type Answer = { contents: WireSmallContent[] }

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
    const { call } = this.#clients.duplex<Request, Answer>(this.#target, TRANSFER_SERVICE.FetchSmall, signal)
    const messages = messagesOf<Answer>(call)
    return {
      request: (ids) => {
        if (call.writable) call.write({ content_ids: ids.map(contentIdToWire) })
      },
      answers: () => this.#answers(messages),
      close: () => call.cancel(),
    }
  }

  async *#answers(messages: AsyncIterable<Answer>): AsyncGenerator<SmallContent[]> {
    try {
      for await (const { contents } of messages) yield contents.map((content) => this.#parse(content))
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
