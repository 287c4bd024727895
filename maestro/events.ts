import type { Registry as MetricsRegistry } from 'prom-client'
import type { Clock } from '../common/clock.ts'
import { addAsyncApi } from '../common/events/asyncapi.ts'
import { type EventDraft, parseEventTypes } from '../common/events/event.ts'
import { EventFeed } from '../common/events/feed.ts'
import type { FeedReader } from '../common/events/feed-reader.ts'
import { addEventRoute } from '../common/events/feed-route.ts'
import type { EventLog, LoggedEvent } from '../common/events/log.ts'
import { LogReader } from '../common/events/log-reader.ts'
import { Publisher } from '../common/events/publisher.ts'
import { SqliteEventLog } from '../common/events/sqlite-log.ts'
import { Webhook } from '../common/events/webhook.ts'
import type { App } from '../common/http.ts'
import type { PeerId } from '../common/ids.ts'
import { type Component, Loop } from '../common/lifecycle.ts'
import type { Logger } from '../common/log.ts'
import { counter, gauge } from '../common/metrics.ts'
import type { EventsState } from '../common/schemas.ts'
import { addPublishRoute } from './app/events.ts'
import { addMailboxRoutes } from './app/mailboxes.ts'
import type { MaestroConfig } from './config.ts'
import type { DirectoryStore } from './directory/store.ts'
import { type Carrier, openCarrier } from './events/carrier.ts'
import { EventDesk } from './events/event-desk.ts'
import { IndexHints } from './events/index-hints.ts'
import { Mailboxes } from './mailboxes/mailboxes.ts'
import { SqliteMailboxes } from './mailboxes/sqlite.ts'

const SWEEP_MS = 60_000

const FILE_EVENTS = parseEventTypes('file.*')

export interface MaestroEventsDeps {
  store: DirectoryStore
  clock: Clock
  log: Logger
}

/** The Maestro's part in events and mail: it keeps them, carries them on, shows them, and tells its own. */
export class MaestroEvents implements Component {
  readonly #config: MaestroConfig
  readonly #log: EventLog
  readonly #logger: Logger
  readonly #carrier: Carrier
  readonly #desk: EventDesk
  readonly #feed: EventFeed
  /** undefined where a broker keeps them */
  readonly #mailboxes: Mailboxes | undefined
  readonly #webhook: Webhook | undefined
  /** started in this order, stopped in the other one */
  readonly #parts: readonly Component[]
  readonly #stopping = new AbortController()
  readonly #publishing = new Set<Promise<void>>()
  #kept = 0

  private constructor(config: MaestroConfig, deps: MaestroEventsDeps, log: EventLog, mailboxes: Mailboxes | undefined) {
    const { store, clock, log: logger } = deps
    this.#config = config
    this.#log = log
    this.#logger = logger
    this.#mailboxes = mailboxes
    this.#webhook = Webhook.configured(config, { log, clock, logger })
    this.#carrier = openCarrier(config, { log, clock, logger, onConnected: () => publisher.nudge() })
    const publisher = new Publisher({ log, bus: this.#carrier, clock, logger })
    this.#desk = new EventDesk({ log, bus: this.#carrier, store, clock })
    this.#feed = new EventFeed({ log, clock, logger })
    const sweep = async (signal: AbortSignal) => {
      await log.sweep()
      await mailboxes?.sweep(signal)
    }
    this.#parts = [
      ...(this.#webhook ? [this.#webhook] : []),
      ...(config.events === 'embedded' ? [] : [this.#hints(deps)]),
      this.#carrier,
      publisher,
      new Loop('sweep events', sweep, logger, { interval: () => SWEEP_MS, clock }),
    ]
    log.onAppend((rows) => {
      this.#kept += rows.length
    })
  }

  /** @throws NetworkError where a database can't be had, or a key of the configuration is wrong */
  static open(config: MaestroConfig, deps: MaestroEventsDeps): MaestroEvents {
    const { clock, log: logger } = deps
    const log = SqliteEventLog.open(databaseOf(config, 'events'), { origin: config.id, clock, log: logger })
    let mailboxes: Mailboxes | undefined
    try {
      if (config.events === 'embedded')
        mailboxes = new Mailboxes({ store: SqliteMailboxes.open(databaseOf(config, 'mail'), logger), clock })
      return new MaestroEvents(config, deps, log, mailboxes)
    } catch (error) {
      void mailboxes?.close()
      void log.close()
      throw error
    }
  }

  /** Tells the network, before anything that follows. What can't be kept is logged, and fails nothing else. */
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
    const mailboxes = this.#mailboxes
    const onMailbox =
      mailboxes && ((reader: Pick<FeedReader, 'hint'>, peer: PeerId) => tellOfMail(mailboxes, reader, peer))
    addEventRoute(app, { feed: this.#feed, ...(onMailbox ? { onMailbox } : {}) })
    addMailboxRoutes(app, { mailboxes })
    addAsyncApi(app, { prefix: this.#config.events_prefix })
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
    const mailboxes = this.#mailboxes
    if (mailboxes) gauge(metrics, 'p2p_mail', 'messages that wait in mailboxes', () => mailboxes.size())
    const webhook = this.#webhook
    if (!webhook) return
    counter(metrics, 'p2p_webhook_delivered_total', 'events that the webhook took', () => webhook.state.delivered)
    counter(metrics, 'p2p_webhook_failed_total', 'events that the webhook did not take', () => webhook.state.failed)
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
    await this.#mailboxes?.close()
    await this.#log.close()
  }

  /** What the broker tells of files goes into the directory. */
  #hints({ store, clock, log: logger }: MaestroEventsDeps): Component {
    const hints = new IndexHints({ store, clock }, { maxFilesPerPeer: this.#config.max_files_per_peer })
    const onEvents = (rows: readonly LoggedEvent[]) => hints.apply(rows.map(({ event }) => event))
    return new LogReader({ log: this.#log, onEvents, clock, logger }, { name: 'index hints', types: FILE_EVENTS })
  }
}

/** Hints at what is in a mailbox, and at what comes. @returns how to stop */
function tellOfMail(mailboxes: Mailboxes, reader: Pick<FeedReader, 'hint'>, peer: PeerId): () => void {
  const tell = (waiting: number) => {
    if (waiting > 0) reader.hint('mail', { waiting })
  }
  const stop = mailboxes.onMail((to, waiting) => {
    if (to === peer) tell(waiting)
  })
  // Where the mailbox can't be read now, the peer asks for it all the same, now and then.
  mailboxes.waiting(peer).then(tell, () => {})
  return stop
}

/** Beside the directory's, unless configured. */
function databaseOf({ database, events_database: configured }: MaestroConfig, kind: 'events' | 'mail'): string {
  if (kind === 'events' && configured !== undefined) return configured
  const beside = configured ?? database
  return beside === ':memory:' ? beside : `${beside.replace(/(\.events)?\.db$/, '')}.${kind}.db`
}
