import { type handleUnaryCall, Metadata, type ServerDuplexStream, type ServiceDefinition } from '@grpc/grpc-js'
import type { TestContext } from 'vitest'
import type { Clock } from '../common/clock.ts'
import { NetworkError } from '../common/errors.ts'
import { type Manifest, MIN_PIECE_SIZE, manifestOf, pieceCount, pieceLength } from '../common/merkle.ts'
import { createRpcServer, listenRpc, toStatus } from '../common/rpc.ts'
import { streamBeneath } from '../peer/rpc/beneath.ts'
import {
  contentIdOfWire,
  manifestToWire,
  type ProviderMessage,
  type TakerMessage,
  TRANSFER_SERVICE,
  type WireManifest,
} from '../peer/rpc/codec.ts'
import { piecesOf } from '../peer/transfer/runs.ts'
import type { Cluster } from './cluster.ts'

/** Bytes a piece of the contents that tests move: they are all small. */
export const PIECE = MIN_PIECE_SIZE
const FRAME = 128 * 1024
const NOT_HERE = new NetworkError('not_found', 'not here')

/** What a provider does in place of what it should. What is left out, it does as it should. */
export interface Habits {
  /** Answers a call for the manifest, whose truth this is: a message, or bytes in place of one. Undefined: never. */
  manifest?: (truth: WireManifest) => WireManifest | Buffer | undefined
  /** Begins a conversation. */
  greet?: (talk: Talk) => unknown
  /** A piece may be sent. */
  piece?: (talk: Talk, piece: number) => unknown
  /** The taker has said what it wants. */
  wanted?: (talk: Talk) => void
}

interface Content {
  readonly data: Buffer
  readonly manifest: Manifest
}

/** One conversation, as the provider has it. */
export class Talk {
  /** who takes */
  readonly taker: string
  readonly content: Content
  readonly wanted = new Set<number>()
  credit = 0
  readonly #call: Conversation

  constructor(taker: string, content: Content, call: Conversation) {
    this.taker = taker
    this.content = content
    this.#call = call
  }

  get over(): boolean {
    return !this.#call.writable || this.#call.cancelled
  }

  get pieces(): number {
    return pieceCount(this.content.manifest.size, this.content.manifest.pieceSize)
  }

  /** The true bytes of a piece. */
  truth(piece: number): Buffer {
    const start = piece * PIECE
    return Buffer.from(this.content.data.subarray(start, start + pieceLength(this.content.manifest, piece)))
  }

  /** A message, or bytes in place of one. */
  say(message: ProviderMessage | Buffer): void {
    if (!this.over) this.#call.write(message)
  }

  have(pieces: number[] = [0, this.pieces]): void {
    this.say({ kind: 'have', have: { pieces } })
  }

  frame(piece: number, offset: number, data: Buffer): void {
    this.say({ kind: 'frame', frame: { piece, offset, data, simulated: 0 } })
  }

  /** Bytes on the wire, whatever they mean there. Nothing else can be said afterwards. */
  raw(bytes: Buffer): void {
    const stream = streamBeneath(this.#call)
    if (!stream) throw new Error('there is no stream beneath the call')
    if (!stream.headersSent) this.#call.sendMetadata(new Metadata())
    if (stream.writable) stream.write(bytes)
  }

  /** The frames of a piece. */
  send(piece: number, data = this.truth(piece)): void {
    for (let offset = 0; offset < data.length; offset += FRAME)
      this.frame(piece, offset, data.subarray(offset, offset + FRAME))
  }

  /** Ends the conversation: well, or with this failure. */
  end(error?: Error): void {
    if (error) this.#call.emit('error', toStatus(error))
    else this.#call.end()
  }
}

type Conversation = ServerDuplexStream<TakerMessage, ProviderMessage | Buffer>

/** A provider that the Maestro names, and that does what a test wants. */
export class HostileProvider {
  readonly id: string
  /** calls for a manifest */
  manifests = 0
  /** all conversations since `offer`, also those that are over */
  talks: Talk[] = []
  /** pieces that it could send, in order: whether it did is a matter of habit */
  asked: { readonly content: string; readonly piece: number }[] = []
  grpcPort = 0
  readonly #cluster: Cluster
  readonly #server = createRpcServer()
  readonly #contents = new Map<string, Content>()
  #habits: Habits = {}

  static async start(
    t: Pick<TestContext, 'onTestFinished'> | undefined,
    cluster: Cluster,
    id: string,
  ): Promise<HostileProvider> {
    const provider = new HostileProvider(id, cluster)
    t?.onTestFinished(() => provider.stop())
    await provider.#start()
    return provider
  }

  private constructor(id: string, cluster: Cluster) {
    this.id = id
    this.#cluster = cluster
  }

  /** Who opened conversations. */
  get takers(): string[] {
    return [...new Set(this.talks.map(({ taker }) => taker))].sort()
  }

  /** Registers these files, and no other ones, at the Maestro under their true ids; begins to count anew. */
  async offer(files: Readonly<Record<string, Buffer>>, habits: Habits = {}): Promise<void> {
    this.#habits = habits
    this.manifests = 0
    this.talks = []
    this.asked = []
    this.#contents.clear()
    for (const [name, data] of Object.entries(files)) this.#contents.set(name, { data, manifest: manifestOf(data) })
    await this.#register()
  }

