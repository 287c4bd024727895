import { Client, type ClientDuplexStream } from '@grpc/grpc-js'
import { systemClock } from '../../common/clock.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { channelTo } from '../../common/rpc.ts'
import { WorkerHasher } from '../hashing/worker-hasher.ts'
import type { DownloadResult } from '../transfer/download.ts'
import { Downloader, type DownloaderOptions } from '../transfer/downloader.ts'
import { Receiver, type ReceiverOptions } from '../transfer/receiver.ts'
import { SmallUploader } from '../transfer/small-uploader.ts'
import type { PieceSource } from '../transfer/source.ts'
import { MemoryContents, TemporaryLanding } from '../transfer/transfer.fixture.ts'
import { Uploader, type UploaderOptions } from '../transfer/uploader.ts'
import type { RpcTarget } from './client.ts'
import { type ProviderMessage, type TakerMessage, TRANSFER_SERVICE } from './codec.ts'
import { RpcServer, type RpcServerDeps, type RpcServerOptions } from './server.ts'

export interface RpcPeerOptions extends Partial<RpcServerOptions>, UploaderOptions, ReceiverOptions, DownloaderOptions {
  /** gRPC port (default: any free one) */
  port?: number
  /** what it answers as a member of a ring and as a neighbour (default: it is neither) */
  network?: Pick<RpcServerDeps, 'ring' | 'overlay' | 'flood' | 'self'>
}

/** A peer of real sockets, real workers and a real folder; what it provides is in memory. */
export class RpcPeer {
  readonly contents = new MemoryContents()
  readonly landing: TemporaryLanding
  readonly target: RpcTarget
  readonly downloader: Downloader
  #server: RpcServer

  static async start(name: string, hasher: WorkerHasher, options: RpcPeerOptions = {}): Promise<RpcPeer> {
    const landing = await TemporaryLanding.create()
    const contents = new MemoryContents()
    const clock = systemClock
    const downloader = new Downloader({ landing, hasher, clock }, options)
    const receiver = new Receiver({ landing, downloader }, options)
    const uploader = new Uploader({ clock }, options)
    const smallUploader = new SmallUploader({ clock })
    const deps = {
      contents,
      landing,
      hasher,
      uploader,
      smallUploader,
      receiver,
      clock,
      log: silentLog,
      ...options.network,
    }
    const server = new RpcServer(deps, { graceMs: 50, host: () => '127.0.0.1', ...options })
    const grpc_port = await server.start('127.0.0.1', options.port ?? 0)
    return new RpcPeer(server, landing, contents, downloader, {
      peer: name as PeerId,
      rest: 'http://127.0.0.1:8000',
      grpc_port,
    })
  }

  private constructor(
    server: RpcServer,
    landing: TemporaryLanding,
    contents: MemoryContents,
    downloader: Downloader,
    target: RpcTarget,
  ) {
    this.#server = server
    this.landing = landing
    this.contents = contents
    this.downloader = downloader
    this.target = target
  }

  /** Fetches from these sources into this peer's folder. */
  download(id: string, name: string, sources: PieceSource[], notes: string[] = []): Promise<DownloadResult> {
    return this.downloader.run(
      {
        id: id as Parameters<MemoryContents['manifest']>[0],
        names: () => [name as FileName],
        sources,
        dummy: false,
        patient: false,
        observer: { onNote: (note) => notes.push(note) },
      },
      new AbortController().signal,
    )
  }

  async stop(): Promise<void> {
    await this.#server.stop()
    await this.landing.remove()
  }
}

/** A client that does whatever a test wants. */
export class RawClient {
  readonly client: Client

  constructor({ grpc_port }: RpcTarget) {
    const { address, credentials, options } = channelTo('127.0.0.1', grpc_port)
    this.client = new Client(address, credentials, options)
  }

  fetch(): ClientDuplexStream<TakerMessage, ProviderMessage> & { status: Promise<{ code: number; details: string }> } {
    const { path, requestSerialize, responseDeserialize } = TRANSFER_SERVICE.Fetch
    return withStatus(this.client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize))
  }

  /** A taker that begins to read, and then reads no more. (One that never begins, grpc-js reads for into memory.) */
  stuck(): ReturnType<RawClient['fetch']> {
    const call = this.fetch()
    call.once('readable', () => call.read())
    return call
  }

  /** A call of any method, in bytes. */
  bytes(path: string): ClientDuplexStream<Buffer, Buffer> & { status: Promise<{ code: number; details: string }> } {
    const same = (bytes: Buffer) => bytes
    return withStatus(this.client.makeBidiStreamRequest(path, same, same))
  }

  close(): void {
    this.client.close()
  }
}

function withStatus<Call extends ClientDuplexStream<never, unknown>>(call: Call) {
  call.on('error', () => {})
  const status = new Promise<{ code: number; details: string }>((resolve) => call.once('status', resolve))
  return Object.assign(call, { status })
}

export function startHasher(): WorkerHasher {
  return new WorkerHasher({}, { size: 1 })
}
