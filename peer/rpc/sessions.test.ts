import { once } from 'node:events'
import { type ClientHttp2Session, connect } from 'node:http2'
import { connect as createSocket } from 'node:net'
import { Metadata, type ServerDuplexStream, type UntypedServiceImplementation } from '@grpc/grpc-js'
import { afterEach, expect, test } from 'vitest'
import { createRpcServer, listenRpc } from '../../common/rpc.ts'
import { boundCalls, type MethodBounds, resetCall } from './beneath.ts'
import { TRANSFER_SERVICE } from './codec.ts'
import { type SessionBounds, Sessions } from './sessions.ts'

const { path } = TRANSFER_SERVICE.Fetch
const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup()
})

/** A server whose calls are answered with headers, and stay open. */
async function serve(bounds: Partial<SessionBounds>, method: Partial<MethodBounds> = {}) {
  let now = 0
  const all = {
    max: 100,
    maxOfHost: 100,
    resets: { perSecond: 10, atOnce: 100 },
    refusals: { perSecond: 10, atOnce: 100 },
    cuts: { perSecond: 0.1, atOnce: 2 },
    ...bounds,
  }
  const sessions = new Sessions(all, () => now)
  const server = createRpcServer([boundCalls({}, { maxMessage: 1024, maxOpen: 1000, ...method }, sessions)])
  const calls: ServerDuplexStream<unknown, unknown>[] = []
  server.addService(
    { Fetch: TRANSFER_SERVICE.Fetch } as never,
    {
      Fetch: (call: ServerDuplexStream<unknown, unknown>) => {
        calls.push(call)
        call.sendMetadata(new Metadata())
      },
    } as unknown as UntypedServiceImplementation,
  )
  const port = await listenRpc(server, '127.0.0.1', 0)
  cleanups.push(() => server.forceShutdown())
  sessions.guard(server)
  const open = (localAddress = '127.0.0.1') => {
    const createConnection = () => createSocket({ port, host: '127.0.0.1', localAddress })
    const session = connect('http://127.0.0.1', { createConnection })
    session.on('error', () => {})
    session.setMaxListeners(0)
    cleanups.push(() => session.destroy())
    return session
  }
  return { open, calls, pass: (ms: number) => (now += ms) }
}

function call(session: ClientHttp2Session) {
  const head = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' }
  const stream = session.request(head, { endStream: false })
  stream.on('error', () => {})
  return stream
}

/** Whether calls over it are answered, or it is closed instead. */
async function isServed(session: ClientHttp2Session): Promise<boolean> {
  const served = once(call(session), 'response').then(
    () => true,
    () => false,
  )
  return Promise.race([served, once(session, 'close').then(() => false)])
}

test('one host has a part of the connections, which it gets back as it closes some', async () => {
  const { open } = await serve({ maxOfHost: 2 })
  const first = open('127.0.0.2')
  expect(await isServed(first)).toBe(true)
  expect(await isServed(open('127.0.0.2'))).toBe(true)
  expect(await isServed(open('127.0.0.2'))).toBe(false)
  expect(await isServed(open('127.0.0.3'))).toBe(true)
  first.destroy()
  await expect.poll(() => isServed(open('127.0.0.2'))).toBe(true)
})

test('connections beyond the number of all are closed', async () => {
  const { open } = await serve({ max: 2 })
  expect(await isServed(open('127.0.0.2'))).toBe(true)
  expect(await isServed(open('127.0.0.3'))).toBe(true)
  const third = open('127.0.0.4')
  await once(third, 'close')
})

/** Opens calls and takes them back until the connection is closed; how many. */
async function takeBack(session: ClientHttp2Session, most: number): Promise<number> {
  const closed = once(session, 'close')
  let count = 0
  for (; !session.closed && !session.destroyed && count < most; count++) {
    const stream = call(session)
    await once(stream, 'response').catch(() => {})
    stream.close(8)
    await new Promise((resolve) => setImmediate(resolve))
  }
  if (count < most) await closed
  return count
}

test('a connection over which calls are taken back again and again is cut, one with some of them now and then is not', async () => {
  const { open, pass } = await serve({})
  expect(await takeBack(open(), 200)).toBeLessThan(200)
  const session = open()
  expect(await takeBack(session, 90)).toBe(90)
  pass(9000)
  expect(await takeBack(session, 90)).toBe(90)
  expect(await isServed(session)).toBe(true)
})

test('a host of several such connections gets no further one until it has calmed down', async () => {
  const { open, pass } = await serve({})
  await takeBack(open(), 200)
  expect(await isServed(open())).toBe(true)
  await takeBack(open(), 200)
  expect(await isServed(open())).toBe(false)
  expect(await isServed(open('127.0.0.2'))).toBe(true)
  pass(10_000)
  expect(await isServed(open())).toBe(true)
})

test('a connection that closes with many calls open is one that was cut at most', async () => {
  const { open, calls } = await serve({})
  const session = open()
  await Promise.all(Array.from({ length: 400 }, () => once(call(session), 'response')))
  session.destroy()
  await expect.poll(() => calls.every(({ destroyed }) => destroyed)).toBe(true)
  expect(await isServed(open())).toBe(true)
})

test('calls that come to their end count for nothing, nor do those that are cut from here', async () => {
  const { open, calls } = await serve({ resets: { perSecond: 0, atOnce: 0 } })
  const session = open()
  for (let i = 0; i < 20; i++) {
    const stream = call(session)
    await once(stream, 'response')
    stream.resume()
    if (i % 2 === 0) resetCall(calls.at(-1)!)
    else {
      calls.at(-1)!.end()
      stream.end()
    }
    await once(stream, 'close')
  }
  expect(await isServed(session)).toBe(true)
})

test('calls that are taken back as a normal thing are counted for themselves', async () => {
  const { open, pass } = await serve({}, { resets: { perSecond: 100, atOnce: 150 } })
  const session = open()
  for (let second = 0; second < 5; second++) {
    expect(await takeBack(session, 100)).toBe(100)
    pass(1000)
  }
  expect(await isServed(session)).toBe(true)
  expect(await takeBack(session, 300)).toBeLessThan(300)
})

test('a connection with more calls of a method than it may have is cut', async () => {
  const { open, calls, pass } = await serve({}, { calls: { perSecond: 10, atOnce: 50 } })
  const session = open()
  for (let i = 0; i < 50; i++) expect(await isServed(session)).toBe(true)
  pass(1000)
  for (let i = 0; i < 10; i++) expect(await isServed(session)).toBe(true)
  expect(await isServed(session)).toBe(false)
  expect(calls).toHaveLength(60)
  expect(await isServed(open())).toBe(true)
})

test('a connection over which calls are refused again and again is cut', async () => {
  const { open, calls } = await serve({}, { maxOpen: 1 })
  const session = open()
  for (let i = 0; i < 101; i++) expect(await isServed(session)).toBe(true)
  expect(calls).toHaveLength(1)
  call(session)
  await once(session, 'close')
})
