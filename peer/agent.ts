import { join } from 'node:path'
import { hostPort } from '../common/address.ts'
import { type Clock, systemClock } from '../common/clock.ts'
import { type Listening, listen } from '../common/http.ts'
import { type Component, Loop } from '../common/lifecycle.ts'
import type { Logger } from '../common/log.ts'
import { MaestroClient } from '../common/maestro-client.ts'
import { createMetrics, gauge } from '../common/metrics.ts'
import { VERSION } from '../common/project.ts'
import type { LookupStep, NetworkLevel, PeerInfo } from '../common/schemas.ts'
import { advertisedHost } from './advertise.ts'
import { createPeerApp } from './app/app.ts'
import { Catalog } from './catalog/catalog.ts'
import { CatalogStore } from './catalog/catalog-store.ts'
import { SharedFolder } from './catalog/shared-folder.ts'
import type { PeerConfig } from './config.ts'
import type { PeerContact } from './contact.ts'
import { Events } from './events.ts'
import { Friends } from './friends.ts'
import { WorkerHasher } from './hashing/worker-hasher.ts'
import { Limits } from './limits.ts'
import { Breaker } from './locate/breaker.ts'
import { FriendStrategy } from './locate/friends.ts'
import { LocalStrategy, type Self } from './locate/local.ts'
import { Locator } from './locate/locator.ts'
import { MaestroStrategy } from './locate/maestro.ts'
import { levelOf } from './locate/outcome.ts'
import type { LocateStrategy } from './locate/strategy.ts'
import { LookupMetrics } from './lookup-metrics.ts'
import { MaestroSession } from './maestro-session.ts'
import { Neighbours } from './neighbours.ts'
import { PeerBookFile } from './overlay/book-file.ts'
import { noOverlay, Overlay } from './overlay.ts'
import { RpcClients } from './rpc/client.ts'
import { RpcServer } from './rpc/server.ts'
import { GrpcSmallSource } from './rpc/small-source.ts'
import { DownloadShare } from './transfer/download-share.ts'
import { Downloader } from './transfer/downloader.ts'
import { FolderDownloads } from './transfer/folder/download.ts'
import { friendLister, maestroLister } from './transfer/folder/listing.ts'
import { TransferManager } from './transfer/manager.ts'
import { Receiver } from './transfer/receiver.ts'
import { SharedContents } from './transfer/shared-contents.ts'
import { SmallUploader } from './transfer/small-uploader.ts'
import { TransferFile } from './transfer/transfer-log.ts'
import { Uploader } from './transfer/uploader.ts'

export type AgentConfig = PeerConfig & { state_dir: string }

export interface AgentDeps {
  log: Logger
  clock?: Clock
}

/** A peer: the one place that knows all its parts. They are built top to bottom, and stopped in reverse. */
export class Agent implements Component {
  readonly #config: AgentConfig
  readonly #log: Logger
  readonly #clock: Clock
  /** what was opened, to be closed in reverse */
  #opened: (() => void | Promise<void>)[] = []
  #info: (() => PeerInfo) | undefined
  #port = 0
  #grpcPort = 0

  constructor(config: AgentConfig, deps: AgentDeps) {
    this.#config = config
    this.#log = deps.log
    this.#clock = deps.clock ?? systemClock
  }

  /** REST port in fact. */
  get port(): number {
    return this.#port
  }

