import type { Server, UntypedServiceImplementation } from '@grpc/grpc-js'
import fc from 'fast-check'
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { FileName } from '../../common/ids.ts'
import { MAX_FILE_SIZE } from '../../common/merkle.ts'
import { closeRpc, createRpcServer, listenRpc } from '../../common/rpc.ts'
import type { PeerContact } from '../contact.ts'
import { MAX_MEMBERS, MAX_RECORDS, type RingRecord } from '../dht/protocol.ts'
import { type Member, memberOf, placeOfName } from '../dht/ring.ts'
import { RpcClients } from './client.ts'
import { CONTENT, contact, member, record, ScriptedMember } from './network.fixture.ts'
import { callerOfWire, peerOfWire, peerToWire, tellerOf, type WirePeer } from './peer-codec.ts'
import {
  findOfWire,
  findToWire,
  foundOfWire,
  foundToWire,
  placeOfWire,
  placeToWire,
  RING_SERVICE,
  recordBatches,
  recordsOfWire,
  recordToWire,
  stepOfWire,
  stepToWire,
  viewOfWire,
  viewToWire,
} from './ring-codec.ts'
import { GrpcRing } from './ring-network.ts'
import { RawClient, RpcPeer, startHasher } from './rpc.fixture.ts'

const hasher = startHasher()
const cleanups: (() => void | Promise<void>)[] = []
const clients = new RpcClients()
const signal = new AbortController().signal
let there: ScriptedMember
/** The asked member, P1, and the asking one, P2, as it tells of itself. */
let p1: Member
let p2: PeerContact

beforeEach(() => {
  there = new ScriptedMember()
  p2 = contact('P2', '127.0.0.1')
})
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})
afterAll(async () => {
  await clients.close()
  await hasher.close()
})

const ring = new GrpcRing({ clients, self: () => p2 }, { timeoutMs: 2000 })

async function serve(ring = there): Promise<void> {
  const peer = await RpcPeer.start('P1', hasher, { network: { ring, self: () => p1 } })
  cleanups.push(() => peer.stop())
  p1 = memberOf(contact('P1', '127.0.0.1', peer.target.grpc_port))
}

/** A member that answers with these bytes. */
async function saying(method: 'Stabilize' | 'Step' | 'Find' | 'Store', bytes: Buffer): Promise<void> {
  const server: Server = createRpcServer()
  const definition = { ...RING_SERVICE[method], responseSerialize: (answer: Buffer) => answer }
  const implementation = {
    [method]: (_: object, callback: (error: null, answer: Buffer) => void) => callback(null, bytes),
  }
  server.addService({ [method]: definition } as never, implementation as unknown as UntypedServiceImplementation)
  const port = await listenRpc(server, '127.0.0.1', 0)
  cleanups.push(() => closeRpc(server, 0))
  p1 = memberOf(contact('P1', '127.0.0.1', port))
}

const p3 = member('P3', '10.0.0.3')
const p4 = member('P4', '2001:db8::4')

describe('a member is asked', () => {
  test('for its surroundings, by one that precedes it', async () => {
    await serve()
    there.view = { predecessor: p3, successors: [p4, p3] }
    expect(await ring.stabilize(p1, signal)).toEqual(there.view)
    expect(there.asked).toEqual([['stabilize', memberOf(p2), '127.0.0.1']])
    there.view = { predecessor: undefined, successors: [] }
    expect(await ring.stabilize(p1, signal)).toEqual(there.view)
  })

  test('for one step of a lookup', async () => {
    await serve()
    const key = placeOfName('film.mkv' as FileName)
    there.answer = { owners: [p3], closer: [p4, p3], unsure: true }
    expect(await ring.step(p1, key, signal)).toEqual(there.answer)
    expect(there.asked).toEqual([['step', key]])
  })

  test('for records, of a name and of a content', async () => {
    await serve()
    there.found = { records: [record(p4 as PeerContact)], more: true, predecessor: p3 }
    const { records, more, predecessor } = await ring.find(p1, 'name', 'film.mkv' as FileName, signal)
    expect(records).toEqual([record(contact('P4', '2001:db8::4'))])
    expect([more, predecessor]).toEqual([true, p3])
    await ring.find(p1, 'content', CONTENT, signal)
    expect(there.asked).toEqual([
      ['find', 'name', 'film.mkv'],
      ['find', 'content', CONTENT],
    ])
  })

  test('to keep records, and says how many it kept', async () => {
    await serve()
    there.kept = () => 1
    const records = [record(p2), record(contact('P3', '10.0.0.3'), { key: 'content' })]
    const withdraw = [record(p2, { name: 'old.mkv' as FileName })]
    expect(await ring.store(p1, records, withdraw, signal)).toBe(1)
    expect(there.asked).toEqual([['store', memberOf(p2), records, withdraw, '127.0.0.1']])
  })

  test('to let another one go', async () => {
    await serve()
    await ring.leave(p1, signal)
    expect(there.asked).toEqual([['leave', memberOf(p2)]])
  })
})

