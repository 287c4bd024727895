import { constants, type Http2Session, type ServerHttp2Stream } from 'node:http2'
import { ServerInterceptingCall, type ServerInterceptor } from '@grpc/grpc-js'
import { NetworkError } from '../../common/errors.ts'
import { toStatus } from '../../common/rpc.ts'
import { type Slot, Slots } from '../transfer/slots.ts'

/**
 * What grpc-js has no public way to do, done on the private parts beneath a server call: a bound on request messages for
 * each method, a number and a time of its calls, a receive window, a reset. A test holds each of them, for the day that
 * those parts change.
 */
interface Beneath {
  readonly stream?: ServerHttp2Stream
  readonly decoder?: { maxReadMessageLength: number }
}

export interface MethodBounds {
  /** bytes of one request message */
  maxMessage: number
  /** calls of this method that are read at the same time; the next ones wait unread */
  maxReading?: number
  /** calls of this method open at the same time; the next ones are refused */
  maxOpen?: number
  /** the whole call is over by then, ms */
  maxMs?: number
  /** bytes that may be on their way here before they are read */
  window?: number
}

const TOO_MANY = new NetworkError('limited', 'too many such calls at this peer: try again later')
/** How long a client may take to end its side of a call that is over, ms. */
const LINGER_MS = 10_000

/** Bounds for each method by its path; `others` for those not named. */
export function boundCalls(bounds: Readonly<Record<string, MethodBounds>>, others: MethodBounds): ServerInterceptor {
  const slots = new Map<string, { reading: Slots | undefined; open: Slots | undefined }>()
  for (const [path, { maxReading, maxOpen }] of Object.entries(bounds))
    slots.set(path, {
      reading: maxReading ? new Slots(maxReading) : undefined,
      open: maxOpen ? new Slots(maxOpen) : undefined,
    })
  const widened = new WeakSet<Http2Session>()

  return ({ path }, call) => {
    const { stream, decoder } = call as unknown as Beneath
    const bound = bounds[path] ?? others
    if (decoder) decoder.maxReadMessageLength = bound.maxMessage
    if (!stream) return new ServerInterceptingCall(call)
    const held: Slot[] = []
    const release = () => {
      for (const slot of held.splice(0)) slot.release()
    }
    const cutAfter = (ms: number) => {
      const timer = setTimeout(() => stream.close(constants.NGHTTP2_CANCEL), ms).unref()
      stream.once('close', () => clearTimeout(timer))
    }
    const gone = new AbortController()
    stream.once('close', () => {
      gone.abort()
      release()
    })
    // This side is done. A client that never ends its own would keep the stream for good.
    stream.once('finish', () => {
      release()
      cutAfter(LINGER_MS)
    })
    const { reading, open } = slots.get(path) ?? {}
    if (open) {
      const slot = open.tryAcquire()
      if (slot) held.push(slot)
      else call.sendStatus({ code: 8, details: '', ...toStatus(TOO_MANY) })
    }
    if (bound.maxMs !== undefined) cutAfter(bound.maxMs)
    if (bound.window !== undefined && stream.session) widen(stream.session, bound.window, widened)
    if (!reading) return new ServerInterceptingCall(call)
    return new ServerInterceptingCall(call, {
      start: (next) => {
        reading.acquire(gone.signal).then(
          (slot) => {
            held.push(slot)
            next()
          },
          () => {},
        )
      },
    })
  }
}

function widen(session: Http2Session, bytes: number, widened: WeakSet<Http2Session>): void {
  if (widened.has(session)) return
  widened.add(session)
  session.settings({ initialWindowSize: bytes })
  session.setLocalWindowSize(bytes)
}

/** Ends a server call at once, with whatever is queued on it unsent. */
export function resetCall(call: object): void {
  streamBeneath(call)?.close(constants.NGHTTP2_CANCEL)
}

/**
 * The HTTP/2 stream beneath a server call; undefined where grpc-js has hidden it well. Who writes messages to it writes
 * none through the call.
 */
export function streamBeneath(call: object): ServerHttp2Stream | undefined {
  let inner = call as { call?: object; nextCall?: object } & Beneath
  for (let next = inner.call ?? inner.nextCall; next; next = inner.call ?? inner.nextCall) inner = next
  return inner.stream
}
