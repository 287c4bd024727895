import { EventEmitter, once } from 'node:events'
import type { Worker } from 'node:worker_threads'
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest'
import type { PeerId } from '../../common/ids.ts'
import { LEAF_SIZE, type Manifest, manifestOf, pieceCount } from '../../common/merkle.ts'
import { LocalFailure, type PieceStream, type ProviderEvent, Simulates, type Want } from '../transfer/source.ts'
import { TRANSFER_SERVICE } from './codec.ts'
import { FakeProvider, FileSink, prefixedFrame, serves, type Talk } from './fetch.fixture.ts'
import { FetchThreads, startFetchWorker } from './fetch-threads.ts'
import { prefixed } from './frame-codec.ts'

const PIECE = 256 * 1024
const data = randomLike(5 * PIECE + 1234)
const manifest = manifestOf(data)
const COUNT = 6
const all = { add: [0, COUNT], credit: COUNT } satisfies Want
const piece = (index: number) => data.subarray(index * PIECE, (index + 1) * PIECE)

const workers: Worker[] = []
const threads = new FetchThreads({
  startWorker: () => {
    const worker = startFetchWorker()
    workers.push(worker)
    return worker
  },
})
afterAll(() => threads.close())

function randomLike(size: number): Buffer {
  const bytes = Buffer.alloc(size)
  let x = 7
  for (let i = 0; i < size; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0
    bytes[i] = x >>> 24
  }
  return bytes
}

async function provider(converse: (talk: Talk) => unknown): Promise<FakeProvider> {
  const fake = await FakeProvider.start(converse)
  onTestFinished(() => fake.stop())
  return fake
}

function sinkOf(of: Manifest = manifest, options: ConstructorParameters<typeof FileSink>[1] = {}): FileSink {
  const sink = new FileSink(of, options)
  onTestFinished(() => sink.close())
  return sink
}

/** Opens a conversation which is closed before its file is. */
function open(port: number, sink: FileSink, options: { signal?: AbortSignal; pool?: FetchThreads } = {}): PieceStream {
  const target = { peer: 'P1' as PeerId, host: '127.0.0.1', port }
  const stream = (options.pool ?? threads).open(target, sink, options.signal ?? new AbortController().signal)
  onTestFinished(() => stream.close())
  return stream
}

/** Events up to the first one that `last` accepts. */
async function eventsUntil(stream: PieceStream, last: (event: ProviderEvent) => boolean): Promise<ProviderEvent[]> {
  const events: ProviderEvent[] = []
  for await (const event of stream.events()) {
    events.push(event)
    if (last(event)) break
  }
  return events
}

/** How a conversation ends. */
function failure(stream: PieceStream): Promise<unknown> {
  return eventsUntil(stream, () => false).then(
    () => 'it ended well',
    (error: unknown) => error,
  )
}

/** The message of a frame with fields of a later version: one within the frame, one beside it. */
function later(message: Buffer): Buffer {
  const field = Buffer.from([0x98, 0x06, 1])
  let at = 1
  while (message[at++]! >= 0x80);
  const body = Buffer.concat([message.subarray(at), field])
  const length: number[] = []
  for (let left = body.length; ; left >>>= 7) {
    length.push(left >= 0x80 ? (left & 0x7f) | 0x80 : left)
    if (left < 0x80) break
  }
  return Buffer.concat([field, Buffer.from([0x0a, ...length]), body])
}

const isPiece = (index: number) => (event: ProviderEvent) => event.kind === 'piece' && event.piece === index