  /** More ports that it can be reached at. */
  morePorts(count: number): Promise<number[]> {
    return Promise.all(Array.from({ length: count }, () => listenRpc(this.#server, '127.0.0.1', 0)))
  }

  async stop(): Promise<void> {
    this.#server.forceShutdown()
  }

  async #start(): Promise<void> {
    const { GetManifest, Fetch } = TRANSFER_SERVICE
    const serialize =
      <T>(as: (message: T) => Buffer) =>
      (message: T | Buffer) =>
        Buffer.isBuffer(message) ? message : as(message)
    const service = {
      GetManifest: { ...GetManifest, responseSerialize: serialize(GetManifest.responseSerialize) },
      Fetch: {
        ...Fetch,
        responseSerialize: serialize(Fetch.responseSerialize as (message: ProviderMessage) => Buffer),
      },
    }
    const manifest: handleUnaryCall<{ content_id: Buffer }, WireManifest | Buffer> = ({ request }, answer) => {
      this.manifests++
      const content = this.#find(request.content_id)
      if (!content) return answer(toStatus(NOT_HERE))
      const truth = manifestToWire(content.manifest)
      const said = this.#habits.manifest ? this.#habits.manifest(truth) : truth
      if (said) answer(null, said)
    }
    this.#server.addService(service as unknown as ServiceDefinition, {
      GetManifest: manifest,
      Fetch: (call: Conversation) => this.#converse(call),
    })
    this.grpcPort = await listenRpc(this.#server, '127.0.0.1', 0)
    await this.#register()
  }

  async #register(): Promise<void> {
    const files = [...this.#contents].map(([name, { manifest }]) => ({ name, size: manifest.size, id: manifest.id }))
    const body = { peer: `http://127.0.0.1:${this.grpcPort}`, grpc_port: this.grpcPort, id: this.id, files }
    const response = await fetch(`${this.#cluster.maestroUrl}/register`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    if (!response.ok) throw new Error(`the Maestro refused ${this.id}: ${await response.text()}`)
  }

  #find(contentId: Buffer): Content | undefined {
    const id = contentIdOfWire(contentId)
    return [...this.#contents.values()].find(({ manifest }) => manifest.id === id)
  }

  #converse(call: Conversation): void {
    const habits = this.#habits
    let talk: Talk | undefined
    let sending = Promise.resolve()
    call.on('error', () => {})
    call.on('data', (message: TakerMessage) => {
      if (message.kind === 'open') {
        const { content_id, taker } = message.open
        const content = this.#find(content_id)
        if (!content) return void call.emit('error', toStatus(NOT_HERE))
        talk = new Talk(taker?.peer ?? '', content, call)
        this.talks.push(talk)
        if (habits.greet) habits.greet(talk)
        else talk.have()
      } else if (message.kind === 'want' && talk) {
        for (const piece of piecesOf(message.want.add)) talk.wanted.add(piece)
        for (const piece of piecesOf(message.want.remove)) talk.wanted.delete(piece)
        talk.credit += message.want.credit
        habits.wanted?.(talk)
        const about = talk
        sending = sending.then(() => this.#serve(about, habits))
      }
    })
    call.on('end', () => call.end())
  }

  async #serve(talk: Talk, habits: Habits): Promise<void> {
    for (;;) {
      const [piece] = talk.wanted
      if (piece === undefined || talk.credit === 0 || talk.over) return
      talk.wanted.delete(piece)
      talk.credit--
      this.asked.push({ content: talk.content.manifest.id, piece })
      if (habits.piece) await habits.piece(talk, piece)
      else talk.send(piece)
    }
  }
}

/** An honest provider that sends so many pieces of a content to each taker, and the next ones once it may. */
export function pausingAfter(pieces: number, gate: Gate): Habits {
  const sent = new Map<string, number>()
  return {
    piece: async (talk, piece) => {
      const key = `${talk.taker} ${talk.content.manifest.id}`
      const before = sent.get(key) ?? 0
      sent.set(key, before + 1)
      if (before >= pieces) await gate.passed
      talk.send(piece)
    },
  }
}

/** A switch that a test throws. */
export class Gate {
  readonly passed: Promise<void>
  open: () => void = () => {}

  constructor() {
    this.passed = new Promise((resolve) => {
      this.open = resolve
    })
  }
}

/** The time of this machine, which a test may let jump ahead. */
export class JumpingClock implements Clock {
  #ahead = 0
  readonly #sleepers = new Set<() => void>()

  now(): number {
    return Date.now() + this.#ahead
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    for (const due = this.now() + ms; this.now() < due && !signal?.aborted; )
      await new Promise<void>((resolve) => {
        const wake = () => {
          clearTimeout(timer)
          signal?.removeEventListener('abort', wake)
          this.#sleepers.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, Math.min(due - this.now(), 2 ** 31 - 1))
        signal?.addEventListener('abort', wake, { once: true })
        this.#sleepers.add(wake)
      })
  }

  jump(ms: number): void {
    this.#ahead += ms
    for (const wake of [...this.#sleepers]) wake()
  }
}
