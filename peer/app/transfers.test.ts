import { connect } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type App, createApp, documented, type Listening, listen } from '../../common/http.ts'
import type { FileName } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { createMetrics } from '../../common/metrics.ts'
import { TransferSchema } from '../../common/schemas.ts'
import { FakeNetwork, idOf } from '../transfer/manager.fixture.ts'
import type { TransferManager } from '../transfer/manager.ts'
import { addTransferRoutes, type Transfers } from './transfers.ts'

const FILM = idOf('a')
const KEEP_ALIVE_MS = 100

let network: FakeNetwork
let manager: TransferManager
let app: App

beforeEach(() => {
  network = new FakeNetwork()
  network.automatic = false
  network.offer('P1', 'film.mkv', FILM)
  manager = network.manager()
  app = appOf(manager)
})
afterEach(() => manager.stop())

function appOf(transfers: Transfers): App {
  const about = { title: 'Peer agent', description: 'as a test sees it' }
  const app = createApp({ ...about, log: silentLog, metrics: createMetrics('test') })
  addTransferRoutes(app, transfers, { keepAliveMs: KEEP_ALIVE_MS })
  return documented(app, about)
}

/** What is read of any answer. */
interface Answer {
  transfer: string
  transfers: unknown[]
  paths: Record<string, object>
}

async function call(method: string, path: string, body?: unknown): Promise<{ status: number; body: Answer }> {
  const json = { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
  const response = await app.request(path, { method, ...(body === undefined ? {} : json) })
  return { status: response.status, body: (await response.json()) as Answer }
}

const begin = async () => (await call('POST', '/transfers', { file: 'film.mkv' })).body.transfer

describe('transfers over REST', () => {
  test('are started, listed and told one by one', async () => {
    const { status, body } = await call('POST', '/transfers', { file: 'film.mkv', limit: 5000 })
    expect([status, TransferSchema.parse(body)]).toMatchObject([202, { file: 'film.mkv', limit: 5000 }])
    expect((await call('GET', '/transfers')).body.transfers).toHaveLength(1)
    expect((await call('GET', `/transfers/${body.transfer}`)).body).toMatchObject({ transfer: body.transfer })
  })

  test('are listed by their state', async () => {
    const number = await begin()
    manager.pause(number)
    expect((await call('GET', '/transfers?state=paused')).body.transfers).toHaveLength(1)
    expect((await call('GET', '/transfers?state=running')).body.transfers).toEqual([])
    expect((await call('GET', '/transfers?state=asleep')).status).toBe(400)
  })

  test('are paused, resumed and cancelled', async () => {
    const number = await begin()
    expect(await call('POST', `/transfers/${number}/pause`)).toMatchObject({ status: 200, body: { state: 'paused' } })
    expect(await call('POST', `/transfers/${number}/pause`)).toMatchObject({
      status: 409,
      body: { error: { code: 'conflict' } },
    })
    expect(await call('POST', `/transfers/${number}/resume`)).toMatchObject({ status: 200, body: { state: 'queued' } })
    expect(await call('DELETE', `/transfers/${number}`)).toMatchObject({ status: 200, body: { state: 'cancelled' } })
  })

  test('get another limit while they run, or none', async () => {
    const number = await begin()
    expect(await call('PATCH', `/transfers/${number}`, { limit: '7KB/s' })).toMatchObject({
      status: 200,
      body: { limit: 7000 },
    })
    expect(await call('PATCH', `/transfers/${number}`, { limit: null })).toMatchObject({ body: { limit: null } })
    for (const limit of [-1, 1.5, 'fast', undefined])
      expect((await call('PATCH', `/transfers/${number}`, { limit })).status).toBe(400)
  })

  test.each([
    [{ folder: 'lectures' }, 202],
    [{ folder: 'lectures/', as: 'mine' }, 202],
    [{ folder: '../etc/' }, 400],
    [{ folder: '/' }, 400],
    [{ folder: 'lectures', file: 'film.mkv' }, 400],
    [{ file: 'lectures/' }, 400],
    [{}, 400],
    [{ file: 'film.mkv', limit: 'fast' }, 400],
  ])('are begun by what is a file, a content or a folder: %j is %i', async (body, status) => {
    expect((await call('POST', '/transfers', body)).status).toBe(status)
  })

  test.each([
    ['GET', '/transfers/99'],
    ['GET', '/transfers/99/events'],
    ['DELETE', '/transfers/99'],
    ['POST', '/transfers/99/pause'],
    ['POST', '/transfers/99/resume'],
    ['PATCH', '/transfers/99'],
  ])('that are none are not found: %s %s', async (method, path) => {
    const body = method === 'PATCH' ? { limit: 5000 } : undefined
    expect(await call(method, path, body)).toMatchObject({ status: 404, body: { error: { code: 'not_found' } } })
  })

  test('are described with all their routes', async () => {
    const { paths } = (await call('GET', '/openapi.json')).body
    const described = Object.entries(paths).map(([path, of]) => [path, Object.keys(of).sort()])
    expect(described.filter(([path]) => (path as string).startsWith('/transfers'))).toEqual([
      ['/transfers', ['get', 'post']],
      ['/transfers/events', ['get']],
      ['/transfers/{id}', ['delete', 'get', 'patch']],
      ['/transfers/{id}/pause', ['post']],
      ['/transfers/{id}/resume', ['post']],
      ['/transfers/{id}/events', ['get']],
    ])
  })
})

/** What comes over a stream of events, as it comes; `stop` is a client that goes away. */
async function watch(path: string) {
  const response = await app.request(path)
  expect(response.headers.get('content-type')).toBe('text/event-stream')
  const reader = response.body!.getReader()
  const seen = { text: '' }
  const ended = (async () => {
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read())
      seen.text += Buffer.from(chunk.value).toString()
  })()
  const states = () =>
    [...seen.text.matchAll(/event: transfer\ndata: (.*)\n\n/g)].map(([, data]) => {
      const { transfer, state } = TransferSchema.parse(JSON.parse(data!))
      return `${transfer} ${state}`
    })
  return { seen, states, ended, stop: () => reader.cancel() }
}

