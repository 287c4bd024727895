import { once } from 'node:events'
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import { connect as createSocket } from 'node:net'
import { gzipSync } from 'node:zlib'
import { Metadata, type ServerDuplexStream, type UntypedServiceImplementation } from '@grpc/grpc-js'
import { afterEach, describe, expect, test } from 'vitest'
import type { PeerId } from '../../common/ids.ts'
import { createRpcServer, listenRpc } from '../../common/rpc.ts'
import { boundCalls, type MethodBounds, resetCall, streamBeneath, widenWindow } from './beneath.ts'
import { type ProviderMessage, type TakerMessage, TRANSFER_SERVICE } from './codec.ts'
import { prefixed } from './frame-codec.ts'
import { RawClient } from './rpc.fixture.ts'

type Call = ServerDuplexStream<ProviderMessage, TakerMessage>
const { path, requestSerialize } = TRANSFER_SERVICE.Push
const refusal = requestSerialize({ kind: 'refusal', refusal: { code: 'internal', message: 'x' } })

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup()
})

function session(port: number, localAddress = '127.0.0.1'): ClientHttp2Session {
  const session = connect('http://127.0.0.1', {
    createConnection: () => createSocket({ port, host: '127.0.0.1', localAddress }),
  })
  session.on('error', () => {})
  cleanups.push(() => session.destroy())
  return session
}

function request(session: ClientHttp2Session, headers: object = {}, of = path): ClientHttp2Stream {
  const head = { ':method': 'POST', ':path': of, 'content-type': 'application/grpc', te: 'trailers' }
  const stream = session.request({ ...head, ...headers }, { endStream: false })
  stream.on('error', () => {})
  return stream
}

/** A server of one method under these bounds. */
async function serve(bounds: Partial<MethodBounds>, handler: (call: Call) => void) {
  const server = createRpcServer([
    boundCalls({ [path]: { maxMessage: 1024, maxOpen: 1000, ...bounds } }, { maxMessage: 1024, maxOpen: 1000 }),
  ])
  const { Push } = TRANSFER_SERVICE
  server.addService({ Push } as never, { Push: handler } as unknown as UntypedServiceImplementation)
  const grpc_port = await listenRpc(server, '127.0.0.1', 0)
  cleanups.push(() => server.forceShutdown())
  const client = new RawClient({ peer: 'P1' as PeerId, rest: '', grpc_port })
  cleanups.push(() => client.close())
  return { grpc_port, open: () => client.bytes(path) }
}

test('calls beyond the number that may be open are refused, until one ends', async () => {
  const calls: Call[] = []
  const { open } = await serve({ maxOpen: 1, maxOfHost: 2 }, (call) => calls.push(call))
  const first = open()
  first.resume()
  await expect.poll(() => calls.length).toBe(1)
  const second = open()
  second.resume()
  expect(await second.status).toMatchObject({ code: 8, details: 'too many such calls at this peer: try again later' })
  calls[0]!.end()
  expect((await first.status).code).toBe(0)
  const third = open()
  third.resume()
  await expect.poll(() => calls.length).toBe(2)
})

test('calls beyond the number that may be read wait their turn', async () => {
  const calls: Call[] = []
  const { open } = await serve({ maxMessage: 1024, maxReading: 1 }, (call) => calls.push(call))
  const [first, second] = [open(), open()]
  first.resume()
  second.resume()
  await expect.poll(() => calls.length).toBe(1)
  calls[0]!.end()
  await expect.poll(() => calls.length).toBe(2)
  calls[1]!.end()
  expect([(await first.status).code, (await second.status).code]).toEqual([0, 0])
})

test('a call that takes too long is cut', async () => {
  const { open } = await serve({ maxMessage: 1024, maxMs: 30 }, () => {})
  const call = open()
  call.resume()
  expect((await call.status).code).not.toBe(0)
})

test('a message beyond the bound of its method is refused', async () => {
  const { open } = await serve({ maxMessage: 10 }, (call) => call.resume())
  const call = open()
  call.write(Buffer.concat([refusal, refusal]))
  call.resume()
  expect(await call.status).toMatchObject({ code: 8 })
})

test('a message beyond the bound of its method is refused also where it comes compressed', async () => {
  const received: unknown[] = []
  const { grpc_port } = await serve({ maxMessage: 1000 }, (call) =>
    call.on('data', (message) => received.push(message)),
  )
  const large = requestSerialize({ kind: 'refusal', refusal: { code: 'internal', message: 'x'.repeat(2000) } })
  const stream = request(session(grpc_port), { 'grpc-encoding': 'gzip' })
  const message = prefixed(gzipSync(large))
  message[0] = 1
  stream.write(message)
  const [headers] = await once(stream, 'response')
  expect(headers['grpc-status']).toBe('8')
  expect(received).toEqual([])
})

