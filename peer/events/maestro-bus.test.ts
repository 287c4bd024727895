import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect, onTestFinished, test } from 'vitest'
import { type Clock, systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import { anEvent, anOffer, MemoryLog, someEvents } from '../../common/events/bus.fixture.ts'
import type { NetworkEvent } from '../../common/events/event.ts'
import type { Mail } from '../../common/events/mail.ts'
import { parsePeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { MaestroClient } from '../../common/maestro-client.ts'
import { MaestroBus } from './maestro-bus.ts'
import { NoBus } from './no-bus.ts'

const P1 = parsePeerId('P1')
const never = new AbortController().signal

type Handler = (request: IncomingMessage, response: ServerResponse) => void

/** A server at the Maestro's address that does what the test says; `routes` by method and path. */
async function startServer(routes: Record<string, Handler>) {
  const server = createServer((request, response) => {
    const handler = routes[`${request.method} ${request.url!.replace(/\?.*/, '')}`]
    if (handler) handler(request, response)
    else
      json(
        response,
        404,
        new NetworkError('not_found', `no route ${request.method} ${request.url}; see /docs`).toBody(),
      )
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  onTestFinished(() => {
    server.close()
    server.closeAllConnections()
  })
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
}

function stream(response: ServerResponse, text = ''): ServerResponse {
  response.writeHead(200, { 'content-type': 'text/event-stream' }).write(`: events\n\n${text}`)
  return response
}

const messageOf = (event: NetworkEvent, id: string) =>
  `id: ${id}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`

/** Longer than any pause after a failure, ms. */
const IDLE_MS = 200_000

/** A clock whose pauses after failures take no time, up to the thirtieth, and are remembered, ms. */
class EagerClock implements Clock {
  readonly pauses: number[] = []
  readonly now = () => Date.now()
  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms < IDLE_MS) this.pauses.push(ms)
    if (ms < IDLE_MS && this.pauses.length < 30) await new Promise((resolve) => setImmediate(resolve))
    else await systemClock.sleep(ms, signal)
  }
}

interface Options {
  clock?: Clock
  log?: MemoryLog
  onMail?: (mail: readonly Mail[]) => Promise<void>
  silenceMs?: number
}

async function startBus(routes: Record<string, Handler>, options: Options = {}) {
  const url = await startServer(routes)
  const maestro = new MaestroClient(url, { timeoutMs: 1000, silenceMs: options.silenceMs ?? 30_000 })
  const log = options.log ?? new MemoryLog()
  const mail: Mail[] = []
  const seen = { gaps: 0, connected: 0 }
  const take = async (batch: readonly Mail[]) => void mail.push(...batch)
  const bus = new MaestroBus(
    {
      maestro,
      log,
      clock: options.clock ?? systemClock,
      logger: silentLog,
      onMail: options.onMail ?? take,
      onGap: () => seen.gaps++,
      onConnected: () => seen.connected++,
    },
    { self: P1 },
  )
  onTestFinished(async () => {
    const since = performance.now()
    await bus.stop()
    expect(performance.now() - since).toBeLessThan(1000)
    await maestro.close()
  })
  await bus.start()
  return { bus, log, mail, seen, url }
}

test('a process that never heard anything hears from now on, and knows that it missed what was before', async () => {
  const asked: (string | undefined)[] = []
  const { log, seen } = await startBus({
    'GET /events': (request, response) => {
      asked.push(request.headers['last-event-id'] as string | undefined)
      stream(response, `id: log-7\n\n`)
    },
  })
  await expect.poll(() => log.resume()).toBe('log-7')
  expect([asked, seen.gaps, seen.connected]).toEqual([[undefined], 1, 1])
})

test('it goes on after what was kept last, without a gap, and tells of each that the Maestro names', async () => {
  const log = new MemoryLog()
  await log.keep([], 'log-3')
  const asked: unknown[] = []
  const { seen } = await startBus(
    {
      'GET /events': (request, response) => {
        asked.push([request.headers['last-event-id'], request.url])
        const gap = 'event: gap\ndata: {"lost": 5}\n\n'
        stream(response, asked.length === 1 ? messageOf(anEvent('P2', 1), 'log-4') : gap)
        if (asked.length === 1) response.end()
      },
    },
    { log },
  )
  await expect.poll(() => seen.gaps).toBe(1)
  expect(asked).toEqual([
    ['log-3', '/events?mailbox=P1'],
    ['log-4', '/events?mailbox=P1'],
  ])
  expect(log.seqs('P2')).toEqual([1])
})

test('what is not understood is passed over and counted, and garbage as an id is never sent back', async () => {
  const ids = ['log-1', 'log-2\u00e9', 'x'.repeat(2000), 'log 3', '\u0001', 'log-4']
  const texts = ['no JSON', 'null', '{"type":"file.added"}', '['.repeat(20_000), '{"type":"nothing.known"}']
  const { bus, log } = await startBus({
    'GET /events': (_, response) => {
      stream(response)
      for (const [i, id] of ids.entries()) response.write(`id: ${id}\nevent: file.added\ndata: ${texts[i] ?? '{}'}\n\n`)
      response.write(messageOf(anEvent('P2', 1), ''))
      response.write('id: log-\u0000\ndata: 1\n\nevent: unheard\nid: \ud83d\ude00\ndata: x\n\n')
      response.write(messageOf(anEvent('P2', 2), 'log-9'))
    },
  })
  await expect.poll(() => log.seqs('P2')).toEqual([1, 2])
  expect(bus.skipped).toBe(8)
  await expect.poll(() => log.resume()).toBe('log-9')
  expect(bus.state.state).toBe('connected')
})

test.each<[string, Handler, RegExp]>([
  ['closes at once', (_, response) => void stream(response).end(), /closed the connection/],
  ['hangs up', (request) => void request.socket.destroy(), /does not answer/],
  ['is something else', (_, response) => void response.end('<html>hello</html>'), /something other than events/],
  [
    'refuses',
    (_, response) => json(response, 429, new NetworkError('limited', 'too many').toBody()),
    /refuses: too many/,
  ],
  ['fails with anything', (_, response) => void response.writeHead(500).end('x'.repeat(1_000_000)), /status 500/],
  [
    'is older',
    (_, response) => json(response, 404, new NetworkError('not_found', 'no route GET /events').toBody()),
    /older than this peer, update it/,
  ],
])(
  'a Maestro that %s is asked again in pauses that grow, and what is wrong is told in words',
  async (_, handler, words) => {
    const clock = new EagerClock()
    const { bus } = await startBus({ ...mailboxOf([]).routes, 'GET /events': handler }, { clock })
    await expect.poll(() => clock.pauses.length).toBeGreaterThan(10)
    expect(bus.state).toEqual({ kind: 'embedded', state: 'unreachable', problem: expect.stringMatching(words) })
    const { pauses } = clock
    expect(pauses[0]).toBeLessThanOrEqual(375)
    expect(pauses[2]).toBeGreaterThanOrEqual(500)
    for (const ms of pauses.slice(8)) expect(ms).toBeGreaterThanOrEqual(7500)
  },
)

test('a line without end is given up before it fills the memory', async () => {
  let sent = 0
  const { bus } = await startBus({
    'GET /events': (_, response) => {
      stream(response, 'data: ')
      const part = 'x'.repeat(256 * 1024)
      const more = () => {
        while (!response.destroyed && response.write(part)) sent += part.length
      }
      response.on('drain', more)
      more()
    },
  })
  await expect.poll(() => bus.state.problem).toMatch(/event without end/)
  expect(sent).toBeLessThan(64 * 2 ** 20)
})

test('a Maestro that has fallen silent is left', async () => {
  let asked = 0
  const { bus } = await startBus(
    {
      'GET /events': (_, response) => {
        asked++
        stream(response)
      },
    },
    { silenceMs: 100 },
  )
  await expect.poll(() => bus.state.problem).toMatch(/fallen silent/)
  await expect.poll(() => asked).toBeGreaterThan(1)
})

test('a Maestro that is seen to answer again is heard at once, however long the pause was', async () => {
  const clock: Clock = { now: systemClock.now, sleep: (_, signal) => systemClock.sleep(60_000, signal) }
  let up = false
  const { bus } = await startBus(
    { 'GET /events': (_, response) => (up ? stream(response) : response.destroy()) },
    { clock },
  )
  await expect.poll(() => bus.state.problem).toMatch(/does not answer/)
  up = true
  bus.reconnect()
  await expect.poll(() => bus.state.state).toBe('connected')
})

test('a refusal that has no end is given up', async () => {
  const { bus } = await startBus({ 'GET /events': (_, response) => void response.writeHead(503).write('{"error":') })
  await expect.poll(() => bus.state.problem).toMatch(/status 503/)
})

test('while what came is being kept, no more is read than fits in a few buffers', async () => {
  const log = new MemoryLog()
  let release = () => {}
  const kept = new Promise<void>((resolve) => {
    release = resolve
  })
  log.beforeKeep = () => kept
  const events = someEvents('P2', 1, 20_000)
  const padding = `: ${'x'.repeat(4000)}\n\n`
  let written = 0
  let stuck = false
  await startBus(
    {
      'GET /events': (_, response) => {
        stream(response)
        const more = () => {
          stuck = false
          while (written < events.length) {
            const event = events[written++]!
            if (!response.write(padding + messageOf(event, `log-${event.seq}`))) break
          }
          stuck = written < events.length
        }
        response.on('drain', more)
        more()
      },
    },
    { log },
  )
  // 20,000 messages are 85 MB; the sockets of both sides hold a few.
  let before = -1
  await expect
    .poll(
      () => {
        const still = stuck && written === before
        before = written
        return still
      },
      { interval: 200 },
    )
    .toBe(true)
  expect(written).toBeLessThan(10_000)
  release()
  await expect.poll(() => log.events.length, { timeout: 15_000 }).toBe(20_000)
  expect(log.given).toBe(20_000)
  expect(await log.resume()).toBe('log-20000')
})

/** A mailbox of pages as they are; a page is gone when its ids were taken. */
function mailboxOf(messages: unknown[]) {
  const taken: string[][] = []
  let left = [...messages]
  const routes: Record<string, Handler> = {
    'GET /events': (_, response) => void stream(response, 'event: mail\ndata: {"waiting":1}\n\n'),
    'GET /mailboxes/P1': (request, response) => {
      const after = Number(new URL(request.url!, 'http://x').searchParams.get('after') ?? 0)
      const page = messages.slice(after, after + 2).filter((message) => left.includes(message))
      json(response, 200, {
        mail: page,
        next: after + 2 < messages.length ? String(after + 2) : null,
        waiting: left.length,
      })
    },
    'POST /mailboxes/P1/taken': async (request, response) => {
      const chunks = await request.toArray()
      const { ids } = JSON.parse(Buffer.concat(chunks).toString()) as { ids: string[] }
      taken.push(ids)
      left = left.filter((message) => !ids.includes((message as Mail | null)?.id ?? ''))
      json(response, 200, { waiting: left.length })
    },
  }
  return { routes, taken, left: () => left }
}

test('mail for others, of the future, of no form or of the past is taken away, and does not stand in the way', async () => {
  const good = [anOffer('P2', 'P1', 1), anOffer('P2', 'P1', 2)]
  const box = mailboxOf([
    { ...anOffer('P2', 'P1', 3), v: 2 },
    anOffer('P2', 'P9', 4),
    null,
    'text',
    good[0],
    { id: 'only-an-id' },
    { id: 7 },
    { ...anOffer('P2', 'P1', 5), name: '../../etc/passwd' },
    anOffer('P2', 'P1', 6, { expires: new Date(Date.now() - 1000).toISOString() }),
    good[1],
  ])
  const { mail } = await startBus(box.routes)
  await expect.poll(() => mail).toEqual(good)
  await expect.poll(() => box.left()).toEqual([null, 'text', { id: 7 }])
})

test('mail that could not be taken stays in the mailbox, and is tried again in pauses that grow', async () => {
  const clock = new EagerClock()
  const box = mailboxOf([anOffer('P2', 'P1', 1)])
  let failures = 0
  const mail: Mail[] = []
  const onMail = async (batch: readonly Mail[]) => {
    if (failures++ < 5) throw new Error('the disk is full')
    mail.push(...batch)
  }
  const { bus } = await startBus(box.routes, { clock, onMail })
  await expect.poll(() => mail.length).toBe(1)
  await expect.poll(() => box.taken).toEqual([['P2.mail.1']])
  await expect.poll(() => bus.state.problem).toBe(null)
  const { pauses } = clock
  expect(pauses.length).toBe(5)
  expect(Math.max(...pauses)).toBeGreaterThan(5000)
})

test('where the mailboxes are elsewhere, that is told in words, and events are heard all the same', async () => {
  const elsewhere = new NetworkError('conflict', 'the mailboxes of this network are at its RabbitMQ')
  const { bus } = await startBus({
    'GET /events': (_, response) => void stream(response),
    'GET /mailboxes/P1': (_, response) => json(response, 409, elsewhere.toBody()),
    'POST /mailboxes/P2': (_, response) => json(response, 409, elsewhere.toBody()),
  })
  await expect.poll(() => bus.state).toMatchObject({ state: 'connected', problem: expect.stringMatching(/RabbitMQ/) })
  await expect(bus.send(anOffer('P1', 'P2', 1), never)).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/RabbitMQ/),
  })
})

