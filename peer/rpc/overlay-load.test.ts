import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { FloodAnswer, FloodHandlers } from '../flood/protocol.ts'
import { RpcClients } from './client.ts'
import { prefixed } from './frame-codec.ts'
import { contact, query, ScriptedMember } from './network.fixture.ts'
import { OVERLAY_SERVICE, queryToWire } from './overlay-codec.ts'
import { GrpcOverlay } from './overlay-network.ts'
import { RING_SERVICE } from './ring-codec.ts'
import { RpcPeer, startHasher } from './rpc.fixture.ts'

const { Query } = OVERLAY_SERVICE
const hasher = startHasher()
const clients = new RpcClients()
const signal = new AbortController().signal
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
afterAll(async () => {
  await clients.close()
  await hasher.close()
})

/**
 * A client in a thread of its own, this one being the server's; it writes HTTP/2 frames that were made beforehand, so that
 * what it costs is what it costs the server.
 */
const NEIGHBOUR = `
const { workerData, parentPort } = require('node:worker_threads')
const { createConnection } = require('node:net')
const { port, path, body, perSecond, ms, takeBack, host } = workerData
const frame = (type, flags, stream, payload) => {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}
const text = (value) => Buffer.concat([Buffer.of(value.length), Buffer.from(value)])
const fields = [[':method', 'POST'], [':scheme', 'http'], [':path', path], [':authority', 'a'], ['content-type', 'application/grpc'], ['te', 'trailers']]
const head = Buffer.concat(fields.map(([name, value]) => Buffer.concat([Buffer.of(0), text(name), text(value)])))
const call = (stream) => {
  const parts = [frame(1, 4, stream, head), frame(0, 1, stream, Buffer.from(body))]
  if (takeBack) parts.push(frame(3, 0, stream, Buffer.of(0, 0, 0, 8)))
  return Buffer.concat(parts)
}
let [sent, answered, cut, unread] = [0, 0, false, Buffer.alloc(0)]
const socket = createConnection({ port, host: '127.0.0.1', localAddress: host })
socket.on('error', () => {})
socket.on('close', () => { cut = true })
socket.on('data', (data) => {
  unread = Buffer.concat([unread, data])
  while (unread.length >= 9) {
    const length = unread.readUIntBE(0, 3)
    if (unread.length < 9 + length) break
    if (unread[3] === 1) answered++
    if (unread[3] === 4 && !(unread[4] & 1)) socket.write(frame(4, 1, 0, Buffer.alloc(0)))
    unread = unread.subarray(9 + length)
  }
})
socket.once('connect', () => {
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n'), frame(4, 0, 0, Buffer.alloc(0))]))
  const begun = performance.now()
  const timer = setInterval(() => {
    const passed = performance.now() - begun
    const calls = []
    for (const due = Math.min(passed, ms) * perSecond / 1000; sent < due; sent++) calls.push(call(2 * sent + 1))
    if (calls.length > 0 && !cut) socket.write(Buffer.concat(calls))
    if (passed < ms && !cut) return
    clearInterval(timer)
    setTimeout(() => { parentPort.postMessage({ sent, cut, answered }); socket.destroy() }, cut ? 0 : 300)
  }, 5)
})
`

interface Told {
  sent: number
  cut: boolean
  /** blocks of headers that came */
  answered: number
}

async function serve(onQuery: FloodHandlers['onQuery']): Promise<number> {
  const self = contact('P1', '127.0.0.1')
  const peer = await RpcPeer.start('P1', hasher, {
    network: {
      self: () => self,
      overlay: { onExchange: () => ({ self, peers: [] }) },
      flood: { onQuery },
      ring: new ScriptedMember(),
    },
  })
  cleanups.push(() => peer.stop())
  return peer.target.grpc_port
}

interface Calls {
  method?: { path: string; body: Buffer }
  perSecond: number
  ms: number
  /** each call at once, in the same bytes */
  takeBack?: boolean
}

const QUERY = {
  path: Query.path,
  body: prefixed(Query.requestSerialize(queryToWire(query(), contact('P2').peer))),
}

async function neighbour(port: number, { method = QUERY, ...calls }: Calls): Promise<Told> {
  const worker = new Worker(NEIGHBOUR, { eval: true, workerData: { port, host: '127.0.0.2', ...method, ...calls } })
  cleanups.push(() => worker.terminate())
  const [told] = await once(worker, 'message')
  return told
}

/** How long a peer elsewhere waits for an introduction, at most, while the neighbour is there, ms. */
async function waitedFor(port: number, other: () => Promise<Told>): Promise<{ waited: number; told: Told }> {
  const overlay = new GrpcOverlay({ clients, self: () => contact('P3', '127.0.0.1') }, { exchangeMs: 10_000 })
  const to = contact('P1', '127.0.0.1', port)
  const ask = async () => {
    const begun = performance.now()
    await overlay.exchange(to, [], false, signal)
    return performance.now() - begun
  }
  // An agent that runs has long compiled what it runs.
  for (let i = 0; i < 300; i++) await ask()
  let waited = 0
  let told: Told | undefined
  const done = other().then((it) => {
    told = it
  })
  while (!told) waited = Math.max(waited, await ask())
  await done
  return { waited, told }
}

async function* never(_: unknown, __: unknown, signal: AbortSignal): AsyncGenerator<FloodAnswer> {
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
}

async function* seen(): AsyncGenerator<FloodAnswer> {
  yield { kind: 'seen' }
}

function refuse(): never {
  throw new NetworkError('limited', 'too many queries')
}

// The machine may be busy with other tests.
describe('a neighbour with 10,000 calls a second is cut, and nobody else waits for it', () => {
  const MUCH = { perSecond: 10_000, ms: 1500 }

  test.each([
    ['that are refused', refuse],
    ['that stay open', never],
    ['that are answered', seen],
  ])('where they are queries %s', async (_, onQuery) => {
    let handled = 0
    const port = await serve((...query) => {
      handled++
      return onQuery(...query)
    })
    const { waited, told } = await waitedFor(port, () => neighbour(port, MUCH))
    expect(told.cut).toBe(true)
    expect(handled).toBeLessThan(2000)
    expect(waited).toBeLessThan(500)
  })

  test('where they are queries that it takes back', async () => {
    const port = await serve(never)
    const { waited, told } = await waitedFor(port, () => neighbour(port, { ...MUCH, takeBack: true }))
    expect(told.cut).toBe(true)
    expect(waited).toBeLessThan(500)
  })

  test('where they are steps of a lookup', async () => {
    const port = await serve(never)
    const { path, requestSerialize } = RING_SERVICE.Step
    const method = { path, body: prefixed(requestSerialize({ to: 'P1', key: Buffer.alloc(32) })) }
    const { waited, told } = await waitedFor(port, () => neighbour(port, { ...MUCH, method }))
    expect(told.cut).toBe(true)
    expect(waited).toBeLessThan(500)
  })
})

test('a neighbour that takes back 90 queries a second is not cut', async () => {
  const port = await serve(never)
  const { sent, cut } = await neighbour(port, { perSecond: 90, ms: 2000, takeBack: true })
  expect([sent, cut]).toEqual([180, false])
})
