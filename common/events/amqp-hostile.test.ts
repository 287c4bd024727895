import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { beforeEach, expect, it, type TestContext } from 'vitest'
import { AmqpMember, never, numbers, PATIENCE } from './amqp-member.fixture.ts'
import { anEvent, anOffer, someEvents } from './bus.fixture.ts'
import { EVENT_LIMITS } from './event.ts'
import { brokerUrl, TestNetwork } from './rabbitmq.fixture.ts'

const TEST_MS = 60_000

let network: TestNetwork

beforeEach(async (t: TestContext) => {
  network = new TestNetwork(await brokerUrl(t), ['P1', 'P2'])
})

const connected = (self: string, over = {}) => AmqpMember.connected(network.url, network.prefix, self, over)
const deadLetters = () => network.waiting(network.names.deadLetters)

it('messages that are no events are set aside, by reason, and nothing else changes', { timeout: TEST_MS }, async () => {
  const p1 = await connected('P1')
  const event = anEvent('P2', 1)
  const text = JSON.stringify(event)
  const queue = { exchange: '', routingKey: network.names.eventQueue('P1') }
  await network.publish('not JSON')
  await network.publish('')
  await network.publish('['.repeat(10_000))
  await network.publish(JSON.stringify({ ...event, seq: 0 }))
  await network.publish(text, { contentType: 'text/plain' })
  await network.publish(text, { contentType: 'application/x-java-serialized-object' })
  await network.publish(text, { contentEncoding: 'gzip' })
  await network.publish(JSON.stringify({ ...event, v: 2 }))
  await network.publish(JSON.stringify({ ...event, type: 'constructor' }))
  await network.publish('null', { ...queue, messageId: 'x', type: 'file.added' })
  await network.publish(`{"v":1,"type":"file.added","padding":"${'x'.repeat(EVENT_LIMITS.bytes)}"}`)
  await network.publish(JSON.stringify(anOffer('P2', 'P1', 1)), queue)
  await network.publish(text, { messageId: 'another', type: 'peer.expired', routingKey: 'some.key' })
  await p1.hears('P2', [1])
  await expect.poll(deadLetters, PATIENCE).toBe(12)
  expect(p1.bus.aside).toEqual({ oversized: 1, foreign: 7, malformed: 4, storm: 0 })
  expect(p1.log.events.length).toBe(1)
  expect(p1.bus.state.state).toBe('connected')
  const [first] = [await network.take(network.names.deadLetters)]
  expect(String(first?.body)).toBe('not JSON')
  expect(first?.headers?.['x-death'][0]).toMatchObject({ queue: network.names.eventQueue('P1'), reason: 'rejected' })
  expect(p1.logged.filter((line) => line.includes('set aside')).length).toBe(1)
})

it('events that come twice, or in another order, are kept once, as they come', { timeout: TEST_MS }, async () => {
  const p1 = await connected('P1')
  for (const seq of [2, 1, 2, 3, 1, 2]) await network.publish(JSON.stringify(anEvent('P2', seq)))
  await network.publish(JSON.stringify(anEvent('P2', 4)))
  await p1.hears('P2', [2, 1, 3, 4])
  expect(await deadLetters()).toBe(0)
})

it('a message of 96 MiB is never held in memory', { timeout: TEST_MS }, async () => {
  const away = await connected('P1')
  await away.bus.stop()
  const size = 96 * 2 ** 20
  await network.publish(Buffer.alloc(size, ' '))
  setFlagsFromString('--expose-gc')
  const collect: () => void = runInNewContext('gc')
  collect()
  const before = process.memoryUsage().arrayBuffers
  let most = 0
  // The bodies that the library gathers are buffers of their own.
  const watch = setInterval(() => {
    most = Math.max(most, process.memoryUsage().arrayBuffers)
  }, 1)
  try {
    const p1 = await connected('P1')
    await p1.publish([anEvent('P1', 1)])
    await p1.hears('P1', [1])
    expect(p1.bus.aside.oversized).toBe(1)
    expect(most - before).toBeLessThan(size / 2)
  } finally {
    clearInterval(watch)
  }
})

it('mail that is none, or for somebody else, is set aside', { timeout: TEST_MS }, async () => {
  const p1 = await connected('P1')
  const mailbox = { exchange: '', routingKey: network.names.mailbox('P1') }
  await network.publish('{}', mailbox)
  await network.publish(JSON.stringify({ ...anOffer('P2', 'P1', 1), name: '../../.ssh/authorized_keys' }), mailbox)
  await network.publish(JSON.stringify(anOffer('P2', 'P3', 2)), mailbox)
  await network.publish('x'.repeat(100_000), mailbox)
  await network.publish(JSON.stringify(anOffer('P2', 'P1', 3)), mailbox)
  await expect.poll(() => p1.mail.map((mail) => mail.id), PATIENCE).toEqual(['P2.mail.3'])
  await expect.poll(deadLetters, PATIENCE).toBe(4)
  expect(p1.bus.aside).toEqual({ oversized: 1, foreign: 1, malformed: 2, storm: 0 })
})

