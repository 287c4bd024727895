import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { sha256 } from '../../common/merkle.ts'
import type { FileEntry } from '../../common/schemas.ts'
import type { AnnouncedCatalog } from '../maestro-session.ts'
import { MAX_RECORDS, type RingRecord } from './protocol.ts'
import { Publisher, type PublisherOptions } from './publisher.ts'
import { RecordStore } from './record-store.ts'
import { type Member, memberOf, type RingId } from './ring.ts'

const signal = new AbortController().signal
const contact = (peer: string) => ({ peer: peer as PeerId, host: '127.0.0.1', restPort: 8000, grpcPort: 50051 })
const contentOf = (text: string) => sha256(Buffer.from(text)).toString('hex') as ContentId
const file = (name: string, text = name): FileEntry => ({
  name: name as FileName,
  size: text.length,
  id: contentOf(text),
})

class FakeCatalog implements Pick<AnnouncedCatalog, 'entries' | 'onChange'> {
  readonly files = new Map<FileName, FileEntry>()
  readonly listeners = new Set<Parameters<AnnouncedCatalog['onChange']>[0]>()

  entries(): FileEntry[] {
    return [...this.files.values()]
  }

  onChange(listener: Parameters<AnnouncedCatalog['onChange']>[0]): () => void {
    this.listeners.add(listener)
    return () => this.listeners.delete(listener)
  }

  change(added: readonly FileEntry[], removed: readonly string[] = []): void {
    for (const entry of added) this.files.set(entry.name, entry)
    for (const name of removed) this.files.delete(name as FileName)
    for (const listener of this.listeners) listener({ to: 1, added, removed: removed as FileName[] })
  }
}

/** Members sorted by place, each with its store; the first of them is this peer. */
class FakeRing {
  readonly clock = new ManualClock()
  readonly catalog = new FakeCatalog()
  readonly members: Member[]
  readonly stores = new Map<PeerId, RecordStore>()
  readonly silent = new Set<PeerId>()
  readonly messages: { to: PeerId; records: readonly RingRecord[]; withdraw: readonly RingRecord[] }[] = []
  readonly publisher: Publisher
  self = contact('P0')
  lookups = 0
  isBroken = false
  /** what happens meanwhile, once */
  duringLookup = () => {}
  duringStore = () => {}
  warnings = 0

  constructor(size: number, options: Partial<PublisherOptions> = {}) {
    this.members = Array.from({ length: size }, (_, i) => memberOf(contact(`P${i}`)))
    this.members.sort((a, b) => (a.id < b.id ? -1 : 1))
    for (const { peer } of this.members) this.stores.set(peer, new RecordStore({ clock: this.clock }))
    const deps = {
      ring: { lookup: (key: RingId) => this.#lookup(key) },
      network: {
        store: (to: Member, records: readonly RingRecord[], withdraw: readonly RingRecord[]) =>
          this.#store(to, records, withdraw),
      },
      catalog: this.catalog,
      self: () => this.self,
      own: this.stores.get('P0' as PeerId)!,
      clock: this.clock,
      random: () => 0.5,
      log: Object.assign(Object.create(silentLog), { warn: () => this.warnings++ }) as typeof silentLog,
    }
    this.publisher = new Publisher(deps, options)
  }

  owners(key: RingId): Member[] {
    const first = Math.max(
      0,
      this.members.findIndex(({ id }) => id >= key),
    )
    return [...this.members.slice(first), ...this.members.slice(0, first)].slice(0, 6)
  }

  async #lookup(key: RingId): Promise<{ owners: Member[] }> {
    this.lookups++
    this.duringLookup()
    this.duringLookup = () => {}
    if (this.isBroken) throw new NetworkError('unavailable', 'the ring is broken')
    return { owners: this.owners(key) }
  }

