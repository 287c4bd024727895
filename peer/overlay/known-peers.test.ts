import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { oneParty } from '../../common/address.ts'
import { ManualClock } from '../../common/clock.ts'
import { parsePeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import { PeerBook } from './known-peers.ts'

const HOUR = 3_600_000
const self: PeerContact = { peer: parsePeerId('self'), host: '10.0.0.1', restPort: 8000, grpcPort: 50051 }
const at = (peer: string, host: string, grpcPort = 50051): PeerContact => ({
  peer: parsePeerId(peer),
  host,
  restPort: 8000,
  grpcPort,
})
const told = (...contacts: PeerContact[]) => contacts.map((contact) => ({ contact, ageMs: 0 }))

function open(options?: ConstructorParameters<typeof PeerBook>[1]) {
  const clock = new ManualClock()
  return { clock, book: new PeerBook({ self: () => self, clock, random: () => 0.5 }, options) }
}

const standings = (book: PeerBook) =>
  Object.fromEntries(book.list().map(({ contact, standing }) => [contact.peer, standing]))

describe('the book of known peers', () => {
  test('takes what others tell as hearsay, until the peer itself answers', () => {
    const { book } = open()
    book.heard(told(at('a', '10.0.0.2')), '10.0.0.9')
    expect(book.alive(9)).toEqual([])
    expect(book.untried(9)).toEqual([at('a', '10.0.0.2')])
    book.seen(at('a', '10.0.0.2'))
    expect(book.alive(9)).toEqual([at('a', '10.0.0.2')])
    book.missed(at('a', '10.0.0.2'))
    expect(standings(book)).toEqual({ a: 'lost' })
    expect(book.alive(9)).toEqual([])
  })

  test.each([
    ['169.254.169.254', '10.0.0.9'],
    ['0.0.0.0', '10.0.0.9'],
    ['224.0.0.1', '10.0.0.9'],
    ['fe80::1', '10.0.0.9'],
    ['127.0.0.1', '10.0.0.9'],
    ['::ffff:127.0.0.1', '10.0.0.9'],
    ['localhost', '10.0.0.9'],
    ['intranet', '10.0.0.9'],
    ['10.0.0.1', '10.0.0.9'],
  ])('refuses %s, told from %s', (host, from) => {
    const { book } = open()
    book.heard(told(at('a', host)), from)
    expect(book.list()).toEqual([])
  })

  test('takes loopback from this machine, a name from whoever is known by it, and one address in one form', () => {
    const { book } = open()
    book.heard(told(at('a', '127.0.0.1')), '127.0.0.1')
    book.heard(told(at('b', 'lab-7')), 'lab-7')
    book.heard(told(at('c', '::ffff:10.0.0.3')), '10.0.0.9')
    expect(book.list().map(({ contact }) => contact.host)).toEqual(['127.0.0.1', 'lab-7', '10.0.0.3'])
  })

  test.each([Number.NaN, -1, 25 * HOUR])('refuses an age of %d ms', (ageMs) => {
    const { book } = open()
    book.heard([{ contact: at('a', '10.0.0.2'), ageMs }], '10.0.0.9')
    expect(book.list()).toEqual([])
  })

  test('lets no hearsay change one that answered, or this peer, or take its address', () => {
    const { book } = open()
    book.seen(at('a', '10.0.0.2'))
    book.heard(told(at('a', '10.0.0.66'), at('self', '10.0.0.67'), at('x', '10.0.0.2')), '10.0.0.9')
    expect(book.list().map(({ contact }) => contact)).toEqual([at('a', '10.0.0.2')])
    expect(book.untried(9)).toEqual([])
  })

  test('has one that moved tried at its new address, once it is not at the old one', () => {
    const { book } = open()
    book.seen(at('a', '10.0.0.2'))
    book.heard(told(at('a', '10.0.0.3')), '10.0.0.9')
    expect(book.doubted()).toEqual(at('a', '10.0.0.2'))
    expect(book.untried(9)).toEqual([])
    book.missed(at('a', '10.0.0.2'))
    expect(book.untried(9)).toEqual([at('a', '10.0.0.3')])
    book.seen(at('a', '10.0.0.3'))
    expect(book.list()).toMatchObject([{ contact: at('a', '10.0.0.3'), standing: 'alive' }])
    expect(book.untried(9)).toEqual([])
  })

  test('lets nobody take the place of one that is alive by answering to its name elsewhere', () => {
    const { book } = open()
    book.seen(at('a', '10.0.0.2'))
    book.seen(at('a', '10.6.6.6'))
    expect(book.alive(9)).toEqual([at('a', '10.0.0.2')])
    expect(book.doubted()).toEqual(at('a', '10.0.0.2'))
    book.missed(at('a', '10.0.0.2'))
    expect(book.untried(9)).toEqual([at('a', '10.6.6.6')])
    book.seen(at('a', '10.6.6.6'))
    expect(book.alive(9)).toEqual([at('a', '10.6.6.6')])
  })

  test('replaces whoever was thought to be at an address by who answers there', () => {
    const { book } = open()
    book.seen(at('a', '10.0.0.2'))
    book.seen(at('b', '10.0.0.2'))
    expect(standings(book)).toEqual({ b: 'alive' })
  })

  test('takes a silence for one only where it was asked at the address in the book', () => {
    const { book } = open()
    book.seen(at('a', '10.0.0.2'))
    book.missed(at('a', '10.0.0.3'))
    book.missed(at('z', '10.0.0.3'))
    expect(standings(book)).toEqual({ a: 'alive' })
  })

  test('gives the lost that were not tried for longest first, each again after a pause that doubles up to 10 minutes', () => {
    const { book, clock } = open()
    for (const n of [2, 3]) {
      book.seen(at(`p${n}`, `10.0.0.${n}`))
      book.missed(at(`p${n}`, `10.0.0.${n}`))
      clock.advance(1000)
    }
    expect(book.lost(9)).toEqual([])
    clock.advance(4000)
    expect(book.lost(1).map(({ peer }) => peer)).toEqual(['p2'])
    expect(book.lost(9).map(({ peer }) => peer)).toEqual(['p2', 'p3'])
    for (const pause of [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000, 600_000]) {
      book.missed(at('p2', '10.0.0.2'))
      expect(book.nextTryMs()).toBe(0)
      clock.advance(pause - 1)
      expect(book.lost(9).map(({ peer }) => peer)).toEqual(['p3'])
      clock.advance(1)
      expect(book.lost(9).map(({ peer }) => peer)).toEqual(['p3', 'p2'])
    }
  })

  test('forgets hearsay after an hour and whoever has not answered for a day', () => {
    const { book, clock } = open()
    book.heard(told(at('a', '10.0.0.2')), '10.0.0.9')
    book.seen(at('b', '10.0.0.3'))
    clock.advance(HOUR - 1)
    book.heard(told(at('a', '10.0.0.2')), '10.0.0.9')
    expect(standings(book)).toEqual({ a: 'hearsay', b: 'alive' })
    clock.advance(1)
    expect(standings(book)).toEqual({ b: 'alive' })
    clock.advance(23 * HOUR - 1)
    expect(standings(book)).toEqual({ b: 'alive' })
    clock.advance(1)
    expect(book.list()).toEqual([])
  })

  test('keeps whoever is alive from being pushed out by newcomers', () => {
    const { book } = open()
    const many = Array.from({ length: 256 }, (_, n) => at(`p${n}`, `10.${n}.0.2`))
    for (const contact of many) book.seen(contact)
    book.seen(at('late', '11.0.0.1'))
    book.heard(told(at('later', '11.0.0.2')), '11.0.0.1')
    expect(book.alive(999)).toHaveLength(256)
    expect(standings(book)).not.toHaveProperty('late')
    book.missed(many[7]!)
    book.seen(at('late', '11.0.0.1'))
    expect(standings(book)).toHaveProperty('late')
    expect(standings(book)).not.toHaveProperty('p7')
  })

  test('has room for hearsay of others where one tells much of nobody', () => {
    const { book } = open()
    for (let n = 0; n < 1000; n++) book.heard(told(at(`junk${n}`, `11.${n >> 8}.${n & 255}.1`)), '10.0.0.66')
    expect(book.list()).toHaveLength(32)
    book.heard(told(at('a', '10.0.0.2')), '10.0.0.9')
    expect(standings(book)).toHaveProperty('a')
  })

  test('keeps 64 peers of one party at most, told of or alive; on loopback there may be more', () => {
    for (const prefix of ['10.0.0.2', '2001:db8::']) {
      const { book } = open()
      const one = (n: number) => at(`p${n}`, prefix.includes(':') ? `${prefix}${n + 1}` : prefix, 1000 + n)
      for (let n = 0; n < 100; n++) book.seen(one(n))
      expect(book.list()).toHaveLength(64)
      book.heard(told(one(200)), '10.0.0.9')
      expect(book.list()).toHaveLength(64)
    }
    const { book } = open()
    for (let n = 0; n < 100; n++) book.seen(at(`p${n}`, '127.0.0.1', 1000 + n))
    expect(book.list()).toHaveLength(100)
  })

  test('has room for new hearsay where the old did not answer', () => {
    const { book } = open({ hearsay: 2 })
    book.heard(told(at('a', '10.0.0.2'), at('b', '10.0.0.3'), at('c', '10.0.0.4')), '10.0.0.9')
    book.missed(at('a', '10.0.0.2'))
    book.heard(told(at('c', '10.0.0.4')), '10.0.0.9')
    expect(standings(book)).toEqual({ b: 'hearsay', c: 'hearsay' })
  })

  test('tells others what they can use: who is alive, at an address that means the same to them', () => {
    const { book, clock } = open()
    for (const contact of [at('a', '10.0.0.2'), at('b', '127.0.0.1'), at('c', 'lab-7'), at('d', '10.0.0.4')])
      book.seen(contact)
    book.missed(at('d', '10.0.0.4'))
    clock.advance(2000)
    expect(book.tell(9, '10.0.0.9')).toEqual([{ contact: at('a', '10.0.0.2'), ageMs: 2000 }])
    expect(
      book
        .tell(9, '127.0.0.1')
        .map(({ contact }) => contact.peer)
        .sort(),
    ).toEqual(['a', 'b'])
    expect(book.tell(9, '10.0.0.2', parsePeerId('a'))).toEqual([])
  })

  test('remembers who answered as lost, checked as if it were told, until it answers again', () => {
    const { book, clock } = open()
    const seenAt = clock.now()
    book.seen(at('a', '10.0.0.2'))
    book.heard(told(at('b', '10.0.0.3')), '10.0.0.9')
    expect(book.remembered()).toEqual([{ contact: at('a', '10.0.0.2'), standing: 'alive', seenAt }])
    const forged = [at('c', '169.254.169.254'), at('self', '10.0.0.5'), at('a', '10.0.0.6'), at('d', '10.0.0.2')]
    const remembered = [
      ...book.remembered(),
      ...forged.map((contact) => ({ contact, standing: 'alive' as const, seenAt })),
    ]
    const next = new PeerBook({ self: () => self, clock, random: () => 0.5 }, { remembered })
    expect(next.list()).toEqual([{ contact: at('a', '10.0.0.2'), standing: 'lost', seenAt }])
    expect(next.lost(9)).toEqual([at('a', '10.0.0.2')])
    clock.advance(24 * HOUR)
    expect(new PeerBook({ self: () => self, clock, random: () => 0.5 }, { remembered }).list()).toEqual([])
  })

  const contact = fc.record({
    peer: fc.nat(400).map((n) => parsePeerId(`p${n}`)),
    host: fc.oneof(
      fc.nat(40).map((n) => `10.0.0.${n}`),
      fc.nat(3).map((n) => `10.9.9.${n}`),
      fc.constantFrom('127.0.0.1', '2001:db8::1', '2001:db8::2'),
    ),
    restPort: fc.constant(8000),
    grpcPort: fc.integer({ min: 50_000, max: 50_400 }),
  })
  const deed = fc.oneof(
    fc.record({ does: fc.constant('seen' as const), contact }),
    fc.record({ does: fc.constant('missed' as const), contact }),
    fc.record({
      does: fc.constant('heard' as const),
      contact,
      from: fc.constantFrom('10.9.9.1', '10.0.0.7', '127.0.0.1'),
    }),
    fc.record({ does: fc.constant('wait' as const), ms: fc.constantFrom(1000, HOUR / 2, 6 * HOUR) }),
  )

  test('keeps its bounds, its age and one entry for each peer and address, whatever happens', () => {
    const bounds = { max: 24, hearsay: 8, ofParty: 5, ofTeller: 4 }
    fc.assert(
      fc.property(fc.array(deed, { maxLength: 300, size: 'max' }), (deeds) => {
        const { book, clock } = open(bounds)
        for (const step of deeds) {
          const proven = book.list().filter(({ standing }) => standing === 'alive')
          if (step.does === 'wait') clock.advance(step.ms)
          else if (step.does === 'heard') book.heard(told(step.contact), step.from)
          else book[step.does](step.contact)
          const known = book.list()
          if (step.does === 'heard') for (const alive of proven) expect(known).toContainEqual(alive)
          expect(known.length).toBeLessThanOrEqual(bounds.max)
          expect(known.filter(({ standing }) => standing === 'hearsay').length).toBeLessThanOrEqual(bounds.hearsay)
          const parties = new Map<string, number>()
          for (const {
            contact: { host },
            seenAt,
          } of known) {
            if (host !== '127.0.0.1') parties.set(oneParty(host), (parties.get(oneParty(host)) ?? 0) + 1)
            if (seenAt !== undefined) expect(clock.now() - seenAt).toBeLessThan(24 * HOUR)
          }
          expect(Math.max(0, ...parties.values())).toBeLessThanOrEqual(bounds.ofParty)
          const addresses = known.map(({ contact: { host, grpcPort } }) => `${host} ${grpcPort}`)
          expect(new Set(addresses).size).toBe(addresses.length)
        }
      }),
      { numRuns: 25 },
    )
  })
})

test('who was alive and does not answer is told of at once, and once', () => {
  let lost = 0
  const clock = new ManualClock()
  const book = new PeerBook({ self: () => self, clock, random: () => 0.5, onLost: () => lost++ })
  book.missed(at('p1', '10.9.0.1'))
  book.heard([{ contact: at('p2', '10.9.0.2'), ageMs: 0 }], at('p2', '10.9.0.2').host)
  book.missed(at('p2', '10.9.0.2'))
  expect(lost).toBe(0)
  book.seen(at('p1', '10.9.0.1'))
  book.missed(at('p1', '10.9.0.1'))
  book.missed(at('p1', '10.9.0.1'))
  expect(lost).toBe(1)
  book.seen(at('p1', '10.9.0.1'))
  book.missed(at('p1', '10.9.0.1'))
  expect(lost).toBe(2)
})
