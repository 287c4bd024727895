import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync } from 'node:fs'
import { connect } from 'node:http2'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, afterEach, describe, expect, test, vi } from 'vitest'
import type { ContentId, FileName } from '../../common/ids.ts'
import { contentIdOf, MIN_PIECE_SIZE, manifestOf, pieceLength } from '../../common/merkle.ts'
import { honest, MemorySource, patternOf } from '../transfer/transfer.fixture.ts'
import { RpcClients } from './client.ts'
import { contentIdToWire, type ProviderMessage, TRANSFER_SERVICE } from './codec.ts'
import { RawClient, RpcPeer, type RpcPeerOptions, startHasher } from './rpc.fixture.ts'

const hasher = startHasher()
const film = patternOf(40 * MIN_PIECE_SIZE + 4321)
const never = () => new AbortController().signal
const cleanups: (() => void | Promise<void>)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
afterAll(() => hasher.close())

async function peer(name: string, options?: RpcPeerOptions): Promise<RpcPeer> {
  const started = await RpcPeer.start(name, hasher, options)
  cleanups.push(() => started.stop())
  return started
}

function clients(options?: ConstructorParameters<typeof RpcClients>[0]): RpcClients {
  const pool = new RpcClients(options)
  cleanups.push(() => pool.close())
  return pool
}

function raw(to: RpcPeer): RawClient {
  const client = new RawClient(to.target)
  cleanups.push(() => client.close())
  return client
}

function opening(id: ContentId, dummy = false) {
  return { kind: 'open', open: { content_id: contentIdToWire(id), dummy } } as const
}

function asking(first: number, count: number) {
  return { kind: 'want' as const, want: { add: [first, count], remove: [], credit: count } }
}

async function messages(call: AsyncIterable<ProviderMessage>): Promise<ProviderMessage[]> {
  const all: ProviderMessage[] = []
  try {
    for await (const message of call) all.push(message)
  } catch {}
  return all
}