test('at an address where another peer lives now, nobody is asked', async () => {
  await serve()
  const gone = memberOf({ ...p1, peer: 'P7' as PeerContact['peer'] })
  const refused = { code: 'unavailable', message: '"P7" is not here' }
  await expect(ring.stabilize(gone, signal)).rejects.toMatchObject(refused)
  await expect(ring.step(gone, p3.id, signal)).rejects.toMatchObject(refused)
  await expect(ring.find(gone, 'content', CONTENT, signal)).rejects.toMatchObject(refused)
  await expect(ring.store(gone, [record(p2)], [], signal)).rejects.toMatchObject(refused)
  await expect(ring.leave(gone, signal)).rejects.toMatchObject(refused)
  expect(there.asked).toEqual([])
})

test('a peer without a ring does not speak of one', async () => {
  const peer = await RpcPeer.start('P1', hasher)
  cleanups.push(() => peer.stop())
  const alone = memberOf(contact('P1', '127.0.0.1', peer.target.grpc_port))
  await expect(ring.stabilize(alone, signal)).rejects.toMatchObject({ code: 'invalid' })
})

test('one that can not be this peer and another is refused', async () => {
  await serve()
  p2 = contact('P1', '10.0.0.9')
  await expect(ring.stabilize(p1, signal)).rejects.toMatchObject({ code: 'conflict' })
  await expect(ring.store(p1, [record(p2)], [], signal)).rejects.toMatchObject({ code: 'conflict' })
  expect(there.asked).toEqual([])
})

test.each([
  '169.254.169.254',
  '0.0.0.0',
  '224.0.0.1',
  'fe80::1',
  'metadata.google.internal',
  'example.org',
  '',
  '::ffff:169.254.169.254',
])('a caller that says it is at %j is where its call comes from', async (host) => {
  await serve()
  p2 = contact('P2', host)
  await ring.stabilize(p1, signal)
  await ring.store(p1, [record(p2)], [], signal)
  const seen = contact('P2', '127.0.0.1')
  expect(there.asked).toEqual([
    ['stabilize', memberOf(seen), '127.0.0.1'],
    ['store', memberOf(seen), [record(seen)], [], '127.0.0.1'],
  ])
})

test('of records about others, those at impossible addresses are left out', async () => {
  await serve()
  const good = record(contact('P3', '10.0.0.3'))
  const bad = ['169.254.169.254', 'example.org', 'fe80::1'].map((host) => record(contact('P4', host)))
  expect(await ring.store(p1, [...bad, good], [], signal)).toBe(1)
  expect(there.asked[0]![2]).toEqual([good])
})

test('nobody takes back what another one said', async () => {
  await serve()
  const own = record(p2)
  await ring.store(p1, [], [own, record(contact('P3', '10.0.0.3'))], signal)
  expect(there.asked[0]![3]).toEqual([own])
})

