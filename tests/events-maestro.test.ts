import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, type TestContext, test } from 'vitest'
import { systemClock } from '../common/clock.ts'
import { AmqpBus } from '../common/events/amqp-bus.ts'
import { MemoryLog } from '../common/events/bus.fixture.ts'
import type { NetworkEvent } from '../common/events/event.ts'
import { brokerUrl, cuttingProxy, TestNetwork } from '../common/events/rabbitmq.fixture.ts'
import { serverSentEvents } from '../common/events/sse-parser.ts'
import { silentLog } from '../common/log.ts'
import { MaestroConfig } from '../maestro/config.ts'
import { added, eventOf, removed } from '../maestro/events/event.fixture.ts'
import { Maestro } from '../maestro/maestro.ts'
import { startCluster } from './cluster.ts'

/** The Maestro's queue is this one's: no peer has such an id. */
const SELF = 'maestro:maestro'
const PATIENT = { timeout: 20_000, interval: 50 }

type Body = Record<string, unknown>

/** A Maestro at the tests' RabbitMQ, in a network of its own; `url` where it goes another way to the broker. */
async function world(t: TestContext, way?: (broker: URL) => Promise<string>) {
  const broker = await brokerUrl(t)
  const network = new TestNetwork(broker, [SELF, 'P1', 'other'])
  const folder = mkdtempSync(join(tmpdir(), 'events-maestro-'))
  const config = MaestroConfig.parse({
    ip: '127.0.0.1',
    port: 0,
    database: join(folder, 'maestro.db'),
    lease_ms: 60_000,
    events: way ? await way(new URL(broker)) : broker,
    events_prefix: network.prefix,
  })
  let port = 0
  let maestro: Maestro | undefined
  const start = async () => {
    maestro = new Maestro({ ...config, port }, { log: silentLog })
    await maestro.start()
    port = maestro.port
  }
  const stop = async () => {
    await maestro?.stop()
    maestro = undefined
  }
  onTestFinished(async () => {
    await stop()
    rmSync(folder, { recursive: true })
  })
  await start()
  const call = async (method: string, path: string, body?: unknown) => {
    const init =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
    const answer = await fetch(`http://127.0.0.1:${port}${path}`, { method, ...init })
    return { status: answer.status, body: (await answer.json()) as Body }
  }
  /** What stands between this Maestro and its broker, as it says. */
  const carried = async () => (await call('GET', '/')).body.events as Body
  await expect.poll(carried, PATIENT).toMatchObject({ kind: 'rabbitmq', state: 'connected' })
  return {
    network,
    start,
    stop,
    call,
    carried,
    get port() {
      return port
    },
    register: (id: string, revision = 1) =>
      call('POST', '/register', { id, peer: 'http://10.0.0.1:8000', grpc_port: 1, revision, files: [] }),
    who: async (file: string) =>
      ((await call('GET', `/locate?file=${file}`)).body.peers as { peer: string }[]).map(({ peer }) => peer),
    /** Past events of a type, as `GET /events` tells them. */
    told: async (type: string) => {
      const { body } = await fetch(`http://127.0.0.1:${port}/events?follow=0&last=1000&type=${type}`)
      const events: NetworkEvent[] = []
      for await (const { event, data } of serverSentEvents(body!))
        if (event === type) events.push(JSON.parse(data) as NetworkEvent)
      return events
    },
    hear: (...events: NetworkEvent[]) =>
      Promise.all(events.map((event) => network.publish(JSON.stringify(event), { routingKey: event.type }))),
  }
}

test('a Maestro that was down finds what was added meanwhile, though its peer cannot reach it', {
  timeout: 90_000,
}, async (t) => {
  const maestro = await world(t)
  const way = await cuttingProxy({ host: '127.0.0.1', port: maestro.port })
  const cluster = await startCluster(t, { maestro: false })
  const p1 = await cluster.addPeer('P1', {
    maestro_url: `http://127.0.0.1:${way.port}`,
    events: maestro.network.url,
    events_prefix: maestro.network.prefix,
  })
  await p1.share('before.txt', 'before')
  await expect.poll(() => maestro.who('before.txt'), PATIENT).toEqual(['P1'])

  await maestro.stop()
  await way.refuse()
  await p1.share('meanwhile.txt', 'meanwhile')
  const queue = maestro.network.names.eventQueue(SELF)
  await expect.poll(() => maestro.network.waiting(queue), PATIENT).toBeGreaterThan(0)

  await maestro.start()
  await expect.poll(() => maestro.who('meanwhile.txt'), PATIENT).toEqual(['P1'])
  expect(p1.agent.info().maestro).toBe('unreachable')

  await way.heal()
  await expect.poll(() => p1.agent.info().maestro, PATIENT).toBe('registered')
  expect(await maestro.who('meanwhile.txt')).toEqual(['P1'])
  expect(await maestro.told('peer.registered')).toHaveLength(1)
})