describe('a download over gRPC', () => {
  test.each([
    ['no byte', 0],
    ['one byte', 1],
    ['exactly one piece', MIN_PIECE_SIZE],
    ['10 MiB with an odd tail', film.length],
  ])('of %s arrives whole', async (_, size) => {
    const [p1, p2] = [await peer('P1'), await peer('P2')]
    const data = film.subarray(0, size)
    const { id } = p1.contents.add('film.mkv', data)
    const result = await p2.download(id, 'film.mkv', [clients().source(p1.target)])
    expect(result).toMatchObject({ outcome: 'done', bytes: size })
    expect(readFileSync(p2.landing.path('film.mkv')).equals(data)).toBe(true)
  })

  test('works 200 times at once, in bounded memory', async () => {
    const p1 = await peer('P1', { slots: 4, frameBytes: 64 * 1024 })
    const p2 = await peer('P2')
    const contents = Array.from({ length: 200 }, (_, i) => p1.contents.add(`${i}`, patternOf(MIN_PIECE_SIZE + i, i)))
    const pool = clients()
    const results = await Promise.all(contents.map(({ id }, i) => p2.download(id, `${i}`, [pool.source(p1.target)])))
    expect(results.every(({ outcome }) => outcome === 'done')).toBe(true)
    expect(p1.contents.mostReading).toBeLessThanOrEqual(4)
    expect(readFileSync(p2.landing.path('199')).equals(patternOf(MIN_PIECE_SIZE + 199, 199))).toBe(true)
  })

  test('goes on with another provider where the first dies in the middle', async () => {
    const [p1, p2, p3] = [await peer('P1', { slots: 1 }), await peer('P2'), await peer('P3')]
    const { id } = p1.contents.add('film.mkv', film)
    p2.contents.add('film.mkv', film)
    const pool = clients()
    const dying = pool.source(p1.target)
    const sources = [
      {
        peer: dying.peer,
        address: dying.address,
        manifest: dying.manifest.bind(dying),
        open: (...args: Parameters<typeof dying.open>) => {
          const stream = dying.open(...args)
          return {
            want: stream.want.bind(stream),
            close: stream.close.bind(stream),
            async *events() {
              let pieces = 0
              for await (const event of stream.events()) {
                if (event.kind === 'piece' && ++pieces === 3) await p1.stop()
                yield event
              }
            },
          }
        },
      },
      pool.source(p2.target),
    ]
    expect(await p3.download(id, 'film.mkv', sources)).toMatchObject({ outcome: 'done' })
    expect(readFileSync(p3.landing.path('film.mkv')).equals(film)).toBe(true)
  })

  test('says who does not answer', async () => {
    const [p1, p2] = [await peer('P1'), await peer('P2')]
    const { id } = p1.contents.add('film.mkv', film)
    await p1.stop()
    await expect(p2.download(id, 'film.mkv', [clients().source(p1.target)])).rejects.toMatchObject({
      code: 'unavailable',
      message: expect.stringContaining('P1 does not answer'),
    })
  })

  test('works at once with a provider that is back after it did not answer', async () => {
    const [p1, p2] = [await peer('P1'), await peer('P2')]
    const { id } = p1.contents.add('film.mkv', film)
    const source = clients().source(p1.target)
    await p1.stop()
    await expect(p2.download(id, 'film.mkv', [source])).rejects.toMatchObject({ code: 'unavailable' })
    const back = await peer('P1', { port: p1.target.grpc_port })
    back.contents.add('film.mkv', film)
    expect(await p2.download(id, 'film.mkv', [source])).toMatchObject({ outcome: 'done' })
  })

  test('of what the provider does not have is not found', async () => {
    const [p1, p2] = [await peer('P1'), await peer('P2')]
    const { id } = manifestOf(film)
    await expect(p2.download(id, 'film.mkv', [clients().source(p1.target)])).rejects.toMatchObject({
      code: 'not_found',
    })
  })

  test('ends where the file changed, and no changed byte is sent', async () => {
    const [p1, p2] = [await peer('P1'), await peer('P2')]
    const { id } = p1.contents.add('film.mkv', film)
    p1.contents.change(id)
    const run = p2.download(id, 'film.mkv', [clients().source(p1.target)])
    await expect(run).rejects.toMatchObject({ code: 'conflict', message: expect.stringContaining('changed') })
  })

  test('from a peer in dummy mode is simulated, and nothing is written', async () => {
    const [p1, p2] = [await peer('P1', { dummy: true }), await peer('P2')]
    const { id } = p1.contents.add('film.mkv', film)
    const notes: string[] = []
    const result = await p2.download(id, 'film.mkv', [clients().source(p1.target)], notes)
    expect(result).toMatchObject({ outcome: 'simulated', bytes: film.length })
    expect(p2.landing.existing('film.mkv' as FileName)).toBeUndefined()
    expect(p1.contents.mostReading).toBe(0)
  })

  test('finds out the content id of a name', async () => {
    const p1 = await peer('P1')
    const p2 = await peer('P2')
    const { id } = p1.contents.add('film.mkv', film)
    const pool = clients()
    await p2.download(id, 'film.mkv', [pool.source(p1.target)])
    p2.contents.add('film.mkv', film)
    const source = pool.source(p2.target)
    expect(await source.resolve('film.mkv' as FileName, never())).toEqual({ id, size: film.length })
    await expect(source.resolve('other' as FileName, never())).rejects.toMatchObject({ code: 'not_found' })
  })

  test('keeps no more channels than its bound, apart from those in use', async () => {
    const peers = [await peer('P1'), await peer('P2'), await peer('P3')]
    const pool = clients({ maxChannels: 1 })
    const id = peers.map(({ contents }) => contents.add('film.mkv', film).id)[0]!
    const manifests = await Promise.all(peers.map(({ target }) => pool.source(target).manifest(id, never())))
    expect(manifests.map(({ size }) => size)).toEqual([film.length, film.length, film.length])
    expect((await pool.source(peers[0]!.target).manifest(id, never())).size).toBe(film.length)
  })
})