describe('a conversation in a thread', () => {
  test.each([LEAF_SIZE, 128 * 1024, 1024 * 1024])(
    'brings right pieces to disk, from frames of %i bytes',
    async (frameBytes) => {
      const { port } = await provider(serves(data, manifest, { frameBytes }))
      const sink = sinkOf()
      const stream = open(port, sink)
      stream.want(all)
      const events = await eventsUntil(stream, isPiece(COUNT - 1))
      expect(events[0]).toEqual({ kind: 'have', pieces: [0, COUNT] })
      expect(events.filter(({ kind }) => kind === 'begun' || kind === 'piece')).toEqual(
        Array.from({ length: COUNT }, (_, piece) => [
          { kind: 'begun', piece },
          { kind: 'piece', piece, right: true },
        ]).flat(),
      )
      const bytes = events.reduce((sum, event) => sum + (event.kind === 'bytes' ? event.bytes : 0), 0)
      expect(bytes).toBe(data.length)
      expect(sink.bytes().equals(data)).toBe(true)
    },
  )

  test('brings a content of one short piece', async () => {
    const tiny = Buffer.from('a few bytes')
    const { port } = await provider(serves(tiny, manifestOf(tiny)))
    const sink = sinkOf(manifestOf(tiny))
    const stream = open(port, sink)
    stream.want({ add: [0, 1], credit: 1 })
    expect((await eventsUntil(stream, isPiece(0))).at(-1)).toMatchObject({ right: true })
    expect(sink.bytes().toString()).toBe('a few bytes')
  })

  test('goes on beyond its windows, and beyond those of its provider', async () => {
    const large = Buffer.alloc(40 * 1024 * 1024, 'abcdefg')
    const of = manifestOf(large)
    const count = pieceCount(of.size, of.pieceSize)
    const { port } = await provider(serves(large, of))
    const sink = sinkOf(of)
    const stream = open(port, sink)
    for (let i = 0; i < 20_000; i++) stream.want({ add: [i % count, 1] })
    stream.want({ credit: count })
    await eventsUntil(stream, isPiece(count - 1))
    expect(sink.bytes().equals(large)).toBe(true)
  })

  test('tells of wrong bytes, writes none of them, and goes on', async () => {
    const wrong = Buffer.from(data)
    wrong[PIECE + 5]! ^= 1
    const { port } = await provider(serves(wrong, manifest))
    const sink = sinkOf()
    const stream = open(port, sink)
    stream.want({ add: [1, 2], credit: 2 })
    const events = await eventsUntil(stream, isPiece(2))
    expect(events.filter(({ kind }) => kind === 'piece')).toEqual([
      { kind: 'piece', piece: 1, right: false },
      { kind: 'piece', piece: 2, right: true },
    ])
    expect(
      sink
        .bytes()
        .subarray(0, 2 * PIECE)
        .every((byte) => byte === 0),
    ).toBe(true)
  })

  test('says the open, the wants and nothing else to the provider', async () => {
    const heard: unknown[] = []
    const { port } = await provider(async (talk) => {
      talk.respond()
      while (heard.length < 3) heard.push(await talk.next())
    })
    const stream = open(port, sinkOf())
    stream.want({ add: [1, 2], credit: 3 })
    stream.want({ remove: [1, 1], rate: 5 })
    await expect
      .poll(() => heard)
      .toMatchObject([
        { kind: 'open', open: { content_id: Buffer.from(manifest.id, 'hex'), dummy: false, taker: null } },
        { kind: 'want', want: { add: [1, 2], remove: [], credit: 3 } },
        { kind: 'want', want: { add: [], remove: [1, 1], credit: 0, rate: 5 } },
      ])
  })

  test('says where the taker serves', async () => {
    let first: unknown
    const { port } = await provider(async (talk) => {
      first = await talk.next()
    })
    const sink = Object.assign(sinkOf(), { taker: { peer: 'P9' as PeerId, grpcPort: 50_059 } })
    open(port, sink)
    await expect.poll(() => first).toMatchObject({ open: { taker: { peer: 'P9', host: '', grpc_port: 50_059 } } })
  })

  test('passes on hints of other takers, those that are none left out', async () => {
    const { port } = await provider((talk) => {
      talk.respond()
      const contacts = [
        { peer: 'P2', host: '10.0.0.2', grpc_port: 50_052 },
        { peer: '../..', host: '10.0.0.3', grpc_port: 50_052 },
        { peer: 'P4', host: '10.0.0.4', grpc_port: 0 },
      ]
      talk.send({ kind: 'takers', takers: { contacts } })
    })
    const events = await eventsUntil(open(port, sinkOf()), ({ kind }) => kind === 'takers')
    expect(events).toEqual([{ kind: 'takers', contacts: [{ peer: 'P2', host: '10.0.0.2', grpcPort: 50_052 }] }])
  })

  test('goes on with other pieces after one that was given up', async () => {
    const { port } = await provider(async (talk) => {
      talk.respond()
      await talk.next()
      await talk.next()
      await talk.next()
      await talk.frame(0, 0, piece(0).subarray(0, LEAF_SIZE))
      talk.send({ kind: 'have', have: { pieces: [3, 1] } })
      talk.send({ kind: 'abandoned', abandoned: { piece: 0 } })
      await talk.frame(1, 0, piece(1))
    })
    const sink = sinkOf()
    const stream = open(port, sink)
    stream.want({ add: [0, 2], credit: 2 })
    stream.want({ remove: [0, 1] })
    const events = await eventsUntil(stream, isPiece(1))
    expect(events.filter(({ kind }) => kind !== 'bytes')).toEqual([
      { kind: 'begun', piece: 0 },
      { kind: 'have', pieces: [3, 1] },
      { kind: 'abandoned', piece: 0 },
      { kind: 'begun', piece: 1 },
      { kind: 'piece', piece: 1, right: true },
    ])
  })

  test('passes over what only a later version knows', async () => {
    const { port } = await provider(async (talk) => {
      talk.respond()
      await talk.next()
      await talk.next()
      for (let offset = 0; offset < PIECE; offset += LEAF_SIZE)
        talk.message(later(prefixedFrame(0, offset, piece(0).subarray(offset, offset + LEAF_SIZE)).subarray(5)))
    })
    const sink = sinkOf()
    const stream = open(port, sink)
    stream.want(all)
    expect((await eventsUntil(stream, isPiece(0))).at(-1)).toEqual({ kind: 'piece', piece: 0, right: true })
    expect(sink.bytes().subarray(0, PIECE).equals(piece(0))).toBe(true)
  })

  test('counts the leaves of a frame as they come, so that a large one over a slow line is no silence', async () => {
    const seenSoFar = new EventEmitter()
    const { port } = await provider(async (talk) => {
      talk.respond()
      await talk.next()
      await talk.next()
      const frame = prefixedFrame(0, LEAF_SIZE, piece(0).subarray(LEAF_SIZE))
      const [first, second] = [once(seenSoFar, `${LEAF_SIZE}`), once(seenSoFar, `${3 * LEAF_SIZE}`)]
      await talk.frame(0, 0, piece(0).subarray(0, LEAF_SIZE))
      await first
      await talk.write(frame.subarray(0, 2.5 * LEAF_SIZE))
      await second
      await talk.write(frame.subarray(2.5 * LEAF_SIZE))
    })
    const stream = open(port, sinkOf())
    stream.want(all)
    const seen: ProviderEvent[] = []
    const sum = () => seen.reduce((bytes, event) => bytes + (event.kind === 'bytes' ? event.bytes : 0), 0)
    const told: number[] = []
    await eventsUntil(stream, (event) => {
      seen.push(event)
      if (event.kind !== 'bytes') return event.kind === 'piece'
      told.push(sum())
      seenSoFar.emit(`${sum()}`)
      return false
    })
    expect(told).toEqual(expect.arrayContaining([LEAF_SIZE, 3 * LEAF_SIZE, PIECE]))
    expect(told.at(-1)).toBe(PIECE)
    expect(seen.filter(({ kind }) => kind !== 'bytes')).toEqual([
      { kind: 'begun', piece: 0 },
      { kind: 'piece', piece: 0, right: true },
    ])
  })

  test('counts no more than a piece has, whatever else comes with it', async () => {
    const { port } = await provider(async (talk) => {
      talk.respond()
      await talk.next()
      await talk.next()
      await talk.frame(0, 0, piece(0).subarray(0, LEAF_SIZE))
      await talk.write(haveOf(2, 400_000))
      await talk.frame(0, LEAF_SIZE, piece(0).subarray(LEAF_SIZE, 2 * LEAF_SIZE))
      talk.send({ kind: 'have', have: { pieces: [3, 1] } })
      await talk.frame(0, 2 * LEAF_SIZE, piece(0).subarray(2 * LEAF_SIZE))
    })
    const stream = open(port, sinkOf())
    stream.want(all)
    const events = await eventsUntil(stream, isPiece(0))
    const sumOf = (some: ProviderEvent[]) =>
      some.reduce((bytes, event) => bytes + (event.kind === 'bytes' ? event.bytes : 0), 0)
    expect(
      sumOf(
        events.slice(
          0,
          events.findLastIndex(({ kind }) => kind === 'have'),
        ),
      ),
    ).toBeLessThan(PIECE)
    expect(sumOf(events)).toBe(PIECE)
  })

  test('is simulated where that was asked for, and touches no file', async () => {
    const { port } = await provider(async (talk) => {
      talk.respond()
      await talk.next()
      await talk.next()
      for (let i = 0; i < COUNT; i++) await talk.frame(i, 0, Buffer.alloc(0), piece(i).length)
    })
    const sink = sinkOf(manifest, { dummy: true })
    const stream = open(port, sink)
    stream.want(all)
    const events = await eventsUntil(stream, isPiece(COUNT - 1))
    expect(events.reduce((sum, event) => sum + (event.kind === 'bytes' ? event.bytes : 0), 0)).toBe(data.length)
    expect(sink.bytes()).toHaveLength(0)
  })

  test('reads no further while nobody uses what it tells', async () => {
    const count = 5000
    const many = {
      ...manifest,
      size: count * 4 * 1024 * 1024,
      pieceSize: 4 * 1024 * 1024,
      hashes: Buffer.alloc(count * 32),
    }
    let sent = 0
    const { port } = await provider(async (talk) => {
      talk.respond()
      for (; !talk.stream.destroyed && sent < count; sent++)
        await Promise.race([talk.write(haveOf(sent, 32 * 1024)), talk.gone])
    })
    const stream = open(port, sinkOf(many))
    const events = stream.events()[Symbol.asyncIterator]()
    await expect.poll(() => sent).toBeGreaterThan(1000)
    await settled(() => sent)
    expect(sent).toBeLessThan(count)
    // It goes on as soon as somebody does.
    while (sent < count) await events.next()
  })
})

