import { expect, test } from 'vitest'
import { silentLog } from '../../common/log.ts'
import { createMetrics } from '../../common/metrics.ts'
import { createPeerApp, type PeerAppDeps } from './app.ts'

test('of a stranger nothing is read on the routes of the own user', async () => {
  const nothing = { events: {} } as PeerAppDeps
  const app = createPeerApp(
    { ...nothing, log: silentLog, metrics: createMetrics('test') },
    { token: undefined, advertiseHost: undefined },
  )
  for (const [method, path] of [
    ['POST', '/transfers'],
    ['POST', '/friends'],
    ['POST', '/discover'],
    ['POST', '/mailbox'],
    ['POST', '/follows'],
    ['POST', '/refresh'],
    ['PUT', '/files/a'],
    ['PATCH', '/nowhere'],
  ]) {
    let sent = 0
    const pull = (to: ReadableStreamDefaultController) => {
      sent++
      to.enqueue(Buffer.alloc(64 * 1024))
    }
    const response = await app.request(`http://127.0.0.1${path}`, {
      method: method!,
      headers: { host: '127.0.0.1', 'transfer-encoding': 'chunked', 'content-type': 'application/json' },
      body: new ReadableStream({ pull }),
      duplex: 'half',
    } as RequestInit)
    expect([path, response.status]).toEqual([path, 401])
    expect([path, sent < 5]).toEqual([path, true])
  }
})
