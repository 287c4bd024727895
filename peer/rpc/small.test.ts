import type { Server, UntypedServiceImplementation } from '@grpc/grpc-js'
import { afterEach, expect, test, vi } from 'vitest'
import { ManualClock, systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { contentIdOf } from '../../common/merkle.ts'
import { closeRpc, createRpcServer, listenRpc } from '../../common/rpc.ts'
import type { SmallContent, SmallStream } from '../transfer/small-source.ts'
import { MAX_SMALL } from '../transfer/small-source.ts'
import { SmallUploader, type SmallUploaderDeps, type SmallUploaderOptions } from '../transfer/small-uploader.ts'
import { MemoryContents, patternOf } from '../transfer/transfer.fixture.ts'
import { streamBeneath } from './beneath.ts'
import { RpcClients } from './client.ts'
import { TRANSFER_SERVICE } from './codec.ts'
import { prefixed } from './frame-codec.ts'
import { RawClient } from './rpc.fixture.ts'
import { SmallServiceHandlers } from './small-service.ts'
import { GrpcSmallSource } from './small-source.ts'

const cleanups: (() => void | Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

interface Options extends SmallUploaderOptions, Partial<SmallUploaderDeps> {
  dummy?: boolean
  /** answers instead of the real one */
  fake?: UntypedServiceImplementation[string]
}

/** A provider of FetchSmall alone, over real sockets. */
async function provider({ dummy = false, fake, clock = systemClock, limit, ...options }: Options = {}) {
  const contents = new MemoryContents()
  const server: Server = createRpcServer()
  const smallUploader = new SmallUploader({ clock, ...(limit ? { limit } : {}) }, options)
  const handlers = new SmallServiceHandlers({ contents, smallUploader, log: silentLog }, { dummy })
  server.addService({ FetchSmall: TRANSFER_SERVICE.FetchSmall }, { FetchSmall: fake ?? handlers.fetchSmall } as never)
  const grpc_port = await listenRpc(server, '127.0.0.1', 0)
  cleanups.push(() => closeRpc(server, 0))
  const target = { peer: 'P1' as PeerId, rest: 'http://127.0.0.1:8000', grpc_port }
  const clients = new RpcClients()
  cleanups.push(() => clients.close())
  const abort = new AbortController()
  return { contents, target, abort, open: () => new GrpcSmallSource(clients, target).open(abort.signal) }
}

/** The next `count` contents, and how many messages brought them. */
async function take(stream: SmallStream, count: number): Promise<{ contents: SmallContent[]; messages: number }> {
  const contents: SmallContent[] = []
  let messages = 0
  for await (const some of stream.answers()) {
    messages++
    contents.push(...some)
    if (contents.length >= count) break
  }
  return { contents, messages }
}

const bytesOf = (contents: readonly SmallContent[]) =>
  contents.map((c) => (c.fault ? c.fault.code : Buffer.from(c.data)))

test('brings contents of every small size, in order, many to a message', async () => {
  const { contents, open } = await provider()
  const data = [0, 1, 4096, 16_384, 16_385, MAX_SMALL, ...Array(500).fill(64)].map((size, i) => patternOf(size, i))
  const ids = data.map((bytes, i) => contents.add(`f${i}`, bytes).id)
  const stream = open()
  stream.request(ids.slice(0, 300))
  stream.request(ids.slice(300))
  const got = await take(stream, ids.length)
  stream.close()
  expect(got.contents.map(({ id }) => id)).toEqual(ids)
  expect(bytesOf(got.contents)).toEqual(data)
  expect(got.messages).toBeLessThan(10)
  await expect.poll(() => contents.opened).toBe(0)
})

test('a content that can not be had says why, and the others come', async () => {
  const { contents, open } = await provider()
  const [a, b] = [contents.add('a', Buffer.from('a')).id, contents.add('b', Buffer.from('b')).id]
  const changed = contents.add('c', Buffer.from('c')).id
  contents.change(changed)
  const large = contents.add('d', patternOf(MAX_SMALL + 1)).id
  const stream = open()
  stream.request([a, contentIdOf(Buffer.from('nowhere')), changed, large, b])
  const got = await take(stream, 5)
  stream.close()
  expect(bytesOf(got.contents)).toEqual([Buffer.from('a'), 'not_found', 'conflict', 'too_large', Buffer.from('b')])
  await expect.poll(() => contents.opened).toBe(0)
})

test('a provider in dummy mode reads nothing, and answers without bytes', async () => {
  const { contents, open } = await provider({ dummy: true })
  const id = contents.add('a', Buffer.from('a')).id
  const stream = open()
  stream.request([id, contentIdOf(Buffer.from('nowhere'))])
  const got = await take(stream, 2)
  stream.close()
  expect([bytesOf(got.contents), contents.readBytes]).toEqual([[Buffer.alloc(0), 'not_found'], 0])
})

test('too many contents in one request, or ids that are none, end the conversation with the reason', async () => {
  const { contents, open } = await provider()
  const id = contents.add('a', Buffer.from('a')).id
  const greedy = open()
  greedy.request(Array(1025).fill(id))
  await expect(take(greedy, 1)).rejects.toMatchObject({ code: 'invalid', message: expect.stringContaining('1025') })
  const garbled = open()
  garbled.request(['ab' as ContentId])
  await expect(take(garbled, 1)).rejects.toMatchObject({ code: 'invalid' })
})

test('one that sends a content without an id is told to be corrupt', async () => {
  const { open } = await provider({
    fake: ((call: { on: (e: string, f: () => void) => void; write: (m: unknown) => void }) =>
      call.on('data', () =>
        call.write({ contents: [{ content_id: Buffer.alloc(3), data: Buffer.alloc(1) }] }),
      )) as never,
  })
  const stream = open()
  stream.request([contentIdOf(Buffer.from('a'))])
  await expect(take(stream, 1)).rejects.toMatchObject({ code: 'corrupt' })
  stream.close()
})

/** A provider that answers with these bytes. */
const saying = (bytes: Buffer) =>
  provider({ fake: ((call: object) => streamBeneath(call)!.write(prefixed(bytes))) as never })

test.each([
  ['more contents than can be asked for', Buffer.alloc(4096, Buffer.of(0x0a, 0))],
  ['contents without number', Buffer.alloc(1024 * 1024, Buffer.of(0x0a, 0))],
  ['a message beyond its bounds', Buffer.alloc(3 * 1024 * 1024, Buffer.of(0x0a, 0))],
  ['no protobuf', Buffer.of(0x0a, 0xff)],
])('one that sends %s is told to be corrupt', async (_, bytes) => {
  const { open } = await saying(bytes)
  const stream = open()
  stream.request([contentIdOf(Buffer.from('a'))])
  await expect(take(stream, 1)).rejects.toMatchObject({ name: 'NetworkError', code: 'corrupt' })
  stream.close()
})

test('a taker that is gone leaves nothing open', async () => {
  const { contents, open } = await provider()
  const ids = Array.from({ length: 1000 }, (_, i) => contents.add(`f${i}`, patternOf(50_000, i)).id)
  const stream = open()
  stream.request(ids)
  await take(stream, 1)
  stream.close()
  await expect.poll(() => contents.opened).toBe(0)
  const read = contents.readBytes
  await expect.poll(() => contents.reading).toBe(0)
  expect(read).toBeLessThan(50_000 * 1000)
})

test('a cancelled conversation ends at the taker at once', async () => {
  const { open, abort } = await provider({ fake: (() => {}) as never })
  const stream = open()
  stream.request([contentIdOf(Buffer.from('a'))])
  const got = take(stream, 1)
  abort.abort()
  await expect(got).rejects.toThrow(NetworkError)
})

test('what leaves is counted before it does', async () => {
  const limit = { take: vi.fn(() => undefined) }
  const { contents, open } = await provider({ limit })
  const ids = [10, 20].map((size) => contents.add(`f${size}`, patternOf(size)).id)
  const stream = open()
  stream.request(ids)
  await take(stream, 2)
  stream.close()
  expect(limit.take).toHaveBeenCalledWith(30, expect.any(AbortSignal))
})

test('a taker that asks for nothing for a minute is sent away', async () => {
  const clock = new ManualClock()
  const { contents, open } = await provider({ clock })
  const stream = open()
  stream.request([contents.add('a', Buffer.from('a')).id])
  const ended = vi.fn()
  take(stream, 2).catch(ended)
  await expect
    .poll(() => {
      clock.advance(60_000)
      return ended.mock.calls.length
    })
    .toBe(1)
})

test('a taker that takes nothing is cut off, and what was opened for it is closed', async () => {
  const clock = new ManualClock()
  const { contents, target } = await provider({ clock })
  const ids = Array.from({ length: 200 }, (_, i) => contents.add(`f${i}`, patternOf(MAX_SMALL, i)).id)
  const client = new RawClient(target)
  cleanups.push(() => client.close())
  const { path, requestSerialize } = TRANSFER_SERVICE.FetchSmall
  const call = client.bytes(path)
  call.once('readable', () => call.read())
  call.write(requestSerialize({ content_ids: ids.map((id) => Buffer.from(id, 'hex')) }))
  // It reads until what is under way has no room left.
  let before = -1
  await expect
    .poll(
      () => {
        const same = contents.readBytes === before && contents.reading === 0 && before > 0
        before = contents.readBytes
        return same
      },
      { interval: 300 },
    )
    .toBe(true)
  expect(contents.readBytes).toBeLessThan(200 * MAX_SMALL)
  // 256 KiB may take a slow line so long.
  clock.advance(15_000 + 132_000)
  expect((await call.status).code).not.toBe(0)
  await expect.poll(() => contents.opened).toBe(0)
})