  info(): PeerInfo {
    if (!this.#info) throw new Error('the agent has not started')
    return this.#info()
  }

  /** @throws NetworkError that tells what keeps it from starting: a folder, a port, the state; nothing stays open then */
  async start(): Promise<void> {
    try {
      await this.#start()
    } catch (error) {
      // What fails there is in the log; why it did not start matters more.
      await this.stop().catch(() => {})
      throw error
    }
  }

  /** Stops every part, also where one of them fails to: the first failure is thrown at the end. */
  async stop(): Promise<void> {
    const failures: unknown[] = []
    for (const close of this.#opened.splice(0).reverse())
      try {
        await close()
      } catch (error) {
        this.#log.error({ err: error }, 'a part of the agent failed to stop')
        failures.push(error)
      }
    if (failures.length > 0) throw failures[0]
  }

  async #start(): Promise<void> {
    const config = this.#config
    const clock = this.#clock
    const log = this.#log
    const { id } = config
    const metrics = createMetrics('peer')
    const started = clock.now()
    const dummy = config.transfer === 'dummy'

    // What this peer has.
    const folder = SharedFolder.open(config.shared_dir)
    const hasher = this.#open(new WorkerHasher())
    const store = this.#open(CatalogStore.open(config.state_dir, log.child({ part: 'catalog' })))
    const catalog = new Catalog(
      { folder, store, hasher, log: log.child({ part: 'catalog' }), clock },
      { settleMs: config.settle_ms, rescanS: config.rescan_s, reserveBytes: config.reserve_bytes },
    )
    this.#opened.push(() => catalog.stop())

    // Whom it asks.
    let host = await advertisedHost(this.#advertise)
    const self = (): Self => ({ id, rest: `http://${hostPort(host, this.#port)}`, grpcPort: this.#grpcPort })
    const friends = this.#open(
      new Friends(
        { log: log.child({ part: 'friends' }) },
        {
          self: id,
          primary: config.friend_peer_primary,
          backup: config.friend_peer_backup,
          file: join(config.state_dir, 'friends.json'),
          timeoutMs: config.lookup_timeout_ms,
        },
      ),
    )
    const maestro = config.maestro_url === undefined ? undefined : this.#open(new MaestroClient(config.maestro_url))
    const clients = this.#open(new RpcClients())
    const contact = (): PeerContact => ({ peer: id, host, restPort: this.#port, grpcPort: this.#grpcPort })
    const overlay = config.ring
      ? new Overlay(
          {
            self: contact,
            catalog,
            clients,
            friends,
            maestro,
            file: new PeerBookFile(
              { log: log.child({ part: 'overlay' }) },
              { file: join(config.state_dir, 'peers.json') },
            ),
            clock,
            random: Math.random,
            log,
          },
          {
            successors: config.ring_successors,
            stabilizeMs: config.stabilize_ms,
            timeoutMs: config.lookup_timeout_ms,
          },
        )
      : undefined
    const directory = maestro && new MaestroStrategy(maestro, id)
    const fixed: LocateStrategy[] = [
      new LocalStrategy(catalog, self),
      ...(directory ? [directory] : []),
      ...(overlay?.strategies() ?? []),
    ]
    const strategies = () => [...fixed, ...friends.peers().map((friend) => new FriendStrategy(friend))]
    const lookup = { timeoutMs: config.lookup_timeout_ms }
    const breaker = new Breaker({ parties: strategies, clock }, lookup)
    const probing = new Loop('probe', (signal) => breaker.tick(signal), log.child({ part: 'lookup' }), {
      interval: () => breaker.pauseMs,
      clock,
    })
    const lookups = new LookupMetrics(metrics)
    const locator = new Locator(
      { strategies, clock, breaker, onStep: (step) => lookups.count(step) },
      { ...lookup, order: config.strategies },
    )
    const near = new Locator(
      { strategies, clock, breaker, onStep: (step) => lookups.count(step) },
      { ...lookup, order: config.strategies.filter((strategy) => strategy !== 'flood') },
    )

    // How content moves.
    const contents = new SharedContents(catalog)
    const limits = new Limits(
      { clock, log: log.child({ part: 'limits' }) },
      {
        file: join(config.state_dir, 'limits.json'),
        configured: { download: config.download_rate, upload: config.upload_rate, schedule: config.rate_schedule },
      },
    )
    const limit = limits.bucket('upload')
    const uploader = new Uploader({ clock, limit }, { slots: config.upload_slots })
    const neighbours = new Neighbours({
      self: () => ({ id, host, grpcPort: this.#grpcPort }),
      contents,
      uploader,
      clients,
      maestro,
      friends: () => friends.peers(),
    })
    const share = new DownloadShare(() => limits.now().download)
    const downloader = new Downloader({ landing: catalog, hasher, clock, neighbourhood: neighbours, share })
    const listers = () => ({
      maestro: maestro && maestroLister(maestro),
      friends: friends.peers().map((friend) => friendLister(friend)),
    })
    const folders = new FolderDownloads({
      clock,
      self: id,
      listers,
      source: (provider) => new GrpcSmallSource(clients, provider),
      shelf: catalog,
      share,
      file: async ({ id: content, names, providers }, { rate, observer }, signal) => {
        const sources = providers.map((provider) => clients.source(provider))
        const discover = (more: AbortSignal) => neighbours.find(content, more)
        const fetched = { id: content, names: () => names, sources, discover, dummy: false, patient: false }
        const download = { ...fetched, rate, observer }
        const { outcome } = await downloader.run(download, signal)
        return outcome
      },
    })
    const transfers = new TransferManager(
      {
        locator,
        sources: (provider) => clients.source(provider),
        swarmPeers: (content, signal) => neighbours.find(content, signal),
        landing: catalog,
        downloader,
        folders,
        saved: new TransferFile(
          { log: log.child({ part: 'transfers' }) },
          { file: join(config.state_dir, 'transfers.json') },
        ),
        news: {
          started: (transfer) => events.transferNews.started(transfer),
          ended: (transfer) => events.transferNews.ended(transfer),
        },
        clock,
        log: log.child({ part: 'transfers' }),
      },
      { mode: config.transfer },
    )
    const receiver = new Receiver({ landing: catalog, downloader, transfers }, { accept: config.accept_uploads, dummy })
    const smallUploader = new SmallUploader({ clock, limit })
    const rpc = new RpcServer(
      {
        contents,
        landing: catalog,
        hasher,
        receiver,
        uploader,
        smallUploader,
        clock,
        log: log.child({ part: 'grpc' }),
        ...(overlay ? { self: contact, ...overlay.handlers } : {}),
      },
      { dummy, host: () => host },
    )

    // Listeners first, so that what is advertised is real.
    this.#grpcPort = await rpc.start(config.ip, config.grpc_port)
    this.#opened.push(() => rpc.stop())
    const session =
      maestro &&
      new MaestroSession(id, {
        maestro,
        catalog,
        address: async () => {
          host = await advertisedHost(this.#advertise)
          return { rest: self().rest, grpcPort: this.#grpcPort }
        },
        onAnswer: (answered) => {
          if (directory) breaker.report(directory, answered)
          if (answered) events.maestroAnswers()
        },
        log: log.child({ part: 'maestro' }),
        clock,
      })
    const level = (steps?: readonly LookupStep[]): NetworkLevel =>
      levelOf(
        {
          strategies: config.strategies,
          maestro: session === undefined ? 'none' : session.state === 'unreachable' ? 'down' : 'answers',
          ring: overlay?.ringState ?? 'off',
          neighbours: overlay?.neighbours ?? 0,
          friends: friends.list().filter(({ alive }) => alive !== false).length,
        },
        steps,
      )
    const events = this.#open(
      Events.open(
        {
          ...{ catalog, transfers, maestro, listers, clock, log },
          locate: (content, signal) => near.locate({ kind: 'id', id: content }, signal),
          level: () => level(),
        },
        config,
      ),
    )
    events.addMetrics(metrics)
    const info = (): PeerInfo => ({
      id,
      rest_url: self().rest,
      grpc_port: this.#grpcPort,
      files: catalog.size,
      bytes: catalog.bytes,
      revision: catalog.revision,
      scanning: catalog.scanning || catalog.unhashed > 0,
      transfer: config.transfer,
      maestro_url: config.maestro_url ?? null,
      maestro: session?.state ?? 'none',
      maestro_problem: session?.problem ?? null,
      network: level(),
      events: events.state,
      uptime_s: (clock.now() - started) / 1000,
      version: VERSION,
    })
    gauge(metrics, 'p2p_catalog_files', 'files shared', () => catalog.size)
    gauge(metrics, 'p2p_catalog_bytes', 'bytes shared', () => catalog.bytes)
    gauge(metrics, 'p2p_registered', '1 while the Maestro holds a lease of this peer', () =>
      session?.state === 'registered' ? 1 : 0,
    )
    const app = createPeerApp(
      {
        files: catalog,
        friends,
        locator,
        transfers,
        swarms: { members: (content) => neighbours.members(content), uploads: () => uploader.list() },
        limits,
        overlay: overlay ?? noOverlay(contact),
        events,
        eventsPrefix: config.events_prefix,
        level,
        self,
        info,
        log: log.child({ part: 'rest' }),
        metrics,
      },
      { token: config.token, advertiseHost: config.advertise_host },
    )
    const rest: Listening = await listen(app, config.ip, config.port)
    this.#opened.push(() => rest.close())
    this.#port = rest.port

    await limits.start()
    this.#opened.push(() => limits.stop())
    await catalog.start()
    await probing.start()
    this.#opened.push(() => probing.stop())
    this.#opened.push(() => transfers.stop())
    if (session) {
      await session.start()
      this.#opened.push(() => session.stop())
    }
    if (overlay) {
      overlay.addMetrics(metrics)
      await overlay.start()
      this.#opened.push(() => overlay.stop())
    }
    this.#opened.push(() => events.stop())
    await events.start()
    clients.fetches.warm()
    // With the Maestro asked first, who else is up is known by then.
    transfers.restore()
    this.#info = info
  }

  get #advertise() {
    const { ip, advertise_host: host, maestro_url: maestroUrl } = this.#config
    return { ip, host, maestroUrl }
  }

  #open<T extends { close(): void | Promise<void> }>(resource: T): T {
    this.#opened.push(() => resource.close())
    return resource
  }
}