  async #store(to: Member, records: readonly RingRecord[], withdraw: readonly RingRecord[]): Promise<number> {
    this.messages.push({ to: to.peer, records, withdraw })
    this.duringStore()
    this.duringStore = () => {}
    if (this.silent.has(to.peer)) throw new NetworkError('unavailable', 'silent')
    const store = this.stores.get(to.peer)!
    store.withdraw(withdraw, this.self)
    return store.store(records, this.self)
  }

  tick(): Promise<void> {
    return this.publisher.tick(signal)
  }

  /** As a loop does, for so long. */
  async run(ms: number): Promise<void> {
    const end = this.clock.now() + ms
    while (this.clock.now() < end) {
      await this.tick()
      this.clock.advance(Math.min(this.publisher.nextMs, end - this.clock.now()))
    }
  }

  /** On how many members one finds it: by name and by content. */
  found(name: string, text = name): [number, number] {
    const count = (find: (store: RecordStore) => readonly RingRecord[]) =>
      [...this.stores.values()].filter((store) =>
        find(store).some((record) => record.content === contentOf(text) && record.name === name),
      ).length
    return [
      count((store) => store.find('name', name as FileName).records),
      count((store) => store.find('content', contentOf(text)).records),
    ]
  }

  /** How many records were sent, and how many withdrawn. */
  said(): [number, number] {
    const sum = (numbers: number[]) => numbers.reduce((all, one) => all + one, 0)
    return [sum(this.messages.map(({ records }) => records.length)), sum(this.messages.map((m) => m.withdraw.length))]
  }

  clear(): void {
    this.messages.length = 0
    this.lookups = 0
  }
}

let ring: FakeRing
beforeEach(() => {
  ring = new FakeRing(10)
})

describe('publishing', () => {
  it('puts each file at the first six members after the places of its name and of its content', async () => {
    ring.catalog.change([file('a'), file('b')])
    await ring.tick()
    expect([ring.found('a'), ring.found('b')]).toEqual([
      [6, 6],
      [6, 6],
    ])
    expect([ring.publisher.published, ring.publisher.waiting]).toEqual([4, 0])
  })

  it('takes few lookups and messages: 10,000 files, 20 members', async () => {
    ring = new FakeRing(20)
    ring.catalog.change(Array.from({ length: 10_000 }, (_, i) => file(`folder/file-${i}.bin`)))
    await ring.tick()
    expect(ring.publisher.published).toBe(20_000)
    expect(ring.lookups).toBeLessThanOrEqual(20 + 5)
    // 120,000 copies in messages of 500; what is at this peer itself needs none.
    expect(ring.messages.length).toBeLessThan((120_000 / MAX_RECORDS) * 1.5)
    expect(Math.max(...ring.messages.map(({ records }) => records.length))).toBeLessThanOrEqual(MAX_RECORDS)
    expect(ring.messages.some(({ to }) => to === 'P0')).toBe(false)
    expect([0, 5000, 9999].map((i) => ring.found(`folder/file-${i}.bin`))).toEqual(Array(3).fill([6, 6]))
  })

  it('keeps messages below some 200 KB', async () => {
    ring = new FakeRing(2)
    ring.catalog.change(Array.from({ length: 500 }, (_, i) => file(`${i}-${'ñ'.repeat(400)}`)))
    await ring.tick()
    const sizes = ring.messages.map(({ records }) => Buffer.byteLength(JSON.stringify(records.map(({ name }) => name))))
    expect(Math.max(...sizes)).toBeLessThan(200_000)
    expect(ring.publisher.waiting).toBe(0)
  })

  it('leaves out what has no content id yet', async () => {
    ring.catalog.change([{ name: 'a' as FileName, size: 1, id: null }])
    await ring.tick()
    expect(ring.messages).toEqual([])
    ring.catalog.change([file('a')])
    await ring.tick()
    expect(ring.found('a')).toEqual([6, 6])
  })

  it('two names of one content are both found by it', async () => {
    ring.catalog.change([file('a', 'same'), file('b', 'same')])
    await ring.tick()
    expect([ring.found('a', 'same'), ring.found('b', 'same')]).toEqual(Array(2).fill([6, 6]))
  })

  it('alone, it keeps its own', async () => {
    ring = new FakeRing(1)
    ring.catalog.change([file('a')])
    await ring.tick()
    expect(ring.found('a')).toEqual([1, 1])
    expect(ring.messages).toEqual([])
  })

  it('publishes the first files by name where there are too many, and says so once', async () => {
    ring = new FakeRing(10, { maxFiles: 2 })
    ring.catalog.change(['d', 'b', 'c', 'a'].map((name) => file(name)))
    await ring.tick()
    expect(['a', 'b', 'c', 'd'].map((name) => ring.found(name)[0])).toEqual([6, 6, 0, 0])
    expect([ring.publisher.published, ring.publisher.waiting, ring.publisher.unpublished]).toEqual([4, 4, 2])
    ring.catalog.change([file('e')], ['a'])
    await ring.run(15_000)
    expect(['a', 'b', 'c', 'd'].map((name) => ring.found(name)[0])).toEqual([0, 6, 6, 0])
    expect(ring.warnings).toBe(1)
    ring.catalog.change([], ['d'])
    await ring.run(15_000)
    expect(['b', 'c', 'e'].map((name) => ring.found(name)[0])).toEqual([6, 6, 0])
    ring.catalog.change([], ['b'])
    await ring.run(15_000)
    expect([ring.found('c')[0], ring.found('e')[0], ring.publisher.waiting]).toEqual([6, 6, 0])
  })
})

