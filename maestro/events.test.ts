import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { NetworkEvent } from '../common/events/event.ts'
import { type ServerSentEvent, serverSentEvents } from '../common/events/sse-parser.ts'
import { silentLog } from '../common/log.ts'
import { MaestroConfig } from './config.ts'
import { added, CONTENT, draft, eventOf } from './events/event.fixture.ts'
import { startMaestro, type TestMaestro } from './maestro.fixture.ts'
import { Maestro } from './maestro.ts'

/** Readers that a feed takes. */
const MAX_READERS = 2000

/** What a Maestro tells that is asked for what there is. */
async function messages(
  maestro: TestMaestro,
  options: { after?: string; query?: string } = {},
): Promise<ServerSentEvent[]> {
  const { after, query = after === undefined ? 'last=100000' : '' } = options
  const response = await fetch(`${maestro.url}/events?follow=0&${query}`, {
    headers: after === undefined ? {} : { 'last-event-id': after },
  })
  expect(response.status).toBe(200)
  const all: ServerSentEvent[] = []
  for await (const message of serverSentEvents(response.body!)) all.push(message)
  return all
}

async function heard(maestro: TestMaestro, options?: Parameters<typeof messages>[1]): Promise<NetworkEvent[]> {
  const all = await messages(maestro, options)
  return all.filter(({ event }) => event.includes('.')).map(({ data }) => JSON.parse(data) as NetworkEvent)
}

const publish = (maestro: TestMaestro, events: unknown) => maestro.call('POST', '/events', { events })

describe('of leases the Maestro tells', () => {
  it('each beginning and each end once', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', ['a.txt'])
    await maestro.register('P1', ['a.txt', 'b.txt'])
    await maestro.call('POST', '/heartbeat', { id: 'P1', revision: 1 })
    await maestro.register('P2', [])
    await maestro.call('DELETE', '/peers/P1')
    await maestro.call('DELETE', '/peers/P1')
    maestro.clock.advance(20_000)
    await maestro.maestro.reap()
    const told = async () => (await heard(maestro)).map(({ type, data }) => [(data as { peer: string }).peer, type])
    await expect.poll(told).toEqual([
      ['P1', 'peer.registered'],
      ['P2', 'peer.registered'],
      ['P1', 'peer.withdrawn'],
      ['P2', 'peer.expired'],
    ])
    expect((await heard(maestro))[0]).toMatchObject({
      origin: 'maestro',
      seq: 1,
      data: { peer: 'P1', rest: 'http://10.0.0.1:8000', grpc_port: 50051, files: 1 },
    })
  })

  it('nothing where a registration is refused', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    await maestro.register('P1', [], { peer: 'http://10.0.0.2:8000' })
    await expect.poll(async () => (await heard(maestro)).length).toBe(1)
  })
})

