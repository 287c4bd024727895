import { once } from 'node:events'
import { connect } from 'node:http2'
import type { ServerDuplexStream, UntypedServiceImplementation } from '@grpc/grpc-js'
import { afterEach, expect, test } from 'vitest'
import type { PeerId } from '../../common/ids.ts'
import { createRpcServer, listenRpc } from '../../common/rpc.ts'
import { boundCalls, type MethodBounds, resetCall, streamBeneath } from './beneath.ts'
import { type ProviderMessage, type TakerMessage, TRANSFER_SERVICE } from './codec.ts'
import { RawClient } from './rpc.fixture.ts'

type Call = ServerDuplexStream<ProviderMessage, TakerMessage>
const { path, requestSerialize } = TRANSFER_SERVICE.Push
const refusal = requestSerialize({ kind: 'refusal', refusal: { code: 'internal', message: 'x' } })

const cleanups: (() => void)[] = []
afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup()
})

/** A server of one method under these bounds. */
async function serve(bounds: MethodBounds, handler: (call: Call) => void) {
  const server = createRpcServer([boundCalls({ [path]: bounds }, { maxMessage: 1024 })])
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
  const { open } = await serve({ maxMessage: 1024, maxOpen: 1 }, (call) => calls.push(call))
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

test('the window is widened for the methods that receive much', async () => {
  const window = 4 * 1024 * 1024
  const { grpc_port } = await serve({ maxMessage: 1024, window }, (call) => call.resume())
  const session = connect(`http://127.0.0.1:${grpc_port}`)
  cleanups.push(() => session.destroy())
  await once(session, 'remoteSettings')
  const stream = session.request({
    ':method': 'POST',
    ':path': path,
    'content-type': 'application/grpc',
    te: 'trailers',
  })
  stream.on('error', () => {})
  const [settings] = await once(session, 'remoteSettings')
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