test('what one that calls from elsewhere than where it says it is takes back, and its goodbye, count for nothing', async () => {
  await serve()
  p2 = contact('P2', '10.0.0.2')
  const given = record(contact('P3', '10.0.0.3'))
  await ring.store(p1, [given], [record(p2)], signal)
  await ring.leave(p1, signal)
  expect(there.asked).toEqual([['store', memberOf(p2), [given], [], '127.0.0.1']])
  // Loopback has many addresses.
  p2 = contact('P2', '127.9.9.9')
  await ring.store(p1, [], [record(p2)], signal)
  await ring.leave(p1, signal)
  expect(there.asked.slice(1)).toEqual([
    ['store', memberOf(p2), [], [record(p2)], '127.0.0.1'],
    ['leave', memberOf(p2)],
  ])
})

test('a caller that has no port, no id or no contact at all is refused', async () => {
  await serve()
  const client = new RawClient({ peer: p1.peer, rest: '', grpc_port: p1.grpcPort })
  cleanups.push(() => client.close())
  const from = peerToWire(p2)
  const bad: (WirePeer | null)[] = [
    null,
    { ...from, rest_port: 0 },
    { ...from, grpc_port: 65_536 },
    { ...from, peer: '../x' },
    { ...from, peer: 'x'.repeat(65) },
  ]
  for (const caller of bad) {
    const call = client.bytes(RING_SERVICE.Stabilize.path)
    call.end(RING_SERVICE.Stabilize.requestSerialize({ to: 'P1', from: caller }))
    call.resume()
    expect((await call.status).code).toBe(3)
  }
  expect(there.asked).toEqual([])
})

describe('a request beyond its bounds', () => {
  async function send(method: keyof typeof RING_SERVICE, bytes: Buffer) {
    await serve()
    const client = new RawClient({ peer: p1.peer, rest: '', grpc_port: p1.grpcPort })
    cleanups.push(() => client.close())
    const call = client.bytes(RING_SERVICE[method].path)
    call.end(bytes)
    call.resume()
    const { code } = await call.status
    expect(there.asked).toEqual([])
    return code
  }
  const storing = (records: RingRecord[]) =>
    RING_SERVICE.Store.requestSerialize({
      to: 'P1',
      from: peerToWire(contact('P2', '127.0.0.1')),
      records: records.map(recordToWire),
      withdraw: [],
    })

  test('that has more records than one may have is refused', async () => {
    expect(await send('Store', storing(Array(MAX_RECORDS + 1).fill(record(contact('P2')))))).toBe(11)
  })

  test('that is larger than 256 KiB is refused', async () => {
    const large = record(contact('P2'), {
      name: `${'x'.repeat(200)}/${'y'.repeat(200)}/${'z'.repeat(200)}` as FileName,
    })
    expect(await send('Store', storing(Array(400).fill(large)))).toBe(8)
  })

  test('of empty records without number is refused', async () => {
    expect(await send('Store', Buffer.alloc(100_000, Buffer.of(0x1a, 0)))).toBe(13)
  })

  test('that is no message is refused', async () => {
    expect(await send('Stabilize', Buffer.of(0x0a, 0xff))).toBe(13)
  })

  test('with a place that has no 32 bytes is refused', async () => {
    expect(await send('Step', RING_SERVICE.Step.requestSerialize({ to: 'P1', key: Buffer.alloc(31) }))).toBe(3)
  })

  test('for a name that none can have is refused', async () => {
    const bytes = RING_SERVICE.Find.requestSerialize(findToWire('P1', 'name', '../x' as FileName))
    expect(await send('Find', bytes)).toBe(3)
  })

  test('for nothing is refused', async () => {
    expect(await send('Find', RING_SERVICE.Find.requestSerialize({ to: 'P1' }))).toBe(3)
  })
})

test('records with the longest names go in as many requests as they need', async () => {
  await serve()
  const name = Array.from({ length: 4 }, (_, i) => `${i}`.repeat(255)).join('/') as FileName
  const records = Array.from({ length: MAX_RECORDS }, () => record(p2, { name }))
  expect(await ring.store(p1, records, [record(p2)], signal)).toBe(MAX_RECORDS)
  expect(there.asked.length).toBeGreaterThan(1)
  expect(there.asked.flatMap(([, , kept]) => kept)).toEqual(records)
  there.asked.length = 0
  expect(await ring.store(p1, Array(MAX_RECORDS).fill(record(p2)), [], signal)).toBe(MAX_RECORDS)
  expect(there.asked.length).toBe(1)
})

