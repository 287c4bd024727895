import { join } from 'node:path'
import type { Registry } from 'prom-client'
import type { Clock } from '../common/clock.ts'
import { AmqpBus } from '../common/events/amqp-bus.ts'
import type { BusDeps, EventBus } from '../common/events/bus.ts'
import type { NetworkEvent } from '../common/events/event.ts'
import { EventFeed } from '../common/events/feed.ts'
import { LogReader } from '../common/events/log-reader.ts'
import { Publisher } from '../common/events/publisher.ts'
import { SqliteEventLog } from '../common/events/sqlite-log.ts'
import { Webhook } from '../common/events/webhook.ts'
import { type Component, Loop } from '../common/lifecycle.ts'
import type { Logger } from '../common/log.ts'
import type { MaestroClient } from '../common/maestro-client.ts'
import { counter, gauge } from '../common/metrics.ts'
import type { EventsState, NetworkLevel } from '../common/schemas.ts'
import type { Catalog } from './catalog/catalog.ts'
import type { PeerConfig } from './config.ts'
import { Announcer } from './events/announcer.ts'
import { FileEvents } from './events/file-events.ts'
import { LevelWatch } from './events/level-watch.ts'
import { MaestroBus } from './events/maestro-bus.ts'
import { NoBus } from './events/no-bus.ts'
import { transferDraft } from './events/transfer-events.ts'
import type { Listers } from './follow/directory-walk.ts'
import { FollowStore } from './follow/follow-store.ts'
import { Follows } from './follow/follows.ts'
import { Scout, type ScoutDeps } from './locate/scout.ts'
import { Mailbox } from './mailbox/mailbox.ts'
import { OfferBook } from './mailbox/offer-book.ts'
import type { TransferManager } from './transfer/manager.ts'
import type { TransferNews } from './transfer/transfer.ts'

type EventsConfig = PeerConfig & { state_dir: string }

const SWEEP_MS = 60_000
const LOOK_MS = 1000

export interface EventsDeps {
  catalog: Catalog
  transfers: TransferManager
  maestro: MaestroClient | undefined
  listers: () => Listers
  /** who has a content, without a search of the whole network */
  locate: ScoutDeps['locate']
  level: () => NetworkLevel
  clock: Clock
  log: Logger
}

/**
 * What this peer tells others and hears of them, and what it does because of it. All that happens goes into the log;
 * whatever is done, readers of the log do: the publisher, the feed, follows and mailbox, the webhook.
 */
export class Events implements Component {
  readonly feed: EventFeed
  readonly mailbox: Mailbox
  readonly follows: Follows
  readonly #deps: EventsDeps
  readonly #announcer: Announcer
  readonly #bus: EventBus
  readonly #publisher: Publisher
  readonly #webhook: Webhook | undefined
  /** what acts on events, what sends them, what carries them: started in this order, and stopped */
  readonly #parts: readonly (readonly Component[])[]
  readonly #files: EventFiles
  #unlisten: () => void
  #backlog = { unsent: 0, dropped: 0 }

  /** @throws NetworkError where its files can't be used, in words for the person who configured them; none stays open */
  static open(deps: EventsDeps, config: EventsConfig): Events {
    const files = EventFiles.open(deps, config)
    try {
      return new Events(deps, config, files)
    } catch (error) {
      files.close()
      throw error
    }
  }

