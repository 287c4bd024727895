import { expect, onTestFinished, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import { SimulatedNetwork } from '../simulate/network.ts'
import { seededRandom } from '../simulate/seeded.ts'
import { VirtualClock } from '../simulate/virtual-clock.ts'
import { member, members } from './dht.fixture.ts'
import { ChordNode } from './node.ts'
import { PatientRing } from './patience.ts'
import type { RingNetwork } from './protocol.ts'
import { RecordStore } from './record-store.ts'
import type { Member } from './ring.ts'

const signal = new AbortController().signal
const silent = () => new NetworkError('unavailable', 'no answer in time', { reason: 'timeout' })

/** A ring whose answers take `takes` ms, where they are waited for so long. */
function ringOf(clock: VirtualClock, takes: (to: Member) => number): (timeoutMs: number) => RingNetwork {
  return (timeoutMs) => ({
    ...new SimulatedNetwork({ clock, random: seededRandom(1) }).ringOf(member('self')),
    stabilize: async (to) => {
      await clock.sleep(Math.min(takes(to), timeoutMs))
      if (takes(to) > timeoutMs) throw silent()
      return { predecessor: undefined, successors: [] }
    },
  })
}

test('one that answers at once is waited for half a second, and no more where others take longer now and then', async () => {
  const clock = new VirtualClock()
  let took = 5
  const ring = new PatientRing({ within: ringOf(clock, () => took), clock })
  for (let i = 0; i < 100; i++) {
    took = i % 20 === 0 ? 100 : 5
    await clock.run(ring.stabilize(member('A'), signal))
  }
  expect(ring.patienceMs).toBe(500)
})

test('one that was late is waited for longer the next time, and all others from then on, until answers are quick again', async () => {
  const clock = new VirtualClock()
  let took = 5
  const ring = new PatientRing({ within: ringOf(clock, () => took), clock })
  for (let i = 0; i < 20; i++) await clock.run(ring.stabilize(member('A'), signal))
  took = 900
  await expect(clock.run(ring.stabilize(member('A'), signal))).rejects.toMatchObject({ details: { reason: 'timeout' } })
  await clock.run(ring.stabilize(member('A'), signal))
  await clock.run(ring.stabilize(member('B'), signal))
  took = 5
  for (let i = 0; i < 40; i++) await clock.run(ring.stabilize(member('A'), signal))
  expect(ring.patienceMs).toBe(500)
})

test('one that is silent makes nobody wait longer for others, and itself costs two seconds at most', async () => {
  const clock = new VirtualClock()
  const ring = new PatientRing({ within: ringOf(clock, ({ peer }) => (peer === 'dead' ? 60_000 : 5)), clock })
  for (let i = 0; i < 20; i++) {
    const begin = clock.now()
    await clock.run(ring.stabilize(member('dead'), signal)).catch(() => {})
    expect(clock.now() - begin).toBeLessThanOrEqual(2000)
    await clock.run(ring.stabilize(member('A'), signal))
  }
  expect(ring.patienceMs).toBe(500)
})

test('a ring where every answer takes more than half a second stays together, and finds', async () => {
  const clock = new VirtualClock()
  const random = seededRandom(1)
  const stopping = new AbortController()
  onTestFinished(() => stopping.abort())
  const network = new SimulatedNetwork({ clock, random }, { latencyMs: [290, 350], timeoutMs: 60_000 })
  const all = members(30)
  const nodes = all.map((self, at) => {
    const ring = network.ringOf(self)
    const bounded = async <T>(timeoutMs: number, answer: Promise<T>): Promise<T> => {
      const late = clock.sleep(timeoutMs).then(() => Promise.reject(silent()))
      late.catch(() => {})
      return Promise.race([answer, late])
    }
    const within = (timeoutMs: number): RingNetwork => ({
      stabilize: (to, gone) => bounded(timeoutMs, ring.stabilize(to, gone)),
      step: (to, key, gone) => bounded(timeoutMs, ring.step(to, key, gone)),
      find: (to, key, of, gone) => bounded(timeoutMs, ring.find(to, key, of, gone)),
      store: (to, records, withdraw, gone) => ring.store(to, records, withdraw, gone),
      leave: (to, gone) => bounded(timeoutMs, ring.leave(to, gone)),
    })
    const node = new ChordNode(
      {
        self: () => self,
        network: new PatientRing({ within, clock }),
        known: { alive: () => [], lost: () => [], seen: () => {}, missed: () => {} },
        records: new RecordStore({ clock }),
        clock,
        random,
      },
      { successors: 4 },
    )
    const next = [1, 2, 3, 4].map((i) => all[(at + i) % 30]!)
    node.resume({ predecessor: all[(at + 29) % 30], successors: next }, [])
    network.settle(self, { ring: node })
    return node
  })
  for (const node of nodes)
    void (async () => {
      await clock.sleep(random() * 5000)
      while (!stopping.signal.aborted) {
        await node.tick(stopping.signal).catch(() => {})
        await clock.sleep(node.pauseMs)
      }
    })()
  await clock.runUntil(120_000)
  expect(nodes.map(({ state }) => state)).toEqual(all.map(() => 'whole'))
  for (const [at, node] of nodes.entries()) expect(node.view.successors[0]?.peer).toBe(all[(at + 1) % 30]!.peer)
  const found = await clock.run(nodes[3]!.find('content', 'c'.repeat(64) as ContentId, signal))
  expect(found).toMatchObject({ unsure: false, records: [] })
})
