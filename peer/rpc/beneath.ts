import type { Http2Session, ServerHttp2Stream } from 'node:http2'
import { ServerInterceptingCall, type ServerInterceptor, type ServerListener } from '@grpc/grpc-js'
import { hostOf, oneParty } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import { toStatus } from '../../common/rpc.ts'
import { type Slot, Slots } from '../transfer/slots.ts'
import { HostSlots } from './hosts.ts'
import { type CallRates, cutStream, type Sessions } from './sessions.ts'

/**
 * What grpc-js has no public way to do, done on the private parts beneath a server call: a bound on request messages for
 * each method, a number and a time of its calls, a receive window, a reset. A test holds each of them, for the day that
 * those parts change.
 */
interface Beneath {
  readonly stream?: ServerHttp2Stream
  /** of messages as they come */
  readonly decoder?: { maxReadMessageLength: number; write(data: Buffer): Buffer[] }
  /** of messages that came compressed */
  maxReceiveMessageSize?: number
}

export interface MethodBounds extends CallRates {
  /** bytes of a request message */
  maxMessage: number
  /** bytes of those after the first one, where it is different */
  maxNext?: number
  /** calls of this method open at the same time; the next ones are refused */
  maxOpen: number
  /** of one host (default: all of them) */
  maxOfHost?: number
  /**
   * calls of this method, which has one request message, that are worked on at the same time, those of one host in half
   * of the places; the next ones wait
   */
  maxReading?: number
  /** the request is here by then, and waits for its place afterwards; absent: it has its place before it is read, ms */
  bodyMs?: number
  /** the whole call is over by then, ms */
  maxMs?: number
}

const TOO_MANY = new NetworkError('limited', 'too many such calls at this peer: try again later')
const TOO_MANY_OF_HOST = new NetworkError('limited', 'too many such calls from this address: try again later')
/** Messages in the 16 KiB that are read together: the smallest ones of use take 12 bytes. */
const MAX_TOGETHER = 2048
/** How long a client may take to end its side of a call that is over, and of one that was refused, ms. */
const LINGER_MS = 10_000
const LINGER_REFUSED_MS = 1000

/** Bounds for each method by its path; `others` for those not named, together. */
export function boundCalls(
  bounds: Readonly<Record<string, MethodBounds>>,
  others: MethodBounds,
  sessions?: Sessions,
): ServerInterceptor {
  const places = new Map(Object.entries(bounds).map(([path, bound]) => [path, new Places(bound)]))
  const otherPlaces = new Places(others)

  return ({ path }, call) => {
    const beneath = call as unknown as Beneath
    const { stream } = beneath
    const bound = bounds[path] ?? others
    boundMessages(beneath, bound.maxMessage)
    boundNumber(beneath, bound.maxReading === undefined ? MAX_TOGETHER : 1)
    if (!stream) return new ServerInterceptingCall(call)
    if (sessions?.watch(stream, bound) === false) return new ServerInterceptingCall(call, { start: () => {} })
    const held: Slot[] = []
    const release = () => {
      for (const slot of held.splice(0)) slot.release()
    }
    const cutAfter = (ms: number) => {
      const timer = setTimeout(() => cutStream(stream), ms).unref()
      stream.once('close', () => clearTimeout(timer))
      return timer
    }
    const gone = new AbortController()
    stream.once('close', () => {
      gone.abort()
      release()
    })
    const of = places.get(path) ?? otherPlaces
    const host = oneParty(hostOf(call.getPeer()) ?? '')
    const opened = of.open(host)
    if (opened instanceof NetworkError) {
      sessions?.refused(stream)
      call.sendStatus({ code: 8, details: '', ...toStatus(opened) })
      cutAfter(LINGER_REFUSED_MS)
      return new ServerInterceptingCall(call, { start: () => {} })
    }
    held.push(...opened)
    // This side is done. A client that never ends its own would keep the stream for good.
    stream.once('finish', () => {
      release()
      cutAfter(LINGER_MS)
    })
    if (bound.maxMs !== undefined) cutAfter(bound.maxMs)
    const inPlace = (then: () => void) => {
      if (bound.maxReading === undefined) return then()
      of.read(host, gone.signal).then(
        (slots) => {
          held.push(...slots)
          if (gone.signal.aborted) release()
          else then()
        },
        () => {},
      )
    }
    const { bodyMs, maxNext } = bound
    const due = bodyMs === undefined ? undefined : cutAfter(bodyMs)
    const listener: ServerListener = {
      onReceiveMessage: (message, proceed) => {
        if (maxNext !== undefined) boundMessages(beneath, maxNext)
        proceed(message)
      },
      onReceiveHalfClose: (proceed) => {
        clearTimeout(due)
        if (due) inPlace(proceed)
        else proceed()
      },
    }
    return new ServerInterceptingCall(call, {
      start: (next) => {
        if (due) next(listener)
        else inPlace(() => next(listener))
      },
    })
  }
}

function boundMessages(beneath: Beneath, most: number): void {
  if (beneath.decoder) beneath.decoder.maxReadMessageLength = most
  beneath.maxReceiveMessageSize = most
}

/** grpc-js makes objects of all messages that came together, and keeps them until they are used. */
function boundNumber({ decoder }: Beneath, most: number): void {
  if (!decoder) return
  const write = decoder.write.bind(decoder)
  decoder.write = (data) => {
    const messages = write(data)
    if (messages.length > most) throw new Error('Received too many messages at once')
    return messages
  }
}

/** The places for the calls of a method. */
class Places {
  readonly #open: Slots
  readonly #openOfHost: HostSlots
  readonly #reading: Slots | undefined
  readonly #readingOfHost: HostSlots | undefined

  constructor({ maxOpen, maxOfHost, maxReading }: MethodBounds) {
    this.#open = new Slots(maxOpen)
    this.#openOfHost = new HostSlots(maxOfHost ?? maxOpen)
    this.#reading = maxReading === undefined ? undefined : new Slots(maxReading)
    this.#readingOfHost = maxReading === undefined ? undefined : new HostSlots(Math.ceil(maxReading / 2))
  }

  /** What a call holds while it is open, or why it can't be. */
  open(host: string): Slot[] | NetworkError {
    const ofHost = this.#openOfHost.tryAcquire(host)
    if (!ofHost) return TOO_MANY_OF_HOST
    const slot = this.#open.tryAcquire()
    if (slot) return [ofHost, slot]
    ofHost.release()
    return TOO_MANY
  }

  /** @throws NetworkError `cancelled` */
  async read(host: string, gone: AbortSignal): Promise<Slot[]> {
    if (!this.#reading || !this.#readingOfHost) return []
    const ofHost = await this.#readingOfHost.acquire(host, gone)
    try {
      return [ofHost, await this.#reading.acquire(gone)]
    } catch (error) {
      ofHost.release()
      throw error
    }
  }
}

const widened = new WeakSet<Http2Session>()

/** Lets `bytes` be on their way here over this call before they are read; the session has one window for all its calls. */
export function widenWindow(call: object, bytes: number): void {
  const session = streamBeneath(call)?.session
  if (!session || session.destroyed || widened.has(session)) return
  widened.add(session)
  session.settings({ initialWindowSize: bytes })
  session.setLocalWindowSize(bytes)
}

/** Ends a server call at once, with whatever is queued on it unsent. */
export function resetCall(call: object): void {
  const stream = streamBeneath(call)
  if (stream) cutStream(stream)
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
