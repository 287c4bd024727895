import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type ClientHttp2Session, connect } from 'node:http2'
import { createRequire } from 'node:module'
import { connect as createSocket } from 'node:net'
import { Client, credentials, loadPackageDefinition, type ServiceClientConstructor } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'
import { protoPath } from 'grpc-health-check'
import { afterAll, afterEach, describe, expect, test } from 'vitest'
import type { FileName } from '../../common/ids.ts'
import { contentIdOf } from '../../common/merkle.ts'
import { MAX_UNARY_FILE } from '../../common/rpc.ts'
import { patternOf } from '../transfer/transfer.fixture.ts'
import { contentIdToWire, FILE_SERVICE, TRANSFER_SERVICE } from './codec.ts'
import { prefixed } from './frame-codec.ts'
import { contact, ScriptedMember } from './network.fixture.ts'
import { RawClient, RpcPeer, type RpcPeerOptions, startHasher } from './rpc.fixture.ts'

const hasher = startHasher()
const cleanups: (() => void | Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
afterAll(() => hasher.close())

const text = Buffer.from('hello from a small file of this peer, 45 bytes')

async function peer(options?: RpcPeerOptions): Promise<RpcPeer> {
  const started = await RpcPeer.start('P1', hasher, options)
  cleanups.push(() => started.stop())
  return started
}

function unary<Method extends 'Upload' | 'Download'>(
  to: RpcPeer,
  method: Method,
  request: object,
): Promise<{ ok: boolean; content?: Buffer; message: string }> {
  const { client } = new RawClient(to.target)
  cleanups.push(() => client.close())
  const { path, requestSerialize, responseDeserialize } = FILE_SERVICE[method]
  const serialize = requestSerialize as unknown as (message: object) => Buffer
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest<object, { ok: boolean; message: string }>(
      path,
      serialize,
      responseDeserialize,
      request,
      (error, answer) => (error ? reject(error) : resolve(answer!)),
    )
  })
}