describe('changes', () => {
  beforeEach(async () => {
    ring.catalog.change([file('a'), file('b'), file('c')])
    await ring.tick()
    ring.clear()
  })

  it('are said at the next tick, and nothing else is', async () => {
    ring.catalog.change([file('d')])
    expect(ring.publisher.nextMs).toBeLessThanOrEqual(100)
    await ring.tick()
    expect(ring.found('d')).toEqual([6, 6])
    expect(ring.said()[0]).toBeLessThanOrEqual(12)
    ring.clear()
    await ring.run(600_000)
    expect(ring.messages).toEqual([])
  })

  it('a file that is removed is found nowhere', async () => {
    ring.catalog.change([], ['a'])
    await ring.tick()
    expect([ring.found('a'), ring.found('b')]).toEqual([
      [0, 0],
      [6, 6],
    ])
    expect(ring.publisher.published).toBe(4)
  })

  it('a file with another content under its name is found with that only', async () => {
    ring.catalog.change([file('a', 'later')])
    await ring.tick()
    expect([ring.found('a'), ring.found('a', 'later')]).toEqual([
      [0, 0],
      [6, 6],
    ])
  })

  it('a file that comes back while its removal is on the way is found', async () => {
    ring.catalog.change([], ['a'])
    ring.duringStore = () => ring.catalog.change([file('a')])
    await ring.tick()
    await ring.tick()
    expect(ring.found('a')).toEqual([6, 6])
  })

  it('counts no answer to what was said before, where the publisher has heard of the change since', async () => {
    // Two ticks at the same time: the second one takes in the change while the first one waits for its answers.
    let second = Promise.resolve()
    ring.duringStore = () => {
      ring.catalog.change([], ['x'])
      second = ring.tick()
    }
    ring.catalog.change([file('x')])
    await ring.tick()
    await second
    await ring.run(10_000)
    expect(ring.found('x')).toEqual([0, 0])
    ring.catalog.change([file('y')])
    await ring.tick()
    ring.catalog.change([], ['y'])
    ring.duringStore = () => {
      ring.catalog.change([file('y')])
      second = ring.tick()
    }
    await ring.tick()
    await second
    await ring.run(10_000)
    expect(ring.publisher.published).toBe(8)
  })

  it('a file that is removed while a member for it is looked for is never said', async () => {
    let second = Promise.resolve()
    ring.duringLookup = () => {
      ring.catalog.change([], ['x'])
      second = ring.tick()
    }
    ring.catalog.change([file('x')])
    await ring.tick()
    await second
    expect(ring.said()[0]).toBe(0)
  })

  it('a file that comes and goes between two ticks is never said', async () => {
    ring.catalog.change([file('x')])
    ring.catalog.change([], ['x'])
    await ring.tick()
    expect(ring.messages).toEqual([])
  })

  it('what is new goes before what is only said again', async () => {
    ring.publisher.republishSoon()
    ring.clock.advance(60_000)
    ring.catalog.change([file('d')])
    await ring.tick()
    expect(new Set(ring.messages.flatMap(({ records }) => records.map(({ name }) => name)))).toEqual(new Set(['d']))
    await ring.tick()
    expect(ring.said()[0]).toBeGreaterThan(12)
  })

  it('another address of this peer is told at once', async () => {
    ring.self = { ...ring.self, host: '10.0.0.7' }
    ring.clock.advance(1)
    await ring.tick()
    // What was said at the old address is left to expire: it might be another peer's.
    const youngest = [...ring.stores.values()].flatMap(
      (store) => store.find('name', 'a' as FileName).records[0]?.provider.host ?? [],
    )
    expect(new Set(youngest)).toEqual(new Set(['10.0.0.7']))
  })

  it('what the catalog holds is found, and nothing else, whatever changed (property)', async () => {
    const name = fc.constantFrom('a', 'b', 'c', 'd', 'e')
    const change = fc.record({ name, text: fc.constantFrom('1', '2', null), tick: fc.boolean() })
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 25 }), async (changes) => {
        const some = new FakeRing(8)
        let ticking = Promise.resolve()
        for (const { name, text, tick } of changes) {
          if (text) some.catalog.change([file(name, text)])
          else some.catalog.change([], [name])
          // Some of what follows changes while it is said.
          if (tick) ticking = ticking.then(() => some.tick())
          await Promise.resolve()
        }
        await ticking
        await some.tick()
        for (const name of ['a', 'b', 'c', 'd', 'e'])
          for (const text of ['1', '2']) {
            const isShared = some.catalog.files.get(name as FileName)?.id === contentOf(text)
            expect(some.found(name, text)).toEqual(isShared ? [6, 6] : [0, 0])
          }
      }),
    )
  })
})

