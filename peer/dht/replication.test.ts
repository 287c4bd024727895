import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { sha256 } from '../../common/merkle.ts'
import { MAX_RECORDS, type RingRecord } from './protocol.ts'
import { placeOfRecord, RecordStore } from './record-store.ts'
import { Replication, type ReplicationOptions } from './replication.ts'
import { type Member, memberOf, within } from './ring.ts'

const signal = new AbortController().signal
const PAUSE = 5000
const REPLICAS = 6

interface Node {
  readonly member: Member
  readonly records: RecordStore
  readonly replication: Replication
}
interface Message {
  readonly at: number
  readonly from: PeerId
  readonly to: PeerId
  readonly records: readonly RingRecord[]
}

/** Members of a ring that all know at once who is there. */
class FakeRing {
  readonly clock = new ManualClock()
  readonly sent: Message[] = []
  readonly options: Partial<ReplicationOptions>
  nodes: Node[] = []
  /** peers that do not answer, though they count as alive */
  readonly silent = new Set<PeerId>()
  underWay = 0
  mostUnderWay = 0
  #joined = 0

  constructor(size: number, options: Partial<ReplicationOptions> = {}) {
    this.options = options
    for (let i = 0; i < size; i++) this.join()
    this.converge()
  }

  join(member = this.candidate()): Node {
    const records = new RecordStore({ clock: this.clock })
    const network = {
      store: async (to: Member, given: readonly RingRecord[]) => {
        this.sent.push({ at: this.clock.now(), from: member.peer, to: to.peer, records: given })
        this.mostUnderWay = Math.max(this.mostUnderWay, ++this.underWay)
        await Promise.resolve()
        this.underWay--
        const there = this.nodes.find((node) => node.member.peer === to.peer)
        if (!there || this.silent.has(to.peer)) throw new NetworkError('unavailable', 'silent')
        return there.records.store(given, member)
      },
    }
    const replication = new Replication({ records, network, clock: this.clock }, this.options)
    const node = { member, records, replication }
    this.nodes = [...this.nodes, node].sort((a, b) => (a.member.id < b.member.id ? -1 : 1))
    return node
  }

  candidate(): Member {
    return memberOf({ peer: `P${this.#joined++}` as PeerId, host: '127.0.0.1', restPort: 8000, grpcPort: 50051 })
  }

  die({ member }: Node): void {
    this.nodes = this.nodes.filter((node) => node.member !== member)
  }

  at(offset: number): Node {
    return this.nodes.at(offset % this.nodes.length)!
  }

  /** Every member knows its surroundings. */
  converge(): void {
    this.nodes.forEach(({ member, replication }, i) => {
      const others = [...this.nodes.slice(i + 1), ...this.nodes.slice(0, i)].map((node) => node.member)
      replication.update({ self: member, predecessor: others.at(-1), successors: others.slice(0, 16) })
    })
  }

  async tick(): Promise<void> {
    for (const { replication } of this.nodes) await replication.tick(signal)
    this.clock.advance(PAUSE)
  }

  /** Ticks until nobody has anything to send. */
  async settle(): Promise<void> {
    for (let [round, quiet] = [0, 0]; round < 200; round++) {
      const before = this.sent.length
      await this.tick()
      quiet = this.sent.length === before ? quiet + 1 : 0
      if (quiet === 3 && this.nodes.every(({ replication }) => replication.waiting === 0)) return
    }
    throw new Error('it never ends')
  }

  holders(record: RingRecord): Node[] {
    const place = placeOfRecord(record)
    const first = this.nodes.findIndex(({ member }) => member.id >= place)
    const from = Math.max(0, first)
    return [...this.nodes.slice(from), ...this.nodes.slice(0, from)]
  }

  /** As a publisher does: to the first members that follow its place. */
  async publish(count: number): Promise<RingRecord[]> {
    await this.settle()
    this.sent.length = 0
    const { id: _, ...provider } = memberOf({
      peer: 'X' as PeerId,
      host: '127.0.0.1',
      restPort: 8000,
      grpcPort: 50051,
    })
    const records = Array.from({ length: count }, (_, i): RingRecord => {
      const name = `f${i}` as FileName
      const content = sha256(Buffer.from(name)).toString('hex') as ContentId
      return { key: 'name', name, content, size: 1, provider, ageMs: 0 }
    })
    for (const record of records)
      for (const { records: store } of this.holders(record).slice(0, REPLICAS)) store.store([record], provider)
    return records
  }

  /** Those that their owner lacks. */
  lost(records: readonly RingRecord[]): FileName[] {
    return records.filter((record) => !has(this.holders(record)[0], record)).map(({ name }) => name)
  }

  to(peer: PeerId): Message[] {
    return this.sent.filter((message) => message.to === peer)
  }
}

function has(node: Node | undefined, { name }: RingRecord): boolean {
  return node !== undefined && node.records.find('name', name).records.length > 0
}

function namesOf(messages: readonly Message[]): FileName[] {
  return messages.flatMap(({ records }) => records.map(({ name }) => name)).sort()
}