describe('FileService', () => {
  test('stores an upload and gives it back', async () => {
    const p1 = await peer()
    const stored = await unary(p1, 'Upload', { filename: 'a.txt', content: text })
    expect(stored).toEqual({
      ok: true,
      message: `stored ${text.length} bytes as a.txt (content id ${contentIdOf(text)})`,
    })
    p1.contents.add('a.txt', text)
    expect(await unary(p1, 'Download', { filename: 'a.txt' })).toMatchObject({ ok: true, content: text })
  })

  test.each([
    ['an empty file', 0],
    ['a file of several pieces', 700_000],
  ])('stores %s', async (_, size) => {
    const p1 = await peer()
    const content = patternOf(size)
    expect((await unary(p1, 'Upload', { filename: 'a', content })).ok).toBe(true)
    expect(readFileSync(p1.landing.path('a')).equals(content)).toBe(true)
  })

  test('never replaces other content, and knows its own again', async () => {
    const p1 = await peer()
    await unary(p1, 'Upload', { filename: 'a.txt', content: text })
    const other = await unary(p1, 'Upload', { filename: 'a.txt', content: Buffer.from('other') })
    expect(other).toMatchObject({ ok: false, message: expect.stringContaining('has other content here') })
    const same = await unary(p1, 'Upload', { filename: 'a.txt', content: text })
    expect(same).toMatchObject({ ok: true, message: expect.stringContaining('already here') })
    expect(readFileSync(p1.landing.path('a.txt')).equals(text)).toBe(true)
  })

  test.each(['../x', '/etc/passwd', 'a\\b', 'a\0b', '', 'x'.repeat(300)])('refuses the name %j', async (filename) => {
    const p1 = await peer()
    expect(await unary(p1, 'Upload', { filename, content: text })).toMatchObject({ ok: false })
    expect(await unary(p1, 'Download', { filename })).toMatchObject({ ok: false })
  })

  test('says so where it does not have a file', async () => {
    const answer = await unary(await peer(), 'Download', { filename: 'none.txt' })
    expect(answer).toMatchObject({ ok: false, message: 'this peer does not share "none.txt"' })
  })

  test('takes no upload where uploads are off', async () => {
    const answer = await unary(await peer({ accept: false }), 'Upload', { filename: 'a', content: text })
    expect(answer).toEqual({ ok: false, message: 'this peer takes no uploads' })
  })

  test('points to the other ways for what is too large for one message', async () => {
    const p1 = await peer()
    const large = Buffer.alloc(MAX_UNARY_FILE + 1, 1)
    expect(await unary(p1, 'Upload', { filename: 'a', content: large })).toMatchObject({
      ok: false,
      message: expect.stringContaining('PUT /files'),
    })
    await unary(p1, 'Upload', { filename: 'a', content: text })
    p1.contents.add('a', large)
    const landing = p1.landing as { existing: (name: FileName) => unknown }
    landing.existing = () => contentIdOf(large)
    expect(await unary(p1, 'Download', { filename: 'a' })).toMatchObject({
      ok: false,
      message: expect.stringContaining('use the Transfer service'),
    })
  })

  test('carries the largest file that fits', async () => {
    const p1 = await peer()
    const content = patternOf(MAX_UNARY_FILE)
    expect((await unary(p1, 'Upload', { filename: 'a', content })).ok).toBe(true)
    p1.contents.add('a', content)
    const answer = await unary(p1, 'Download', { filename: 'a' })
    expect(answer.content?.equals(content)).toBe(true)
  })

  test('sends nothing of a file that changed', async () => {
    const p1 = await peer()
    await unary(p1, 'Upload', { filename: 'a', content: text })
    p1.contents.change(p1.contents.add('a', text).id)
    const answer = await unary(p1, 'Download', { filename: 'a' })
    expect(answer).toMatchObject({ ok: false, message: expect.stringContaining('changed') })
    expect(answer.content).toHaveLength(0)
  })

  test('in dummy mode says truthfully what it would do, and moves no byte', async () => {
    const p1 = await peer({ dummy: true })
    const id = contentIdOf(text)
    const upload = await unary(p1, 'Upload', { filename: 'a.txt', content: text })
    expect(upload).toEqual({ ok: true, message: `dummy: would store ${text.length} bytes as a.txt (content id ${id})` })
    expect(p1.landing.existing('a.txt' as FileName)).toBeUndefined()
    p1.contents.add('a.txt', text)
    const landing = p1.landing as { existing: (name: FileName) => unknown }
    landing.existing = () => id
    const download = await unary(p1, 'Download', { filename: 'a.txt' })
    expect(download).toMatchObject({
      ok: true,
      message: `dummy: would send ${text.length} bytes of a.txt (content id ${id})`,
    })
    expect(download.content).toHaveLength(0)
    expect(p1.contents.readBytes).toBe(0)
  })

  test('serves a hundred uploads at once, though few of them are read at a time', async () => {
    const p1 = await peer()
    const uploads = Array.from({ length: 100 }, (_, i) =>
      unary(p1, 'Upload', { filename: `${i}.txt`, content: patternOf(50_000, i) }),
    )
    expect((await Promise.all(uploads)).filter(({ ok }) => ok)).toHaveLength(100)
  })
})

test('health says that the peer serves', async () => {
  const p1 = await peer()
  const definition = loadPackageDefinition(loadSync(protoPath)) as unknown as {
    grpc: { health: { v1: { Health: ServiceClientConstructor } } }
  }
  const client = new definition.grpc.health.v1.Health(`127.0.0.1:${p1.target.grpc_port}`, credentials.createInsecure())
  cleanups.push(() => client.close())
  const status = await new Promise((resolve, reject) =>
    client.check!({ service: '' }, (error: Error | null, answer: { status: unknown }) =>
      error ? reject(error) : resolve(answer.status),
    ),
  )
  expect(status).toBe(1)
})

const TRANSFERS = ['fileservice.FileService', 'p2p.v1.Transfer']
const NETWORK = ['p2p.v1.Ring', 'p2p.v1.Overlay']
const self = contact('P1', '127.0.0.1')
const network: RpcPeerOptions['network'] = {
  self: () => self,
  ring: new ScriptedMember(),
  overlay: { onExchange: () => ({ self, peers: [] }) },
  flood: { onQuery: async function* () {} },
}