it('a storm from one peer is set aside beyond its rate, and the events of others pass', {
  timeout: TEST_MS,
}, async () => {
  const p1 = await connected('P1', { originRate: { perSecond: 10, atOnce: 100 } })
  const p2 = await connected('P2')
  const before = p1.gaps
  await p2.publish(someEvents('P2', 1, 1000))
  await p1.publish(someEvents('P1', 1, 50))
  await p1.hears('P1', numbers(1, 50))
  await expect.poll(() => p1.log.seqs('P2').length + p1.bus.aside.storm, PATIENCE).toBe(1000)
  expect(p1.log.seqs('P2').length).toBeLessThan(200)
  // What is missing is told, and not for each of them.
  expect(p1.gaps).toBe(before + 1)
  expect(p1.log.seqs('P2').slice(0, 100)).toEqual(numbers(1, 100))
  await expect.poll(deadLetters, PATIENCE).toBe(p1.bus.aside.storm)
})

it('events that waited for a process that was away are no storm, however many come at once', {
  timeout: TEST_MS,
}, async () => {
  const rate = { originRate: { perSecond: 10, atOnce: 100 } }
  const away = await connected('P1', rate)
  await away.bus.stop()
  const p2 = await connected('P2')
  const events = numbers(1, 1000).map((seq) =>
    anEvent('P2', seq, { time: new Date(1_700_000_000_000 + seq * 100).toISOString() }),
  )
  await p2.publish(events)
  const p1 = await connected('P1', rate)
  await p1.hears('P2', numbers(1, 1000))
  expect(p1.bus.aside.storm).toBe(0)
})

it('a queue deleted behind its back is made again, and what may have been missed is told', {
  timeout: TEST_MS,
}, async () => {
  const [p1, p2] = [await connected('P1'), await connected('P2')]
  expect(p1.gaps).toBe(1)
  await network.broker.queueDelete(network.names.eventQueue('P1'))
  await expect.poll(() => p1.gaps, PATIENCE).toBe(2)
  await p1.connected()
  await p2.publish([anEvent('P2', 1)])
  await p1.hears('P2', [1])
  expect(p2.gaps).toBe(1)
})

it('a queue deleted while its process was away is made again, and told as a gap; one that waited is none', {
  timeout: TEST_MS,
}, async () => {
  const first = await connected('P1')
  await first.bus.stop()
  const second = await connected('P1')
  expect(second.gaps).toBe(0)
  await second.bus.stop()
  await network.broker.queueDelete(network.names.eventQueue('P1'))
  const third = await connected('P1')
  expect(third.gaps).toBe(1)
})

it('a mailbox deleted behind its back is made again by its owner', { timeout: TEST_MS }, async () => {
  const [p1, p2] = [await connected('P1'), await connected('P2')]
  await p1.bus.send(anOffer('P1', 'P2', 1), never)
  await expect.poll(() => p2.mail.length, PATIENCE).toBe(1)
  await network.broker.queueDelete(network.names.mailbox('P2'))
  await expect.poll(() => network.waiting(network.names.mailbox('P2')), PATIENCE).toBe(0)
  await p1.bus.send(anOffer('P1', 'P2', 2), never)
  await expect.poll(() => p2.mail.map((mail) => mail.id), PATIENCE).toEqual(['P1.mail.1', 'P1.mail.2'])
})

it('a mailbox deleted while its owner is away is told to who sends, and made again when he tries again', {
  timeout: TEST_MS,
}, async () => {
  const p1 = await connected('P1')
  await p1.bus.send(anOffer('P1', 'P2', 1), never)
  await network.broker.queueDelete(network.names.mailbox('P2'))
  const offer = anOffer('P1', 'P2', 2)
  await expect(p1.bus.send(offer, never)).rejects.toMatchObject({ code: 'unavailable', message: /was deleted/ })
  await p1.bus.send(offer, never)
  const p2 = await connected('P2')
  await expect.poll(() => p2.mail, PATIENCE).toEqual([offer])
})

it('an exchange deleted behind all backs is made again, and everybody hears again, told of a gap', {
  timeout: TEST_MS,
}, async () => {
  const [p1, p2] = [await connected('P1'), await connected('P2')]
  await network.broker.exchangeDelete({ exchange: network.names.events })
  await p1.publish([anEvent('P1', 1)])
  await p1.hears('P1', [1])
  await expect.poll(() => p1.gaps, PATIENCE).toBe(2)
  // P2 finds out by itself, in its own time.
  await expect.poll(() => p2.gaps, PATIENCE).toBe(2)
  await p1.publish([anEvent('P1', 2)])
  await expect.poll(() => p2.log.seqs('P1').includes(2), PATIENCE).toBe(true)
})

it('a full mailbox refuses more as limited, and takes more when some was read', { timeout: TEST_MS }, async () => {
  const p1 = await connected('P1')
  const mailbox = network.names.mailbox('P2')
  const mails = numbers(1, 200_000).map(() => '{}')
  await p1.bus.send(anOffer('P1', 'P2', 1), never)
  await network.publish(mails, { exchange: '', routingKey: mailbox }).catch(() => {})
  await expect
    .poll(
      () =>
        p1.bus.send(anOffer('P1', 'P2', 2), never).then(
          () => 'taken',
          (error) => error,
        ),
      PATIENCE,
    )
    .toMatchObject({ code: 'limited', details: { retry_ms: expect.any(Number) } })
  await network.broker.queuePurge({ queue: mailbox })
  await p1.bus.send(anOffer('P1', 'P2', 3), never)
})
