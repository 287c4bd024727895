import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import type { TestContext } from 'vitest'
import { expect } from 'vitest'
import { z } from 'zod'
import type { Clock } from '../common/clock.ts'
import { silentLog } from '../common/log.ts'
import { RestClient } from '../common/rest-client.ts'
import {
  isEndState,
  MaestroLocateResponse,
  PeerLocateResponse,
  type TransferBody,
  type TransferRequest,
  TransferSchema,
  TransfersResponse,
} from '../common/schemas.ts'
import { MaestroConfig } from '../maestro/config.ts'
import { Maestro } from '../maestro/maestro.ts'
import { Agent } from '../peer/agent.ts'
import { PeerConfig } from '../peer/config.ts'

/**
 * A real Maestro and real agents in one process, on free ports and temporary folders, torn down with the test:
 *
 *   const cluster = await startCluster(t)
 *   const [p1, p2] = await cluster.addPeers('P1', 'P2')
 *   await p1.share('film.mkv', film)
 *   await p2.download('film.mkv')
 *   expect(p2.read('film.mkv')).toEqual(film)
 */
export interface ClusterOptions {
  /** false: no Maestro at all */
  maestro?: boolean
  leaseMs?: number
}

export async function startCluster(
  t: Pick<TestContext, 'onTestFinished'>,
  options: ClusterOptions = {},
): Promise<Cluster> {
  const cluster = new Cluster(options)
  t.onTestFinished(() => cluster.stop(), 30_000)
  if (options.maestro !== false) await cluster.startMaestro()
  return cluster
}

export class Cluster {
  readonly folder = mkdtempSync(join(tmpdir(), 'cluster-'))
  readonly peers: TestPeer[] = []
  readonly #options: ClusterOptions
  #maestro: Maestro | undefined
  #maestroPort = 0

  constructor(options: ClusterOptions) {
    this.#options = options
  }

  get maestroUrl(): string {
    return `http://127.0.0.1:${this.#maestroPort}`
  }

  /** Starts the Maestro, or starts it again with its old database; on its old port, unless it is given one. */
  async startMaestro(port = this.#maestroPort): Promise<void> {
    const config = MaestroConfig.parse({
      id: 'maestro',
      ip: '127.0.0.1',
      port,
      database: join(this.folder, 'maestro.db'),
      lease_ms: this.#options.leaseMs ?? 3000,
    })
    const maestro = new Maestro(config, { log: silentLog })
    await maestro.start()
    this.#maestro = maestro
    this.#maestroPort = maestro.port
  }

  async stopMaestro(): Promise<void> {
    await this.#maestro?.stop()
    this.#maestro = undefined
  }

  /** `clock`: the time as this peer sees it */
  async addPeer(id: string, config: Record<string, unknown> = {}, deps: { clock?: Clock } = {}): Promise<TestPeer> {
    const peer = new TestPeer(id, this, config, deps)
    mkdirSync(peer.folder, { recursive: true })
    this.peers.push(peer)
    await peer.start()
    return peer
  }

  async addPeers<const Ids extends readonly string[]>(...ids: Ids): Promise<{ [I in keyof Ids]: TestPeer }> {
    const peers: TestPeer[] = []
    for (const id of ids) peers.push(await this.addPeer(id))
    return peers as { [I in keyof Ids]: TestPeer }
  }

  /** Whom the Maestro names for a file, in order of their ids. */
  async providers(file: string): Promise<string[]> {
    const client = new RestClient({ name: 'the Maestro', baseUrl: this.maestroUrl })
    try {
      const { peers } = await client.call('GET', '/locate', MaestroLocateResponse, { query: { file } })
      return peers.map((p) => p.peer as string).sort()
    } finally {
      await client.close()
    }
  }

  get hasMaestro(): boolean {
    return this.#maestro !== undefined
  }

