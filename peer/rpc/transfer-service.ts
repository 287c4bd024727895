import type { handleBidiStreamingCall, handleUnaryCall, ServerDuplexStream } from '@grpc/grpc-js'
import { Metadata } from '@grpc/grpc-js'
import { hostOf, isLoopback } from '../../common/address.ts'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type PeerId, parseFileName } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import { pieceCount } from '../../common/merkle.ts'
import { toStatus, wordsFor } from '../../common/rpc.ts'
import { type Contents, sharedManifest } from '../transfer/contents.ts'
import { Intake, type ProviderSays } from '../transfer/intake.ts'
import type { Receiver } from '../transfer/receiver.ts'
import type { Contact, PieceSink } from '../transfer/source.ts'
import type { Uploader } from '../transfer/uploader.ts'
import { Watchdog } from '../transfer/watchdog.ts'
import { resetCall, streamBeneath, widenWindow } from './beneath.ts'
import {
  contactOfWire,
  contentIdOfWire,
  encodeProvider,
  manifestOfWire,
  manifestToWire,
  type ProviderMessage,
  type ProviderOutput,
  type TakerMessage,
  type WireContact,
  type WireManifest,
} from './codec.ts'
import { encodePrefixedFrame, MAX_FRAME, prefixed } from './frame-codec.ts'
import { News } from './news.ts'
import { CallSink, CallWire, messagesOf, saysOf, type WriteMessage, wantsOf, writeThrough } from './streams.ts'

export interface TransferServiceDeps {
  contents: Contents
  uploader: Uploader
  receiver: Receiver
  clock: Clock
  log: Logger
}

export interface TransferServiceOptions {
  /** every conversation is a simulation */
  dummy: boolean
  /** a taker that says nothing for this long is sent away, ms (default 60,000) */
  idleMs?: number | undefined
  /** the host that others reach this peer at */
  host: () => string
}

/** Bytes of a push that may be on their way here, once its offer was accepted. */
const PUSH_WINDOW = 4 * MAX_FRAME

type Result = Extract<TakerMessage, { kind: 'result' }>['result']
type FetchCall = ServerDuplexStream<TakerMessage, ProviderOutput>
type PushCall = ServerDuplexStream<ProviderMessage, TakerMessage>

/** The Transfer service: conversations on the wire to conversations of `transfer/`. */
export class TransferServiceHandlers {
  #deps: TransferServiceDeps
  #dummy: boolean
  #idleMs: number
  #host: () => string

  constructor(deps: TransferServiceDeps, options: TransferServiceOptions) {
    this.#deps = deps
    this.#dummy = options.dummy
    this.#idleMs = options.idleMs ?? 60_000
    this.#host = options.host
  }