describe('an answer', () => {
  test.each([
    ['that is no message', Buffer.of(0x0a, 0xff)],
    ['of empty members without number', Buffer.alloc(200_000, Buffer.of(0x12, 0))],
    ['beyond its bounds', Buffer.alloc(3 * 1024 * 1024, Buffer.of(0x12, 0))],
    ['of groups in groups', Buffer.alloc(200_000, 0x0b)],
  ])('%s is corrupt', async (_, bytes) => {
    await saying('Stabilize', bytes)
    await expect(ring.stabilize(p1, signal)).rejects.toMatchObject({ name: 'NetworkError', code: 'corrupt' })
  })

  test('that keeps more records than it was given is corrupt', async () => {
    await saying('Store', RING_SERVICE.Store.responseSerialize({ kept: 2 }))
    await expect(ring.store(p1, [record(p2)], [], signal)).rejects.toMatchObject({ code: 'corrupt' })
  })

  test('with more members than one may have is read as far as they may go', async () => {
    const successors = Array.from({ length: MAX_MEMBERS + 1 }, (_, i) => peerToWire(contact(`M${i}`)))
    await saying('Stabilize', RING_SERVICE.Stabilize.responseSerialize({ predecessor: null, successors }))
    expect((await ring.stabilize(p1, signal)).successors).toHaveLength(MAX_MEMBERS)
  })

  test('with more records than one may have is read as far as they may go', async () => {
    const records = Array.from({ length: MAX_RECORDS + 1 }, () => recordToWire(record(contact('P3'))))
    await saying('Find', RING_SERVICE.Find.responseSerialize({ records, more: false, predecessor: null }))
    expect((await ring.find(p1, 'content', CONTENT, signal)).records).toHaveLength(MAX_RECORDS)
  })

  test('that never comes is waited for no longer than it may take', async () => {
    await serve(Object.assign(new ScriptedMember(), { onStabilize: () => new Promise(() => {}) }))
    const impatient = new GrpcRing({ clients, self: () => p2 }, { timeoutMs: 50 })
    await expect(impatient.stabilize(p1, signal)).rejects.toMatchObject({ code: 'unavailable' })
  })

  test('that is waited for no more is cancelled at once', async () => {
    await serve(Object.assign(new ScriptedMember(), { onStabilize: () => new Promise(() => {}) }))
    const abort = new AbortController()
    const asked = ring.stabilize(p1, abort.signal)
    abort.abort()
    await expect(asked).rejects.toMatchObject({ code: 'cancelled' })
  })

  test('of a member that fails tells a stranger nothing of why', async () => {
    const onStep = vi.fn(() => {
      throw new Error('secret')
    })
    await serve(Object.assign(new ScriptedMember(), { onStep }))
    const failure = ring.step(p1, p3.id, signal)
    await expect(failure).rejects.toMatchObject({ code: 'internal', message: expect.not.stringContaining('secret') })
  })
})