describe('a hostile taker', () => {
  test.each([
    ['pieces beyond the end', asking(41, 1), 3],
    ['no piece at all', asking(0, 0), 3],
    ['four billion pieces', asking(1, 0xffff_ffff), 3],
  ])('that asks for %s is refused', async (_, request, code) => {
    const p1 = await peer('P1')
    const { id } = p1.contents.add('film.mkv', film)
    const call = raw(p1).fetch()
    call.write(opening(id))
    call.write(request)
    expect((await messages(call)).filter(({ kind }) => kind === 'frame')).toEqual([])
    expect(await call.status).toMatchObject({ code, details: expect.stringContaining('the 41 of') })
  })

  test('that does not begin with "open" is refused', async () => {
    const call = raw(await peer('P1')).fetch()
    call.write(asking(0, 1))
    call.resume()
    expect(await call.status).toMatchObject({ code: 3, details: 'begin with "open"' })
  })

  test('that opens twice is refused', async () => {
    const p1 = await peer('P1')
    const { id } = p1.contents.add('film.mkv', film)
    const call = raw(p1).fetch()
    call.write(opening(id))
    call.write(opening(id))
    call.resume()
    expect(await call.status).toMatchObject({ code: 3 })
  })

  test('that is refused leaves nothing running', async () => {
    const p1 = await peer('P1')
    const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
    const client = raw(p1)
    const ended = async (call: ReturnType<RawClient['bytes']> | ReturnType<RawClient['fetch']>) => {
      call.resume()
      await call.status
    }
    const unknown = async () => {
      const call = client.fetch()
      call.write(opening(contentIdOf(Buffer.from('nobody has this'))))
      await ended(call)
    }
    const emptyOffer = async () => {
      const { path, requestSerialize } = TRANSFER_SERVICE.Push
      const call = client.bytes(path)
      call.write(requestSerialize({ kind: 'offer', offer: { filename: 'a', manifest: null, dummy: false } }))
      await ended(call)
    }
    await Promise.all([unknown(), emptyOffer()])
    const before = timers()
    await Promise.all(Array.from({ length: 20 }, () => [unknown(), emptyOffer()]).flat())
    // What grpc-js itself keeps for a moment is gone by then; what would wait a minute is not.
    await expect.poll(timers, { timeout: 3000 }).toBeLessThan(before + 10)
  })

  test('that asks for manifests and takes none costs no more than some of them, and others get theirs afterwards', async () => {
    const p1 = await peer('P1')
    const { id } = p1.contents.add('film', film)
    const made = vi.spyOn(p1.contents, 'manifest')
    const session = connect(`http://127.0.0.1:${p1.target.grpc_port}`, { settings: { initialWindowSize: 0 } })
    session.on('error', () => {})
    cleanups.push(() => session.destroy())
    const { path, requestSerialize } = TRANSFER_SERVICE.GetManifest
    const message = requestSerialize({ content_id: contentIdToWire(id) })
    const prefix = Buffer.alloc(5)
    prefix.writeUInt32BE(message.length, 1)
    for (let i = 0; i < 200; i++) {
      const head = { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' }
      const call = session.request(head)
      call.on('error', () => {})
      call.end(Buffer.concat([prefix, message]))
    }
    await expect.poll(() => made.mock.calls.length).toBeGreaterThan(0)
    const waiting = clients().source(p1.target).manifest(id, never())
    await expect(Promise.race([waiting, sleep(200)])).resolves.toBeUndefined()
    expect(made.mock.calls.length).toBeLessThan(50)
    session.destroy()
    expect((await waiting).size).toBe(film.length)
  })

  test('that sends garbage gets one clean error, and the peer goes on', async () => {
    const p1 = await peer('P1')
    const { id } = p1.contents.add('film.mkv', film)
    const client = raw(p1)
    for (const garbage of [Buffer.from([0xff, 0xff]), Buffer.alloc(0), Buffer.from('not protobuf at all')]) {
      const call = client.bytes(TRANSFER_SERVICE.Fetch.path)
      call.write(garbage)
      call.resume()
      expect((await call.status).code).toBeGreaterThan(0)
    }
    expect((await clients().source(p1.target).manifest(id, never())).size).toBe(film.length)
  })

  test('that asks ten thousand times and reads nothing costs no more than a window, and is cut off', async () => {
    const p1 = await peer('P1', { stallMs: 300, patienceMs: 20 })
    const { id } = p1.contents.add('film.mkv', film)
    const call = raw(p1).stuck()
    call.write(opening(id))
    for (let i = 0; i < 10_000; i++) call.write(asking(i % 41, 1))
    await expect.poll(() => p1.contents.opened).toBe(1)
    await expect.poll(() => p1.contents.opened, { timeout: 5000 }).toBe(0)
    expect(p1.contents.readBytes).toBeLessThan(12 * 1024 * 1024)
  })

  test('that reads nothing does not keep the slots from others', async () => {
    const p1 = await peer('P1', { slots: 2, stallMs: 60_000, patienceMs: 20 })
    const p2 = await peer('P2')
    const { id } = p1.contents.add('film.mkv', film)
    for (let i = 0; i < 6; i++) {
      const call = raw(p1).stuck()
      call.write(opening(id))
      call.write(asking(0, 41))
    }
    expect(await p2.download(id, 'film.mkv', [clients().source(p1.target)])).toMatchObject({ outcome: 'done' })
  })

  test('that asks for nothing is sent away', async () => {
    const p1 = await peer('P1', { idleMs: 50 })
    const { id } = p1.contents.add('film.mkv', film)
    const call = raw(p1).fetch()
    call.write(opening(id))
    call.resume()
    expect((await call.status).code).not.toBe(0)
  })

  test('that sends a huge message to a small method is refused before it is read', async () => {
    const p1 = await peer('P1')
    for (const path of [TRANSFER_SERVICE.Fetch.path, TRANSFER_SERVICE.GetManifest.path]) {
      const call = raw(p1).bytes(path)
      call.write(Buffer.alloc(1024 * 1024))
      call.resume()
      expect(await call.status).toMatchObject({ code: 8, details: expect.stringContaining('larger than max') })
    }
  })
})

/** Wants these pieces of the film, and collects them. */
async function collect(
  source: Pick<MemorySource, 'open'>,
  add: number[],
  credit: number,
): Promise<Map<number, Buffer>> {
  const manifest = manifestOf(film)
  const folder = mkdtempSync(join(tmpdir(), 'collect-'))
  const fd = openSync(join(folder, 'file'), 'w+')
  cleanups.push(() => rmSync(folder, { recursive: true, force: true }))
  const pieces = new Map<number, Buffer>()
  const commit = (index: number, parts: Uint8Array[]) => hasher.commitPiece(fd, manifest, index, parts)
  const stream = source.open({ manifest, dummy: false, fd, commit, taker: undefined }, never())
  stream.want({ add, credit })
  for await (const event of stream.events()) {
    if (event.kind !== 'piece') continue
    const piece = Buffer.alloc(pieceLength(manifest, event.piece))
    readSync(fd, piece, 0, piece.length, event.piece * manifest.pieceSize)
    pieces.set(event.piece, piece)
    if (pieces.size === credit) break
  }
  await stream.close()
  closeSync(fd)
  return pieces
}

test('an honest source in memory and one over gRPC send the same bytes', async () => {
  const p1 = await peer('P1')
  p1.contents.add('film.mkv', film)
  const over = await collect(clients().source(p1.target), [3, 2], 2)
  expect(over).toEqual(await collect(new MemorySource('P1', film, honest), [3, 2], 2))
  expect([...over.keys()].sort()).toEqual([3, 4])
})

describe('a provider', () => {
  test('tells what it has before anything is asked for', async () => {
    const p1 = await peer('P1')
    const { id } = p1.contents.add('film.mkv', film)
    const call = raw(p1).fetch()
    call.write(opening(id))
    const first = await new Promise((resolve) => call.once('data', resolve))
    expect(first).toMatchObject({ kind: 'have', have: { pieces: [0, 41] } })
    call.cancel()
  })

  test('sends no more pieces than it may begin', async () => {
    const p1 = await peer('P1')
    const { id } = p1.contents.add('film.mkv', film)
    const call = raw(p1).fetch()
    call.write(opening(id))
    call.write({ kind: 'want', want: { add: [0, 41], remove: [], credit: 3 } })
    call.end()
    const pieces = new Set((await messages(call)).flatMap((m) => (m.kind === 'frame' ? m.frame.piece : [])))
    expect(pieces.size).toBe(3)
  })

  test('sends each piece to somebody before it sends one twice', async () => {
    const p1 = await peer('P1')
    p1.contents.add('film.mkv', film)
    const pool = clients()
    const some = await Promise.all([1, 2, 3, 4].map(() => collect(pool.source(p1.target), [0, 41], 10)))
    expect(new Set(some.flatMap((pieces) => [...pieces.keys()])).size).toBe(40)
  })

  test('tells takers of each other, at the address that it sees', async () => {
    const p1 = await peer('P1')
    const { id } = p1.contents.add('film.mkv', film)
    const [one, other] = [raw(p1).fetch(), raw(p1).fetch()]
    const told: ProviderMessage[] = []
    one.on('data', (message: ProviderMessage) => told.push(message))
    one.write({
      kind: 'open',
      open: { content_id: contentIdToWire(id), dummy: false, taker: { peer: 'P8', host: '', grpc_port: 1 } },
    })
    await expect.poll(() => told.length).toBe(1)
    const forged = { peer: 'P9', host: '10.9.8.7', grpc_port: 2 }
    other.write({ kind: 'open', open: { content_id: contentIdToWire(id), dummy: false, taker: forged } })
    await expect.poll(() => told.length).toBe(2)
    expect(told[1]).toEqual({ kind: 'takers', takers: { contacts: [{ ...forged, host: '127.0.0.1' }] } })
    one.cancel()
    other.cancel()
  })

  test('keeps to the rate that the taker asks for', async () => {
    const p1 = await peer('P1')
    const { id } = p1.contents.add('film.mkv', film)
    const call = raw(p1).fetch()
    let bytes = 0
    call.on('data', (message: ProviderMessage) => {
      if (message.kind === 'frame') bytes += message.frame.data.length
    })
    call.write(opening(id))
    const begin = performance.now()
    call.write({ kind: 'want', want: { add: [0, 41], remove: [], credit: 41, rate: 1_000_000 } })
    await expect.poll(() => bytes).toBeGreaterThan(1_000_000)
    const rate = bytes / ((performance.now() - begin) / 1000)
    expect(rate).toBeGreaterThan(700_000)
    expect(rate).toBeLessThan(1_500_000)
    call.cancel()
  })

  test('stops in the middle of a piece that is taken back', async () => {
    const p1 = await peer('P1')
    const { id } = p1.contents.add('film.mkv', film)
    const call = raw(p1).fetch()
    const told: ProviderMessage[] = []
    call.on('data', (message: ProviderMessage) => told.push(message))
    call.write(opening(id))
    call.write({ kind: 'want', want: { add: [7, 1], remove: [], credit: 1, rate: 100_000 } })
    await expect.poll(() => told.some(({ kind }) => kind === 'frame')).toBe(true)
    call.write({ kind: 'want', want: { add: [], remove: [7, 1], credit: 0, rate: 0 } })
    await expect.poll(() => told.at(-1)).toEqual({ kind: 'abandoned', abandoned: { piece: 7 } })
    call.cancel()
  })
})