describe('what a peer publishes', () => {
  it('is taken once, and told to all who ask for it', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    const events = [eventOf('P1', 1), eventOf('P1', 2)]
    expect(await publish(maestro, events)).toEqual({ status: 202, body: { accepted: 2 } })
    expect(await publish(maestro, events)).toEqual({ status: 202, body: { accepted: 0 } })
    expect(await heard(maestro, { query: 'last=10&type=file.*' })).toEqual(events)
    expect(await heard(maestro, { query: 'last=10&type=transfer.*' })).toEqual([])
  })

  it('outlives a restart, and a reader goes on where it was', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    await publish(maestro, [eventOf('P1', 1), eventOf('P1', 2)])
    const after = (await messages(maestro)).find(({ data }) => data.includes('P1-run.1'))!.id
    await maestro.restart()
    await publish(maestro, [eventOf('P1', 2), eventOf('P1', 3)])
    await maestro.register('P2', [])
    await expect
      .poll(async () => (await heard(maestro, { after })).map(({ origin, seq }) => `${origin} ${seq}`))
      .toEqual(['P1 2', 'P1 3', 'maestro 2'])
    expect((await messages(maestro, { after })).map(({ event }) => event)).not.toContain('gap')
  })

  it('is told from the beginning, as after a gap, to who comes from another Maestro', async (t) => {
    const [one, two] = [await startMaestro(t), await startMaestro(t)]
    for (const maestro of [one, two]) {
      await maestro.register('P1', [])
      await publish(maestro, [eventOf('P1', 1)])
    }
    const after = (await messages(one)).at(-1)!.id
    expect(await messages(one, { after })).toMatchObject([{ event: 'message', data: '' }])
    const [gap, ...rest] = await messages(two, { after })
    expect(gap).toMatchObject({ event: 'gap', data: '{"lost":null}' })
    expect(rest.map(({ event }) => event)).toEqual(expect.arrayContaining(['peer.registered', 'file.added']))
  })

  it('is heard at once by who watches, also while another peer tells more than is taken', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('storm', [])
    await maestro.register('P1', [])
    const watching = new AbortController()
    onTestFinished(() => watching.abort())
    const response = await fetch(`${maestro.url}/events?type=file.*`, { signal: watching.signal })
    const stream = serverSentEvents(response.body!)
    const storms = Array.from({ length: 30 }, (_, request) =>
      publish(
        maestro,
        Array.from({ length: 500 }, (_, i) => eventOf('storm', request * 500 + i + 1)),
      ),
    )
    const calm = publish(maestro, [eventOf('P1', 1)])
    expect((await calm).status).toBe(202)
    const answers = await Promise.all(storms)
    expect(answers.filter(({ status }) => status === 202)).toHaveLength(20)
    const refused = answers.filter(({ status }) => status === 429)
    expect(refused).toHaveLength(10)
    expect(refused[0]?.body.error).toMatchObject({ code: 'limited', retry_ms: 500 })
    let told = 0
    let calmTold = false
    for await (const { event, data } of stream) {
      if (event !== 'file.added') continue
      if ((JSON.parse(data) as NetworkEvent).origin === 'P1') calmTold = true
      if (++told === 10_001) break
    }
    expect(calmTold).toBe(true)
    const metrics = await (await maestro.maestro.app.request('/metrics')).text()
    expect(metrics).toContain('p2p_events_refused_total{service="maestro"} 5000')
    expect(metrics).toContain('p2p_events_kept_total{service="maestro"} 10003')
  })
})