describe('of what a member elsewhere tells', () => {
  const teller = tellerOf(contact('P1', '192.0.2.1'))
  const told = (host: string): WirePeer => ({ peer: 'P9', host, rest_port: 8000, grpc_port: 50_051 })
  const hosts = ['127.0.0.1', '::1', '::ffff:127.0.0.1', '169.254.1.1', 'localhost', 'example.org', '', '10.0.0.9']

  test('members at addresses of its own machine vanish, as do names', () => {
    const view = viewOfWire({ predecessor: told('127.0.0.1'), successors: hosts.map(told) }, teller)
    expect(view).toEqual({ predecessor: undefined, successors: [member('P9', '10.0.0.9')] })
    const step = stepOfWire({ owners: hosts.map(told), closer: hosts.map(told), unsure: false }, teller)
    expect([step.owners, step.closer]).toEqual([[member('P9', '10.0.0.9')], [member('P9', '10.0.0.9')]])
  })

  test('records of providers at such addresses vanish', () => {
    const records = hosts.map((host) => ({ ...recordToWire(record(contact('P9'))), provider: told(host) }))
    expect(recordsOfWire(records, teller)).toEqual([record(contact('P9', '10.0.0.9'))])
  })

  test('it is itself at the address where it was asked', () => {
    const self = { ...told('10.0.0.66'), peer: 'P1', grpc_port: 22 }
    expect(viewOfWire({ predecessor: null, successors: [self] }, teller).successors).toEqual([
      member('P1', '192.0.2.1'),
    ])
    const claim = { ...recordToWire(record(contact('P1'))), provider: self }
    expect(recordsOfWire([claim], teller)[0]!.provider).toEqual(contact('P1', '192.0.2.1'))
  })

  test('one address has one form', () => {
    expect(peerOfWire(told('::ffff:10.0.0.9'), teller).host).toBe('10.0.0.9')
    expect(peerOfWire(told('2001:DB8:0:0::9'), teller).host).toBe('2001:db8::9')
  })

  test('a caller from there is not on this machine, and one whose own address is none can not be a member', () => {
    expect(callerOfWire(told('127.0.0.1'), '192.0.2.1').host).toBe('192.0.2.1')
    expect(() => callerOfWire(told('127.0.0.1'), 'fe80::1%eth0')).toThrow(NetworkError)
    expect(() => callerOfWire(told('10.0.0.9'), undefined)).toThrow(NetworkError)
  })
})

test.each([
  ['a size that no file has', { size: MAX_FILE_SIZE + 1 }],
  ['a size beyond what numbers hold', { size: 2 ** 60 }],
  ['a negative size', { size: -1 }],
  ['a size that is no number', { size: Number.NaN }],
  ['a key of no kind', { key: 7 }],
  ['a name that is too long', { name: 'x'.repeat(1025) }],
  ['a name that climbs', { name: '../x' }],
  ['no name', { name: '' }],
  ['a content id that is too short', { content_id: Buffer.alloc(31) }],
  ['no provider', { provider: null }],
  ['a provider without a port', { provider: { ...peerToWire(contact('P3')), grpc_port: 0 } }],
])('a record with %s is left out, and those beside it are not', (_, changes) => {
  const good = recordToWire(record(contact('P3')))
  expect(recordsOfWire([good, { ...good, ...changes }, good], tellerOf(contact('P1')))).toHaveLength(2)
})

test('a size of 2^64 - 1 on the wire is none', () => {
  const { Store } = RING_SERVICE
  const wire = { ...recordToWire(record(contact('P3'))), size: 127 }
  const bytes = Store.requestSerialize({ to: '', from: null, records: [wire], withdraw: [] })
  const at = bytes.indexOf(Buffer.of(0x20, 127))
  const huge = Buffer.concat([bytes.subarray(0, at + 1), Buffer.alloc(9, 255), Buffer.of(1), bytes.subarray(at + 2)])
  huge[3] = huge[3]! + 9
  const [sent] = Store.requestDeserialize(huge).records
  expect(sent!.size).toBeGreaterThan(2 ** 63)
  expect(recordsOfWire([sent!], tellerOf(contact('P1')))).toEqual([])
})

