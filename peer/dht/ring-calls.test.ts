import { expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { PeerContact } from '../contact.ts'
import { SimulatedNetwork } from '../simulate/network.ts'
import { seededRandom } from '../simulate/seeded.ts'
import { VirtualClock } from '../simulate/virtual-clock.ts'
import { member } from './dht.fixture.ts'
import { Pointers } from './pointers.ts'
import type { RingNetwork } from './protocol.ts'
import type { Member } from './ring.ts'
import { RingCalls } from './ring-calls.ts'

const self = member('self')
const signal = new AbortController().signal

function callsOf(answer: (to: Member) => Promise<never>) {
  const clock = new VirtualClock()
  const network: RingNetwork = {
    ...new SimulatedNetwork({ clock, random: seededRandom(1) }).ringOf(self),
    step: answer,
  }
  const pointers = new Pointers(() => self, 4)
  const missed: string[] = []
  const known = {
    alive: () => [],
    lost: () => [],
    seen: () => {},
    missed: ({ peer }: PeerContact) => void missed.push(peer),
  }
  return { calls: new RingCalls({ network, pointers, known, clock }, { suspectMs: 30_000 }), clock, missed }
}

const silent = async (): Promise<never> => {
  throw new NetworkError('unavailable', 'no answer', { reason: 'timeout' })
}

test('of the silent ones that others name without end, the last thousand are remembered', async () => {
  const { calls } = callsOf(silent)
  const named = Array.from({ length: 1500 }, (_, i) => member(`N${i}`))
  for (const one of named) await calls.isAlive(one, signal)
  expect(named.filter((one) => calls.isSuspect(one))).toHaveLength(1000)
  expect(calls.isSuspect(named.at(-1)!)).toBe(true)
})

test('a lookup that has a bound asks nobody else after it', async () => {
  const all = Array.from({ length: 50 }, (_, i) => member(`N${i}`))
  let asked = 0
  const { calls, clock } = callsOf(async () => {
    asked++
    await clock.sleep(500)
    return silent()
  })
  const found = calls.lookup(self.id, 2000, { owners: [], closer: all, unsure: false }).next(signal)
  await expect(clock.run(found)).rejects.toMatchObject({ details: { reason: 'ring_broken' } })
  expect(asked).toBe(4)
})

test('who is slow once is forgiven everywhere: it stays a neighbour too', async () => {
  const { calls, missed } = callsOf(silent)
  await calls.isAlive(member('A'), signal)
  expect(missed).toEqual([])
  await calls.isAlive(member('A'), signal)
  expect(missed).toEqual(['A'])
})