describe('a ring that stays as it is', () => {
  it('sends nothing', async () => {
    const ring = new FakeRing(12)
    await ring.publish(100)
    for (let i = 0; i < 20; i++) {
      ring.converge()
      await ring.tick()
    }
    expect(ring.sent).toEqual([])
  })
})

describe('a member joins', () => {
  it('gets from its successor what it is responsible for, once', async () => {
    const ring = new FakeRing(12)
    const records = await ring.publish(300)
    const { member } = ring.join()
    ring.converge()
    await ring.settle()
    const at = ring.nodes.findIndex((node) => node.member === member)
    const [before, after] = [ring.nodes.at(at - 1)!.member, ring.at(at + 1).member]
    const handed = ring.to(member.peer).filter(({ from }) => from === after.peer)
    const its = records.filter((record) => within(before.id, placeOfRecord(record), member.id))
    expect(its.length).toBeGreaterThan(0)
    expect(its.filter(({ name }) => namesOf(handed).filter((one) => one === name).length !== 1)).toEqual([])
    expect(ring.lost(records)).toEqual([])
    const count = ring.sent.length
    for (let i = 0; i < 20; i++) {
      ring.converge()
      await ring.tick()
    }
    expect(ring.sent).toHaveLength(count)
  })

  it('gets as a replica what those before it are responsible for', async () => {
    const ring = new FakeRing(12)
    const records = await ring.publish(300)
    const node = ring.join()
    ring.converge()
    await ring.settle()
    const kept = records.filter((record) => ring.holders(record).slice(0, REPLICAS).includes(node))
    expect(kept.filter((record) => !has(node, record))).toEqual([])
  })

  it('several at once behind each other: each has what it is responsible for', async () => {
    const ring = new FakeRing(5)
    const records = await ring.publish(500)
    for (let i = 0; i < 15; i++) ring.join()
    ring.converge()
    await ring.settle()
    expect(ring.lost(records)).toEqual([])
  })

  it('gets its records also where another joins behind it before its turn comes', async () => {
    const ring = new FakeRing(9)
    await ring.publish(1000)
    const [before, self] = [ring.at(0), ring.at(1)]
    const between = Array.from({ length: 1000 }, () => ring.candidate())
      .filter(({ id }) => within(before.member.id, id, self.member.id))
      .sort((a, b) => (a.id < b.id ? -1 : 1))
    const [first, second] = [ring.join(between.at(-9)), between.at(-3)]
    ring.converge()
    ring.join(second)
    ring.converge()
    await self.replication.tick(signal)
    expect(ring.to(first.member.peer)).not.toEqual([])
    expect(ring.to(second!.peer)).not.toEqual([])
  })

  it('gets what expired or was withdrawn meanwhile from nobody', async () => {
    const ring = new FakeRing(6)
    const records = await ring.publish(100)
    ring.join()
    ring.converge()
    for (const { records: store } of ring.nodes) store.withdraw(records.slice(50), records[0]!.provider)
    await ring.tick()
    expect(namesOf(ring.sent).filter((name) => Number(name.slice(1)) >= 50)).toEqual([])
    expect(ring.lost(records.slice(0, 50))).toEqual([])
    ring.sent.length = 0
    ring.clock.advance(3_600_000)
    ring.join()
    ring.converge()
    await ring.settle()
    expect(ring.sent).toEqual([])
  })
})

describe('a member dies', () => {
  it('its records are on as many members as before', async () => {
    const ring = new FakeRing(12)
    const records = await ring.publish(300)
    for (let i = 0; i < 4; i++) {
      ring.die(ring.at(3 * i))
      ring.converge()
      await ring.settle()
    }
    for (const record of records)
      expect(
        ring
          .holders(record)
          .slice(0, REPLICAS)
          .map((node) => has(node, record)),
      ).toEqual(Array(REPLICAS).fill(true))
  })

  it('only what is new in the range goes to successors that had the rest', async () => {
    const ring = new FakeRing(12)
    const records = await ring.publish(3000)
    const [farther, dead, self, next] = [ring.at(3), ring.at(4), ring.at(5), ring.at(6)]
    ring.die(dead)
    ring.converge()
    await ring.settle()
    const grown = records.filter((record) => within(farther.member.id, placeOfRecord(record), dead.member.id))
    const sent = ring.to(next.member.peer).filter(({ from }) => from === self.member.peer)
    expect(namesOf(sent)).toEqual(grown.map(({ name }) => name).sort())
  })

  it('sends nothing more to one that is gone', async () => {
    const ring = new FakeRing(8)
    await ring.publish(100)
    const joined = ring.join()
    ring.converge()
    ring.die(joined)
    ring.converge()
    await ring.settle()
    expect(ring.to(joined.member.peer)).toEqual([])
  })
})