  private constructor(deps: EventsDeps, config: EventsConfig, files: EventFiles) {
    const { catalog, transfers, clock } = deps
    const { id: self } = config
    const { log: events, book, follows: store } = files
    this.#deps = deps
    this.#files = files
    const logger = deps.log.child({ part: 'events' })
    this.#announcer = new Announcer({ log: events, logger })
    this.#bus = this.#connected(config, {
      log: events,
      onMail: (mail) => this.mailbox.onMail(mail),
      onGap: () => this.#missed(),
    })
    const scout = new Scout(deps)
    this.mailbox = new Mailbox(
      {
        book,
        send: (mail, signal) => this.#bus.send(mail, signal),
        catalog,
        transfers,
        scout,
        clock,
        log: deps.log.child({ part: 'mailbox' }),
      },
      { self, accept: config.accept_uploads },
    )
    this.follows = new Follows(
      { store, transfers, catalog, scout, listers: deps.listers, clock, log: deps.log.child({ part: 'follow' }) },
      { self },
    )
    this.feed = new EventFeed({ log: events, clock, logger })
    this.#publisher = new Publisher({ log: events, bus: this.#bus, clock, logger })
    const hearing = new LogReader(
      {
        log: events,
        onEvents: (rows) => this.#hear(rows.map(({ event }) => event)),
        onGap: () => this.#missed(),
        clock,
        logger,
      },
      { name: 'agent' },
    )
    this.#webhook = Webhook.configured(config, { log: events, clock, logger })
    const level = new LevelWatch({ level: deps.level, tell: (draft) => this.#announcer.tell([draft]) })
    const looking = new Loop('events', () => this.#look(level), logger, { interval: () => LOOK_MS, clock })
    const sweeping = new Loop('old events', () => events.sweep(), logger, { interval: () => SWEEP_MS, clock })
    const acting = [this.feed, this.mailbox, this.follows, hearing, looking, sweeping]
    this.#parts = [[...acting, ...(this.#webhook ? [this.#webhook] : [])], [this.#publisher], [this.#bus]]
    const changes = new FileEvents({ clock })
    this.#unlisten = catalog.onChange((change) => this.#announcer.tell(changes.draftsOf(change)))
  }

  /** What the transfers of this peer tell of themselves. */
  readonly transferNews: TransferNews = {
    started: (transfer) => this.#announcer.tell([transferDraft(transfer)]),
    ended: (transfer) => this.#announcer.tell([transferDraft(transfer)]),
  }

  get state(): EventsState {
    return { ...this.#bus.state, unsent: this.#backlog.unsent }
  }

  async start(): Promise<void> {
    for (const part of this.#parts.flat()) await part.start()
  }

  async stop(): Promise<void> {
    this.#unlisten()
    await this.#announcer.settled()
    const ends: PromiseSettledResult<void>[] = []
    for (const parts of this.#parts) ends.push(...(await Promise.allSettled(parts.map((part) => part.stop()))))
    for (const end of ends) if (end.status === 'rejected') throw end.reason
  }

  /** Closes its files. Nothing of it runs any more. */
  close(): void {
    this.#files.close()
  }

  /** The Maestro has answered something else. */
  maestroAnswers(): void {
    if (this.#bus instanceof MaestroBus) this.#bus.reconnect()
  }

  addMetrics(metrics: Registry): void {
    gauge(metrics, 'p2p_events_unsent', 'own events that nobody else has yet', () => this.#backlog.unsent)
    gauge(metrics, 'p2p_events_connected', '1 while what carries events and mail answers', () =>
      this.#bus.state.state === 'connected' ? 1 : 0,
    )
    gauge(metrics, 'p2p_event_readers', 'readers of server-sent events', () => this.feed.readers)
    counter(metrics, 'p2p_events_published_total', 'own events that others have', () => this.#publisher.sent)
    counter(
      metrics,
      'p2p_event_readers_dropped_total',
      'readers that took nothing for too long',
      () => this.feed.dropped,
    )
    const webhook = this.#webhook
    if (!webhook) return
    counter(metrics, 'p2p_webhook_delivered_total', 'events that the webhook took', () => webhook.state.delivered)
    counter(metrics, 'p2p_webhook_failed_total', 'events that were given up', () => webhook.state.failed)
  }

  #connected({ id: self, events, events_prefix: prefix }: PeerConfig, deps: BusDeps): EventBus {
    const { maestro, clock } = this.#deps
    const logger = this.#deps.log.child({ part: 'bus' })
    const onConnected = () => {
      this.#publisher.nudge()
      this.mailbox.nudge()
    }
    if (events !== 'embedded')
      return new AmqpBus({ ...deps, clock, logger, onConnected }, { url: events, prefix, self, mailbox: true })
    return maestro ? new MaestroBus({ ...deps, maestro, clock, logger, onConnected }, { self }) : new NoBus()
  }

  #hear(events: readonly NetworkEvent[]): void {
    this.follows.hear(events)
    for (const { type, data } of events) {
      if (type === 'peer.registered') this.mailbox.nudge({ peer: data.peer })
      if (type === 'file.added' || type === 'file.renamed') this.mailbox.nudge({ content: data.id })
    }
  }

  /** What events would have told is looked for. */
  #missed(): void {
    this.follows.lookAgain()
    this.mailbox.nudge()
  }

  async #look(level: LevelWatch): Promise<void> {
    level.tick()
    this.#backlog = await this.#files.log.backlog()
  }
}

/** What of it outlives the process. */
class EventFiles {
  readonly log: SqliteEventLog
  readonly book: OfferBook
  readonly follows: FollowStore
  readonly #opened: readonly { close(): unknown }[]

  private constructor(log: SqliteEventLog, book: OfferBook, follows: FollowStore) {
    this.log = log
    this.book = book
    this.follows = follows
    this.#opened = [follows, book, log]
  }

  static open({ clock, log }: EventsDeps, { id, state_dir: folder }: EventsConfig): EventFiles {
    const opened: { close(): unknown }[] = []
    const keep = <T extends { close(): unknown }>(file: T): T => {
      opened.unshift(file)
      return file
    }
    try {
      return new EventFiles(
        keep(SqliteEventLog.open(join(folder, 'events.db'), { origin: id, clock, log: log.child({ part: 'events' }) })),
        keep(OfferBook.open(folder, log.child({ part: 'mailbox' }))),
        keep(FollowStore.open(join(folder, 'follows.db'), log.child({ part: 'follow' }))),
      )
    } catch (error) {
      for (const file of opened) file.close()
      throw error
    }
  }

  close(): void {
    for (const file of this.#opened) file.close()
  }
}
