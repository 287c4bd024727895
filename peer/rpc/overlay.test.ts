import type { Server, ServerWritableStream, UntypedServiceImplementation } from '@grpc/grpc-js'
import fc from 'fast-check'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { FileName } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { MAX_FILE_SIZE } from '../../common/merkle.ts'
import { closeRpc, createRpcServer, listenRpc } from '../../common/rpc.ts'
import type { PeerContact } from '../contact.ts'
import {
  type FloodAnswer,
  type FloodHandlers,
  type FloodQuery,
  type FloodSender,
  MAX_HITS,
  MAX_HITS_MESSAGE,
} from '../flood/protocol.ts'
import { type Acquaintance, type Introduction, MAX_TOLD, type OverlayHandlers } from '../overlay/protocol.ts'
import { boundCalls, streamBeneath } from './beneath.ts'
import { RpcClients } from './client.ts'
import { CONTENT, contact, hit, query } from './network.fixture.ts'
import {
  acquaintancesOfWire,
  answerOfWire,
  answerToWire,
  introductionToWire,
  OVERLAY_SERVICE,
  queryOfWire,
  queryToWire,
  senderOfWire,
  type WireHit,
  type WireQueryAnswer,
} from './overlay-codec.ts'
import { GrpcOverlay } from './overlay-network.ts'
import { OverlayServiceHandlers } from './overlay-service.ts'
import { callerOfWire, introducedOfWire, peerToWire, tellerOf, type WirePeer } from './peer-codec.ts'
import { RawClient, RpcPeer, startHasher } from './rpc.fixture.ts'

const { Exchange, Query } = OVERLAY_SERVICE
const hasher = startHasher()
const cleanups: (() => void | Promise<void>)[] = []
const clients = new RpcClients()
const signal = new AbortController().signal
/** The asked peer, and the asking one, as it tells of itself. */
let p1: PeerContact
let p2: PeerContact

