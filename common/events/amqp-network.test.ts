import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { beforeEach, expect, it, onTestFinished, type TestContext } from 'vitest'
import { AmqpMember, never, numbers, PATIENCE } from './amqp-member.fixture.ts'
import { anEvent, anOffer, someEvents } from './bus.fixture.ts'
import { brokerUrl, type CuttingProxy, cuttingProxy, TestNetwork, through } from './rabbitmq.fixture.ts'

const TEST_MS = 60_000

let network: TestNetwork
let proxy: CuttingProxy

beforeEach(async (t: TestContext) => {
  const url = await brokerUrl(t)
  network = new TestNetwork(url, ['P1', 'P2'])
  const { hostname, port } = new URL(url)
  proxy = await cuttingProxy({ host: hostname, port: Number(port || 5672) })
})

const elsewhere = (change: (url: URL) => void) => {
  const url = new URL(network.url)
  change(url)
  return url.href
}

it('connections cut over and over lose nothing that was acknowledged, and nothing is heard twice', {
  timeout: TEST_MS,
}, async () => {
  const url = through(proxy, network.url)
  const [p1, p2] = [
    await AmqpMember.connected(url, network.prefix, 'P1'),
    await AmqpMember.connected(url, network.prefix, 'P2'),
  ]
  let cuts = 0
  const again = await p1.publish(someEvents('P1', 1, 6000), () => {
    // Every few batches, and in the middle of the next.
    if (cuts < 6 && p1.log.events.length >= cuts * 800) setTimeout(() => proxy.cut(), ++cuts)
  })
  expect(again).toBeGreaterThan(0)
  await p2.hears('P1', numbers(1, 6000))
  expect(p2.log.events.length).toBe(6000)
  expect(p2.gaps).toBe(1) // when its queue was new
})

it('a connection over which nothing comes any more is given up, and another is made', {
  timeout: TEST_MS,
}, async () => {
  const p1 = await AmqpMember.connected(through(proxy, network.url, '?heartbeat=1'), network.prefix, 'P1')
  proxy.stall()
  const publishing = p1.bus.publish([anEvent('P1', 1)], never)
  await expect(publishing).rejects.toMatchObject({ code: 'unavailable' })
  await expect.poll(() => p1.bus.state.state, PATIENCE).toBe('unreachable')
  await proxy.heal()
  await p1.connected()
  await p1.publish([anEvent('P1', 1)])
  await p1.hears('P1', [1])
})

it('what was heard and not acknowledged when a connection broke comes again, and is kept once', {
  timeout: TEST_MS,
}, async () => {
  const p1 = await AmqpMember.connected(network.url, network.prefix, 'P1')
  const p2 = await AmqpMember.connected(through(proxy, network.url), network.prefix, 'P2')
  // Kept, and cut before the acknowledgement can leave.
  const keep = p2.log.keep.bind(p2.log)
  let cuts = 0
  p2.log.keep = async (events, resume) => {
    const kept = await keep(events, resume)
    if (++cuts <= 2) proxy.cut()
    return kept
  }
  await p1.publish(someEvents('P1', 1, 50))
  await p2.hears('P1', numbers(1, 50))
  await expect.poll(() => p2.log.given, PATIENCE).toBeGreaterThan(50)
  expect(p2.log.events.length).toBe(50)
})

it.each([
  [
    'a wrong password',
    (url: URL) => (url.password = 'hush-hush'),
    /refuses the user or the password: check the key "events"/,
  ],
  ['a virtual host that is not there', (url: URL) => (url.pathname = '/nowhere'), /no such virtual host/],
  [
    'a host that is not there',
    (url: URL) => (url.hostname = 'rabbit.invalid'),
    /rabbit.invalid:\d+ does not answer \(\w+\)/,
  ],
])('%s is told in words, and never the password', { timeout: TEST_MS }, async (_what, change, words) => {
  const p1 = await AmqpMember.start(elsewhere(change), network.prefix, 'P1')
  await expect.poll(() => p1.bus.state.problem, PATIENCE).toMatch(words)
  const failure = await p1.bus.publish([anEvent('P1', 1)], never).catch((error) => error)
  expect(failure).toMatchObject({ code: 'unavailable', message: expect.stringMatching(words) })
  await expect.poll(() => p1.logged.length, PATIENCE).toBeGreaterThan(0)
  expect(p1.logged.join('\n') + JSON.stringify(p1.bus.state)).not.toMatch(/hush-hush|:guest@/)
})

it('a port at which something else listens is told in words', { timeout: TEST_MS }, async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  const p1 = await AmqpMember.start(`amqp://guest:guest@127.0.0.1:${port}`, network.prefix, 'P1')
  await expect.poll(() => p1.bus.state.problem, PATIENCE).toMatch(/is that the port of a RabbitMQ\?/)
})

it('two processes with one id: the second is told, and takes over when the first has stopped', {
  timeout: TEST_MS,
}, async () => {
  const first = await AmqpMember.connected(network.url, network.prefix, 'P1')
  const second = await AmqpMember.start(network.url, network.prefix, 'P1')
  await expect.poll(() => second.bus.state.problem, PATIENCE).toMatch(/another process with the same id/)
  await first.bus.stop()
  await second.connected()
  await second.publish([anEvent('P1', 1)])
  await second.hears('P1', [1])
})

it('a queue of other settings under that name is told in words', { timeout: TEST_MS }, async () => {
  await network.broker.queueDeclare({ queue: network.names.eventQueue('P1'), durable: true })
  const p1 = await AmqpMember.start(network.url, network.prefix, 'P1')
  await expect.poll(() => p1.bus.state.problem, PATIENCE).toMatch(/with other settings: delete it there/)
})

it('a mailbox of 100,000 messages is drained whole, in memory that does not grow with it', {
  timeout: TEST_MS,
}, async () => {
  const p1 = await AmqpMember.connected(network.url, network.prefix, 'P1', { mailbox: false })
  const count = 100_000
  const ids = new Set<string>()
  const send = (number: number) => p1.bus.send(anOffer('P1', 'P2', number), new AbortController().signal)
  await Promise.all(numbers(1, 500).map(send))
  const mails = numbers(501, count).map((number) => JSON.stringify(anOffer('P1', 'P2', number)))
  await network.publish(mails, { exchange: '', routingKey: network.names.mailbox('P2') })
  const before = process.memoryUsage()
  let most = 0
  const p2 = await AmqpMember.start(network.url, network.prefix, 'P2')
  p2.mail.push = (...mail) => {
    for (const { id } of mail) ids.add(id)
    most = Math.max(most, mail.length)
    return 0
  }
  await expect.poll(() => ids.size, PATIENCE).toBe(count)
  expect(most).toBeLessThanOrEqual(500)
  const after = process.memoryUsage()
  expect(after.rss - before.rss).toBeLessThan(150 * 2 ** 20)
  await p2.bus.stop()
  await expect.poll(() => network.waiting(network.names.mailbox('P2')), PATIENCE).toBe(0)
})
