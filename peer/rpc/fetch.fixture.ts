import { once } from 'node:events'
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2'
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Manifest, pieceCount, pieceLength } from '../../common/merkle.ts'
import { FRAME_HEADROOM } from '../transfer/outgoing.ts'
import { piecesOf } from '../transfer/runs.ts'
import type { PieceSink } from '../transfer/source.ts'
import { type ProviderMessage, type TakerMessage, TRANSFER_SERVICE } from './codec.ts'
import { encodePrefixedFrame } from './frame-codec.ts'

/** A provider's side of one conversation, as honest or not as a test wants. */
export class Talk {
  readonly stream: ServerHttp2Stream
  readonly session: ServerHttp2Session
  readonly gone: Promise<void>
  #received = Buffer.alloc(0)
  #trailers: Record<string, string> = {}

  constructor(stream: ServerHttp2Stream) {
    this.stream = stream
    this.session = stream.session as ServerHttp2Session
    this.gone = new Promise((resolve) => stream.once('close', () => resolve()))
    stream.on('error', () => {})
    stream.on('wantTrailers', () => stream.sendTrailers(this.#trailers))
    stream.on('data', (chunk: Buffer) => {
      this.#received = Buffer.concat([this.#received, chunk])
      stream.emit('more')
    })
  }

  respond(headers: Record<string, string | number> = {}): void {
    const grpc = { ':status': 200, 'content-type': 'application/grpc+proto', ...headers }
    this.stream.respond(grpc, { waitForTrailers: true })
  }

  /** The next message of the taker; undefined once it is gone. */
  async next(): Promise<TakerMessage | undefined> {
    for (;;) {
      const end = this.#received.length < 5 ? Number.POSITIVE_INFINITY : 5 + this.#received.readUInt32BE(1)
      if (this.#received.length >= end) {
        const message = this.#received.subarray(5, end)
        this.#received = this.#received.subarray(end)
        return TRANSFER_SERVICE.Fetch.requestDeserialize(message)
      }
      if (this.stream.destroyed) return undefined
      await Promise.race([once(this.stream, 'more'), this.gone])
    }
  }

  send(message: Exclude<ProviderMessage, { kind: 'frame' }>): void {
    this.message(TRANSFER_SERVICE.Fetch.responseSerialize(message))
  }

  /** Any bytes as a message. */
  message(bytes: Uint8Array): void {
    const prefix = Buffer.alloc(5)
    prefix.writeUInt32BE(bytes.length, 1)
    this.stream.write(Buffer.concat([prefix, bytes]))
  }

  /** Resolves when it has left. */
  frame(piece: number, offset: number, data: Uint8Array, simulated = 0): Promise<void> {
    return this.write(prefixedFrame(piece, offset, data, simulated))
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve) => this.stream.write(bytes, () => resolve()))
  }

  end(trailers: Record<string, string>): void {
    this.#trailers = trailers
    this.stream.end()
  }
}

/** A frame as it goes into the stream. */
export function prefixedFrame(piece: number, offset: number, data: Uint8Array, simulated = 0): Buffer {
  const buffer = Buffer.concat([Buffer.alloc(FRAME_HEADROOM), data])
  return encodePrefixedFrame({ piece, offset, buffer, length: data.length, simulated })
}

/** Providers on real sockets, and where their port is. */
export class FakeProvider {
  readonly port: number
  readonly talks: Talk[] = []
  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  /** Each conversation goes as `converse` says. */
  static async start(converse: (talk: Talk) => unknown): Promise<FakeProvider> {
    const server = createServer()
    const provider = await FakeProvider.listen(server as unknown as Server)
    server.on('sessionError', () => {})
    server.on('stream', (stream) => {
      const talk = new Talk(stream)
      provider.talks.push(talk)
      void converse(talk)
    })
    return provider
  }

  /** Something on a TCP port that is no provider. */
  static startRaw(connected: (socket: Socket) => void): Promise<FakeProvider> {
    return FakeProvider.listen(createTcpServer(connected))
  }

  private static async listen(server: Server): Promise<FakeProvider> {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return new FakeProvider(server)
  }

  private constructor(server: Server) {
    this.#server = server
    this.port = (server.address() as AddressInfo).port
    server.on('connection', (socket: Socket) => {
      this.#sockets.add(socket)
      socket.on('error', () => {})
      socket.once('close', () => this.#sockets.delete(socket))
    })
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#sockets.size
  }

  async stop(): Promise<void> {
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.#server, 'close')
  }
}

/** An honest provider: what is wanted, in ascending order, as far as credit goes. */
export function serves(
  data: Buffer,
  manifest: Manifest,
  options: { frameBytes?: number; has?: readonly number[] } = {},
): (talk: Talk) => Promise<void> {
  const { frameBytes = 128 * 1024, has = [0, pieceCount(manifest.size, manifest.pieceSize)] } = options
  return async (talk) => {
    talk.respond()
    const wanted = new Set<number>()
    let credit = 0
    for (let message = await talk.next(); message; message = await talk.next()) {
      if (message.kind === 'open') talk.send({ kind: 'have', have: { pieces: [...has] } })
      if (message.kind !== 'want') continue
      for (const piece of piecesOf(message.want.add)) wanted.add(piece)
      for (const piece of piecesOf(message.want.remove)) wanted.delete(piece)
      for (credit += message.want.credit; credit > 0 && wanted.size > 0; credit--) {
        const piece = Math.min(...wanted)
        wanted.delete(piece)
        const length = pieceLength(manifest, piece)
        for (let offset = 0; offset < length; offset += frameBytes) {
          const start = piece * manifest.pieceSize + offset
          await talk.frame(piece, offset, data.subarray(start, start + Math.min(frameBytes, length - offset)))
        }
      }
    }
  }
}

/** Where a test's pieces land. */
export class FileSink implements PieceSink {
  readonly manifest: Manifest
  readonly dummy: boolean
  readonly fd: number
  readonly path: string
  readonly taker = undefined
  readonly #folder: string

  constructor(manifest: Manifest, options: { dummy?: boolean; path?: string; flags?: string } = {}) {
    this.manifest = manifest
    this.dummy = options.dummy ?? false
    this.#folder = mkdtempSync(join(tmpdir(), 'fetch-'))
    this.path = options.path ?? join(this.#folder, 'file')
    this.fd = openSync(this.path, options.flags ?? 'w+')
  }

  bytes(): Buffer {
    return readFileSync(this.path)
  }

  commit(): Promise<boolean> {
    throw new Error('the thread writes by itself')
  }

  close(): void {
    closeSync(this.fd)
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