test('a mailbox that never ends is read for as long as the bus runs, and no longer', async () => {
  let pages = 0
  const { mail } = await startBus({
    ...mailboxOf([]).routes,
    'GET /mailboxes/P1': (_, response) => {
      pages++
      json(response, 200, { mail: [anOffer('P2', 'P1', pages)], next: String(pages), waiting: 1 })
    },
  })
  await expect.poll(() => mail.length).toBeGreaterThan(20)
})

test('publishing is told what a failure means: whether to try again, and which event is at fault', async () => {
  const answers: [NetworkError, object][] = [
    [
      new NetworkError('not_found', 'no live lease of P1: register first'),
      { code: 'unavailable', message: /register first/ },
    ],
    [new NetworkError('not_found', 'no route POST /events'), { code: 'unavailable', message: /older/ }],
    [new NetworkError('forbidden', 'not yours', { id: 'P1.2' }), { code: 'invalid', details: { id: 'P1.2' } }],
    [new NetworkError('too_large', 'long', { id: 'P1.2' }), { code: 'too_large', details: { id: 'P1.2' } }],
    [new NetworkError('limited', 'slow', { retry_ms: 70 }), { code: 'limited', details: { retry_ms: 70 } }],
    [new NetworkError('conflict', 'elsewhere'), { code: 'unavailable', message: /elsewhere/ }],
    [new NetworkError('internal', 'oh'), { code: 'unavailable' }],
  ]
  let answer = 0
  const { bus } = await startBus({
    'GET /events': (_, response) => void stream(response),
    'POST /events': (_, response) => json(response, 418, answers[answer]![0].toBody()),
  })
  for (const [, { message, ...expected }] of answers as [NetworkError, { message?: RegExp }][]) {
    const failure = await bus.publish(someEvents('P1', 1, 3), never).catch((error) => error)
    expect(failure).toMatchObject(expected)
    if (message) expect(failure.message).toMatch(message)
    answer++
  }
})

