import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { sha256 } from '../../common/merkle.ts'
import type { RingRecord } from './protocol.ts'
import { placeOfRecord, RecordStore, type RecordStoreOptions } from './record-store.ts'
import { memberOf, placeOfPeer, within } from './ring.ts'

const HOUR = 3_600_000
const member = (peer: string, port = 50051) =>
  memberOf({ peer: peer as PeerId, host: '127.0.0.1', restPort: port - 42_051, grpcPort: port })
const contentOf = (text: string) => sha256(Buffer.from(text)).toString('hex') as ContentId

function record(peer: string, name: string, more: Partial<RingRecord> = {}): RingRecord {
  const { id: _, ...provider } = member(peer)
  return { key: 'name', name: name as FileName, content: contentOf(name), size: 10, provider, ageMs: 0, ...more }
}

const [p1, p2, p3] = [member('P1'), member('P2'), member('P3')]
let clock: ManualClock
let store: RecordStore
const open = (options: Partial<RecordStoreOptions> = {}) => {
  clock = new ManualClock()
  store = new RecordStore({ clock }, options)
}
const named = (name: string) => store.find('name', name as FileName).records
const peersOf = (records: readonly RingRecord[]) => records.map(({ provider }) => provider.peer)

beforeEach(() => open())

describe('what is kept', () => {
  it('finds by name and by content, the youngest first, with ages as of now', () => {
    const of = (peer: string, ageMs: number) => [
      record(peer, 'a.txt', { ageMs }),
      record(peer, 'a.txt', { ageMs, key: 'content' }),
    ]
    expect(store.store([...of('P1', 5000), ...of('P2', 1000), ...of('P3', 3000)], p1)).toBe(6)
    clock.advance(500)
    expect(named('a.txt').map(({ provider, ageMs }) => [provider.peer, ageMs])).toEqual([
      ['P2', 1500],
      ['P3', 3500],
      ['P1', 5500],
    ])
    expect(peersOf(store.find('content', contentOf('a.txt')).records)).toEqual(['P2', 'P3', 'P1'])
    expect(named('b.txt')).toEqual([])
    expect(store.size).toBe(6)
  })

  it('takes the younger word of a provider, with its ports and size', () => {
    store.store([record('P1', 'a', { ageMs: 9000 })], p1)
    const moved = { ...p1, grpcPort: 50_099 }
    store.store([record('P1', 'a', { ageMs: 10, size: 11, provider: moved })], p1)
    expect(named('a')).toMatchObject([{ ageMs: 10, size: 11, provider: { grpcPort: 50_099 } }])
    expect(store.size).toBe(1)
  })

  it("lets nobody turn a provider's word away from where it is: neither others, nor its name at another host", () => {
    const honest = { ...p1, host: '10.0.0.1' }
    const liar = { ...p2, host: '10.6.6.6' }
    store.store([record('P1', 'a', { provider: honest })], honest)
    clock.advance(1000)
    store.store([record('P1', 'a', { provider: { ...honest, grpcPort: 9 }, size: 66 })], liar)
    store.store([record('P1', 'a', { provider: honest, size: 66 })], liar)
    store.store([record('P1', 'a', { provider: { ...honest, host: liar.host } })], { ...liar, peer: p1.peer })
    const kept = named('a').find(({ provider: { host, grpcPort } }) => host === '10.0.0.1' && grpcPort === 50_051)
    expect(kept?.size).toBe(10)
    expect(store.size).toBe(3)
    // It tells where it is by now itself, which is the end of what others said of it there.
    clock.advance(1000)
    store.store([record('P1', 'a', { provider: { ...honest, grpcPort: 7000 } })], honest)
    expect(named('a').map(({ provider: { host, grpcPort } }) => [host, grpcPort])).toEqual([
      ['10.0.0.1', 7000],
      ['10.6.6.6', 50_051],
    ])
  })

  it('lives no longer for a replay of an older word, whoever brings it', () => {
    store.store([record('P1', 'a')], p1)
    for (let hour = 0; hour < 4; hour++) {
      clock.advance(HOUR / 4)
      // It counts as kept as long as it is: its giver needs not try again.
      const kept = store.store([record('P1', 'a', { ageMs: (hour + 1) * (HOUR / 4) })], hour % 2 ? p1 : p2)
      expect(kept).toBe(hour < 3 ? 1 : 0)
    }
    expect(named('a')).toEqual([])
  })

  it('keeps the younger word where an older one comes after it', () => {
    store.store([record('P1', 'a', { ageMs: 10, size: 2 })], p1)
    store.store([record('P1', 'a', { ageMs: 9000, size: 1 })], p2)
    expect(named('a')).toMatchObject([{ ageMs: 10, size: 2 }])
  })

  it('never finds or hands over an expired record, swept or not, and frees its room', () => {
    store.store([record('P1', 'a'), record('P2', 'a', { ageMs: 1 })], p1)
    clock.advance(HOUR - 1)
    expect(peersOf(named('a'))).toEqual(['P1'])
    clock.advance(1)
    expect(named('a')).toEqual([])
    expect(store.placesIn(p1.id, p1.id).flatMap((place) => store.at(place))).toEqual([])
    expect(store.size).toBe(2)
    store.expire()
    expect(store.size).toBe(0)
  })

  it.each([HOUR, HOUR * 2, Number.POSITIVE_INFINITY, Number.NaN])('refuses a word of an age of %d ms', (ageMs) => {
    expect(store.store([record('P1', 'a', { ageMs })], p1)).toBe(0)
    expect(store.size).toBe(0)
  })

  it('takes a word from the future as one of now', () => {
    store.store([record('P1', 'a', { ageMs: -HOUR })], p1)
    clock.advance(HOUR)
    expect(named('a')).toEqual([])
  })

  it('sweeps in slices: what is left is swept by the next calls', () => {
    const many = Array.from({ length: 25_000 }, (_, i) => record('P1', `f${i}`))
    store.store(many, p1)
    clock.advance(HOUR)
    const sizes = [0, 1, 2].map(() => {
      store.expire()
      return store.size
    })
    expect(sizes).toEqual([15_000, 5000, 0])
  })
})

