import type { handleServerStreamingCall, ServerWritableStream } from '@grpc/grpc-js'
import { hostOf } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import type { Logger } from '../../common/log.ts'
import type { PeerContact } from '../contact.ts'
import type { FloodHandlers } from '../flood/protocol.ts'
import type { OverlayHandlers } from '../overlay/protocol.ts'
import { answering, callerOf, failed } from './answering.ts'
import {
  acquaintancesOfWire,
  answerToWire,
  introductionToWire,
  queryOfWire,
  senderOfWire,
  type WireIntroduction,
  type WireQuery,
  type WireQueryAnswer,
} from './overlay-codec.ts'

export interface OverlayServiceDeps {
  overlay: OverlayHandlers
  flood: FloodHandlers
  self: () => PeerContact
  log: Logger
}

type QueryCall = ServerWritableStream<WireQuery, WireQueryAnswer>

/** The Overlay service: introductions and queries of others, to this peer as their neighbour. */
export class OverlayServiceHandlers {
  readonly #deps: OverlayServiceDeps

  constructor(deps: OverlayServiceDeps) {
    this.#deps = deps
  }

  readonly exchange = answering<WireIntroduction, WireIntroduction>(
    () => this.#deps.log,
    ({ self: wire, peers, linked }, call) => {
      const caller = callerOf(wire, call)
      const told = acquaintancesOfWire(peers, caller)
      const { self, peers: others } = this.#deps.overlay.onExchange(caller.self, told, linked, caller.seen)
      return introductionToWire(self, others, false)
    },
  )

  /** The call ends with the query, and the query with the call. */
  readonly query: handleServerStreamingCall<WireQuery, WireQueryAnswer> = (call) => {
    const gone = new AbortController()
    call.on('cancelled', () => gone.abort())
    this.#answer(call, gone.signal).then(
      () => call.end(),
      (error) => {
        if (!gone.signal.aborted) call.emit('error', failed(error, call, this.#deps.log))
      },
    )
  }

  async #answer(call: QueryCall, gone: AbortSignal): Promise<void> {
    const { flood, self } = this.#deps
    const query = queryOfWire(call.request)
    const from = { host: hostOf(call.getPeer()) ?? '', peer: senderOfWire(call.request) }
    for await (const answer of flood.onQuery(from, query, gone)) await written(call, answerToWire(answer, self()), gone)
  }
}

/**
 * One message, and it has left: what a slow reader is told next waits in the query, not in memory.
 * @throws NetworkError `cancelled` where nobody reads any more; grpc-js forgets the callback then
 */
function written(call: QueryCall, message: WireQueryAnswer, gone: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = () => reject(new NetworkError('cancelled', 'the query was taken back'))
    if (gone.aborted) return leave()
    gone.addEventListener('abort', leave, { once: true })
    call.write(message, (error: Error | null | undefined) => {
      gone.removeEventListener('abort', leave)
      if (error) leave()
      else resolve()
    })
  })
}
