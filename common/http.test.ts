import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { createRoute } from '@hono/zod-openapi'
import { afterEach, expect, test, vi } from 'vitest'
import { createApp, listen } from './http.ts'
import { silentLog } from './log.ts'
import { createMetrics } from './metrics.ts'
import { PageQuery } from './schemas.ts'

const IDLE_MS = 100

const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** A server on a free port: the answers that it gave up, the bytes that it took, the status of its last answer. */
async function serve() {
  const app = createApp({
    title: '',
    description: '',
    log: silentLog,
    metrics: createMetrics('test'),
    streams: () => true,
  })
  const server = { port: 0, cancelled: 0, taken: 0, status: 0 }
  app.use(async (c, next) => {
    await next()
    server.status = c.res.status
  })
  app.get('/slow', async (c) => {
    await sleep(4 * IDLE_MS)
    return c.text('done')
  })
  app.put('/taken', async (c) => {
    for await (const chunk of c.req.raw.body!) server.taken += chunk.length
    return c.text('done')
  })
  app.get('/endless', (c) => {
    const pull = (to: ReadableStreamDefaultController) => to.enqueue(new Uint8Array(1 << 20))
    return c.body(new ReadableStream({ pull, cancel: () => void server.cancelled++ }))
  })
  const listening = await listen(app, '127.0.0.1', 0, { idleTimeoutMs: IDLE_MS })
  cleanups.push(() => listening.close(0))
  server.port = listening.port
  return server
}

/** A client that sends this, and then reads nothing. */
function send(port: number, text: string): Socket {
  const socket = connect(port, '127.0.0.1', () => socket.write(text))
  socket.on('error', () => {})
  cleanups.push(() => socket.destroy())
  return socket
}

test('an answer may take as long as it needs', async () => {
  const { port } = await serve()
  expect(await (await fetch(`http://127.0.0.1:${port}/slow`)).text()).toBe('done')
})

test('a client that sends no more of its body is hung up on', async () => {
  const { port } = await serve()
  await once(send(port, 'PUT /taken HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf'), 'close')
})

test('a client that goes away while it sends is no failure of this side', async () => {
  const server = await serve()
  const failures = vi.spyOn(silentLog, 'error')
  cleanups.push(() => failures.mockRestore())
  const socket = send(server.port, 'PUT /taken HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf')
  await expect.poll(() => server.taken).toBe(4)
  socket.resetAndDestroy()
  await expect.poll(() => server.status).toBe(499)
  expect(failures).not.toHaveBeenCalled()
})

test('a client that takes no more of its answer is hung up on', async () => {
  const server = await serve()
  send(server.port, 'GET /endless HTTP/1.1\r\nhost: x\r\n\r\n')
  await expect.poll(() => server.cancelled, { timeout: 3000 }).toBe(1)
})

test('a bad value in a query is told with its name, what it is, and what is allowed', async () => {
  const app = createApp({ title: '', description: '', log: silentLog, metrics: createMetrics('test') })
  const route = createRoute({
    method: 'get',
    path: '/rows',
    request: { query: PageQuery },
    responses: { 200: { description: '' } },
  })
  app.openapi(route, (c) => c.body(null))
  const response = await app.request('/rows?limit=lots')
  expect(response.status).toBe(400)
  expect(await response.json()).toEqual({
    error: { code: 'invalid', message: 'limit in the query is "lots": it must be a number', path: ['limit'] },
  })
})