test.each([
  ['without number', {}, 3000],
  ['where there may be one', { maxReading: 1 }, 2],
])('messages %s that come together are refused before they are read', async (_, bounds, count) => {
  const received: unknown[] = []
  const { grpc_port } = await serve(bounds, (call) => call.on('data', (message) => received.push(message)))
  const stream = request(session(grpc_port))
  stream.write(Buffer.alloc(count * 5))
  const [headers] = await once(stream, 'response')
  expect([headers['grpc-status'], received]).toEqual(['8', []])
})

test('messages after the first one have a bound of their own', async () => {
  const received: unknown[] = []
  const { open } = await serve({ maxMessage: 1000, maxNext: 10 }, (call) =>
    call.on('data', (message) => received.push(message)),
  )
  const call = open()
  call.resume()
  call.write(refusal)
  await expect.poll(() => received.length).toBe(1)
  call.write(refusal)
  expect(await call.status).toMatchObject({ code: 8 })
  expect(received).toHaveLength(1)
})

test('a call that is refused meets no handler, and is not read', async () => {
  const calls: Call[] = []
  const { open } = await serve({ maxOpen: 1 }, (call) => calls.push(call))
  const first = open()
  first.resume()
  await expect.poll(() => calls.length).toBe(1)
  const second = open()
  second.write(refusal)
  second.resume()
  expect((await second.status).code).toBe(8)
  expect(calls).toHaveLength(1)
})

test('calls of one host beyond its part are refused, and those of another are not', async () => {
  const { grpc_port } = await serve({ maxOpen: 3, maxOfHost: 2 }, (call) => call.sendMetadata(new Metadata()))
  const one = session(grpc_port, '127.0.0.2')
  const answers = await Promise.all([1, 2, 3].map(() => once(request(one), 'response')))
  expect(answers.map(([headers]) => headers['grpc-status'])).toEqual([undefined, undefined, '8'])
  const [headers] = await once(request(session(grpc_port, '127.0.0.3')), 'response')
  expect(headers['grpc-status']).toBeUndefined()
})

describe('a call whose request is due', () => {
  const { GetManifest } = TRANSFER_SERVICE
  async function serveManifests(bounds: Partial<MethodBounds>) {
    const waiting: ((error: null, answer: object) => void)[] = []
    const bound = { maxMessage: 1024, maxOpen: 1000, maxReading: 2, bodyMs: 60_000, ...bounds }
    const server = createRpcServer([boundCalls({ [GetManifest.path]: bound }, bound)])
    server.addService(
      { GetManifest } as never,
      {
        GetManifest: (_: object, callback: (error: null, answer: object) => void) => waiting.push(callback),
      } as unknown as UntypedServiceImplementation,
    )
    const port = await listenRpc(server, '127.0.0.1', 0)
    cleanups.push(() => server.forceShutdown())
    const ask = (from: ClientHttp2Session) => {
      const stream = request(from, {}, GetManifest.path)
      stream.end(prefixed(GetManifest.requestSerialize({ filename: 'a' })))
      return stream
    }
    return { port, waiting, ask }
  }

  test('takes no place before it is here', async () => {
    const { port, waiting, ask } = await serveManifests({})
    const mute = session(port)
    for (let i = 0; i < 10; i++) request(mute, {}, GetManifest.path)
    ask(session(port))
    await expect.poll(() => waiting.length).toBe(1)
  })

  test('is cut where it does not come', async () => {
    const { port } = await serveManifests({ bodyMs: 30 })
    const stream = request(session(port), {}, GetManifest.path)
    await once(stream, 'close')
    expect(stream.rstCode).toBe(8)
  })

  test('waits while its host has half of the places', async () => {
    const { port, waiting, ask } = await serveManifests({})
    const one = session(port, '127.0.0.2')
    const asked = [ask(one), ask(one)]
    await expect.poll(() => waiting.length).toBe(1)
    ask(session(port, '127.0.0.3'))
    await expect.poll(() => waiting.length).toBe(2)
    waiting[0]!(null, {})
    await expect.poll(() => waiting.length).toBe(3)
    for (const stream of asked) stream.resume()
  })
})

test('the window is widened for a call that may send much', async () => {
  const window = 4 * 1024 * 1024
  const { grpc_port } = await serve({}, (call) => widenWindow(call, window))
  const client = session(grpc_port)
  const [before] = await once(client, 'remoteSettings')
  expect(before.initialWindowSize).toBe(65_535)
  request(client)
  const [settings] = await once(client, 'remoteSettings')
  expect(settings.initialWindowSize).toBe(window)
})

test('a call can be reset, whatever is queued on it', async () => {
  const calls: Call[] = []
  const { open } = await serve({ maxMessage: 1024 }, (call) => calls.push(call))
  const call = open()
  await expect.poll(() => calls.length).toBe(1)
  expect(streamBeneath(calls[0]!)).toBeDefined()
  for (let i = 0; i < 100; i++) calls[0]!.write({ kind: 'result', result: { message: 'x'.repeat(100_000) } } as never)
  resetCall(calls[0]!)
  call.resume()
  expect((await call.status).code).not.toBe(0)
})