describe('whatever is said', () => {
  const peer = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/)
  const port = fc.integer({ min: 1, max: 65_535 })
  const host = fc
    .tuple(fc.integer({ min: 1, max: 99 }), fc.nat(255), fc.nat(255), fc.nat(255))
    .map((bytes) => bytes.join('.'))
  const contacts = fc.record({ peer, host, restPort: port, grpcPort: port }) as fc.Arbitrary<PeerContact>
  const members = fc.array(contacts.map(memberOf), { maxLength: MAX_MEMBERS })
  const name = fc.stringMatching(/^[a-z0-9ñé]{1,50}(\/[a-z0-9]{1,50}){0,3}$/).map((text) => `f${text.normalize('NFC')}`)
  const records = fc.array(
    fc.record({
      key: fc.constantFrom('name', 'content'),
      name,
      content: fc.constantFrom(CONTENT),
      size: fc.integer({ min: 0, max: MAX_FILE_SIZE }),
      provider: contacts,
      ageMs: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    }) as fc.Arbitrary<RingRecord>,
    { maxLength: 50 },
  )
  const teller = tellerOf(contact('asked', '192.0.2.1'))
  const { Stabilize, Step, Find, Store, Leave } = RING_SERVICE

  test('is heard as it was said', () => {
    fc.assert(
      fc.property(members, members, records, fc.boolean(), (some, others, records, flag) => {
        const view = { predecessor: some[0], successors: others }
        const step = { owners: some, closer: others, unsure: flag }
        const found = { records, more: flag, predecessor: some[0] }
        expect(
          viewOfWire(Stabilize.responseDeserialize(Stabilize.responseSerialize(viewToWire(view))), teller),
        ).toEqual(view)
        expect(stepOfWire(Step.responseDeserialize(Step.responseSerialize(stepToWire(step))), teller)).toEqual(step)
        expect(foundOfWire(Find.responseDeserialize(Find.responseSerialize(foundToWire(found))), teller)).toEqual(found)
        const place = memberOf(teller.self).id
        expect(placeOfWire(placeToWire(place))).toBe(place)
        const batches = recordBatches(records, [])
        expect(batches.flatMap((batch) => recordsOfWire(batch.records, teller))).toEqual(records)
      }),
    )
  })

  test('fits its bounds at its largest', () => {
    const long = {
      peer: 'P'.repeat(64),
      host: '2001:db8:1111:2222:3333:4444:5555:6666',
      rest_port: 65_535,
      grpc_port: 65_535,
    }
    const most = Array(MAX_MEMBERS).fill(long)
    const step = Step.responseDeserialize(Step.responseSerialize({ owners: most, closer: most, unsure: true }))
    expect(step.closer).toHaveLength(MAX_MEMBERS)
    const largest = {
      ...recordToWire(record(contact('P1'))),
      provider: long,
      name: 'n'.repeat(1024),
      size: MAX_FILE_SIZE,
      age_ms: 2 ** 32 - 1,
      key: 1,
    }
    const wire = { records: Array(MAX_RECORDS).fill(largest), more: true, predecessor: long }
    expect(Find.responseDeserialize(Find.responseSerialize(wire)).records).toHaveLength(MAX_RECORDS)
  })

  test('in any bytes, is heard or refused with a reason', () => {
    const readers: ((bytes: Buffer) => unknown)[] = [
      (bytes) => viewOfWire(Stabilize.responseDeserialize(bytes), teller),
      (bytes) => stepOfWire(Step.responseDeserialize(bytes), teller),
      (bytes) => foundOfWire(Find.responseDeserialize(bytes), teller),
      (bytes) => findOfWire(Find.requestDeserialize(bytes)),
      (bytes) => placeOfWire(Step.requestDeserialize(bytes).key),
      (bytes) => callerOfWire(Leave.requestDeserialize(bytes).from, '192.0.2.2'),
      (bytes) => {
        const { from, records, withdraw } = Store.requestDeserialize(bytes)
        const self = callerOfWire(from, '192.0.2.2')
        return [...records, ...withdraw].map((wire) => recordsOfWire([wire], { seen: '192.0.2.2', self }))
      },
    ]
    const one = Store.requestSerialize({
      to: 'P1',
      from: peerToWire(contact('P2')),
      records: [recordToWire(record(contact('P3')))],
      withdraw: [],
    })
    const anyBytes = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes))
    /** One that is right but for some bytes. */
    const damaged = fc.array(fc.tuple(fc.nat(one.length - 1), fc.nat(255)), { maxLength: 5 }).map((changes) => {
      const bytes = Buffer.from(one)
      for (const [at, to] of changes) bytes[at] = to
      return bytes
    })
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
