import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import type { AddressInfo, Server, Socket } from 'node:net'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import type { TestContext } from 'vitest'
import { expect } from 'vitest'
import { RestClient } from '../common/rest-client.ts'
import {
  isEndState,
  KnownPeersResponse,
  PeerInfo,
  PeerLocateResponse,
  type RingBody,
  RingResponse,
  type TransferBody,
  TransferSchema,
} from '../common/schemas.ts'
import { type Cluster, type ClusterOptions, startCluster } from './cluster.ts'
import { Daemon, type Ended } from './processes.ts'

type Test = Pick<TestContext, 'onTestFinished'>
/** An agent, in this process or in one of its own, as its user reaches it. */
type Reached = { readonly rest: RestClient }
type Query = { file?: string; id?: string; q?: string; via?: string }

/** Of agents that look after their ring often. */
export const LIVELY = { stabilize_ms: 300 }
/** An agent ends within this, ms. */
const ENDS_MS = 3000

/** A cluster whose agents must all end in time when the test does. */
export async function startNetwork(t: Test, options: ClusterOptions = { maestro: false }): Promise<Cluster> {
  const cluster = await startCluster(t, options)
  t.onTestFinished(async () => {
    for (const peer of cluster.peers) await endsSoon(() => peer.stop())
  })
  return cluster
}

/** @throws where it fails, or takes longer than an agent may */
export async function endsSoon(stop: () => Promise<unknown>, ms = ENDS_MS): Promise<void> {
  const begin = performance.now()
  await stop()
  expect(performance.now() - begin).toBeLessThan(ms)
}

/** A real agent in a process of its own, with a configuration and folders in `folder`. */
export class PeerProcess implements Reached {
  readonly id: string
  readonly folder: string
  readonly ports: { readonly port: number; readonly grpc_port: number }
  readonly rest: RestClient
  readonly #daemon: Daemon

  constructor(
    id: string,
    folder: string,
    ports: { readonly port: number; readonly grpc_port: number },
    config: Record<string, unknown> = {},
  ) {
    this.id = id
    this.ports = ports
    this.folder = join(folder, id, 'shared')
    mkdirSync(this.folder, { recursive: true })
    const whole = { id, ip: '127.0.0.1', ...ports, shared_dir: this.folder, settle_ms: 20, log_level: 'error' }
    const file = join(folder, id, `config-${ports.port}.json`)
    writeFileSync(file, JSON.stringify({ ...whole, state_dir: join(folder, id, 'state'), ...config }))
    this.#daemon = Daemon.peer(file)
    this.rest = new RestClient({ name: id, baseUrl: this.url, timeoutMs: 20_000 })
  }

  get url(): string {
    return `http://127.0.0.1:${this.ports.port}`
  }

  get pid(): number {
    return this.#daemon.pid
  }

  /** Before it is started, so that it need not be waited for. */
  put(name: string, data: Uint8Array | string): void {
    mkdirSync(dirname(join(this.folder, name)), { recursive: true })
    writeFileSync(join(this.folder, name), data)
  }

  read(name: string): Buffer {
    return readFileSync(join(this.folder, name))
  }

  /** Started, and all that it has is shared. */
  async start(t: Test): Promise<void> {
    t.onTestFinished(async () => {
      this.#daemon.kill('SIGCONT')
      await this.#daemon.stop('SIGKILL')
      await this.rest.close()
    })
    this.#daemon.start()
    const settled = async () => {
      const { scanning } = await this.rest.call('GET', '/info', PeerInfo)
      return !scanning
    }
    await expect.poll(() => settled().catch(() => false), { timeout: 30_000, interval: 50 }).toBe(true)
  }

  signal(signal: NodeJS.Signals): void {
    this.#daemon.kill(signal)
  }

  end(signal: 'SIGTERM' | 'SIGKILL'): Promise<Ended> {
    return this.#daemon.stop(signal)
  }
}

export function locate({ rest }: Reached, query: Query): Promise<PeerLocateResponse> {
  return rest.call('GET', '/locate', PeerLocateResponse, { query })
}

/** Who is told to have it, and of what: `P3 film.mkv`, in order. */
export async function found(peer: Reached, query: Query): Promise<string[]> {
  const { peers } = await locate(peer, query)
  return peers.map(({ peer: id, file }) => `${id} ${file}`).sort()
}

/** Waits until this is what a lookup finds. */
export async function finds(peer: Reached, query: Query, what: readonly string[], timeout = 20_000): Promise<void> {
  await expect
    .poll(() => found(peer, query), { timeout, interval: 50, message: JSON.stringify(query) })
    .toEqual([...what].sort())
}

export function ringOf({ rest }: Reached): Promise<RingBody> {
  return rest.call('GET', '/ring', RingResponse)
}

/** Waits until each knows all others as its successors, one after the other. */
export async function formRing(peers: readonly (Reached & { readonly id: string })[], timeout = 30_000): Promise<void> {
  for (const peer of peers)
    await expect
      .poll(async () => (await ringOf(peer)).successors.map(({ peer: id }) => id as string).sort(), { timeout })
      .toEqual(peers.flatMap(({ id }) => (id === peer.id ? [] : [id])).sort())
}

/** Waits until each has made so many calls to others since: what would come of something has come. */
export async function roundsPass(peers: readonly Reached[], calls = 8): Promise<void> {
  await Promise.all(
    peers.map(async (peer) => {
      const before = (await ringOf(peer)).messages.sent
      const sent = async () => (await ringOf(peer)).messages.sent - before
      await expect.poll(sent, { timeout: 20_000 }).toBeGreaterThanOrEqual(calls)
    }),
  )
}

/** The peers that one knows, with how it stands with them. */
export async function knownTo({ rest }: Reached): Promise<Record<string, string | undefined>> {
  const { peers } = await rest.call('GET', '/peers', KnownPeersResponse)
  return Object.fromEntries(peers.map(({ id, status }) => [id ?? '?', status]))
}

/** Downloads a file to its end. */
export async function download({ rest }: Reached, file: string): Promise<TransferBody> {
  let now = await rest.call('POST', '/transfers', TransferSchema, { body: { file } })
  const state = async () => {
    now = await rest.call('GET', `/transfers/${now.transfer}`, TransferSchema)
    return isEndState(now.state)
  }
  await expect.poll(state, { timeout: 30_000, interval: 50 }).toBe(true)
  return now
}

/** Somebody at an address that speaks no protocol of ours: it takes connections, and never says anything. */
export class SilentServer {
  port = 0
  connections = 0
  readonly #sockets = new Set<Socket>()
  readonly #server: Server

  static async start(t: Test): Promise<SilentServer> {
    const silent = new SilentServer()
    await new Promise<void>((resolve) => silent.#server.listen(0, '127.0.0.1', resolve))
    silent.port = (silent.#server.address() as AddressInfo).port
    t.onTestFinished(() => silent.stop())
    return silent
  }

  private constructor() {
    this.#server = createServer((socket) => {
      this.connections++
      this.#sockets.add(socket)
      socket.on('error', () => {}).on('close', () => this.#sockets.delete(socket))
      socket.resume()
    })
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    if (this.#server.listening) await new Promise((resolve) => this.#server.close(resolve))
  }
}
