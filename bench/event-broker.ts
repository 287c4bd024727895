import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { type Channel, Connection } from 'rabbitmq-client'
import { systemClock } from '../common/clock.ts'
import { AmqpBus } from '../common/events/amqp-bus.ts'
import type { EventLog } from '../common/events/log.ts'
import { LogReader } from '../common/events/log-reader.ts'
import { Publisher } from '../common/events/publisher.ts'
import { brokerScripts, startBroker, type TestBroker } from '../common/events/rabbitmq-node.fixture.ts'
import { SqliteEventLog } from '../common/events/sqlite-log.ts'
import { silentLog } from '../common/log.ts'
import { scratch, until } from './process.ts'
import { type Measurement, median, say } from './report.ts'

/** What a RabbitMQ of the benchmark's own carries, and survives. */

const EVENTS = 100_000
const BATCH = 500
const ROUND = 20_000
const ROUNDS = 3
/** None is set aside: it is not a storm, but what is measured. */
const NO_LIMIT = { perSecond: 1e9, atOnce: 1e9 }
const MISSING = 'skipped: needs rabbitmq-server'

/** @throws where the broker does not start */
export async function withBroker(
  measure: (broker: TestBroker) => Promise<Measurement[]>,
): Promise<Measurement[] | undefined> {
  const scripts = await brokerScripts()
  if (scripts === undefined) return undefined
  const broker = await startBroker(scripts)
  try {
    return await measure(broker)
  } finally {
    await broker.stop()
  }
}

/** 100,000 events, the broker killed and started again twice meanwhile. */
export async function restarts(): Promise<Measurement[]> {
  const what = 'RabbitMQ, restarted twice: of 100,000 acknowledged events, effects at the other end'
  const rows = await withBroker(async (broker) => {
    say(`events: ${EVENTS} through a RabbitMQ that is killed twice …`)
    const folder = scratch('disk')
    const ends: Ends[] = []
    try {
      const from = end(broker.url, join(folder.path, 'from.db'), 'P1')
      const to = end(broker.url, join(folder.path, 'to.db'), 'P2')
      ends.push(from, to)
      for (const { bus } of ends) await bus.start()
      const effects = new Map<string, number>()
      const reader = new LogReader(
        {
          log: to.log,
          onEvents: (rows) => {
            for (const { event } of rows) effects.set(event.id, (effects.get(event.id) ?? 0) + 1)
          },
          clock: systemClock,
          logger: silentLog,
        },
        { name: 'bench' },
      )
      await reader.start()
      const publisher = new Publisher({ log: from.log, bus: from.bus, clock: systemClock, logger: silentLog })
      await until('the broker was not reached', 30_000, async () =>
        ends.every(({ bus }) => bus.state.state === 'connected'),
      )
      await publisher.start()
      const begin = performance.now()
      const told = tell(from.log, EVENTS)
      for (const share of [1 / 3, 2 / 3]) {
        await until('the events stand still', 120_000, async () => publisher.sent >= share * EVENTS)
        await broker.kill()
        await broker.start()
      }
      await told
      await until('not all were acknowledged', 180_000, async () => publisher.sent >= EVENTS)
      await until('not all arrived', 120_000, async () => effects.size >= EVENTS).catch(() => {})
      const seconds = (performance.now() - begin) / 1000
      await publisher.stop()
      await reader.stop()
      const twice = [...effects.values()].filter((times) => times > 1).length
      return [
        {
          what,
          value: (100 * effects.size) / publisher.sent,
          unit: '%',
          target: { atLeast: 100 },
          note: `${effects.size} of ${publisher.sent}, in ${seconds.toFixed(0)} s with both restarts`,
        },
        { what: '… effects that happened more than once', value: twice, unit: '', target: { atMost: 0 } },
      ]
    } finally {
      for (const { bus, log } of ends) {
        await bus.stop()
        await log.close()
      }
      folder.remove()
    }
  })
  return rows ?? [{ what, unit: '%', note: MISSING }]
}

interface Ends {
  log: SqliteEventLog
  bus: AmqpBus
}

function end(url: string, file: string, self: string): Ends {
  const log = SqliteEventLog.open(file, { origin: self })
  return { log, bus: busOf(url, self, log) }
}

function busOf(url: string, self: string, log: Pick<EventLog, 'keep' | 'resume'>): AmqpBus {
  return new AmqpBus(
    { log, onMail: async () => {}, onGap: () => {}, clock: systemClock, logger: silentLog },
    { url, prefix: 'bench', self, mailbox: false, originRate: NO_LIMIT },
  )
}