/** A message that tells of a piece, made large by a field that nobody knows. */
function haveOf(piece: number, filler: number): Buffer {
  const have = TRANSFER_SERVICE.Fetch.responseSerialize({ kind: 'have', have: { pieces: [piece, 1] } })
  const varint = [(filler & 127) | 128, ((filler >> 7) & 127) | 128, filler >> 14]
  return prefixed(Buffer.concat([have, Buffer.from([0x7a, ...varint]), Buffer.alloc(filler)]))
}

/** A message with a part that consists of empty parts without number. */
function emptyParts(tag: number, count: number): Buffer {
  const varint = [((2 * count) & 127) | 128, (((2 * count) >> 7) & 127) | 128, (2 * count) >> 14]
  return Buffer.concat([Buffer.from([tag, ...varint]), Buffer.alloc(2 * count, Buffer.of(0x0a, 0))])
}

/** Resolves once a number has stayed the same for a while. */
async function settled(read: () => number): Promise<void> {
  let last = -1
  const stays = (): boolean => {
    const before = last
    last = read()
    return before === last
  }
  await expect.poll(stays, { interval: 300 }).toBe(true)
}

describe('a provider that breaks the protocol ends the conversation as corrupt:', () => {
  /** After `open` and a want of everything with credit for two pieces. */
  const cases: Record<string, (talk: Talk) => unknown> = {
    'a piece that nobody asked for': (talk) => talk.frame(5, 0, data.subarray(5 * PIECE)),
    'a piece that does not exist': (talk) => talk.frame(4_000_000, 0, piece(0)),
    'a piece too many': async (talk) => {
      for (const i of [0, 1, 2]) await talk.frame(i, 0, piece(i))
    },
    'another piece in between': async (talk) => {
      await talk.frame(0, 0, piece(0).subarray(0, LEAF_SIZE))
      await talk.frame(1, 0, piece(1))
    },
    'a gap': (talk) => talk.frame(0, LEAF_SIZE, piece(0).subarray(LEAF_SIZE)),
    'more of a piece than there is': (talk) => talk.frame(0, 0, data.subarray(0, PIECE + LEAF_SIZE)),
    'an empty frame': (talk) => talk.frame(0, 0, Buffer.alloc(0)),
    'an abandoned piece that it had not begun': (talk) => talk.send({ kind: 'abandoned', abandoned: { piece: 1 } }),
    'pieces that do not exist': (talk) => talk.send({ kind: 'have', have: { pieces: [5, 2] } }),
    'runs that are none': (talk) => talk.send({ kind: 'have', have: { pieces: [3] } }),
    'an offer': (talk) => talk.send({ kind: 'offer', offer: { filename: 'a', manifest: null, dummy: false } }),
    'an oversized frame': (talk) => talk.frame(0, 0, Buffer.alloc(1024 * 1024 + 1)),
    'an oversized message': (talk) => talk.write(Buffer.from([0, 0x7f, 0xff, 0xff, 0xff])),
    'a compressed message': (talk) => talk.write(Buffer.from([1, 0, 0, 0, 1, 0])),
    'an empty message': (talk) => talk.message(Buffer.alloc(0)),
    'a broken frame': (talk) => talk.message(Buffer.from([0x0a, 3, 0x1a, 0x7f, 1])),
    'takers without number': (talk) => talk.message(emptyParts(0x2a, 4000)),
    'takers that take much room': (talk) => talk.message(emptyParts(0x2a, 500_000)),
    'takers again and again': async (talk) => {
      const contacts = Array.from({ length: 50 }, (_, i) => ({ peer: `P${i}`, host: '10.0.0.1', grpc_port: 1 }))
      for (let i = 0; i < 1000; i++) talk.send({ kind: 'takers', takers: { contacts } })
    },
    'the same pieces again and again': async (talk) => {
      for (let i = 0; i < 1000; i++) talk.send({ kind: 'have', have: { pieces: [0, COUNT] } })
    },
    'a message that is no protobuf': (talk) => talk.message(Buffer.from([0x22, 0xff, 0xff])),
  }
  test.each(Object.entries(cases))('%s', async (_, misbehave) => {
    const { port } = await provider(async (talk) => {
      talk.respond()
      await talk.next()
      await talk.next()
      await misbehave(talk)
    })
    const stream = open(port, sinkOf())
    stream.want({ add: [0, 5], credit: 2 })
    expect(await failure(stream)).toMatchObject({ name: 'NetworkError', code: 'corrupt' })
  })

  test('real bytes in a simulated conversation', async () => {
    const { port } = await provider(serves(data, manifest))
    const stream = open(port, sinkOf(manifest, { dummy: true }))
    stream.want(all)
    expect(await failure(stream)).toMatchObject({ code: 'corrupt' })
  })

  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
    const head = Buffer.alloc(9)
    head.writeUIntBE(payload.length, 0, 3)
    head[3] = type
    head[4] = flags
    head.writeUInt32BE(stream, 5)
    return Buffer.concat([head, payload])
  }
  const settings = frame(4, 0, 0, Buffer.alloc(0))
  const bytes: Record<string, Buffer> = {
    'something that is no HTTP/2': Buffer.from('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n'),
    'a frame larger than was allowed': frame(0, 0, 1, Buffer.alloc(16_385)),
    'a stream that nobody opened': frame(0, 0, 3, Buffer.alloc(1)),
    'a push': frame(5, 4, 1, Buffer.alloc(4)),
    'headers without end': Buffer.concat([
      frame(1, 0, 1, Buffer.from([0x88])),
      ...Array.from({ length: 20 }, () => frame(9, 0, 1, Buffer.alloc(0))),
    ]),
    'headers that stop in the middle': Buffer.concat([frame(1, 0, 1, Buffer.from([0x88])), settings]),
    'headers out of a table': frame(1, 4, 1, Buffer.from([0xbe])),
    'padding longer than its frame': frame(0, 8, 1, Buffer.from([9, 0])),
    'a window beyond all bounds': frame(8, 0, 1, Buffer.from([0x7f, 0xff, 0xff, 0xff])),
  }
  test.each(Object.entries(bytes))('%s', async (_, answer) => {
    const raw = await FakeProvider.startRaw((socket) => socket.write(answer))
    onTestFinished(() => raw.stop())
    expect(await failure(open(raw.port, sinkOf()))).toMatchObject({ code: 'corrupt' })
  })

  test('an end mark within a header block, byte by byte', async () => {
    const raw = await FakeProvider.startRaw(async (socket) => {
      socket.setNoDelay(true)
      for (const byte of Buffer.concat([settings, frame(1, 4, 1, Buffer.from('00016184ffffffff', 'hex'))])) {
        socket.write(Buffer.of(byte))
        await new Promise((resolve) => setImmediate(resolve))
      }
    })
    onTestFinished(() => raw.stop())
    expect(await failure(open(raw.port, sinkOf()))).toMatchObject({ code: 'corrupt' })
  })
})