describe('withdrawal', () => {
  it('forgets what its provider takes back, and only that content under that name', () => {
    const changed = contentOf('a, later')
    store.store([record('P1', 'a'), record('P1', 'a', { content: changed }), record('P2', 'a')], p1)
    expect(store.withdraw([record('P1', 'a')], p1)).toBe(1)
    expect(named('a').map(({ provider, content }) => [provider.peer, content])).toEqual([
      ['P1', changed],
      ['P2', contentOf('a')],
    ])
  })

  it('changes nothing where another peer asks for it', () => {
    store.store([record('P1', 'a')], p1)
    expect(store.withdraw([record('P1', 'a'), record('P2', 'a')], p2)).toBe(0)
    expect(peersOf(named('a'))).toEqual(['P1'])
  })

  it("changes nothing where one asks for it that bears its provider's name at another host", () => {
    const honest = { ...p1, host: '10.0.0.1' }
    store.store([record('P1', 'a', { provider: honest })], honest)
    expect(store.withdraw([record('P1', 'a', { provider: honest })], { ...p1, host: '10.6.6.6' })).toBe(0)
    expect(store.withdraw([record('P1', 'a', { provider: honest })], honest)).toBe(1)
  })
})

describe('bounds', () => {
  it('keeps what one machine brings, as whomever and whosever they are, to half of all', () => {
    open({ maxRecords: 20, maxOfParty: 10 })
    const at = (peer: string, host: string) => ({ ...member(peer), host })
    let kept = 0
    for (let i = 0; i < 30; i++) {
      const liar = at(`X${i}`, i % 2 ? '2001:db8::1' : `2001:db8::${i}`)
      kept += store.store([record(liar.peer, `own ${i}`, { provider: liar }), record('Y', `other ${i}`)], liar)
    }
    expect(kept).toBe(10)
    // Whatever host it tells.
    expect(store.store([record('Z', 'z', { provider: at('Z', '10.0.0.9') })], at('Z', '10.0.0.9'), '2001:db8::7')).toBe(
      0,
    )
    const honest = at('P1', '10.0.0.1')
    expect(
      store.store([record('P1', 'a', { provider: honest }), record('P1', 'b', { provider: honest })], honest),
    ).toBe(2)
    // On one machine a lab runs many agents.
    open({ maxOfParty: 2 })
    expect(
      [p1, p2].map((one) =>
        store.store(
          ['a', 'b', 'c'].map((name) => record(one.peer, name)),
          one,
        ),
      ),
    ).toEqual([2, 2])
    clock.advance(HOUR)
    store.expire()
    expect(store.store([record('P1', 'a'), record('P1', 'b')], p1)).toBe(2)
  })

  it('lets no machine push out the providers of a key under many names of its own', () => {
    open({ maxOfKey: 10 })
    const honest = ['10.0.0.1', '10.0.0.2'].map((host, i) => ({ ...member(`P${i}`), host }))
    for (const one of honest) store.store([record(one.peer, 'a', { provider: one })], one)
    clock.advance(1000)
    for (let i = 0; i < 100; i++) {
      const liar = { ...member(`X${i}`), host: '10.6.6.6' }
      store.store([record(liar.peer, 'a', { provider: { ...liar, host: `10.7.7.${i}` } })], liar)
    }
    expect(peersOf(named('a'))).toHaveLength(10)
    expect(peersOf(named('a'))).toEqual(expect.arrayContaining(['P0', 'P1']))
  })

  it('keeps the freshest of a key', () => {
    open({ maxOfKey: 3 })
    const ages = [50, 10, 40, 30, 20, 60]
    const kept = ages.map((ageMs, i) => store.store([record(`P${i}`, 'a', { ageMs })], p1))
    expect(kept).toEqual([1, 1, 1, 1, 1, 0])
    expect(named('a').map(({ ageMs }) => ageMs)).toEqual([10, 20, 30])
  })

  it('lets no provider push out the others of a key with many names', () => {
    open({ maxOfKey: 10 })
    const under = (peer: string, name: string) =>
      record(peer, name, { key: 'content', content: contentOf('x'), ageMs: 0 })
    store.store([under('P1', 'a'), under('P2', 'b')], p1)
    clock.advance(1000)
    for (let i = 0; i < 100; i++) store.store([under('P3', `n${i}`)], p3)
    const peers = peersOf(store.find('content', contentOf('x')).records)
    expect(peers).toHaveLength(10)
    expect(peers).toEqual(expect.arrayContaining(['P1', 'P2']))
  })

  it('tells at most 100 of a key, and that there are more', () => {
    open({ maxOfKey: 150 })
    store.store(
      Array.from({ length: 120 }, (_, i) => record(`P${i}`, 'a')),
      p1,
    )
    const found = store.find('name', 'a' as FileName)
    expect([found.records.length, found.more]).toEqual([100, true])
  })

  it('refuses what is new where it is full, and takes it when others have expired', () => {
    open({ maxRecords: 3 })
    expect(store.store([record('P1', 'a'), record('P1', 'b'), record('P1', 'c'), record('P1', 'd')], p1)).toBe(3)
    expect(store.store([record('P2', 'e')], p2)).toBe(0)
    clock.advance(HOUR)
    expect(store.store([record('P2', 'e')], p2)).toBe(1)
  })

  it('keeps a provider to its bound, and leaves it that where others bring its records', () => {
    open({ maxOfProvider: 2 })
    expect(store.store([record('P1', 'x'), record('P1', 'y'), record('P1', 'z')], p2)).toBe(2)
    expect(store.store([record('P1', 'a'), record('P1', 'b'), record('P1', 'c')], p1)).toBe(2)
    expect(store.store([record('P3', 'a')], p3)).toBe(1)
  })

  it('keeps a giver to its bound, whatever providers it names; what they bring themselves is theirs', () => {
    open({ maxOfGiver: 2 })
    expect(store.store([record('A', 'a'), record('B', 'b'), record('C', 'c')], p1)).toBe(2)
    expect(store.store([record('P1', 'own')], p1)).toBe(1)
    clock.advance(1)
    // A says it itself: that no longer counts as given by P1.
    store.store([record('A', 'a')], member('A'))
    expect(store.store([record('C', 'c')], p1)).toBe(1)
    expect(store.store([record('D', 'd')], p1)).toBe(0)
  })

  it('looks for expired records once a message where it is full, however many it brings', () => {
    open({ maxRecords: 20_000 })
    const old = HOUR - 1
    const held = Array.from({ length: 20_000 }, (_, i) => record('P1', `f${i}`, { ageMs: i < 10_000 ? 0 : old }))
    store.store(held, p1)
    clock.advance(1)
    const more = ['a', 'b', 'c'].map((name) => record('P2', name))
    // The first slice has none that is expired.
    expect([store.store(more, p2), store.store(more, p2)]).toEqual([0, 3])
  })

  it('counts a long name as several records', () => {
    open({ maxRecords: 10 })
    expect(store.store([record('P1', 'n'.repeat(1024)), record('P1', 'a'), record('P1', 'b')], p1)).toBe(2)
  })

  it('gives the room back, whatever came and went (property)', () => {
    const word = fc.record({
      kind: fc.constantFrom('store', 'withdraw', 'wait', 'forget'),
      peer: fc.constantFrom('P1', 'P2', 'P3'),
      from: fc.constantFrom(p1, p2, p3),
      name: fc.constantFrom('a', 'b', 'c', 'd'),
      key: fc.constantFrom('name' as const, 'content' as const),
      ageMs: fc.nat(HOUR),
    })
    fc.assert(
      fc.property(fc.array(word, { maxLength: 60 }), (words) => {
        open({ maxRecords: 8, maxOfProvider: 4, maxOfGiver: 3, maxOfKey: 2 })
        for (const { kind, from, peer, name, key, ageMs } of words) {
          if (kind === 'store') store.store([record(peer, name, { key, ageMs })], from)
          else if (kind === 'withdraw') store.withdraw([record(peer, name, { key })], from)
          else if (kind === 'forget') store.forget(from.id, member(peer).id)
          else clock.advance(ageMs)
          expect(store.size).toBeLessThanOrEqual(8)
          expect(store.size).toBe(store.countIn(p1.id, p1.id))
        }
        clock.advance(HOUR)
        store.expire()
        expect(store.size).toBe(0)
        // All of every bound is free again.
        const givers = [member('G1'), member('G2'), p1, p2, p3]
        const kept = givers.map((giver) =>
          store.store(
            ['a', 'b', 'c', 'd', 'e'].map((name) => record('P1', `${giver.peer}${name}`)),
            giver,
          ),
        )
        expect(kept).toEqual([3, 1, 4, 0, 0])
      }),
    )
  })

  it.each([
    { title: 'a million records of one peer, its own,', sent: 1_000_000, providers: 1, most: 50_000 },
    { title: 'records of very many, from one peer,', sent: 200_000, providers: 200_000, most: 100_000 },
  ])('$title stay within the bounds and the memory', ({ sent, providers, most }) => {
    const message = (first: number) =>
      Array.from({ length: 500 }, (_, n): RingRecord => {
        const i = first + n
        const provider = { ...p1, peer: (providers === 1 ? 'P1' : `Q${i}`) as PeerId }
        const content = i.toString().padStart(64, '0') as ContentId
        return { key: 'name', name: `million/${i}.bin` as FileName, content, size: i, provider, ageMs: 0 }
      })
    global.gc?.()
    const before = process.memoryUsage().heapUsed
    let kept = 0
    for (let i = 0; i < sent; i += 500) kept += store.store(message(i), providers === 1 ? p1 : p3)
    global.gc?.()
    const mb = (process.memoryUsage().heapUsed - before) / 1e6
    const garbage = global.gc ? '' : ', garbage included'
    process.stdout.write(`${store.size} of ${sent} records are kept: ${mb.toFixed(0)} MB${garbage}\n`)
    expect([kept, store.size]).toEqual([most, most])
    expect(mb).toBeLessThan(200)
    expect(store.store([record('P2', 'honest')], p2)).toBe(1)
  })
})

