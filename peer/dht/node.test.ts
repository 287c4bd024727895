import { expect, onTestFinished, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import { type NetworkOptions, SimulatedNetwork } from '../simulate/network.ts'
import { VirtualClock } from '../simulate/virtual-clock.ts'
import { member, members } from './dht.fixture.ts'
import { ChordNode, type ChordOptions } from './node.ts'
import type { RingHandlers, RingRecord } from './protocol.ts'
import { RecordStore } from './record-store.ts'
import { between, type Member, memberOf, placeOfContent, placeOfName, within } from './ring.ts'

const name = 'film.mkv' as FileName
const content = 'c'.repeat(64) as ContentId
const other = 'd'.repeat(64) as ContentId

/** Members that are where they belong, on a network of their own; `tick` runs when the test says so. */
class Ring {
  readonly clock = new VirtualClock()
  readonly #stop = new AbortController()
  #state = 1
  readonly random = () => {
    this.#state = (this.#state * 48_271) % 2_147_483_647
    return this.#state / 2_147_483_647
  }
  readonly network: SimulatedNetwork
  readonly nodes = new Map<string, ChordNode>()
  readonly records = new Map<string, RecordStore>()
  readonly #options: Partial<ChordOptions>

  constructor(options: Partial<ChordOptions> = {}, network: NetworkOptions = {}) {
    this.#options = { successors: 4, ...options }
    this.network = new SimulatedNetwork({ clock: this.clock, random: this.random }, network)
    onTestFinished(() => this.#stop.abort())
  }

  get signal(): AbortSignal {
    return this.#stop.signal
  }

  add(contact: PeerContact, known: readonly PeerContact[] = []): ChordNode {
    const self = memberOf(contact)
    const records = new RecordStore({ clock: this.clock })
    const peers: KnownPeers = { alive: () => [...known], lost: () => [], seen: () => {}, missed: () => {} }
    const deps = { self: () => contact, network: this.network.ringOf(self), known: peers, records }
    const node = new ChordNode({ ...deps, clock: this.clock, random: this.random }, this.#options)
    this.network.settle(contact, { ring: node })
    this.nodes.set(contact.peer, node)
    this.records.set(contact.peer, records)
    return node
  }

  /** A ring of these, as it is when it has settled. */
  settled(all: readonly Member[]): void {
    const r = this.#options.successors ?? 4
    for (const [at, one] of all.entries()) {
      const next = Array.from({ length: r + 1 }, (_, i) => all[(at + 1 + i) % all.length]!)
      this.add(one).resume({ predecessor: all[(at + all.length - 1) % all.length], successors: next }, [])
    }
  }

  node({ peer }: PeerContact): ChordNode {
    return this.nodes.get(peer)!
  }

  /** Rounds of maintenance of all that are alive, one after the other. */
  async rounds(count: number): Promise<void> {
    for (let i = 0; i < count; i++)
      for (const node of this.nodes.values())
        if (this.network.isAlive(node.self)) await this.clock.run(node.tick(this.signal))
  }

  tick(at: PeerContact): Promise<void> {
    return this.clock.run(this.node(at).tick(this.signal))
  }

  find(at: PeerContact, key: 'name' | 'content' = 'content') {
    return this.clock.run(this.node(at).find(key, key === 'name' ? name : content, this.signal))
  }

  /** Lets what runs in the background come to its end. */
  pass(ms = 5000): Promise<void> {
    return this.clock.runUntil(this.clock.now() + ms)
  }
}

const at16 = (list: readonly Member[], i: number) => list[(i + list.length) % list.length]!
const record = (provider: PeerContact, of: ContentId = content, key: 'name' | 'content' = 'content'): RingRecord => ({
  key,
  name,
  content: of,
  size: 1,
  provider,
  ageMs: 0,
})
const ownerOf = (all: readonly Member[], place: string) =>
  all.findIndex(({ id }, i) => within(at16(all, i - 1).id, place as Member['id'], id))

test('two that know of each other become a ring, and a third joins it', async () => {
  const ring = new Ring()
  const [a, b, c] = members(3)
  ring.add(a!)
  ring.add(b!, [a!])
  ring.add(c!, [b!])
  await ring.rounds(4)
  for (const [i, one] of [a!, b!, c!].entries()) {
    expect(ring.node(one).view.successors.map(({ peer }) => peer)).toEqual(
      [1, 2].map((step) => members(3)[(i + step) % 3]!.peer),
    )
    expect(ring.node(one).view.predecessor?.peer).toBe(members(3)[(i + 2) % 3]!.peer)
    expect(ring.node(one).state).toBe('small')
  }
})

test('two small rings are one as soon as a member of one knows one of the other to be alive, not a minute later', async () => {
  const ring = new Ring({ successors: 8 })
  const [a, b, c, d] = members(4)
  const acquaintances = [c!]
  ring.add(a!, acquaintances)
  ring.add(b!, [d!])
  ring.add(c!, [a!])
  ring.add(d!, [b!])
  await ring.rounds(2)
  expect(ring.node(a!).view.successors.map(({ peer }) => peer)).toEqual([c!.peer])
  const begin = ring.clock.now()
  acquaintances.push(b!)
  await ring.rounds(5)
  for (const one of [a!, b!, c!, d!]) expect(ring.node(one).view.successors).toHaveLength(3)
  expect(ring.clock.now() - begin).toBeLessThan(10_000)
})

test('a member that knows nobody is a ring by itself, and says that it can find nothing there', async () => {
  const ring = new Ring()
  const a = ring.add(member('A'))
  await ring.rounds(2)
  expect(a.state).toBe('alone')
  await expect(ring.find(member('A'))).rejects.toMatchObject({ code: 'unavailable', details: { reason: 'alone' } })
})

test("a forged address takes nobody's place: who says that it precedes is asked there first", async () => {
  const ring = new Ring()
  const all = members(12)
  ring.settled(all)
  const victim = all[5]!
  // Between the victim and its predecessor, as it says, at an address where nobody is; then at one where another is.
  const place = Array.from({ length: 3000 }, (_, i) => member(`X${i}`)).find(({ id }) =>
    between(all[4]!.id, id, victim.id),
  )!
  for (const host of ['10.6.6.6', all[9]!.host]) {
    await ring.node(victim).onStabilize({ ...place, host })
    await ring.pass()
    expect(ring.node(victim).view.predecessor?.peer).toBe(all[4]!.peer)
  }
})

test('a peer that comes back at another address has its place again', async () => {
  const ring = new Ring()
  const all = members(8)
  ring.settled(all)
  const old = all[3]!
  ring.network.kill(old)
  const moved: PeerContact = { ...old, host: '10.7.7.7' }
  ring.add(moved, [all[6]!])
  await ring.rounds(6)
  expect(ring.node(all[4]!).view.predecessor?.host).toBe('10.7.7.7')
  expect(ring.node(all[2]!).view.successors[0]).toMatchObject({ peer: old.peer, host: '10.7.7.7' })
})

test('a goodbye that another says for a member does no lasting harm', async () => {
  const ring = new Ring()
  const all = members(8)
  ring.settled(all)
  ring.node(all[2]!).onLeave(all[3]!)
  expect(ring.node(all[2]!).view.successors[0]?.peer).toBe(all[4]!.peer)
  await ring.tick(all[2]!)
  expect(ring.node(all[2]!).view.successors[0]?.peer).toBe(all[3]!.peer)
})

test('who leaves politely is missed by nobody', async () => {
  const ring = new Ring()
  const all = members(8)
  ring.settled(all)
  await ring.clock.run(ring.node(all[3]!).leave(ring.signal))
  ring.network.kill(all[3]!)
  expect(ring.node(all[2]!).view.successors[0]?.peer).toBe(all[4]!.peer)
  expect(ring.node(all[4]!).view.predecessor).toBe(undefined)
  await ring.rounds(1)
  expect(ring.node(all[4]!).view.predecessor?.peer).toBe(all[2]!.peer)
})

test('records are found at the member responsible, or at the next that lives', async () => {
  const ring = new Ring()
  const all = members(20)
  ring.settled(all)
  const owner = ownerOf(all, placeOfContent(content))
  for (let i = 0; i < 3; i++) ring.records.get(at16(all, owner + i).peer)!.store([record(all[0]!)], all[0]!)
  const asking = at16(all, owner + 9)
  expect(await ring.find(asking)).toMatchObject({
    owner: { peer: all[owner]!.peer },
    timeouts: 0,
    records: [{ content }],
  })
  ring.network.kill(all[owner]!)
  ring.network.kill(at16(all, owner + 1))
  expect(await ring.find(asking)).toMatchObject({ owner: { peer: at16(all, owner + 2).peer }, records: [{ content }] })
})

test('one that has joined since is asked in place of the member that was responsible before', async () => {
  const ring = new Ring()
  const all = members(20)
  const owner = ownerOf(all, placeOfContent(content))
  const before = all.filter((_, i) => i !== owner)
  ring.settled(before)
  const joined = ring.add(all[owner]!)
  joined.resume({ predecessor: at16(all, owner - 1), successors: [1, 2, 3, 4].map((i) => at16(all, owner + i)) }, [])
  // Only the next one knows of it yet.
  ring.node(at16(all, owner + 1)).onStabilize(all[owner]!)
  await ring.pass()
  ring.records.get(at16(all, owner + 1).peer)!.store([record(all[0]!)], all[0]!)
  const found = await ring.find(at16(all, owner + 8))
  expect(found.records).toMatchObject([{ content }])
  ring.records.get(all[owner]!.peer)!.store([record(all[0]!)], all[0]!)
  ring.records.get(at16(all, owner + 1).peer)!.withdraw([record(all[0]!)], all[0]!)
  expect(await ring.find(at16(all, owner + 8))).toMatchObject({
    owner: { peer: all[owner]!.peer },
    records: [{ content }],
  })
})

test('of a name several replicas are asked, and what most of them hold comes first', async () => {
  const ring = new Ring()
  const all = members(20)
  ring.settled(all)
  const owner = ownerOf(all, placeOfName(name))
  const liar = record(all[7]!, other, 'name')
  const honest = record(all[0]!, content, 'name')
  ring.records.get(all[owner]!.peer)!.store([liar], all[7]!)
  for (const i of [1, 2]) ring.records.get(at16(all, owner + i).peer)!.store([honest], all[0]!)
  const found = await ring.find(at16(all, owner + 9), 'name')
  expect(found.replicas).toBe(3)
  expect(found.records.map(({ content: id, witnesses }) => [id, witnesses])).toEqual([
    [content, 2],
    [other, 1],
  ])
})

test('a liar that names ever nearer predecessors keeps a lookup busy for three questions only', async () => {
  const ring = new Ring()
  const all = members(20)
  ring.settled(all)
  const owner = ownerOf(all, placeOfContent(content))
  const liar = all[owner]!
  let asked = 0
  const nearer = Array.from({ length: 20_000 }, (_, i) => member(`L${i}`, liar.host)).filter(({ id }) =>
    between(placeOfContent(content), id, liar.id),
  )
  expect(nearer.length).toBeGreaterThan(3)
  const lying: RingHandlers = {
    ...handlersOf(ring.node(liar)),
    onFind: () => ({ records: [], more: false, predecessor: nearer[asked++] }),
  }
  for (const one of [liar, ...nearer]) ring.network.settle(one, { ring: lying })
  const found = await ring.find(at16(all, owner + 8))
  expect(asked).toBeLessThanOrEqual(3)
  expect(found.records).toEqual([])
})

test('where all that follow a key are gone, the ring says that it is broken there', async () => {
  const ring = new Ring()
  const all = members(20)
  ring.settled(all)
  const owner = ownerOf(all, placeOfContent(content))
  for (let i = 0; i < 6; i++) ring.network.kill(at16(all, owner + i))
  await expect(ring.find(at16(all, owner + 9))).rejects.toMatchObject({
    code: 'unavailable',
    details: { reason: 'ring_broken' },
  })
})

test('a member whose successors are all gone calls itself under repair until the one it finds confirms it', async () => {
  const ring = new Ring()
  const all = members(20)
  ring.settled(all)
  const node = ring.node(all[0]!)
  node.resume(node.view, [{ power: 254, member: all[9]! }])
  for (let i = 1; i <= 5; i++) ring.network.kill(all[i]!)
  await ring.tick(all[0]!)
  expect(node.state).toBe('repairing')
  expect(node.onStep(all[3]!.id)).toMatchObject({ unsure: true })
  await ring.rounds(8)
  expect(node.state).toBe('whole')
  expect(node.view.successors[0]?.peer).toBe(all[6]!.peer)
})

test('a slow answer is forgiven once, a refused connection is not', async () => {
  const ring = new Ring()
  const all = members(8)
  ring.settled(all)
  ring.network.kill(all[1]!)
  await ring.tick(all[0]!)
  expect(ring.node(all[0]!).view.successors[0]?.peer).toBe(all[2]!.peer)
})

test('members that refuse to answer are there, and a round with them ends', async () => {
  const ring = new Ring()
  const all = members(8)
  ring.settled(all)
  const busy: RingHandlers = {
    ...handlersOf(ring.node(all[1]!)),
    onStabilize: async () => {
      throw new NetworkError('limited', 'too many calls')
    },
  }
  ring.network.settle(all[1]!, { ring: busy })
  await ring.tick(all[0]!)
  expect(ring.node(all[0]!).view.successors[0]?.peer).toBe(all[1]!.peer)
})

function handlersOf(node: ChordNode): RingHandlers {
  return {
    onStabilize: (from) => node.onStabilize(from),
    onStep: (key) => node.onStep(key),
    onFind: (key, of) => node.onFind(key, of),
    onStore: (from, records, withdraw) => node.onStore(from, records, withdraw),
    onLeave: (from) => node.onLeave(from),
  }
}

test('in a ring where each knows all others, all that follow a key keep its records, once round', async () => {
  const ring = new Ring()
  const all = members(5)
  ring.settled(all)
  for (const place of all.map(({ id }) => id)) {
    const owner = ownerOf(all, place)
    const { owners } = await ring.clock.run(ring.node(all[1]!).lookup(place, ring.signal, 6))
    expect(owners.map(({ peer }) => peer)).toEqual([0, 1, 2, 3, 4].map((i) => at16(all, owner + i).peer))
  }
})

test('where more than half of a small ring died at once, any replica that is left is found', async () => {
  for (const asking of [0, 1, 2, 3, 4, 5]) {
    const ring = new Ring({ successors: 16 })
    const all = members(6)
    ring.settled(all)
    const owner = ownerOf(all, placeOfContent(content))
    for (const one of all) ring.records.get(one.peer)!.store([record(all[0]!)], all[0]!)
    const left = [at16(all, owner + asking), at16(all, owner + asking + 1)]
    for (const one of all) if (!left.includes(one)) ring.network.kill(one)
    expect((await ring.find(left[0]!)).records).toMatchObject([{ content }])
    expect((await ring.find(left[0]!, 'name')).replicas).toBeLessThanOrEqual(2)
  }
})

test('a member that begins anew at its old address has its place again at once, and costs nobody a list', async () => {
  const ring = new Ring()
  const all = members(12)
  ring.settled(all)
  const back = ring.add(all[5]!, [all[9]!])
  await ring.tick(all[4]!)
  expect(ring.node(all[4]!).view.successors.map(({ peer }) => peer)).toEqual([5, 6, 7, 8].map((i) => all[i]!.peer))
  await ring.tick(all[5]!)
  // What its predecessor's word began goes on beside the round.
  await ring.pass()
  expect(back.view.successors.map(({ peer }) => peer)).toEqual([6, 7, 8, 9].map((i) => all[i]!.peer))
})

test('a member that begins anew, and that others still count as one of them, joins by whom it knows', async () => {
  const ring = new Ring()
  const all = members(12)
  ring.settled(all)
  const back = ring.add(all[5]!, [all[4]!])
  await ring.tick(all[5]!)
  expect(back.view.successors[0]?.peer).toBe(all[6]!.peer)
})

test('one that knows nobody is at its place as soon as any member tells it of itself', async () => {
  const ring = new Ring()
  const all = members(30)
  const ours = all.filter((_, i) => i !== 20)
  ring.settled(ours)
  const alone = ring.add(all[20]!)
  await ring.clock.run(alone.onStabilize(all[2]!))
  await ring.pass()
  expect(alone.view.successors.map(({ peer }) => peer)).toEqual([21, 22, 23, 24].map((i) => all[i]!.peer))
  expect(alone.state).toBe('whole')
})

test('one that knows nobody claims no key to those that ask it', async () => {
  const ring = new Ring()
  const alone = ring.add(member('A'))
  expect(alone.onStep(placeOfName(name))).toMatchObject({ unsure: true })
})

test('who has said goodbye answers no more as a member, however long it still runs', async () => {
  const ring = new Ring()
  const all = members(8)
  ring.settled(all)
  const gone = ring.node(all[3]!)
  await ring.clock.run(gone.leave(ring.signal))
  await expect(gone.onStabilize(all[2]!)).rejects.toMatchObject({ code: 'unavailable' })
  expect(() => gone.onStep(all[5]!.id)).toThrow('has left the ring')
  expect(() => gone.onFind('name', name)).toThrow('has left the ring')
  await ring.rounds(2)
  for (const one of all.filter((_, i) => i !== 3))
    expect(ring.node(one).view.successors.map(({ peer }) => peer)).not.toContain(all[3]!.peer)
})

test('a round ends in time, however many of those it knows are silent', async () => {
  const ring = new Ring()
  const all = members(80)
  const lost = ring.add(all[0]!, all.slice(60))
  lost.resume(
    { predecessor: undefined, successors: [all[1]!] },
    all.slice(2, 60).map((one, i) => ({ power: 190 + i, member: one })),
  )
  await ring.tick(all[0]!)
  expect(lost.state).toBe('repairing')
  const begin = ring.clock.now()
  await ring.tick(all[0]!)
  expect(ring.clock.now() - begin).toBeLessThan(15_000)
})

test('a member that joins a slow ring looks after its successor before it has all its fingers', async () => {
  const ring = new Ring({}, { latencyMs: [220, 220] })
  const all = members(300)
  ring.settled(all)
  const steps = [8, 16, 32, 64, 128]
  for (const [i, one] of all.entries()) {
    const node = ring.node(one)
    node.resume(
      node.view,
      steps.map((step, at) => ({ power: 250 + at, member: at16(all, (i + step) % 300) })),
    )
  }
  const fresh = ring.add(member('fresh'), [all[0]!])
  let longest = 0
  for (let i = 0; i < 20; i++) {
    const begin = ring.clock.now()
    await ring.tick(member('fresh'))
    longest = Math.max(longest, ring.clock.now() - begin)
  }
  expect(longest).toBeLessThan(12_000)
  expect(fresh.fingers.length).toBeGreaterThan(5)
})

test('one that is told of by a member that is cut off from the rest does not take the two of them for all', async () => {
  const ring = new Ring()
  const all = members(30)
  ring.settled(all.filter((_, i) => i !== 20))
  const alone = ring.add(all[20]!)
  for (const [i, one] of all.entries()) if (i !== 2 && i !== 20) ring.network.kill(one)
  await ring.clock.run(alone.onStabilize(all[2]!))
  await ring.pass(30_000)
  expect(alone.view.successors[0]?.peer).toBe(all[2]!.peer)
  expect(alone.state).not.toBe('small')
})

test('where nobody else answers, that a member itself has nothing is no knowledge', async () => {
  const ring = new Ring({ successors: 16 })
  const all = members(6)
  ring.settled(all)
  for (const one of all.slice(1)) ring.network.kill(one)
  expect(await ring.find(all[0]!)).toMatchObject({ records: [], unsure: true })
})

test('a search that is given up tells whom it asked until then', async () => {
  const ring = new Ring()
  const all = members(20)
  ring.settled(all)
  const bound = new AbortController()
  const owner = ownerOf(all, placeOfContent(content))
  ring.network.kill(all[owner]!)
  const found = ring.node(at16(all, owner + 9)).find('content', content, bound.signal)
  // Three questions take 300 ms at most, the silent one 500.
  ring.clock.at(ring.clock.now() + 450, () => bound.abort())
  const error = await ring.clock.run(found.catch((failure: NetworkError) => failure))
  expect(error).toMatchObject({ code: 'cancelled' })
  const { path } = (error as NetworkError).details as { path: { answered: boolean }[] }
  expect(path.filter(({ answered }) => answered).length).toBeGreaterThan(0)
})