test('a hint for a peer without a lease changes nothing, and what is right beside it is heard', async (t) => {
  const { register, who, hear, call } = await world(t)
  await register('P1')
  await hear(eventOf('P9', 1, added('stranger.txt', 1)))
  await hear(eventOf('P1', 1, added('a.txt', 1)))
  await expect.poll(() => who('a.txt'), PATIENT).toEqual(['P1'])
  expect(await who('stranger.txt')).toEqual([])
  expect((await call('GET', '/peers')).body.peers).toHaveLength(1)
})

test('old hints that come again change nothing, under whatever id', async (t) => {
  const { register, who, hear, call } = await world(t)
  await register('P1')
  const history = [added('a.txt', 1), removed('a.txt', 2), added('b.txt', 3)].map((draft, i) =>
    eventOf('P1', i + 1, draft),
  )
  for (const event of history) await hear(event)
  await expect.poll(() => who('b.txt'), PATIENT).toEqual(['P1'])
  for (const event of history) await hear(event, { ...event, id: `again.${event.seq}` })
  await hear(eventOf('P1', 4, added('c.txt', 4)))
  await expect.poll(() => who('c.txt'), PATIENT).toEqual(['P1'])
  expect(await who('a.txt')).toEqual([])
  expect((await call('GET', '/peers')).body.peers).toMatchObject([{ id: 'P1', revision: 5, file_count: 2 }])
})

test('what is told at the Maestro reaches those at the broker, its own events too', async (t) => {
  const { network, register, call, carried, told } = await world(t)
  const log = new MemoryLog()
  const other = new AmqpBus(
    { log, onMail: async () => {}, onGap: () => {}, clock: systemClock, logger: silentLog },
    { url: network.url, prefix: network.prefix, self: 'other', mailbox: false },
  )
  await other.start()
  onTestFinished(() => other.stop())
  await expect.poll(() => other.state.state, PATIENT).toBe('connected')
  await register('P1')
  const events = [eventOf('P1', 1), eventOf('P1', 2)]
  expect(await call('POST', '/events', { events })).toEqual({ status: 202, body: { accepted: 2 } })
  const types = () => log.events.map(({ origin, type }) => `${origin} ${type}`).sort()
  await expect.poll(types, PATIENT).toEqual(['P1 file.added', 'P1 file.added', 'maestro peer.registered'])
  await expect.poll(carried, PATIENT).toMatchObject({ unsent: 0 })
  expect(await told('file.added')).toEqual(events)
})

test('while the broker is away watchers hear all the same, publishers are told to come again, and leases go on', {
  timeout: 60_000,
}, async (t) => {
  let cut: (() => Promise<void>) | undefined
  let heal: (() => Promise<void>) | undefined
  const { network, register, call, carried, told } = await world(t, async (broker) => {
    const proxy = await cuttingProxy({ host: broker.hostname, port: Number(broker.port || 5672) })
    cut = () => proxy.refuse()
    heal = () => proxy.heal()
    broker.port = String(proxy.port)
    return broker.href
  })
  await cut!()
  await expect
    .poll(carried, PATIENT)
    .toMatchObject({ state: 'unreachable', problem: expect.stringContaining('RabbitMQ') })
  expect((await register('P1')).status).toBe(201)
  const events = [eventOf('P1', 1)]
  expect(await call('POST', '/events', { events })).toMatchObject({
    status: 503,
    body: { error: { code: 'unavailable' } },
  })
  expect(await told('file.added')).toEqual(events)
  expect(await carried()).toMatchObject({ unsent: 1, problem: expect.not.stringContaining('guest') })

  await heal!()
  await expect.poll(carried, PATIENT).toEqual({ kind: 'rabbitmq', state: 'connected', problem: null, unsent: 0 })
  expect(await call('POST', '/events', { events })).toEqual({ status: 202, body: { accepted: 0 } })
  expect(await told('file.added')).toEqual(events)
  expect(await network.waiting(network.names.deadLetters)).toBe(0)
})

test('mailboxes are at the broker where there is one, and the Maestro says so', async (t) => {
  const { call } = await world(t)
  expect(await call('GET', '/mailboxes/P1')).toMatchObject({ status: 409, body: { error: { code: 'conflict' } } })
})