beforeEach(() => {
  p2 = contact('P2', '127.0.0.1')
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
afterAll(async () => {
  await clients.close()
  await hasher.close()
})

const overlay = new GrpcOverlay({ clients, self: () => p2 })

interface Asked {
  introductions: Parameters<OverlayHandlers['onExchange']>[]
  queries: { from: FloodSender; query: FloodQuery; signal: AbortSignal }[]
}

/** A peer that knows some others, and answers queries so. */
async function serve(
  answers: (query: FloodQuery, signal: AbortSignal) => AsyncIterable<FloodAnswer> = nothing,
  known: readonly Acquaintance[] = [],
): Promise<Asked> {
  const asked: Asked = { introductions: [], queries: [] }
  const peer = await RpcPeer.start('P1', hasher, {
    network: {
      self: () => p1,
      overlay: {
        onExchange: (...introduction): Introduction => {
          asked.introductions.push(introduction)
          return { self: p1, peers: known }
        },
      },
      flood: {
        onQuery: (from, query, signal) => {
          asked.queries.push({ from, query, signal })
          return answers(query, signal)
        },
      },
    },
  })
  cleanups.push(() => peer.stop())
  p1 = contact('P1', '127.0.0.1', peer.target.grpc_port)
  return asked
}

async function* nothing(): AsyncGenerator<FloodAnswer> {
  yield { kind: 'done', peers: 1, messages: 0 }
}

async function* never(_: FloodQuery, signal: AbortSignal): AsyncGenerator<FloodAnswer> {
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
}

async function all(answers: AsyncIterable<FloodAnswer>): Promise<FloodAnswer[]> {
  const got: FloodAnswer[] = []
  for await (const answer of answers) got.push(answer)
  return got
}

const away = contact('P3', '10.0.0.3')

describe('an introduction', () => {
  test('goes both ways', async () => {
    const told = [{ contact: away, ageMs: 4000 }]
    const asked = await serve(nothing, told)
    const heard = [{ contact: contact('P4', '2001:db8::4'), ageMs: 0 }]
    expect(await overlay.exchange(p1, heard, true, signal)).toEqual({ self: p1, peers: told })
    expect(asked.introductions).toEqual([[p2, heard, true, '127.0.0.1']])
  })

  test('comes with the host that it is called from, whatever its caller tells', async () => {
    const asked = await serve()
    p2 = contact('P2', '10.6.6.6')
    await overlay.exchange(p1, [], false, signal)
    expect(asked.introductions).toEqual([[p2, [], false, '127.0.0.1']])
  })

  test('from a peer that says it is where none can be leads to where its call comes from', async () => {
    const asked = await serve()
    p2 = contact('P2', '169.254.169.254')
    await overlay.exchange(p1, [], false, signal)
    expect(asked.introductions[0]![0]).toEqual(contact('P2', '127.0.0.1'))
  })

  test('of the one that answers leads to where it was asked, whatever it says', async () => {
    await serve()
    const { host, grpcPort } = p1
    p1 = { ...p1, host: '10.6.6.6', grpcPort: 22 }
    const { self } = await overlay.exchange({ host, grpcPort }, [], false, signal)
    expect(self).toEqual({ ...p1, host, grpcPort })
  })

  test('works by a name that a user gave', async () => {
    await serve()
    const { self } = await overlay.exchange({ host: 'localhost', grpcPort: p1.grpcPort }, [], false, signal)
    expect(self).toEqual({ ...p1, host: 'localhost' })
  })

  test('tells of no more peers than one may, and of none that was not heard of for a day', async () => {
    const many = Array.from({ length: 40 }, (_, i) => ({ contact: contact(`M${i}`), ageMs: 1 }))
    const asked = await serve(nothing, many)
    expect((await overlay.exchange(p1, many, false, signal)).peers).toHaveLength(MAX_TOLD)
    expect(asked.introductions[0]![1]).toHaveLength(MAX_TOLD)
    expect(introductionToWire(p2, [{ contact: away, ageMs: 86_400_001 }], false).peers).toEqual([])
  })

  test('to an address where nobody answers fails in time', async () => {
    const impatient = new GrpcOverlay({ clients, self: () => p2 }, { exchangeMs: 50 })
    const port = await mute()
    const failure = impatient.exchange({ host: '127.0.0.1', grpcPort: port }, [], false, signal)
    await expect(failure).rejects.toMatchObject({ code: 'unavailable' })
  })
})

/** A peer whose answer to any of the two never comes. */
async function mute(): Promise<number> {
  const server: Server = createRpcServer()
  server.addService(OVERLAY_SERVICE as never, { Exchange: () => {}, Query: () => {} } as never)
  const port = await listenRpc(server, '127.0.0.1', 0)
  cleanups.push(() => closeRpc(server, 0))
  return port
}

describe('a query', () => {
  test.each([
    ['a name', { kind: 'name', name: 'film.mkv' as FileName }],
    ['a content', { kind: 'id', id: CONTENT }],
    ['part of a name', { kind: 'text', text: 'fil' }],
  ] as const)('for %s is passed on as it is, with who passes it on', async (_, what) => {
    const asked = await serve()
    const sent = query({ what, ttl: 3, hops: 4, timeMs: 900, scope: 'tree' })
    expect(await all(overlay.query(p1, sent, signal))).toEqual([{ kind: 'done', peers: 1, messages: 0 }])
    expect(asked.queries[0]).toMatchObject({ query: sent, from: { host: '127.0.0.1', peer: 'P2' } })
  })

  test('is answered with hits as they come, and then how far it went', async () => {
    const answers: FloodAnswer[] = [
      { kind: 'hits', hits: [hit(away), hit(contact('P4', '2001:db8::4'))] },
      { kind: 'hits', hits: [hit(contact('P5'), { hops: 5, size: MAX_FILE_SIZE })] },
      { kind: 'done', peers: 12, messages: 34 },
    ]
    await serve(async function* () {
      yield* answers
    })
    expect(await all(overlay.query(p1, query(), signal))).toEqual(answers)
  })

  test('that was seen before is answered so', async () => {
    await serve(async function* () {
      yield { kind: 'seen' }
    })
    expect(await all(overlay.query(p1, query(), signal))).toEqual([{ kind: 'seen' }])
  })

  test('finds what the asked peer has at the address where it was asked', async () => {
    await serve(async function* () {
      yield { kind: 'hits', hits: [hit({ ...p1, host: '10.6.6.6', grpcPort: 22 })] }
    })
    expect(await all(overlay.query(p1, query(), signal))).toEqual([{ kind: 'hits', hits: [hit(p1)] }])
    const { hits } = answerToWire({ kind: 'hits', hits: [hit(p1), hit(away)] }, p1)
    expect(hits.map(({ provider }) => provider?.host)).toEqual(['', away.host])
  })

  test('beyond what the asked peer does for a neighbour is refused with the reason', async () => {
    await serve(() => {
      throw new NetworkError('limited', 'too many queries')
    })
    const failure = all(overlay.query(p1, query(), signal))
    await expect(failure).rejects.toMatchObject({ code: 'limited', message: 'too many queries' })
  })

  test('that fails tells a stranger nothing of why', async () => {
    await serve(async function* () {
      yield { kind: 'hits', hits: [hit(away)] }
      throw new Error('secret')
    })
    const failure = all(overlay.query(p1, query(), signal))
    await expect(failure).rejects.toMatchObject({ code: 'internal', message: expect.not.stringContaining('secret') })
  })

  test.each([
    [
      'leaves',
      async (answers: AsyncIterable<FloodAnswer>) => {
        for await (const _ of answers) break
      },
    ],
    [
      'aborts',
      async (answers: AsyncIterable<FloodAnswer>, abort: AbortController) => {
        for await (const _ of answers) abort.abort()
      },
    ],
  ])('is taken back where the asking one %s, and the asked one hears of it', async (_, end) => {
    const asked = await serve(async function* (query, signal) {
      yield { kind: 'hits', hits: [hit(away)] }
      yield* never(query, signal)
    })
    const abort = new AbortController()
    await end(overlay.query(p1, query({ timeMs: 60_000 }), abort.signal), abort).catch((error) =>
      expect(error).toMatchObject({ code: 'cancelled' }),
    )
    // Well before this peer would cut it, which it does after 6 s.
    await expect.poll(() => asked.queries[0]?.signal.aborted, { timeout: 3000 }).toBe(true)
  })

  test('that ended is not taken back', async () => {
    let resets = 0
    const server: Server = createRpcServer()
    const handler = (call: ServerWritableStream<object, WireQueryAnswer>) => {
      const stream = streamBeneath(call)!
      stream.once('close', () => (resets += Number(stream.aborted)))
      call.write(answerToWire({ kind: 'done', peers: 1, messages: 0 }, p1), () => setTimeout(() => call.end(), 20))
    }
    server.addService({ Query } as never, { Query: handler } as unknown as UntypedServiceImplementation)
    const port = await listenRpc(server, '127.0.0.1', 0)
    cleanups.push(() => closeRpc(server, 0))
    p1 = contact('P1', '127.0.0.1', port)
    for (let i = 0; i < 3; i++) await all(overlay.query(p1, query(), signal))
    await closeRpc(server, 1000)
    expect(resets).toBe(0)
  })

  test('that is never answered is over soon after its time', async () => {
    const asked = await serve(never)
    const failure = all(overlay.query(p1, query({ timeMs: 20 }), signal))
    await expect(failure).rejects.toMatchObject({ code: 'unavailable' })
    await expect.poll(() => asked.queries[0]?.signal.aborted).toBe(true)
  })

  test('whose handler never ends is cut at its deadline here, and its handler hears of it', async () => {
    let signal: AbortSignal | undefined
    const flood: FloodHandlers = {
      onQuery: (_, query, gone) => {
        signal = gone
        return never(query, gone)
      },
    }
    const overlay = { onExchange: () => ({ self: p1, peers: [] }) }
    const bound = { maxMessage: 65_536, maxOpen: 512, maxReading: 512, bodyMs: 2000, maxMs: 30 }
    const server = createRpcServer([boundCalls({ [Query.path]: bound }, bound)])
    const handlers = new OverlayServiceHandlers({ overlay, flood, self: () => p1, log: silentLog })
    server.addService({ Query } as never, { Query: handlers.query } as unknown as UntypedServiceImplementation)
    const grpc_port = await listenRpc(server, '127.0.0.1', 0)
    cleanups.push(() => closeRpc(server, 0))
    const client = new RawClient({ peer: p2.peer, rest: '', grpc_port })
    cleanups.push(() => client.close())
    const call = client.bytes(Query.path)
    call.end(Query.requestSerialize(queryToWire(query({ timeMs: 60_000 }), p2.peer)))
    call.resume()
    expect((await call.status).code).not.toBe(0)
    await expect.poll(() => signal?.aborted).toBe(true)
  })

  test('that is answered to a slow reader goes no further than it is read', async () => {
    let sent = 0
    const name = `${'x'.repeat(255)}/${'y'.repeat(255)}/${'z'.repeat(255)}` as FileName
    const asked = await serve(async function* () {
      for (; sent < 10_000; sent++) yield { kind: 'hits', hits: Array(MAX_HITS_MESSAGE).fill(hit(away, { name })) }
    })
    const client = new RawClient({ peer: p1.peer, rest: '', grpc_port: p1.grpcPort })
    cleanups.push(() => client.close())
    const call = client.bytes(Query.path)
    call.once('readable', () => call.read())
    call.end(Query.requestSerialize(queryToWire(query(), p2.peer)))
    let before = -1
    await expect
      .poll(
        () => {
          const same = sent === before && sent > 0
          before = sent
          return same
        },
        { interval: 200 },
      )
      .toBe(true)
    // What the reader's window (4 MiB) and both sockets hold, 85 kB each.
    expect(sent).toBeLessThan(300)
    call.cancel()
    await expect.poll(() => asked.queries[0]!.signal.aborted).toBe(true)
  })
})

describe('a request that can not be read', () => {
  async function send(bytes: Buffer): Promise<number> {
    const asked = await serve()
    const client = new RawClient({ peer: p1.peer, rest: '', grpc_port: p1.grpcPort })
    cleanups.push(() => client.close())
    const call = client.bytes(Query.path)
    call.end(bytes)
    call.resume()
    const { code } = await call.status
    expect(asked.queries).toEqual([])
    return code
  }
  const good = queryToWire(query(), 'P2' as PeerContact['peer'])

  test.each([
    ['without an id', { id: Buffer.alloc(0) }],
    ['with an id of 17 bytes', { id: Buffer.alloc(17) }],
    ['for nothing', { text: undefined }],
    ['for a text that is none', { text: '  ' }],
    ['for a text without end', { text: 'x'.repeat(201) }],
    ['for a name that climbs', { text: undefined, name: '../x' }],
    ['for a content id that is too short', { text: undefined, content_id: Buffer.alloc(31) }],
    ['over more links than there can be', { ttl: 256 }],
    ['that came over more links than there can be', { hops: 2 ** 32 - 1 }],
    ['of a sender that can be none', { sender: '../x' }],
  ])('since it is one %s is refused', async (_, changes) => {
    expect(await send(Query.requestSerialize({ ...good, ...changes } as typeof good))).toBe(3)
  })

  test('at all is refused', async () => {
    expect(await send(Buffer.of(0x0a, 0xff))).toBe(13)
    expect(await send(Buffer.alloc(30_000, Buffer.of(0x0a, 0)))).toBe(13)
  })

  test('since it is beyond its bound is refused', async () => {
    expect(await send(Query.requestSerialize({ ...good, text: 'x'.repeat(65_536) }))).toBe(8)
  })
})

test('a time beyond what timers hold is a minute', () => {
  const wire = { ...queryToWire(query(), p2.peer), time_ms: 2 ** 32 - 1 }
  expect(queryOfWire(Query.requestDeserialize(Query.requestSerialize(wire))).timeMs).toBe(60_000)
})

describe('an answer', () => {
  const wireHit: WireHit = {
    provider: peerToWire(away),
    name: 'film.mkv',
    content_id: Buffer.from(CONTENT, 'hex'),
    size: 1000,
    hops: 2,
  }
  const none: WireQueryAnswer = { hits: [], seen: false, done: false, peers: 0, messages: 0 }

  /** A neighbour that answers with these messages. */
  async function saying(...messages: Buffer[]): Promise<FloodAnswer[]> {
    const server: Server = createRpcServer()
    const handler = (call: ServerWritableStream<object, Buffer>) => {
      for (const message of messages) call.write(message)
      call.end()
    }
    const definition = { ...Query, responseSerialize: (answer: Buffer) => answer }
    server.addService({ Query: definition } as never, { Query: handler } as unknown as UntypedServiceImplementation)
    const port = await listenRpc(server, '127.0.0.1', 0)
    cleanups.push(() => closeRpc(server, 0))
    return all(overlay.query(contact('P1', '127.0.0.1', port), query(), signal))
  }

  test.each([
    ['that is no message', Buffer.of(0x0a, 0xff)],
    ['of empty hits without number', Buffer.alloc(200_000, Buffer.of(0x0a, 0))],
    ['beyond its bounds', Buffer.alloc(3 * 1024 * 1024, Buffer.of(0x0a, 0))],
    ['that says nothing', Buffer.alloc(0)],
    ['that says two things', Query.responseSerialize({ ...none, hits: [wireHit], done: true })],
  ])('%s is corrupt', async (_, bytes) => {
    await expect(saying(bytes)).rejects.toMatchObject({ name: 'NetworkError', code: 'corrupt' })
  })

  test('with more hits than a message may have is read as far as they may go', async () => {
    const hits = Array(MAX_HITS_MESSAGE + 1).fill(wireHit)
    const [answer] = await saying(Query.responseSerialize({ ...none, hits }))
    expect(answer).toMatchObject({ kind: 'hits', hits: { length: MAX_HITS_MESSAGE } })
  })

  test('with more hits than a whole one may have is corrupt', async () => {
    const message = Query.responseSerialize({ ...none, hits: Array(MAX_HITS_MESSAGE).fill(wireHit) })
    expect(await saying(...Array(MAX_HITS / MAX_HITS_MESSAGE).fill(message))).toHaveLength(10)
    const more = saying(...Array(MAX_HITS / MAX_HITS_MESSAGE + 1).fill(message))
    await expect(more).rejects.toMatchObject({ code: 'corrupt' })
  })

  test('with nothing but hits that can not be is one without hits, and they count', async () => {
    const bad = Query.responseSerialize({ ...none, hits: Array(MAX_HITS_MESSAGE).fill({ ...wireHit, name: '' }) })
    const done = Query.responseSerialize({ ...none, done: true })
    expect(await saying(bad, bad, done)).toEqual([{ kind: 'done', peers: 0, messages: 0 }])
    await expect(saying(...Array(MAX_HITS / MAX_HITS_MESSAGE + 1).fill(bad))).rejects.toMatchObject({ code: 'corrupt' })
  })

  test('goes no further than its last message', async () => {
    const done = Query.responseSerialize({ ...none, done: true })
    const late = Query.responseSerialize({ ...none, hits: [wireHit] })
    expect(await saying(done, late, late)).toHaveLength(1)
  })

  const told = (host: string): WirePeer => ({ ...peerToWire(away), host })

  test.each(['127.0.0.1', '::1', '::ffff:127.0.0.1', '169.254.169.254', 'localhost', 'example.org', ''])(
    'of a neighbour elsewhere with a hit at %j goes without it',
    (host) => {
      const teller = tellerOf(contact('P1', '192.0.2.1'))
      const wire = { ...none, hits: [{ ...wireHit, provider: told(host) }, wireHit] }
      expect(answerOfWire(wire, teller)).toEqual({ kind: 'hits', hits: [hit(away)] })
    },
  )

  test.each([
    ['a size that no file has', { size: MAX_FILE_SIZE + 1 }],
    ['a size that is no number', { size: Number.NaN }],
    ['a negative size', { size: -1 }],
    ['a name that climbs', { name: '../x' }],
    ['a name that is too long', { name: 'x'.repeat(1025) }],
    ['an id that is too short', { content_id: Buffer.alloc(31) }],
    ['more links than there can be', { hops: 256 }],
    ['no provider', { provider: null }],
  ])('with a hit of %s goes without it', (_, changes) => {
    const wire = { ...none, hits: [{ ...wireHit, ...changes }, wireHit] }
    expect(answerOfWire(wire, tellerOf(contact('P1')))).toEqual({ kind: 'hits', hits: [hit(away)] })
  })
})

test('of what a peer elsewhere tells, those at addresses of its own machine vanish', () => {
  const teller = tellerOf(contact('P1', '192.0.2.1'))
  const told = ['127.0.0.1', '::1', 'localhost', 'example.org', '169.254.1.1', '10.0.0.3'].map((host) => ({
    peer: { ...peerToWire(away), host },
    age_s: 1,
  }))
  const old = { peer: peerToWire(away), age_s: 86_401 }
  expect(acquaintancesOfWire([...told, old], teller)).toEqual([{ contact: away, ageMs: 1000 }])
})

describe('whatever is said', () => {
  const teller = tellerOf(contact('asked', '192.0.2.1'))

  test('is heard as it was said', () => {
    const host = fc
      .tuple(fc.integer({ min: 1, max: 99 }), fc.nat(255), fc.nat(255), fc.nat(255))
      .map((b) => b.join('.'))
    const port = fc.integer({ min: 1, max: 65_535 })
    const peer = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
    const contacts = fc.record({ peer, host, restPort: port, grpcPort: port }) as fc.Arbitrary<PeerContact>
    const id = fc.stringMatching(/^[0-9a-f]{64}$/)
    const name = fc
      .stringMatching(/^[a-z0-9ñé]{1,50}(\/[a-z0-9]{1,50}){0,3}$/)
      .map((text) => `f${text.normalize('NFC')}`)
    const links = fc.nat(255)
    const queries = fc.record({
      id: fc.stringMatching(/^[0-9a-f]{32}$/),
      what: fc.oneof(
        fc.record({ kind: fc.constant('name'), name }),
        fc.record({ kind: fc.constant('id'), id }),
        fc.record({ kind: fc.constant('text'), text: name }),
      ),
      ttl: links,
      hops: links,
      timeMs: fc.nat(60_000),
      scope: fc.constantFrom('all', 'tree'),
    }) as fc.Arbitrary<FloodQuery>
    const hits = fc.array(
      fc.record({
        provider: contacts,
        name,
        content: id,
        size: fc.integer({ min: 0, max: MAX_FILE_SIZE }),
        hops: links,
      }),
      { minLength: 1, maxLength: 30 },
    )
    const answers = fc.oneof(
      fc.record({ kind: fc.constant('hits'), hits }),
      fc.record({ kind: fc.constant('seen') }),
      fc.record({ kind: fc.constant('done'), peers: fc.nat(), messages: fc.nat() }),
    ) as fc.Arbitrary<FloodAnswer>
    const ages = fc.nat(86_400).map((s) => s * 1000)
    const known = fc.array(fc.record({ contact: contacts, ageMs: ages }), { maxLength: MAX_TOLD })
    fc.assert(
      fc.property(queries, answers, known, contacts, (query, answer, known, self) => {
        const sent = Query.requestDeserialize(Query.requestSerialize(queryToWire(query, self.peer)))
        expect([queryOfWire(sent), senderOfWire(sent)]).toEqual([query, self.peer])
        const wire = answerToWire(answer, contact('asked'))
        expect(answerOfWire(Query.responseDeserialize(Query.responseSerialize(wire)), teller)).toEqual(answer)
        const introduction = introductionToWire(self, known, true)
        const heard = Exchange.requestDeserialize(Exchange.requestSerialize(introduction))
        expect(acquaintancesOfWire(heard.peers, teller)).toEqual(known)
        expect(callerOfWire(heard.self, '192.0.2.1')).toEqual(self)
      }),
    )
  })

  test('fits its bounds at its largest', () => {
    const provider = {
      peer: 'P'.repeat(64),
      host: '2001:db8:1111:2222:3333:4444:5555:6666',
      rest_port: 65_535,
      grpc_port: 65_535,
    }
    const largest = {
      provider,
      name: 'n'.repeat(1024),
      content_id: Buffer.alloc(32, 1),
      size: MAX_FILE_SIZE,
      hops: 255,
    }
    const answer = { hits: Array(MAX_HITS_MESSAGE).fill(largest), seen: true, done: true, peers: 1e9, messages: 1e9 }
    expect(Query.responseDeserialize(Query.responseSerialize(answer)).hits).toHaveLength(MAX_HITS_MESSAGE)
    const told = Array(MAX_TOLD).fill({ peer: provider, age_s: 86_400 })
    const introduction = Exchange.requestSerialize({ self: provider, peers: told, linked: true })
    expect(Exchange.requestDeserialize(introduction).peers).toHaveLength(MAX_TOLD)
  })

  test('in any bytes, is heard or refused with a reason', () => {
    const readers: ((bytes: Buffer) => unknown)[] = [
      (bytes) => queryOfWire(Query.requestDeserialize(bytes)),
      (bytes) => senderOfWire(Query.requestDeserialize(bytes)),
      (bytes) => answerOfWire(Query.responseDeserialize(bytes), teller),
      (bytes) => acquaintancesOfWire(Exchange.requestDeserialize(bytes).peers, teller),
      (bytes) => introducedOfWire(Exchange.responseDeserialize(bytes).self, away),
    ]
    const right = [
      Query.requestSerialize(queryToWire(query(), p2.peer)),
      Query.responseSerialize(answerToWire({ kind: 'hits', hits: [hit(away)] }, p2)),
      Exchange.requestSerialize(introductionToWire(p2, [{ contact: away, ageMs: 1 }], true)),
    ]
    const damaged = fc
      .tuple(fc.constantFrom(...right), fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 5 }))
      .map(([one, changes]) => {
        const bytes = Buffer.from(one)
        for (const [at, to] of changes) bytes[at % bytes.length] = to
        return bytes
      })
    const anyBytes = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
    fc.assert(
      fc.property(fc.oneof(anyBytes, damaged), (bytes) => {
        for (const read of readers) {
          try {
            read(bytes)
          } catch (error) {
            expect(error).toBeInstanceOf(NetworkError)
          }
        }
      }),
      { numRuns: 2000 },
    )
  })
})