test('where only one event was sent, it is the one at fault', async () => {
  const { bus } = await startBus({
    'POST /events': (_, response) => json(response, 400, new NetworkError('invalid', 'body: wrong').toBody()),
  })
  await expect(bus.publish([anEvent('P1', 1)], never)).rejects.toMatchObject({
    code: 'invalid',
    details: { id: 'P1.1' },
  })
})

test('an event of another origin, as from before this peer was renamed, is named and not sent', async () => {
  const { bus } = await startBus({})
  await expect(bus.publish([anEvent('P1', 1), anEvent('old', 7)], never)).rejects.toMatchObject({
    code: 'invalid',
    details: { id: 'old.7' },
  })
})

test('events that are long together go in several requests', async () => {
  const sizes: number[] = []
  const { bus } = await startBus({
    'POST /events': async (request, response) => {
      sizes.push(Buffer.concat(await request.toArray()).length)
      json(response, 202, { accepted: 0 })
    },
  })
  const text = 'x'.repeat(12_000)
  const long = someEvents('P1', 1, 499).map((event) => ({ ...event, data: { ...event.data, text } }) as NetworkEvent)
  await bus.publish(long, never)
  expect(sizes.length).toBe(2)
  for (const size of sizes) expect(size).toBeLessThan(5 * 2 ** 20)
})

test('where nothing carries events, they have nobody to go to, and mail is refused in words', async () => {
  const bus = new NoBus()
  await bus.start()
  await bus.publish()
  await expect(bus.send()).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/neither a Maestro/),
  })
  expect(bus.state).toEqual({ kind: 'none', state: 'unreachable', problem: null })
  await bus.stop()
})