describe('a conversation fails', () => {
  test.each([
    ['trailers', {}, { 'grpc-status': '5', 'grpc-message': 'no such%20content', 'p2p-code': 'not_found' }],
    ['headers alone', { 'grpc-status': '5', 'grpc-message': 'no such%20content', 'p2p-code': 'not_found' }, undefined],
  ])('as the provider says in %s', async (_, headers, trailers) => {
    const { port } = await provider((talk) => {
      if (!trailers) return talk.stream.respond({ ':status': 200, ...headers }, { endStream: true })
      talk.respond()
      talk.end(trailers)
    })
    expect(await failure(open(port, sinkOf()))).toMatchObject({
      code: 'not_found',
      message: 'no such content',
      details: { peer: 'P1' },
    })
  })

  test('as the provider refuses, after what came before', async () => {
    const { port } = await provider((talk) => {
      talk.respond()
      talk.send({ kind: 'have', have: { pieces: [0, 1] } })
      talk.send({ kind: 'refusal', refusal: { code: 'limited', message: 'too many takers' } })
    })
    const seen: ProviderEvent[] = []
    const stream = open(port, sinkOf())
    await expect(eventsUntil(stream, (event) => seen.push(event) < 0)).rejects.toMatchObject({
      code: 'limited',
      message: 'too many takers',
    })
    expect(seen).toEqual([{ kind: 'have', pieces: [0, 1] }])
  })

  test.each([
    [404, 'invalid'],
    [503, 'unavailable'],
    [500, 'internal'],
  ])('as HTTP %i means', async (status, code) => {
    const { port } = await provider((talk) => talk.stream.respond({ ':status': status }, { endStream: true }))
    expect(await failure(open(port, sinkOf()))).toMatchObject({ code })
  })

  test.each<[string, (talk: Talk) => unknown]>([
    ['ends it well', (talk) => talk.end({ 'grpc-status': '0' })],
    ['resets it', (talk) => talk.stream.close(8)],
  ])('as unavailable where the provider %s', async (_, leave) => {
    const { port } = await provider(async (talk) => {
      talk.respond()
      await talk.next()
      leave(talk)
    })
    expect(await failure(open(port, sinkOf()))).toMatchObject({
      code: 'unavailable',
      message: 'ended the conversation early',
    })
  })

  test.each<[string, (talk: Talk) => unknown]>([
    ['the connection breaks in the middle of a piece', (talk) => talk.session.destroy()],
    ['the provider closes for good', (talk) => talk.session.goaway(2)],
  ])('as unavailable where %s', async (_, leave) => {
    const { port } = await provider(async (talk) => {
      talk.respond()
      await talk.next()
      await talk.frame(0, 0, piece(0).subarray(0, LEAF_SIZE))
      leave(talk)
    })
    const stream = open(port, sinkOf())
    stream.want(all)
    expect(await failure(stream)).toMatchObject({ code: 'unavailable', message: 'P1 does not answer' })
  })

  test('as unavailable where nobody listens', async () => {
    const gone = await FakeProvider.startRaw(() => {})
    await gone.stop()
    expect(await failure(open(gone.port, sinkOf()))).toMatchObject({
      code: 'unavailable',
      message: 'P1 does not answer',
      details: { peer: 'P1', reason: 'unreachable' },
    })
  })

  test('as simulated where the provider simulates unasked', async () => {
    const { port } = await provider(async (talk) => {
      talk.respond()
      await talk.next()
      await talk.next()
      await talk.frame(0, 0, Buffer.alloc(0), PIECE)
    })
    const stream = open(port, sinkOf())
    stream.want(all)
    expect(await failure(stream)).toBeInstanceOf(Simulates)
  })

  test.each([
    ['is full', { path: '/dev/full', flags: 'r+' }, { code: 'unavailable', details: { reason: 'disk_full' } }],
    ['refuses', { path: '/dev/null', flags: 'r' }, { code: 'internal', message: expect.stringContaining('EBADF') }],
  ])('by this peer’s own fault where its disk %s', async (_, file, cause) => {
    const { port } = await provider(serves(data, manifest))
    const stream = open(port, sinkOf(manifest, file))
    stream.want(all)
    const error = await failure(stream)
    expect(error).toBeInstanceOf(LocalFailure)
    expect((error as Error).cause).toMatchObject(cause)
  })
})