describe('server-sent events', () => {
  test('of one transfer end with it', async () => {
    const number = await begin()
    const { states, ended } = await watch(`/transfers/${number}/events`)
    await expect.poll(states).toHaveLength(1)
    await call('DELETE', `/transfers/${number}`)
    await ended
    expect(states().at(-1)).toBe('1 cancelled')
  })

  test('of all tell those there are, then each that changes, and new ones', async () => {
    await call('POST', '/transfers', { id: FILM, as: 'copy.mkv' })
    await expect.poll(() => network.runs.length).toBe(1)
    const { states, stop } = await watch('/transfers/events')
    await expect.poll(states).toEqual(['1 locating'])
    manager.start({ file: 'film.mkv' as FileName, mode: 'dummy' })
    await expect.poll(states).toContainEqual('2 locating')
    manager.pause('1')
    await expect.poll(states).toContainEqual('1 paused')
    await stop()
  })

  test('tell that the agent is there while nothing changes', async () => {
    const { seen, stop } = await watch('/transfers/events')
    await expect.poll(() => seen.text).toMatch(/^: nothing has changed\n\n: nothing has changed\n\n/)
    await stop()
  })

  test('end when the agent stops', async () => {
    const number = await begin()
    const one = await watch(`/transfers/${number}/events`)
    const all = await watch('/transfers/events')
    await manager.stop()
    await Promise.all([one.ended, all.ended])
    expect(one.states().at(-1)).not.toMatch(/cancelled/)
  })

  test('that nobody reads are not made, so that no memory is spent on them', async () => {
    let made = 0
    const long = 'x'.repeat(100_000)
    const state = manager.start({ file: 'film.mkv' as FileName })
    const endless: Transfers = Object.assign(Object.create(manager), {
      async *watchAll(signal: AbortSignal) {
        for (; !signal.aborted; made++) yield { ...state, notes: [long] }
      },
    })
    const server: Listening = await listen(appOf(endless), '127.0.0.1', 0)
    const socket = connect(server.port, '127.0.0.1')
    socket.pause()
    socket.write('GET /transfers/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n')
    let before = -1
    // The system's own buffers take some; then it stands.
    await expect
      .poll(
        () => {
          const stands = made > 0 && made === before
          before = made
          return stands
        },
        { interval: 200 },
      )
      .toBe(true)
    expect(made).toBeLessThan(500)
    socket.destroy()
    await server.close(0)
  })
})