describe('ranges', () => {
  const peers = ['P1', 'P2', 'P3', 'P4', 'P5']

  it('gives those whose place is after one and not after the other, round the circle (property)', () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(fc.string({ minLength: 1, maxLength: 5 }), { maxLength: 30 }),
        fc.constantFrom(...peers),
        fc.constantFrom(...peers),
        (names, a, b) => {
          open()
          const [from, to] = [placeOfPeer(a as PeerId), placeOfPeer(b as PeerId)]
          const all = names.map((name) => record('P1', name))
          store.store(all, p1)
          const expected = all.filter((one) => within(from, placeOfRecord(one), to)).map(({ name }) => name)
          const there = store.placesIn(from, to).flatMap((place) => store.at(place))
          expect(there.map(({ name }) => name).sort()).toEqual(expected.sort())
          expect(store.countIn(from, to)).toBe(expected.length)
          expect(store.forget(from, to)).toBe(expected.length)
          expect(store.countIn(from, to)).toBe(0)
          expect(store.size).toBe(names.length - expected.length)
        },
      ),
    )
  })

  it('tells what others handed over since, but not what its provider or one of them brought', () => {
    store.store([record('P1', 'old')], p2)
    const { serial } = store
    store.store([record('P1', 'own')], p1)
    store.store([record('P1', 'by two')], p2)
    store.store([record('P1', 'by three')], p3)
    const since = store.handedSince(serial, 'P3' as PeerId, p1.id, p1.id).flatMap((place) => store.at(place))
    expect(since.map(({ name }) => name)).toEqual(['by two'])
  })
})
