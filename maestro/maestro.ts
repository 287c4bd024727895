import type { Registry as MetricsRegistry } from 'prom-client'
import { hostPort } from '../common/address.ts'
import { type Clock, systemClock } from '../common/clock.ts'
import { type App, createApp, documented, type Listening, listen } from '../common/http.ts'
import { type Component, Loop } from '../common/lifecycle.ts'
import type { Logger } from '../common/log.ts'
import { counter, createMetrics, gauge } from '../common/metrics.ts'
import { VERSION } from '../common/project.ts'
import { RequestMetrics } from '../common/request-metrics.ts'
import { addFileRoutes } from './app/files.ts'
import { heartbeatShortcut } from './app/heartbeat-shortcut.ts'
import { addInfoRoutes } from './app/info.ts'
import { locateShortcut } from './app/locate-shortcut.ts'
import { addPeerRoutes } from './app/peers.ts'
import { addSearchRoutes } from './app/search.ts'
import { addSwarmRoutes } from './app/swarms.ts'
import type { MaestroConfig } from './config.ts'
import { SqliteStore } from './directory/sqlite.ts'
import type { DirectoryStore } from './directory/store.ts'
import { MaestroEvents } from './events.ts'
import { Reaper } from './reaper.ts'
import { Registry } from './registry.ts'
import { Search } from './search.ts'
import { Swarms, type Tracker } from './swarms.ts'

const DOCUMENT = {
  title: 'Maestro',
  description:
    'The directory of a private peer-to-peer network: which live peer offers which content under which name.',
}

export interface MaestroDeps {
  log: Logger
  clock?: Clock
}

interface Running {
  store: DirectoryStore
  events: MaestroEvents
  app: App
  reaper: Reaper
  loop: Loop
  listening: Listening
}

/** The directory service: everything that one is made of. */
export class Maestro implements Component {
  readonly #config: MaestroConfig
  readonly #log: Logger
  readonly #clock: Clock
  #running: Running | undefined

  constructor(config: MaestroConfig, deps: MaestroDeps) {
    this.#config = config
    this.#log = deps.log
    this.#clock = deps.clock ?? systemClock
  }

  /** @throws NetworkError where the database or the port can't be had */
  async start(): Promise<void> {
    const { ip, port, database, lease_ms: leaseMs, headers_timeout_ms: headersTimeoutMs } = this.#config
    const { max_files_per_peer: maxFilesPerPeer, max_peers: maxPeers } = this.#config
    const clock = this.#clock
    const log = this.#log
    const store: DirectoryStore = SqliteStore.open(database)
    let events: MaestroEvents | undefined
    try {
      // Peers could not be heard while this Maestro was away: each lease begins anew.
      await store.extendLeases(clock.now() + leaseMs)
      events = MaestroEvents.open(this.#config, { store, clock, log })
      const publish = events.publish.bind(events)
      const reaper = new Reaper({ store, clock, log, publish })
      const tracker = new Swarms({ clock })
      const metrics = this.#metrics(store, reaper, tracker)
      events.addMetrics(metrics)
      const requests = new RequestMetrics(metrics)
      const registry = new Registry({ store, clock, publish }, { leaseMs, maxFilesPerPeer, maxPeers })
      const app = this.#app({ store, registry, tracker, events, metrics, requests })
      await events.start()
      const shortcuts = [locateShortcut({ store, clock, requests }), heartbeatShortcut({ registry, requests })]
      const listening = await listen(app, ip, port, { headersTimeoutMs, shortcuts })
      const interval = () => Math.min(1000, leaseMs / 10)
      const loop = new Loop('reaper', (signal) => reaper.tick(signal), log, { interval, clock })
      await loop.start()
      this.#running = { store, events, app, reaper, loop, listening }
      log.info({ url: this.url, database }, 'the Maestro runs')
    } catch (error) {
      await events?.stop()
      await store.close()
      throw error
    }
  }

  async stop(): Promise<void> {
    const running = this.#running
    if (!running) return
    this.#running = undefined
    await running.events.endReaders()
    await running.listening.close()
    await running.loop.stop()
    await running.events.stop()
    await running.store.close()
    this.#log.info('the Maestro stopped')
  }

  /** the port in fact, also where 0 was configured */
  get port(): number {
    return this.#started.listening.port
  }

  /** its URL as this machine reaches it */
  get url(): string {
    const { ip } = this.#config
    return `http://${hostPort(ip === '0.0.0.0' || ip === '::' ? '127.0.0.1' : ip, this.port)}`
  }

  /** Its routes, for calls with no socket. */
  get app(): App {
    return this.#started.app
  }

  /** Ends the leases whose time is over now, rather than within the second. */
  reap(): Promise<void> {
    return this.#started.reaper.tick()
  }

  get #started() {
    if (!this.#running) throw new Error('the Maestro is not started')
    return this.#running
  }

  #metrics(store: DirectoryStore, reaper: Reaper, tracker: Tracker): MetricsRegistry {
    const clock = this.#clock
    const metrics = createMetrics('maestro')
    gauge(metrics, 'p2p_peers', 'live peers', async () => (await store.counts(clock.now())).peers)
    gauge(metrics, 'p2p_files', 'entries of live peers', async () => (await store.counts(clock.now())).files)
    gauge(metrics, 'p2p_database_bytes', 'bytes of the directory on disk', () => store.size())
    gauge(metrics, 'p2p_swarms', 'contents that somebody takes', async () => (await tracker.counts()).swarms)
    gauge(metrics, 'p2p_swarm_peers', 'takers over all swarms', async () => (await tracker.counts()).peers)
    counter(metrics, 'p2p_leases_expired_total', 'leases that ended unrenewed', () => reaper.expired)
    return metrics
  }

  #app(parts: {
    store: DirectoryStore
    registry: Registry
    tracker: Tracker
    events: MaestroEvents
    metrics: MetricsRegistry
    requests: RequestMetrics
  }): App {
    const { store, registry, tracker, events, metrics, requests } = parts
    const { id, lease_ms } = this.#config
    const clock = this.#clock
    const began = clock.now()
    const app = createApp({ ...DOCUMENT, log: this.#log, metrics, requests })
    addInfoRoutes(app, async () => {
      const uptime_s = (clock.now() - began) / 1000
      const counts = await store.counts(clock.now())
      const carried = await events.state()
      return { service: 'maestro', id, version: VERSION, status: 'ok', ...counts, uptime_s, lease_ms, events: carried }
    })
    addPeerRoutes(app, { registry, store, clock })
    addFileRoutes(app, { store, clock })
    addSearchRoutes(app, { search: new Search(store), clock })
    addSwarmRoutes(app, { tracker, store, clock })
    events.addRoutes(app)
    return documented(app, DOCUMENT)
  }
}