describe('pacing', () => {
  it('sends messages of at most 500 records, one at a time to a target, to four at a time, with pauses', async () => {
    const ring = new FakeRing(1, { messagesPerTurn: 2 })
    const [node] = ring.nodes
    const records = await ring.publish(5000)
    for (let i = 0; i < 6; i++) ring.join()
    const others = ring.nodes.filter((other) => other !== node).map(({ member }) => member)
    node!.replication.update({ self: node!.member, predecessor: others[0], successors: others.slice(0, 5) })
    for (let i = 0; i < 100 && node!.replication.waiting > 0; i++) {
      await node!.replication.tick(signal)
      ring.clock.advance(1000)
    }
    expect(node!.replication.waiting).toBe(0)
    expect(Math.max(...ring.sent.map((message) => message.records.length))).toBe(MAX_RECORDS)
    expect(ring.mostUnderWay).toBe(4)
    for (const { peer } of others) {
      const turns = [...new Set(ring.to(peer).map(({ at }) => at))]
      for (const [i, at] of turns.entries()) {
        expect(ring.to(peer).filter((message) => message.at === at).length).toBeLessThanOrEqual(2)
        if (i > 0) expect(at - turns[i - 1]!).toBeGreaterThanOrEqual(PAUSE)
      }
    }
    expect(records.filter((record) => ring.nodes.filter((other) => has(other, record)).length < 2)).toEqual([])
  })

  it('keeps messages below some 200 KB', async () => {
    const ring = new FakeRing(2)
    const store = ring.nodes[0]!.records
    const { id: _, ...provider } = ring.nodes[0]!.member
    for (let i = 0; i < 1000; i++) {
      const name = `${i}-${'ñ'.repeat(400)}` as FileName
      store.store([{ key: 'name', name, content: '0'.repeat(64) as ContentId, size: 1, provider, ageMs: 0 }], provider)
    }
    ring.join()
    ring.converge()
    await ring.settle()
    const sizes = ring.sent.map(({ records }) => Buffer.byteLength(JSON.stringify(records.map(({ name }) => name))))
    expect(sizes.length).toBeGreaterThan(3)
    expect(Math.max(...sizes)).toBeLessThan(200_000)
  })

  it('tries a member that does not answer three times, then leaves it, and serves the others meanwhile', async () => {
    const ring = new FakeRing(8)
    const records = await ring.publish(2000)
    const joined = ring.join()
    ring.silent.add(joined.member.peer)
    ring.converge()
    const successor = ring.at(ring.nodes.indexOf(joined) + 1)
    for (let i = 0; i < 30; i++) {
      ring.converge()
      await ring.tick()
    }
    const tried = ring.to(joined.member.peer).filter(({ from }) => from === successor.member.peer)
    expect(tried.map(({ at }) => at - tried[0]!.at)).toEqual([0, PAUSE, 2 * PAUSE])
    expect(successor.replication.waiting).toBe(0)
    expect(records.every((record) => ring.holders(record).some((node) => has(node, record)))).toBe(true)
  })

  it('a member that answers again before that gets all of it', async () => {
    const ring = new FakeRing(8)
    const records = await ring.publish(2000)
    const joined = ring.join()
    ring.silent.add(joined.member.peer)
    ring.converge()
    await ring.tick()
    await ring.tick()
    expect(ring.lost(records)).not.toEqual([])
    ring.silent.clear()
    await ring.settle()
    expect(ring.lost(records)).toEqual([])
  })
})

describe('leaving', () => {
  it('hands all it is responsible for to the first successor that answers', async () => {
    const ring = new FakeRing(3)
    const records = await ring.publish(200)
    const [self, silent, next] = [ring.at(0), ring.at(1), ring.at(2)]
    ring.silent.add(silent.member.peer)
    next.records.forget(next.member.id, next.member.id)
    await self.replication.leave(signal)
    const own = records.filter((record) => within(next.member.id, placeOfRecord(record), self.member.id))
    expect(own.length).toBeGreaterThan(0)
    expect(namesOf(ring.to(next.member.peer))).toEqual(own.map(({ name }) => name).sort())
  })

  it('ends with the signal', async () => {
    const ring = new FakeRing(3)
    await ring.publish(200)
    await ring.at(0).replication.leave(AbortSignal.abort())
    expect(ring.sent).toEqual([])
  })
})

describe('members come and go', () => {
  it('every record of which a holder survived is at its owner (property)', async () => {
    const step = fc.record({ joins: fc.nat(4), deaths: fc.array(fc.nat(1000), { maxLength: 5 }) })
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 15 }), fc.array(step, { maxLength: 8 }), async (size, steps) => {
        const ring = new FakeRing(size)
        const records = await ring.publish(60)
        for (const { joins, deaths } of steps) {
          for (const death of deaths) if (ring.nodes.length > 1) ring.die(ring.at(death))
          for (let i = 0; i < joins; i++) ring.join()
          const surviving = records.filter((record) => ring.nodes.some((node) => has(node, record)))
          ring.converge()
          await ring.settle()
          expect(ring.lost(surviving)).toEqual([])
        }
      }),
      { numRuns: 150 },
    )
  }, 60_000)
})