  readonly getManifest: handleUnaryCall<{ content_id: Buffer; filename: string }, WireManifest> = (call, callback) => {
    try {
      const { content_id, filename } = call.request
      const wanted = content_id.length > 0 ? { id: contentIdOfWire(content_id) } : { name: parseFileName(filename) }
      callback(null, manifestToWire(sharedManifest(this.#deps.contents, wanted)))
    } catch (error) {
      callback(toStatus(error))
    }
  }

  readonly fetch: handleBidiStreamingCall<TakerMessage, ProviderOutput> = (call) => {
    this.#run(call, (gone) => this.#fetch(call, gone))
  }

  readonly push: handleBidiStreamingCall<ProviderMessage, TakerMessage> = (call) => {
    this.#run(call, (gone) => this.#push(call, gone))
  }

  async #fetch(call: FetchCall, gone: AbortSignal): Promise<void> {
    const { uploader, contents } = this.#deps
    const sink = new CallSink(writeBeneath(call), gone, () => resetCall(call))
    const idle = this.#idleWatch((reason) => sink.cut(reason))
    const messages = awaited(messagesOf<TakerMessage>(call), idle)
    try {
      const first = await messages.next()
      if (first.done || first.value.kind !== 'open') throw new NetworkError('invalid', 'begin with "open"')
      const { content_id, dummy, taker } = first.value.open
      const demand = {
        id: contentIdOfWire(content_id),
        dummy: dummy || this.#dummy,
        taker: taker ? this.#contact(taker, call) : undefined,
      }
      await uploader.serve(contents, demand, wantsOf(messages), sink, gone)
    } finally {
      leave(messages)
      await idle.stop()
    }
  }

  /** Where a taker is: the host that its call came from, whatever it says. */
  #contact(taker: WireContact, call: FetchCall): Contact | undefined {
    const host = hostOf(call.getPeer())
    if (host === undefined) return undefined
    const contact = contactOfWire({ ...taker, host })
    // From this machine itself: others reach it where they reach this peer.
    return isLoopback(host) ? { ...contact, host: this.#host() } : contact
  }

  async #push(call: PushCall, gone: AbortSignal): Promise<void> {
    const stalled = (reason: NetworkError) => {
      this.#deps.log.debug({ peer: call.getPeer(), err: reason }, 'a push stalled')
      resetCall(call)
    }
    const idle = this.#idleWatch(stalled)
    const result = await this.#receive(call, idle, gone).catch((error) => {
      const known = asNetworkError(error)
      if (known.code === 'internal') this.#deps.log.error({ peer: call.getPeer(), err: error }, 'a push failed')
      return { ok: false, code: known.code, message: wordsFor(known), bytes: 0, simulated: false }
    })
    await idle.stop()
    call.write({ kind: 'result', result })
  }

  async #receive(call: PushCall, idle: Watchdog, gone: AbortSignal): Promise<Result> {
    this.#deps.receiver.accept()
    const messages = messagesOf<ProviderMessage>(call)
    idle.begin()
    const first = await messages.next()
    idle.end()
    if (first.done || first.value.kind !== 'offer') throw new NetworkError('invalid', 'begin with "offer"')
    const { filename, manifest, dummy } = first.value.offer
    if (!manifest) throw new NetworkError('invalid', 'an offer has a manifest')
    const from = call
      .getPeer()
      .replace(/[^A-Za-z0-9._-]+/g, '-')
      .replace(/^[^A-Za-z0-9]+/, '') as PeerId
    const open = (sink: PieceSink) => {
      const { size, pieceSize } = sink.manifest
      const pieces = pieceCount(size, pieceSize)
      const says = allTold(saysOf(messages, from, new News(pieces)), pieces, idle)
      widenWindow(call, PUSH_WINDOW)
      return new Intake(sink, new CallWire(call, says, () => idle.end()))
    }
    const offer = { filename, id: contentIdOfWire(manifest.content_id), claim: manifestOfWire(manifest), dummy }
    const { outcome, name, bytes } = await this.#deps.receiver.receive(offer, from, open, gone)
    const message = {
      done: `stored "${name}"`,
      simulated: `dummy: would have stored "${name}"`,
      'already here': `"${name}" is already here`,
    }[outcome]
    return { ok: true, code: '', message, bytes, simulated: outcome === 'simulated' }
  }

  /** Runs a conversation; the call ends with it, and it with the call. */
  #run<Request, Answer>(
    call: ServerDuplexStream<Request, Answer>,
    conversation: (gone: AbortSignal) => Promise<void>,
  ): void {
    const gone = new AbortController()
    call.on('cancelled', () => gone.abort())
    conversation(gone.signal).then(
      () => call.end(),
      (error) => {
        const known = asNetworkError(error)
        if (known.code === 'internal') this.#deps.log.error({ peer: call.getPeer(), err: error }, 'a call failed')
        call.emit('error', toStatus(known))
      },
    )
  }

  #idleWatch(onIdle: (reason: NetworkError) => void): Watchdog {
    return new Watchdog(this.#deps.clock, this.#idleMs, () =>
      onIdle(new NetworkError('unavailable', `no message for ${this.#idleMs / 1000} s`)),
    )
  }
}

/** The messages, none of which may let this side wait for too long. */
async function* awaited<T>(messages: AsyncIterator<T>, idle: Watchdog): AsyncGenerator<T, undefined> {
  for (;;) {
    idle.begin()
    const next = await messages.next()
    idle.end()
    if (next.done) return undefined
    yield next.value
  }
}

/**
 * A pusher has all that it offers, and has to say so before it may be silent. Then it is silent for as long as nothing is
 * asked of it: while a limit holds this peer back, while it reads what was there before, while it publishes. How long it
 * takes over what it is asked for, the swarm watches.
 */
async function* allTold(
  says: AsyncIterable<ProviderSays>,
  pieces: number,
  idle: Watchdog,
): AsyncGenerator<ProviderSays> {
  let all = false
  idle.begin()
  for await (const message of says) {
    idle.end()
    all ||= message.kind === 'have' && message.pieces[0] === 0 && message.pieces[1] === pieces
    yield message
    if (!all) idle.begin()
  }
}

/**
 * Whoever reads no more messages says so. Not awaited, since a message that is waited for comes, or fails, only with the
 * end of the call.
 */
function leave(messages: AsyncGenerator<unknown>): void {
  messages.return(undefined).catch(() => {})
}

/**
 * Frames go into the HTTP/2 stream itself, from the buffer that they were read into: grpc-js would copy each into memory
 * of its own, and the collection of that memory costs more time than the sending.
 */
function writeBeneath(call: FetchCall): WriteMessage {
  const stream = streamBeneath(call)
  if (!stream) return writeThrough(call)
  call.sendMetadata(new Metadata())
  return (message, done) => {
    const bytes = message.kind === 'outgoing' ? encodePrefixedFrame(message.frame) : prefixed(encodeProvider(message))
    if (stream.writable) stream.write(bytes, done)
    else done?.(new Error('the call is over'))
  }
}