test.each([
  ['', undefined, TRANSFERS],
  [' of a ring and a neighbour', network, [...TRANSFERS, ...NETWORK]],
])('reflection lists the services%s, so that generic clients work', async (_, network, services) => {
  const p1 = await peer(network ? { network } : {})
  const folder = createRequire(import.meta.url)
    .resolve('@grpc/reflection/package.json')
    .replace('package.json', '')
  const reflection = loadSync(`${folder}build/proto/grpc/reflection/v1/reflection.proto`)
  const definition = loadPackageDefinition(reflection) as unknown as {
    grpc: { reflection: { v1: { ServerReflection: ServiceClientConstructor } } }
  }
  const { ServerReflection } = definition.grpc.reflection.v1
  const client = new ServerReflection(`127.0.0.1:${p1.target.grpc_port}`, credentials.createInsecure())
  cleanups.push(() => client.close())
  const call = client.serverReflectionInfo!()
  call.write({ listServices: '' })
  const answer = await new Promise<{ listServicesResponse: { service: { name: string }[] } }>((resolve, reject) => {
    call.once('data', resolve)
    call.once('error', reject)
  })
  call.end()
  const names = answer.listServicesResponse.service.map(({ name }) => name)
  expect(names.filter((name) => [...TRANSFERS, ...NETWORK].includes(name)).sort()).toEqual([...services].sort())
})

test('one host can hold no more than its part of the conversations, until it lets them go', async () => {
  const p1 = await peer()
  const { id } = p1.contents.add('film.mkv', text)
  const { path, requestSerialize } = TRANSFER_SERVICE.Fetch
  const opening = { kind: 'open', open: { content_id: contentIdToWire(id), dummy: true } } as const
  const connection = () => {
    const createConnection = () =>
      createSocket({ port: p1.target.grpc_port, host: '127.0.0.1', localAddress: '127.0.0.9' })
    const session = connect('http://127.0.0.1', { createConnection })
    session.on('error', () => {})
    cleanups.push(() => session.destroy())
    return session
  }
  /** What it is answered first: headers of an open conversation, or of one that was refused. */
  const conversation = async (session: ClientHttp2Session) => {
    const head = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' }
    const stream = session.request(head)
    stream.on('error', () => {})
    stream.write(prefixed(requestSerialize(opening)))
    stream.resume()
    const [headers] = await once(stream, 'response')
    return headers['grpc-status'] ?? 'open'
  }
  const session = connection()
  const held = await Promise.all(Array.from({ length: 260 }, () => conversation(session)))
  expect(held.filter((status) => status === 'open')).toHaveLength(250)
  expect(held.filter((status) => status === '8')).toHaveLength(10)

  const client = new RawClient(p1.target)
  cleanups.push(() => client.close())
  const other = client.fetch()
  other.write(opening)
  const [message] = await once(other, 'data')
  expect(message).toMatchObject({ kind: 'have' })
  other.cancel()

  session.destroy()
  await expect.poll(() => conversation(connection())).toBe('open')
})

test('a port that is taken is one clear error', async () => {
  const p1 = await peer()
  const { createRpcServer, listenRpc } = await import('../../common/rpc.ts')
  const server = createRpcServer()
  await expect(listenRpc(server, '127.0.0.1', p1.target.grpc_port)).rejects.toMatchObject({ code: 'unavailable' })
  server.forceShutdown()
})

test('stopping ends an open conversation within its grace', async () => {
  const p1 = await RpcPeer.start('P1', hasher, { graceMs: 50 })
  const client = new RawClient(p1.target)
  cleanups.push(() => client.close())
  const call = client.fetch()
  call.write({ kind: 'open', open: { content_id: Buffer.alloc(32), dummy: true } })
  call.resume()
  await p1.stop()
  expect((await call.status).code).not.toBe(0)
  expect(client.client).toBeInstanceOf(Client)
})