  async stop(): Promise<void> {
    await Promise.all(this.peers.map((peer) => peer.stop()))
    await this.stopMaestro()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

export class TestPeer {
  readonly id: string
  readonly folder: string
  agent!: Agent
  rest!: RestClient
  readonly #cluster: Cluster
  readonly #config: Record<string, unknown>
  readonly #deps: { clock?: Clock }
  #running = false

  constructor(id: string, cluster: Cluster, config: Record<string, unknown>, deps: { clock?: Clock }) {
    this.id = id
    this.folder = join(cluster.folder, id, 'shared')
    this.#cluster = cluster
    this.#config = config
    this.#deps = deps
  }

  get url(): string {
    return this.rest.baseUrl
  }

  async start(): Promise<void> {
    const config = PeerConfig.parse({
      id: this.id,
      ip: '127.0.0.1',
      port: 0,
      grpc_port: 0,
      shared_dir: this.folder,
      settle_ms: 20,
      ...(this.#cluster.hasMaestro ? { maestro_url: this.#cluster.maestroUrl } : {}),
      ...this.#config,
    })
    const state_dir = join(this.#cluster.folder, this.id, 'state')
    this.agent = new Agent({ ...config, state_dir }, { log: silentLog, ...this.#deps })
    await this.agent.start()
    this.rest = new RestClient({ name: this.id, baseUrl: `http://127.0.0.1:${this.agent.port}`, timeoutMs: 20_000 })
    this.#running = true
    if (this.#cluster.hasMaestro) await expect.poll(() => this.agent.info().maestro).toBe('registered')
  }

  async stop(): Promise<void> {
    if (!this.#running) return
    this.#running = false
    await this.rest.close()
    await this.agent.stop()
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  /** Puts a file on this peer's disk and waits until the peer shares it, and the Maestro knows. */
  async share(name: string, data: Uint8Array | string): Promise<void> {
    mkdirSync(dirname(this.path(name)), { recursive: true })
    writeFileSync(this.path(name), data)
    await expect.poll(() => this.has(name), { interval: 10 }).toBe(true)
    if (this.#cluster.hasMaestro)
      await expect.poll(() => this.#cluster.providers(name), { interval: 10 }).toContain(this.id)
  }

  async has(file: string): Promise<boolean> {
    const { exists } = await this.rest.call('GET', '/search', z.object({ exists: z.boolean() }), { query: { file } })
    return exists
  }

  read(name: string): Buffer {
    return readFileSync(this.path(name))
  }

  locate(query: { file?: string; id?: string; q?: string; via?: string }): Promise<PeerLocateResponse> {
    return this.rest.call('GET', '/locate', PeerLocateResponse, { query })
  }

  /** Downloads and returns the ended transfer, whatever its end. */
  async transfer(request: z.input<typeof TransferRequest>): Promise<TransferBody> {
    const [ended] = await this.transfers([request])
    return ended!
  }

  /** Downloads at once what is asked for. One poll asks for all of them: one each would be most of the agent's work. */
  async transfers(requests: z.input<typeof TransferRequest>[], timeout = 30_000): Promise<TransferBody[]> {
    const begun = await Promise.all(
      requests.map((body) => this.rest.call('POST', '/transfers', TransferSchema, { body })),
    )
    let now: TransferBody[] = []
    await expect
      .poll(
        async () => {
          const list = await this.rest.call('GET', '/transfers', TransfersResponse)
          const byId = new Map(list.transfers.map((t) => [t.transfer, t]))
          now = begun.map((t) => byId.get(t.transfer) ?? t)
          return now.filter(({ state }) => !isEndState(state)).length
        },
        { timeout, interval: 50 },
      )
      .toBe(0)
    return now
  }

  /** Downloads; fails the test where that fails. */
  async download(file: string): Promise<TransferBody> {
    const ended = await this.transfer({ file })
    expect(ended.error).toBe(null)
    expect(ended.state).toBe('done')
    return ended
  }
}