describe('keeping it up', () => {
  it('is found for hours, said again three times an hour at most', async () => {
    ring.catalog.change([file('a')])
    await ring.run(5 * 3_600_000)
    expect(ring.found('a')).toEqual([6, 6])
    const [said] = ring.said()
    expect(said).toBeGreaterThan(5 * 3 * 10)
    expect(said).toBeLessThanOrEqual(5 * 4 * 12)
  })

  it('is said again within a minute where the ring was repaired', async () => {
    ring.catalog.change([file('a')])
    await ring.tick()
    for (const store of ring.stores.values()) store.forget(ring.members[0]!.id, ring.members[0]!.id)
    ring.publisher.republishSoon()
    expect(ring.publisher.nextMs).toBeLessThanOrEqual(60_000)
    await ring.run(60_001)
    expect(ring.found('a')).toEqual([6, 6])
  })
})

describe('failures', () => {
  it('a member that does not answer is passed over, after one message', async () => {
    ring = new FakeRing(7)
    ring.silent.add('P3' as PeerId)
    ring.catalog.change(Array.from({ length: 5000 }, (_, i) => file(`f${i}`)))
    await ring.tick()
    expect(ring.publisher.waiting).toBe(0)
    expect(ring.messages.filter(({ to }) => to === 'P3').length).toBeLessThanOrEqual(ring.lookups)
    expect(ring.found('f7').every((count) => count >= 5)).toBe(true)
  })

  it('what nobody took waits, and is said again soon and ever later', async () => {
    for (const { peer } of ring.members) ring.silent.add(peer)
    const name = Array.from({ length: 50 }, (_, i) => `f${i}`).find((name) =>
      // Not at this peer, neither by name nor by content.
      [`name:${name}`, `content:${contentOf(name)}`].every((text) =>
        ring.owners(sha256(Buffer.from(text)).toString('hex') as RingId).every(({ peer }) => peer !== 'P0'),
      ),
    )!
    ring.catalog.change([file(name)])
    await ring.run(300_000)
    expect([ring.publisher.published, ring.publisher.waiting]).toEqual([0, 2])
    expect(ring.messages.length / 12).toBeGreaterThan(5)
    expect(ring.messages.length / 12).toBeLessThan(12)
    ring.silent.clear()
    await ring.run(60_000)
    expect(ring.found(name)).toEqual([6, 6])
    expect([ring.publisher.published, ring.publisher.waiting]).toEqual([2, 0])
  })

  it('what fewer than half took counts as published, and is said again soon', async () => {
    for (const { peer } of ring.members.slice(0, 7)) ring.silent.add(peer)
    ring.catalog.change(Array.from({ length: 50 }, (_, i) => file(`f${i}`)))
    await ring.tick()
    expect(ring.publisher.nextMs).toBeLessThan(5000)
    expect(ring.publisher.published).toBeGreaterThan(50)
    const least = () => Math.min(...Array.from({ length: 50 }, (_, i) => ring.found(`f${i}`)).flat())
    expect(least()).toBeLessThan(3)
    ring.silent.clear()
    await ring.run(10_000)
    expect(least()).toBeGreaterThanOrEqual(3)
    expect(ring.publisher.waiting).toBe(0)
  })

  it('a broken ring is asked a few times, then left alone for a while', async () => {
    ring.isBroken = true
    ring.catalog.change(Array.from({ length: 1000 }, (_, i) => file(`f${i}`)))
    await ring.tick()
    expect(ring.lookups).toBeLessThanOrEqual(12)
    expect(ring.publisher.nextMs).toBeGreaterThan(1000)
    await ring.tick()
    expect(ring.lookups).toBeLessThanOrEqual(12)
    ring.isBroken = false
    await ring.run(60_000)
    expect(ring.publisher.waiting).toBe(0)
  })

  it('a removal that members did not hear is tried again, and left to the expiry in the end', async () => {
    ring.catalog.change([file('a')])
    await ring.tick()
    for (const { peer } of ring.members) ring.silent.add(peer)
    ring.catalog.change([], ['a'])
    await ring.tick()
    await ring.run(3000)
    ring.silent.clear()
    await ring.run(10_000)
    expect(ring.found('a')).toEqual([0, 0])
    ring.catalog.change([file('b')])
    await ring.tick()
    for (const { peer } of ring.members) ring.silent.add(peer)
    ring.catalog.change([], ['b'])
    await ring.run(120_000)
    ring.clear()
    await ring.run(600_000)
    expect(ring.messages).toEqual([])
  })

  it('goes on where a tick was aborted amid many files, with what has changed since', async () => {
    ring.catalog.change(Array.from({ length: 1000 }, (_, i) => file(`f${i}`)))
    const abort = new AbortController()
    const ticking = ring.publisher.tick(abort.signal)
    abort.abort()
    ring.catalog.change([file('f998', 'other')], ['f0', 'f999'])
    await ticking
    expect(ring.messages).toEqual([])
    expect(ring.publisher.nextMs).toBeLessThanOrEqual(100)
    await ring.tick()
    expect(['f0', 'f1', 'f997', 'f998', 'f999'].map((name) => ring.found(name)[0])).toEqual([0, 6, 6, 0, 0])
    expect(ring.found('f998', 'other')).toEqual([6, 6])
    expect([ring.publisher.published, ring.publisher.waiting]).toEqual([2 * 998, 0])
  })

  it('goes on where an aborted tick ended', async () => {
    ring.catalog.change([file('a')])
    await ring.publisher.tick(AbortSignal.abort())
    expect(ring.found('a')).toEqual([0, 0])
    await ring.tick()
    expect(ring.found('a')).toEqual([6, 6])
  })
})

describe('the end', () => {
  beforeEach(async () => {
    ring.catalog.change(Array.from({ length: 100 }, (_, i) => file(`f${i}`)))
    await ring.tick()
  })

  it('withdraws everything, and says nothing any more', async () => {
    await ring.publisher.withdrawAll(signal)
    expect([...ring.stores.values()].map(({ size }) => size)).toEqual(Array(10).fill(0))
    expect(ring.catalog.listeners.size).toBe(0)
    ring.clear()
    await ring.run(3_600_000)
    expect(ring.messages).toEqual([])
  })

  it('ends with the signal, and where nobody answers', async () => {
    await ring.publisher.withdrawAll(AbortSignal.abort())
    expect(ring.found('f1')).toEqual([6, 6])
    for (const { peer } of ring.members) ring.silent.add(peer)
    await ring.publisher.withdrawAll(signal)
  })
})
