import { expect, onTestFinished, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import { SimulatedNetwork } from '../simulate/network.ts'
import { seededRandom } from '../simulate/seeded.ts'
import { VirtualClock } from '../simulate/virtual-clock.ts'
import { member, members } from './dht.fixture.ts'
import { ChordNode } from './node.ts'
import type { RingHandlers, RingRecord } from './protocol.ts'
import { RecordStore } from './record-store.ts'
import { between, type Member, placeOfContent, placeOfName, plus, within } from './ring.ts'

/** A ring, and members of it that mean ill. */

const name = 'film.mkv' as FileName
const content = 'c'.repeat(64) as ContentId
const other = 'd'.repeat(64) as ContentId

class Ring {
  readonly clock = new VirtualClock()
  readonly network: SimulatedNetwork
  readonly nodes = new Map<string, ChordNode>()
  readonly records = new Map<string, RecordStore>()
  readonly #stop = new AbortController()
  readonly all: readonly Member[]

  constructor(all: readonly Member[]) {
    this.all = all
    const random = seededRandom(1)
    this.network = new SimulatedNetwork({ clock: this.clock, random })
    const known = { alive: () => [], lost: () => [], seen: () => {}, missed: () => {} }
    for (const [i, self] of all.entries()) {
      const records = new RecordStore({ clock: this.clock })
      const network = this.network.ringOf(self)
      const node = new ChordNode({ self: () => self, network, known, records, clock: this.clock, random })
      node.resume({ predecessor: this.at(i - 1), successors: [1, 2, 3, 4].map((n) => this.at(i + n)) }, [])
      this.network.settle(self, { ring: node })
      this.nodes.set(self.peer, node)
      this.records.set(self.peer, records)
    }
    onTestFinished(() => this.#stop.abort())
  }

  tick(i: number): Promise<void> {
    return this.clock.run(this.node(i).tick(this.#stop.signal))
  }

  at(i: number): Member {
    return this.all.at(i % this.all.length)!
  }

  node(i: number): ChordNode {
    return this.nodes.get(this.at(i).peer)!
  }

  /** Which member follows a place. */
  ownerOf(place: Member['id']): number {
    return this.all.findIndex(({ id }, i) => within(this.at(i - 1).id, place, id))
  }

  find(from: number, key: 'name' | 'content', isThorough?: boolean) {
    const of = key === 'name' ? name : content
    return this.clock.run(this.node(from).find(key, of, this.#stop.signal, isThorough))
  }

  answer(i: number, lies: Partial<RingHandlers>): void {
    const node = this.node(i)
    this.network.settle(this.at(i), {
      ring: {
        onStabilize: (...from) => node.onStabilize(...from),
        onStep: (key) => node.onStep(key),
        onFind: (key, of) => node.onFind(key, of),
        onStore: (...given) => node.onStore(...given),
        onLeave: (from) => node.onLeave(from),
        ...lies,
      },
    })
  }

  pass(ms = 5000): Promise<void> {
    return this.clock.runUntil(this.clock.now() + ms)
  }
}

function record(provider: Member, of: ContentId, key: 'name' | 'content'): RingRecord {
  return { key, name, content: of, size: 1, provider, ageMs: 0 }
}

test("one that bears the predecessor's name elsewhere takes its place only where it is gone", async () => {
  const ring = new Ring(members(12))
  const [before, self] = [ring.at(4), ring.node(5)]
  const namesake = { ...before, host: '10.6.6.6' }
  ring.network.settle(namesake, { ring: ring.node(4) })
  await self.onStabilize(namesake, namesake.host)
  await ring.pass()
  expect(self.view.predecessor?.host).toBe(before.host)
  ring.network.kill(before)
  await self.onStabilize(namesake, namesake.host)
  await ring.pass()
  expect(self.view.predecessor?.host).toBe('10.6.6.6')
})

test('nobody makes a member call a machine again and again that is not its own', async () => {
  const ring = new Ring(members(12))
  const self = ring.node(5)
  ring.network.resetTraffic()
  for (let n = 0; n < 600; n++) {
    const host = `11.0.${n >> 8}.${n & 255}`
    await self.onStabilize({ ...member(`X${n}`, '10.6.6.6'), grpcPort: 1000 + n }, host)
    await ring.pass(100)
  }
  // A minute: five calls at once, and one each ten seconds; each with one to the predecessor, whether it is gone.
  expect(ring.network.traffic.calls['ring.step']).toBeLessThanOrEqual(2 * (5 + 6))
})

test('nor its own, beyond a measure', async () => {
  const ring = new Ring(members(12))
  const self = ring.node(5)
  ring.network.resetTraffic()
  for (let n = 0; n < 2000; n++) {
    await self.onStabilize({ ...member(`X${n}`, '10.6.6.6'), grpcPort: 1000 + n }, '10.6.6.6')
    await ring.pass(10)
  }
  expect(ring.network.traffic.calls['ring.step']).toBeLessThanOrEqual(2 * (100 + 20 * 5))
})

test('a replica that repeats its word has one voice', async () => {
  const ring = new Ring(members(20))
  const owner = ring.ownerOf(placeOfName(name))
  const lie = Array.from({ length: 50 }, () => record(ring.at(7), other, 'name'))
  ring.answer(owner, { onFind: () => ({ records: lie, more: false, predecessor: undefined }) })
  for (const i of [1, 2])
    ring.records.get(ring.at(owner + i).peer)!.store([record(ring.at(0), content, 'name')], ring.at(0))
  const { records } = await ring.find(owner + 9, 'name')
  expect(records.map(({ content: id, witnesses }) => [id, witnesses])).toEqual([
    [content, 2],
    [other, 1],
  ])
})

test('the records of a name at two hosts are two, whoever of them is the younger', async () => {
  const ring = new Ring(members(20))
  const owner = ring.ownerOf(placeOfName(name))
  const honest = ring.at(0)
  const liar = { ...honest, host: '10.6.6.6' }
  for (const i of [0, 1, 2]) ring.records.get(ring.at(owner + i).peer)!.store([record(honest, content, 'name')], honest)
  await ring.pass(1000)
  ring.node(owner).onStore(ring.at(9), [record(liar, content, 'name')], [], '10.6.6.6')
  const { records } = await ring.find(owner + 9, 'name')
  expect(records.map(({ provider: { host }, witnesses }) => [host, witnesses])).toEqual([
    [honest.host, 3],
    ['10.6.6.6', 1],
  ])
})

test('where a replica may have lied about a content, others are asked', async () => {
  const ring = new Ring(members(20))
  const owner = ring.ownerOf(placeOfContent(content))
  const lie = [record(ring.at(7), content, 'content')]
  ring.answer(owner, { onFind: () => ({ records: lie, more: false, predecessor: undefined }) })
  for (const i of [1, 2])
    ring.records.get(ring.at(owner + i).peer)!.store([record(ring.at(0), content, 'content')], ring.at(0))
  const peersOf = async (isThorough: boolean) =>
    (await ring.find(owner + 9, 'content', isThorough)).records.map(({ provider }) => provider.peer)
  expect(await peersOf(false)).toEqual([ring.at(7).peer])
  expect(await peersOf(true)).toEqual([ring.at(0).peer, ring.at(7).peer])
})

test('a successor that names nobody but its friends does not hide the others', async () => {
  const ring = new Ring(members(40))
  const self = ring.node(5)
  const friends = [ring.at(8), ring.at(4), ring.at(5)]
  self.resume(
    self.view,
    [253, 254, 255].map((power) => ({ power, member: ring.at(ring.ownerOf(plus(ring.at(5).id, power))) })),
  )
  ring.answer(6, { onStabilize: async () => ({ predecessor: ring.at(5), successors: friends }) })
  for (let n = 0; n < 4; n++) await ring.tick(5)
  expect(self.state).toBe('whole')
  for (const i of [0, 1, 2]) {
    const keeper = ring.at(ring.ownerOf(placeOfContent(content)) + i)
    ring.records.get(keeper.peer)!.store([record(ring.at(0), content, 'content')], ring.at(0))
  }
  expect((await ring.find(5, 'content')).records).toHaveLength(1)
})

test('a successor that refuses to answer for long is none any more', async () => {
  const ring = new Ring(members(20))
  const busy = async () => {
    throw new NetworkError('limited', 'too many calls')
  }
  ring.answer(6, { onStabilize: busy })
  await ring.tick(5)
  expect(ring.node(5).view.successors[0]?.peer).toBe(ring.at(6).peer)
  await ring.pass(50_000)
  await ring.tick(5)
  expect(ring.node(5).view.successors[0]?.peer).toBe(ring.at(6).peer)
  await ring.pass(11_000)
  for (let n = 0; n < 2; n++) await ring.tick(5)
  expect(ring.node(5).view.successors[0]?.peer).toBe(ring.at(7).peer)
})

test('members that are nobody, named by a liar, hold up a lookup for seconds only', async () => {
  const ring = new Ring(members(20))
  const key = placeOfContent(content)
  const owner = ring.ownerOf(key)
  const nobody = Array.from({ length: 2000 }, (_, i) => member(`X${i}`, '10.6.6.6'))
  // All that the asking member knows.
  const liars = [10, 11, 12, 13].map((i) => owner + i)
  const closer = nobody.filter(({ id }) => between(ring.at(owner + 13).id, id, key)).slice(0, 64)
  expect(closer).toHaveLength(64)
  for (const liar of liars) ring.answer(liar, { onStep: () => ({ owners: [], closer, unsure: false }) })
  const begin = ring.clock.now()
  const lookup = ring.node(owner + 9).lookup(key, new AbortController().signal)
  await ring.clock.run(lookup.catch(() => {}))
  expect(ring.clock.now() - begin).toBeLessThan(16_000)
})
