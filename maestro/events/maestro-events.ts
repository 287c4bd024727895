import type { Registry as MetricsRegistry } from 'prom-client'
import type { Clock } from '../../common/clock.ts'
import type { EventBus } from '../../common/events/bus.ts'
import type { EventDraft } from '../../common/events/event.ts'
import { EventFeed } from '../../common/events/feed.ts'
import type { FeedReader } from '../../common/events/feed-reader.ts'
import { addEventRoute } from '../../common/events/feed-route.ts'
import type { EventLog } from '../../common/events/log.ts'
import { Publisher } from '../../common/events/publisher.ts'
import { SqliteEventLog } from '../../common/events/sqlite-log.ts'
import type { App } from '../../common/http.ts'
import type { PeerId } from '../../common/ids.ts'
import { type Component, Loop } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import { counter, gauge } from '../../common/metrics.ts'
import type { EventsState } from '../../common/schemas.ts'
import { addPublishRoute } from '../app/events.ts'
import { addMailboxRoutes } from '../app/mailboxes.ts'
import type { MaestroConfig } from '../config.ts'
import type { DirectoryStore } from '../directory/store.ts'
import { Mailboxes } from '../mailboxes/mailboxes.ts'
import { SqliteMailboxes } from '../mailboxes/sqlite.ts'
import { EventDesk } from './event-desk.ts'

const SWEEP_MS = 60_000

/** What carries events between the Maestro and all others. */
type Carrier = Pick<EventBus, 'state' | 'publish' | keyof Component>

/** Without a broker the Maestro's own log is what carries them: what is in it is there for all. */
const OWN_LOG: Carrier = {
  state: { kind: 'embedded', state: 'connected', problem: null },
  publish: async () => {},
  start: async () => {},
  stop: async () => {},
}

export interface MaestroEventsDeps {
  store: DirectoryStore
  clock: Clock
  log: Logger
}

/** The Maestro's part in events and mail: it keeps them, carries them on, shows them, and tells its own. */
export class MaestroEvents implements Component {
  readonly #log: EventLog
  readonly #logger: Logger
  readonly #carrier: Carrier
  readonly #desk: EventDesk
  readonly #feed: EventFeed
  readonly #mailboxes: Mailboxes
  /** started in this order, stopped in the other one */
  readonly #parts: readonly Component[]
  readonly #stopping = new AbortController()
  readonly #publishing = new Set<Promise<void>>()
  #kept = 0

  private constructor(log: EventLog, mailboxes: Mailboxes, deps: MaestroEventsDeps) {
    const { store, clock, log: logger } = deps
    this.#log = log
    this.#mailboxes = mailboxes
    this.#logger = logger
    this.#carrier = OWN_LOG
    this.#desk = new EventDesk({ log, bus: this.#carrier, store, clock })
    this.#feed = new EventFeed({ log, clock, logger })
    const publisher = new Publisher({ log, bus: this.#carrier, clock, logger })
    const sweep = async (signal: AbortSignal) => {
      await log.sweep()
      await mailboxes.sweep(signal)
    }
    const sweeper = new Loop('sweep events', sweep, logger, { interval: () => SWEEP_MS, clock })
    this.#parts = [this.#carrier, publisher, sweeper]
    log.onAppend((rows) => {
      this.#kept += rows.length
    })
  }

  /** @throws NetworkError where a database can't be had */
  static open(config: MaestroConfig, deps: MaestroEventsDeps): MaestroEvents {
    const { clock, log } = deps
    const events = SqliteEventLog.open(databaseOf(config, 'events'), { origin: config.id, clock, log })
    try {
      const mailboxes = new Mailboxes({ store: SqliteMailboxes.open(databaseOf(config, 'mail')), clock })
      return new MaestroEvents(events, mailboxes, deps)
    } catch (error) {
      void events.close()
      throw error
    }
  }

  /** Tells the network, in the order of calls. What can't be kept is logged, and fails nothing else. */
  publish(drafts: readonly EventDraft[]): void {
    const publishing = this.#log
      .publish(drafts)
      .then(
        () => {},
        (error) => this.#logger.warn({ events: drafts.length, err: error }, 'events could not be kept'),
      )
      .finally(() => this.#publishing.delete(publishing))
    this.#publishing.add(publishing)
  }

  async state(): Promise<EventsState> {
    const { kind, state, problem } = this.#carrier.state
    return { kind, state, problem, unsent: (await this.#log.backlog()).unsent }
  }

  addRoutes(app: App): void {
    addPublishRoute(app, { desk: this.#desk, stopping: this.#stopping.signal })
    addEventRoute(app, { feed: this.#feed, onMailbox: (reader, peer) => this.#tellOfMail(reader, peer) })
    addMailboxRoutes(app, { mailboxes: this.#mailboxes })
  }

  addMetrics(metrics: MetricsRegistry): void {
    const feed = this.#feed
    counter(metrics, 'p2p_events_kept_total', 'events that this Maestro heard of, its own included', () => this.#kept)
    counter(metrics, 'p2p_events_refused_total', 'events of peers that were not taken', () => this.#desk.refused)
    counter(
      metrics,
      'p2p_event_readers_dropped_total',
      'readers that were cut because they took nothing',
      () => feed.dropped,
    )
    gauge(metrics, 'p2p_event_readers', 'who watches events here', () => feed.readers)
    gauge(metrics, 'p2p_events_unsent', 'own events that nobody else has yet', async () => (await this.state()).unsent)
  }

  async start(): Promise<void> {
    await this.#feed.start()
    for (const part of this.#parts) await part.start()
  }

  /** Ends what is open at the server for as long as somebody watches, so that it can close. */
  async endReaders(): Promise<void> {
    this.#stopping.abort()
    await this.#feed.stop()
  }

  async stop(): Promise<void> {
    await this.endReaders()
    await Promise.all(this.#publishing)
    for (const part of [...this.#parts].reverse()) await part.stop()
    await this.#mailboxes.close()
    await this.#log.close()
  }

  /** Hints at what is in a mailbox, and at what comes. @returns how to stop */
  #tellOfMail(reader: Pick<FeedReader, 'hint'>, peer: PeerId): () => void {
    const tell = (waiting: number) => {
      if (waiting > 0) reader.hint('mail', { waiting })
    }
    this.#mailboxes.waiting(peer).then(tell, (error) => this.#logger.warn({ peer, err: error }, 'no news of a mailbox'))
    return this.#mailboxes.onMail((to, waiting) => {
      if (to === peer) tell(waiting)
    })
  }
}

/** Beside the directory's, unless configured. */
function databaseOf({ database, events_database: configured }: MaestroConfig, kind: 'events' | 'mail'): string {
  if (kind === 'events' && configured !== undefined) return configured
  const beside = configured ?? database
  return beside === ':memory:' ? beside : `${beside.replace(/(\.events)?\.db$/, '')}.${kind}.db`
}