describe('closing', () => {
  /** Sends the first half of a piece, and waits. */
  async function half(): Promise<FakeProvider> {
    return provider(async (talk) => {
      talk.respond()
      await talk.next()
      await talk.next()
      await talk.frame(0, 0, piece(0).subarray(0, 8 * LEAF_SIZE))
    })
  }

  test('in the middle of a piece tells the provider, writes nothing and ends the events', async () => {
    const fake = await half()
    const sink = sinkOf()
    const stream = open(fake.port, sink)
    stream.want(all)
    const events: ProviderEvent[] = []
    for await (const event of stream.events()) {
      events.push(event)
      if (event.kind === 'bytes') await stream.close()
    }
    expect(events.at(-1)).toEqual({ kind: 'bytes', bytes: 8 * LEAF_SIZE })
    await fake.talks[0]!.gone
    expect(fake.talks[0]!.stream.rstCode).toBe(8)
    await expect.poll(() => fake.connections).toBe(0)
    expect(sink.bytes()).toHaveLength(0)
  })

  test('by the signal ends the events as cancelled', async () => {
    const fake = await half()
    const stop = new AbortController()
    const stream = open(fake.port, sinkOf(), { signal: stop.signal })
    stream.want(all)
    await expect(
      eventsUntil(stream, ({ kind }) => {
        if (kind === 'bytes') stop.abort()
        return false
      }),
    ).rejects.toMatchObject({ code: 'cancelled' })
    await fake.talks[0]!.gone
  })

  test('before the beginning opens nothing', async () => {
    const fake = await half()
    const stream = open(fake.port, sinkOf(), { signal: AbortSignal.abort() })
    stream.want(all)
    await expect(eventsUntil(stream, () => false)).rejects.toMatchObject({ code: 'cancelled' })
    await stream.close()
    expect(fake.talks).toHaveLength(0)
  })

  test('to leave the loop closes', async () => {
    const fake = await half()
    const stream = open(fake.port, sinkOf())
    stream.want(all)
    await eventsUntil(stream, ({ kind }) => kind === 'begun')
    await fake.talks[0]!.gone
  })
})