describe('a hostile request', () => {
  const wrong: [string, unknown][] = [
    ['no list', { a: 1 }],
    ['none', []],
    ['a million events', Array(1_000_000).fill(0)],
    ['one more than are taken', Array.from({ length: 501 }, (_, i) => eventOf('P1', i + 1))],
    ['null', [null]],
    ['a version to come', [{ ...eventOf('P1', 1), v: 2 }]],
    ['no number', [{ ...eventOf('P1', 1), seq: -1 }]],
    ['a bad time', [{ ...eventOf('P1', 1), time: 'yesterday' }]],
    ['a name that nothing has', [eventOf('P1', 1, added('../etc/passwd', 1))]],
    [
      'a content that nothing has',
      [eventOf('P1', 1, draft('file.added', { name: 'a', id: 'x', size: 1, revision: { from: 1, to: 2 } }))],
    ],
    ['data of another type', [eventOf('P1', 1, draft('file.added', { peer: 'P2' }))]],
    ['a type of the prototype', [eventOf('P1', 1, draft('constructor', {}))]],
    ['a type that is none', [{ ...eventOf('P1', 1), type: { toString: 'x' } }]],
  ]

  it.each(wrong)('of %s is refused with one clear error, and changes nothing', async (_, events) => {
    const maestro = await startMaestro({ onTestFinished })
    await maestro.register('P1', [])
    const refused = await publish(maestro, events)
    expect(refused).toMatchObject({ status: 400, body: { error: { code: 'invalid' } } })
    expect(refused.body.error?.message).toMatch(/^events|^the body/)
    expect(JSON.stringify(refused.body).length).toBeLessThan(500)
    expect((await heard(maestro)).map(({ type }) => type)).toEqual(['peer.registered'])
  })

  it('names the event that is not understood, so that the others can be sent again', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    const events = [eventOf('P1', 1), eventOf('P1', 2, draft('file.praised', { by: 'P2' })), eventOf('P1', 3)]
    const refused = await publish(maestro, events)
    expect(refused).toMatchObject({ status: 400, body: { error: { code: 'invalid', id: 'P1-run.2' } } })
    expect(await publish(maestro, [events[0], events[2]])).toMatchObject({ status: 202 })
  })

  it('in the name of a peer without a lease, or of the Maestro, is refused', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    for (const origin of ['P2', 'maestro', '__proto__'])
      expect(await publish(maestro, [{ ...eventOf('P1', 1), origin }])).toMatchObject({
        status: 404,
        body: { error: { peer: origin } },
      })
    const forged = eventOf('P1', 1, draft('peer.withdrawn', { peer: 'P2' }))
    expect(await publish(maestro, [forged])).toMatchObject({ status: 403, body: { error: { id: 'P1-run.1' } } })
  })

  it('with what nobody asked for, however much or deep, leaves nothing of it', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    const event = eventOf('P1', 1)
    const levels = 1_000_000
    const junk = `"junk":${'['.repeat(levels)}${']'.repeat(levels)},`
    const text = JSON.stringify({ events: [event] })
      .replaceAll('"v":', `${junk}"v":`)
      .replace('"name":', `${junk}"name":`)
    const headers = { 'content-type': 'application/json' }
    const answer = await maestro.maestro.app.request('/events', { method: 'POST', body: text, headers })
    expect([answer.status, await answer.json()]).toEqual([202, { accepted: 1 }])
    expect(await heard(maestro, { query: 'last=10&type=file.*' })).toEqual([event])
  })

  it('of too many readers is refused, and everything else goes on', { timeout: 60_000 }, async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    const sockets: Socket[] = []
    t.onTestFinished(() => {
      for (const socket of sockets) socket.destroy()
    })
    const read = async () => {
      const socket = connect(maestro.port, '127.0.0.1')
      sockets.push(socket)
      socket.write('GET /events HTTP/1.1\r\nhost: x\r\n\r\n')
      const [head] = (await once(socket, 'data')) as [Buffer]
      return Number(head.toString().split(' ')[1])
    }
    for (let opened = 0; opened < MAX_READERS; opened += 100)
      expect(new Set(await Promise.all(Array.from({ length: 100 }, read)))).toEqual(new Set([200]))
    expect(await Promise.all(Array.from({ length: 20 }, read))).toEqual(Array(20).fill(429))
    expect((await fetch(`${maestro.url}/healthz`)).status).toBe(200)
    expect((await publish(maestro, [eventOf('P1', 1)])).status).toBe(202)
    const begin = performance.now()
    await maestro.restart()
    expect(performance.now() - begin).toBeLessThan(5000)
    expect((await heard(maestro)).map(({ type }) => type)).toEqual(['peer.registered', 'file.added'])
  })
})

describe('the service', () => {
  it('says what carries its events', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    const events = async () => (await maestro.call('GET', '/')).body.events
    await expect.poll(events).toEqual({ kind: 'embedded', state: 'connected', problem: null, unsent: 0 })
  })

  it('hints at mail to who watches a mailbox', async (t) => {
    const maestro = await startMaestro(t)
    const [sent, expires] = [maestro.clock.now(), maestro.clock.now() + 60_000].map((ms) => new Date(ms).toISOString())
    const mail = {
      v: 1,
      id: 'm1',
      kind: 'offer',
      from: 'P1',
      to: 'P2',
      sent,
      expires,
      name: 'a',
      content: CONTENT,
      size: 1,
    }
    const hints = async () =>
      (await messages(maestro, { query: 'mailbox=P2' })).filter(({ event }) => event === 'mail').map(({ data }) => data)
    expect(await hints()).toEqual([])
    const watching = new AbortController()
    t.onTestFinished(() => watching.abort())
    const { body } = await fetch(`${maestro.url}/events?mailbox=P2`, { signal: watching.signal })
    expect((await maestro.call('POST', '/mailboxes/P2', { mail })).status).toBe(202)
    for await (const { event, data } of serverSentEvents(body!)) {
      if (event !== 'mail') continue
      expect(JSON.parse(data)).toEqual({ waiting: 1 })
      break
    }
  })

  it('does not start with half a webhook, and leaves its databases alone then', async (t) => {
    const maestro = await startMaestro(t, { database: ':memory:' })
    expect((await maestro.call('GET', '/')).status).toBe(200)
    const half = MaestroConfig.parse({
      ip: '127.0.0.1',
      port: 0,
      database: ':memory:',
      webhook_url: 'http://10.0.0.1/',
    })
    await expect(new Maestro(half, { log: silentLog }).start()).rejects.toMatchObject({
      code: 'invalid',
      message: expect.stringContaining('webhook_secret'),
    })
  })
})
