import type { handleBidiStreamingCall, ServerDuplexStream } from '@grpc/grpc-js'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import { toStatus, wordsFor } from '../../common/rpc.ts'
import type { Contents } from '../transfer/contents.ts'
import type { SmallContent } from '../transfer/small-source.ts'
import type { SmallSink, SmallUploader } from '../transfer/small-uploader.ts'
import { resetCall } from './beneath.ts'
import { contentIdOfWire, contentIdToWire, type WireSmallContent } from './codec.ts'
import { messagesOf } from './streams.ts'

type Request = { content_ids: Buffer[] }
type Answer = { contents: WireSmallContent[] }
type SmallCall = ServerDuplexStream<Request, Answer>

export interface SmallServiceDeps {
  contents: Contents
  smallUploader: SmallUploader
  log: Logger
}

/** The provider's end of Transfer.FetchSmall. */
export class SmallServiceHandlers {
  readonly #deps: SmallServiceDeps
  readonly #dummy: boolean

  constructor(deps: SmallServiceDeps, options: { dummy: boolean }) {
    this.#deps = deps
    this.#dummy = options.dummy
  }

  /** The call ends with the conversation, and the conversation with the call. */
  readonly fetchSmall: handleBidiStreamingCall<Request, Answer> = (call) => {
    const gone = new AbortController()
    call.on('cancelled', () => gone.abort())
    const { contents, smallUploader, log } = this.#deps
    smallUploader.serve(contents, this.#dummy, requestsOf(call), new CallSink(call, gone.signal), gone.signal).then(
      () => call.end(),
      (error) => {
        const known = asNetworkError(error)
        if (known.code === 'internal') log.error({ peer: call.getPeer(), err: error }, 'a call failed')
        call.emit('error', toStatus(known))
      },
    )
  }
}

async function* requestsOf(call: SmallCall): AsyncGenerator<ContentId[]> {
  for await (const { content_ids } of messagesOf<Request>(call)) yield content_ids.map(contentIdOfWire)
}

class CallSink implements SmallSink {
  readonly #call: SmallCall
  #fail: ((reason: NetworkError) => void) | undefined
  #gone: NetworkError | undefined

  constructor(call: SmallCall, gone: AbortSignal) {
    this.#call = call
    gone.addEventListener('abort', () => this.#end(new NetworkError('cancelled', 'the taker is gone')), { once: true })
  }

  /** One at a time. */
  send(contents: readonly SmallContent[]): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#gone) return reject(this.#gone)
      // grpc-js forgets the callback where the call is gone.
      this.#fail = reject
      this.#call.write({ contents: contents.map(toWire) }, (error: Error | null | undefined) => {
        this.#fail = undefined
        if (error) reject(new NetworkError('cancelled', 'the taker is gone', {}, error))
        else resolve()
      })
    })
  }

  cut(reason: NetworkError): void {
    this.#end(reason)
    resetCall(this.#call)
  }

  #end(reason: NetworkError): void {
    this.#gone ??= reason
    this.#fail?.(this.#gone)
  }
}

const NOTHING = Buffer.alloc(0)

function toWire(content: SmallContent): WireSmallContent {
  const content_id = contentIdToWire(content.id)
  if (content.fault === undefined) return { content_id, data: content.data, code: '', message: '' }
  return { content_id, data: NOTHING, code: content.fault.code, message: wordsFor(content.fault) }
}
