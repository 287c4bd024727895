import type { handleUnaryCall } from '@grpc/grpc-js'
import { hostOf } from '../../common/address.ts'
import { asNetworkError } from '../../common/errors.ts'
import type { Logger } from '../../common/log.ts'
import { toStatus } from '../../common/rpc.ts'
import { callerOfWire, type Teller, type WirePeer } from './peer-codec.ts'

/** A call, as far as it says where it comes from. */
export interface Caller {
  /** address and port */
  getPeer(): string
}

/**
 * Who makes a call, as it tells of itself, and where it is seen.
 * @throws NetworkError `invalid`; `forbidden` where no peer can be there
 */
export function callerOf(wire: WirePeer | null, call: Caller): Teller {
  const seen = hostOf(call.getPeer())
  const self = callerOfWire(wire, seen)
  return { seen: seen ?? self.host, self }
}

/** A unary method that is answered with what `answer` returns, or the error that it throws. */
export function answering<Request, Answer>(
  log: () => Logger,
  answer: (request: Request, call: Caller) => Answer | Promise<Answer>,
): handleUnaryCall<Request, Answer> {
  return async (call, callback) => {
    try {
      callback(null, await answer(call.request, call))
    } catch (error) {
      callback(failed(error, call, log()))
    }
  }
}

/** The status of a call that failed; what nobody expected is in the log. */
export function failed(error: unknown, call: Caller, log: Logger): ReturnType<typeof toStatus> {
  const known = asNetworkError(error)
  if (known.code === 'internal') log.error({ peer: call.getPeer(), err: error }, 'a call failed')
  return toStatus(known)
}