async function tell(log: EventLog, count: number): Promise<void> {
  for (let n = 0; n < count; n += BATCH) {
    await log.publish(drafts(n))
    await pause(1)
  }
}

function drafts(from: number) {
  return Array.from({ length: BATCH }, (_, i) => ({
    type: 'file.removed' as const,
    data: { name: `lectures/week1/file-${from + i}.pdf` as never, revision: { from: 1, to: 1, part: 1 } },
  }))
}

/** One publisher with confirms, beside the bare client library that does the same. */
export async function rate(): Promise<Measurement[]> {
  const what = 'RabbitMQ: one publisher, confirms on'
  const rows = await withBroker(async (broker) => {
    say('events: one publisher, and the bare client library …')
    const folder = scratch('disk')
    const { log, bus } = end(broker.url, join(folder.path, 'rate.db'), 'P1')
    const bare = await Bare.open(broker.url)
    try {
      await bus.start()
      await until('the broker was not reached', 30_000, async () => bus.state.state === 'connected')
      const events = await log.publish(drafts(0))
      const bodies = events.map((event) => Buffer.from(JSON.stringify(event)))
      const [ours, theirs, unread]: number[][] = [[], [], []]
      for (let round = 0; round <= ROUNDS; round++) {
        const rates = [
          await perSecond(() => bus.publish(events, AbortSignal.timeout(60_000))),
          await perSecond(() => bare.publish(bodies)),
          await perSecond(() => bare.publish(bodies, UNREAD)),
        ]
        // The first round warms up.
        if (round > 0) for (const [i, all] of [ours!, theirs!, unread!].entries()) all.push(rates[i]!)
      }
      const [value, base] = [median(ours!), median(theirs!)]
      return [
        {
          what,
          value,
          unit: '/s',
          target: { atLeast: 0.6 * base },
          baseline: { what: 'the bare client library', value: base, unit: '/s' },
          note: `${ROUND} events of ${bodies[0]!.length} bytes a round, ${BATCH} at a time, to a queue of the same kind that this process reads as well; the library to one that nobody reads: ${Math.round(median(unread!))}/s`,
        },
      ]
    } finally {
      await bare.close()
      await bus.stop()
      await log.close()
      folder.remove()
    }
  })
  return rows ?? [{ what, unit: '/s', note: MISSING }]
}

async function perSecond(publish: () => Promise<unknown>): Promise<number> {
  const begin = performance.now()
  for (let sent = 0; sent < ROUND; sent += BATCH) await publish()
  return ROUND / ((performance.now() - begin) / 1000)
}

const READ = 'bare.read'
const UNREAD = 'bare.unread'

/** What somebody would write who has nothing but the library: a channel that publishes, a consumer that acknowledges. */
class Bare {
  readonly #connection: Connection
  readonly #consumer: { close(): Promise<void> }
  readonly #channel: Channel

  private constructor(connection: Connection, channel: Channel, consumer: { close(): Promise<void> }) {
    this.#connection = connection
    this.#channel = channel
    this.#consumer = consumer
  }

  static async open(url: string): Promise<Bare> {
    const connection = new Connection(url)
    connection.on('error', () => {})
    const channel = await connection.acquire()
    for (const exchange of [READ, UNREAD]) {
      const queue = exchange
      await channel.exchangeDeclare({ exchange, type: 'topic', durable: true })
      await channel.queueDeclare({ queue, durable: true, arguments: { 'x-queue-type': 'quorum' } })
      await channel.queueBind({ exchange, queue, routingKey: '#' })
    }
    await channel.confirmSelect()
    const consumer = connection.createConsumer(
      { queue: READ, qos: { prefetchCount: 500 }, queueOptions: { passive: true } },
      async () => {},
    )
    consumer.on('error', () => {})
    return new Bare(connection, channel, consumer)
  }

  publish(bodies: readonly Buffer[], exchange = READ): Promise<unknown> {
    const to = {
      exchange,
      routingKey: 'file.removed',
      durable: true,
      contentType: 'application/octet-stream',
    }
    return Promise.all(bodies.map((body) => this.#channel.basicPublish(to, body)))
  }

  async close(): Promise<void> {
    await this.#consumer.close()
    await this.#channel.close()
    await this.#connection.close()
  }
}
