import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, expect, it, type TestContext } from 'vitest'
import { AmqpMember, never, numbers, PATIENCE } from './amqp-member.fixture.ts'
import { anEvent, anOffer, someEvents } from './bus.fixture.ts'
import { absent } from './rabbitmq.fixture.ts'
import { brokerScripts, startBroker, type TestBroker } from './rabbitmq-node.fixture.ts'

const TEST_MS = 120_000

let broker: TestBroker | undefined
let prefix: string

beforeAll(async () => {
  const scripts = await brokerScripts()
  if (scripts) broker = await startBroker(scripts)
}, 120_000)
afterAll(() => broker?.stop(), 30_000)
beforeEach((t: TestContext) => {
  if (!broker) absent(t, 'RabbitMQ is needed: install `rabbitmq-server` on this machine, where tests can start one')
  prefix = `test-${randomBytes(4).toString('hex')}`
})

it('a broker that is absent at the start is told in words, and used once it is there', {
  timeout: TEST_MS,
}, async () => {
  const { url, kill, start, port } = broker!
  await kill()
  const [p1, p2] = [await AmqpMember.start(url, prefix, 'P1'), await AmqpMember.start(url, prefix, 'P2')]
  await expect
    .poll(() => p1.bus.state, PATIENCE)
    .toEqual({
      kind: 'rabbitmq',
      state: 'unreachable',
      problem: `the RabbitMQ at amqp://127.0.0.1:${port} does not answer (ECONNREFUSED)`,
    })
  await expect(p1.bus.publish([anEvent('P1', 1)], never)).rejects.toMatchObject({
    code: 'unavailable',
    details: { reason: 'ECONNREFUSED' },
  })
  await start()
  await Promise.all([p1.connected(), p2.connected()])
  expect(p1.nudges).toBeGreaterThan(0)
  await p1.publish(someEvents('P1', 1, 10))
  await p2.hears('P1', numbers(1, 10))
  expect(p1.logged.join('\n')).not.toContain('guest')
})

it('a broker killed twice in the middle of publishing loses nothing that it acknowledged, and nothing is heard twice', {
  timeout: TEST_MS,
}, async () => {
  const { url, kill, start, restart } = broker!
  const [p1, p2] = [await AmqpMember.connected(url, prefix, 'P1'), await AmqpMember.connected(url, prefix, 'P2')]
  await p1.bus.send(anOffer('P1', 'P3', 1), never)
  // RabbitMQ syncs messages before it confirms them, but writes of new queues a moment later.
  await restart()
  await Promise.all([p1.connected(), p2.connected()])
  await p1.bus.send(anOffer('P1', 'P3', 2), never)
  const events = someEvents('P1', 1, 15_000)
  const crashes: Promise<void>[] = []
  const crash = async () => {
    await kill()
    await start()
  }
  const again = await p1.publish(events, (done) => {
    if (done >= 5000 * (crashes.length + 1) && crashes.length < 2) crashes.push(crash())
  })
  await Promise.all(crashes)
  expect(again).toBeGreaterThan(0)
  await p2.hears('P1', numbers(1, 15_000))
  await p1.hears('P1', numbers(1, 15_000))
  expect(p2.log.events.length).toBe(15_000)
  const p3 = await AmqpMember.start(url, prefix, 'P3')
  await expect.poll(() => p3.mail.map((mail) => mail.id), PATIENCE).toEqual(['P1.mail.1', 'P1.mail.2'])
})

it('a broker whose disk is full refuses what is published, in words, and takes it once there is room', {
  timeout: TEST_MS,
}, async () => {
  const { url, setDiskAlarm } = broker!
  const [p1, p2] = [await AmqpMember.connected(url, prefix, 'P1'), await AmqpMember.connected(url, prefix, 'P2')]
  await p1.publish([anEvent('P1', 1)])
  await setDiskAlarm(true)
  try {
    await expect
      .poll(
        () =>
          p1.bus.publish([anEvent('P1', 2)], never).then(
            () => 'taken',
            (error) => error.details.reason,
          ),
        PATIENCE,
      )
      .toBe('blocked')
    expect(p1.bus.state).toMatchObject({ state: 'blocked', problem: expect.stringContaining('disk') })
    const since = performance.now()
    await expect(p1.bus.publish([anEvent('P1', 2)], never)).rejects.toMatchObject({ code: 'unavailable' })
    await expect(p1.bus.send(anOffer('P1', 'P2', 1), never)).rejects.toMatchObject({ details: { reason: 'blocked' } })
    expect(performance.now() - since).toBeLessThan(1000)
    p1.nudges = 0
  } finally {
    await setDiskAlarm(false)
  }
  await p1.connected()
  expect(p1.nudges).toBeGreaterThan(0)
  await p1.publish(someEvents('P1', 2, 5))
  await p1.bus.send(anOffer('P1', 'P2', 1), never)
  await p2.hears('P1', [1, 2, 3, 4, 5])
  await expect.poll(() => p2.mail.length, PATIENCE).toBe(1)
})

it('a bus stops within two seconds while the broker takes nothing', { timeout: TEST_MS }, async () => {
  const { url, setDiskAlarm } = broker!
  const p1 = await AmqpMember.connected(url, prefix, 'P1')
  await setDiskAlarm(true)
  try {
    await expect
      .poll(
        () =>
          p1.bus.publish([anEvent('P1', 1)], never).then(
            () => 'taken',
            (error) => error.details.reason,
          ),
        PATIENCE,
      )
      .toBe('blocked')
    const since = performance.now()
    await p1.bus.stop()
    expect(performance.now() - since).toBeLessThan(2000)
  } finally {
    await setDiskAlarm(false)
  }
})