describe('the threads', () => {
  function counted(size = 2) {
    const started: Worker[] = []
    const startWorker = vi.fn(() => {
      const worker = startFetchWorker()
      started.push(worker)
      return worker
    })
    const pool = new FetchThreads({ startWorker }, { size })
    onTestFinished(() => pool.close())
    return { pool, started }
  }

  test('start with the first conversation, and two lanes to one provider are in two of them', async () => {
    const { pool, started } = counted()
    expect(started).toHaveLength(0)
    const { port } = await provider(serves(data, manifest))
    const sink = sinkOf()
    const lanes = [open(port, sink, { pool }), open(port, sink, { pool })]
    expect(started).toHaveLength(2)
    lanes[0]!.want({ add: [0, 3], credit: 3 })
    lanes[1]!.want({ add: [3, 3], credit: 3 })
    await Promise.all([eventsUntil(lanes[0]!, isPiece(2)), eventsUntil(lanes[1]!, isPiece(5))])
    expect(sink.bytes().equals(data)).toBe(true)
  })

  test('share conversations evenly, and are no more than allowed', async () => {
    const { pool, started } = counted()
    const fakes = await Promise.all([1, 2, 3].map(() => provider(serves(data, manifest))))
    const opened = [...fakes, ...fakes].map(({ port }) => {
      const sink = sinkOf()
      return { sink, stream: open(port, sink, { pool }) }
    })
    expect(started).toHaveLength(2)
    for (const { stream } of opened) stream.want(all)
    await Promise.all(opened.map(({ stream }) => eventsUntil(stream, isPiece(COUNT - 1))))
    for (const { sink } of opened) expect(sink.bytes().equals(data)).toBe(true)
  })

  test('that crash fail their conversations, and are replaced', async () => {
    const { pool, started } = counted(1)
    const { port } = await provider(serves(data, manifest))
    const lost = open(port, sinkOf(), { pool })
    const failed = failure(lost)
    await once(started[0]!, 'online')
    void started[0]!.terminate()
    expect(await failed).toMatchObject({ code: 'internal', message: expect.stringContaining('fetching thread') })
    await lost.close()
    const sink = sinkOf()
    const next = open(port, sink, { pool })
    next.want(all)
    await eventsUntil(next, isPiece(COUNT - 1))
    expect(sink.bytes().equals(data)).toBe(true)
    expect(started).toHaveLength(2)
  })

  test('end with close, and their conversations as cancelled', async () => {
    const { pool } = counted()
    const { port } = await provider(serves(data, manifest))
    const failed = failure(open(port, sinkOf(), { pool }))
    await pool.close()
    expect(await failed).toMatchObject({ code: 'cancelled' })
    await expect(eventsUntil(open(port, sinkOf(), { pool }), () => false)).rejects.toMatchObject({ code: 'cancelled' })
  })
})
