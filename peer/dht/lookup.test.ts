import { expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import { members } from './dht.fixture.ts'
import { Lookup, type LookupDeps } from './lookup.ts'
import type { RingStep } from './protocol.ts'
import { type Member, plus } from './ring.ts'

const ring = members(64)
const self = ring[0]!
/** Right behind the place of the one at 40: the one at 41 follows it. */
const key = plus(ring[40]!.id, 0)
const names = (list: readonly Member[]) => list.map(({ peer }) => peer)
const nobody: RingStep = { owners: [], closer: [], unsure: false }
const closer = (...at: number[]): RingStep => ({ ...nobody, closer: at.map((i) => ring[i]!) })
const owners = (...at: number[]): RingStep => ({ ...nobody, owners: at.map((i) => ring[i]!) })

/** Answers of the members by where they stand; who is absent does not answer. */
function asking(answers: Record<number, RingStep>, more: Partial<LookupDeps> = {}) {
  const asked: number[] = []
  const deps: LookupDeps = {
    ask: async (member) => {
      const at = ring.findIndex(({ id }) => id === member.id)
      asked.push(at)
      const answer = answers[at]
      if (!answer) throw new NetworkError('unavailable', `${member.peer} does not answer`)
      return answer
    },
    isSuspect: () => false,
    isPlausible: () => true,
    ...more,
  }
  const run = (first: RingStep, signal = new AbortController().signal) =>
    new Lookup(deps, self.id, key, first).next(signal)
  return { asked, run }
}

test('the nearest that is known is asked, until one knows who follows the key', async () => {
  const { asked, run } = asking({ 20: closer(36, 30), 36: owners(41, 42) })
  const found = await run(closer(20, 10))
  expect(names(found.owners)).toEqual(names([ring[41]!, ring[42]!]))
  expect(asked).toEqual([20, 36])
  expect(found.path.every(({ answered }) => answered)).toBe(true)
})

test('a silent member is passed over for the next nearest, also one that was named before', async () => {
  const { asked, run } = asking({ 20: closer(36, 35, 30), 30: closer(38), 10: closer(25), 25: owners(41) })
  const found = await run(closer(20, 10))
  expect(asked).toEqual([20, 36, 35, 30, 38, 10, 25])
  expect(found.path.map(({ answered }) => answered)).toEqual([true, false, false, true, false, true, true])
})

test('who was silent lately is asked last', async () => {
  const { asked, run } = asking(
    { 10: owners(41), 20: owners(41) },
    { isSuspect: (member) => member.id === ring[20]!.id },
  )
  await run(closer(20, 10))
  expect(asked).toEqual([10])
})

test('nobody leads a lookup away from the key, back, or in circles', async () => {
  const { asked, run } = asking({ 20: closer(50, 41, 10, 20, 0, 21), 21: closer(20, 21, 5), 10: owners(41) })
  const found = await run(closer(20, 10))
  expect(asked).toEqual([20, 21, 10])
  expect(names(found.owners)).toEqual(names([ring[41]!]))
})

test('an owner too far from the key is not believed while another can be asked', async () => {
  const isPlausible = (_: unknown, owner: Member) => owner.id !== ring[60]!.id
  const liar = asking({ 39: owners(60), 20: owners(41) }, { isPlausible })
  const found = await liar.run(closer(39, 20))
  expect(names(found.owners)).toEqual(names([ring[41]!]))
  expect(found.unsure).toBe(false)
  const alone = await asking({ 39: owners(60) }, { isPlausible }).run(closer(39))
  expect(alone).toMatchObject({ unsure: true, owners: [{ peer: ring[60]!.peer }] })
})

test('the word of a member that lost its successors is a guess, and another is preferred', async () => {
  const guess: RingStep = { ...owners(45), unsure: true }
  expect(await asking({ 39: guess, 20: owners(41) }).run(closer(39, 20))).toMatchObject({ unsure: false })
  expect(await asking({ 39: guess }).run(closer(39))).toMatchObject({ unsure: true })
})

test('where nobody is left to ask, the lookup says that the ring is broken, and after whom', async () => {
  const { run } = asking({ 20: closer(36, 35) })
  await expect(run(closer(20, 10))).rejects.toMatchObject({
    code: 'unavailable',
    details: { reason: 'ring_broken' },
    message: expect.stringContaining('3 of 4 members asked do not answer'),
  })
})

test('a lookup that is given up ends at once', async () => {
  const gone = new AbortController()
  let asked = 0
  const ask = async () => {
    asked++
    gone.abort()
    throw new NetworkError('cancelled', 'cancelled')
  }
  await expect(asking({}, { ask }).run(closer(20, 10), gone.signal)).rejects.toMatchObject({ code: 'cancelled' })
  expect(asked).toBe(1)
})

test('a lookup that is led on and on ends', async () => {
  let asked = 0
  const deps: LookupDeps = {
    ask: async (member) => {
      asked++
      const next = Array.from({ length: 8 }, (_, i) => ({ ...member, id: plus(member.id, i) }))
      return { ...nobody, closer: next }
    },
    isSuspect: () => false,
    isPlausible: () => true,
  }
  await expect(new Lookup(deps, self.id, key, closer(20)).next(new AbortController().signal)).rejects.toMatchObject({
    details: { reason: 'ring_broken' },
  })
  expect(asked).toBeLessThanOrEqual(128)
})

test('where too few are named, or none of them lives, members nearer to the key are asked for more', async () => {
  const { asked, run } = asking({
    20: { ...owners(41), closer: [ring[30]!] },
    30: { ...owners(41, 42), closer: [ring[40]!] },
    40: owners(41, 42, 43),
  })
  expect(names((await run(closer(20))).owners)).toEqual(names([ring[41]!]))
  expect(asked).toEqual([20])
  const deps = {
    ask: async (member: Member) => ({
      ...nobody,
      owners: member.id === ring[20]!.id ? [ring[41]!] : [ring[41]!, ring[42]!, ring[43]!],
      closer: [ring[40]!],
    }),
    isSuspect: () => false,
    isPlausible: () => true,
  }
  const found = await new Lookup(deps, self.id, key, closer(20)).owners(3, new AbortController().signal)
  expect(names(found.owners)).toEqual(names([ring[41]!, ring[42]!, ring[43]!]))
  expect(found.path).toHaveLength(2)
})

test('an owner far from the key is believed where three members name it, and guessed at where no three agree', async () => {
  const isPlausible = () => false
  const answers = { 39: { ...owners(60), closer: [] }, 30: owners(60), 20: owners(60), 10: owners(41) }
  const three = asking(answers, { isPlausible })
  expect(await three.run(closer(39, 30, 20, 10))).toMatchObject({ unsure: false, owners: [{ peer: ring[60]!.peer }] })
  expect(three.asked).toEqual([39, 30, 20])
  const two = asking({ 39: owners(60), 30: owners(60), 20: owners(45) }, { isPlausible })
  expect(await two.run(closer(39, 30, 20))).toMatchObject({ unsure: true, owners: [{ peer: ring[45]!.peer }] })
})

test('answers that may be lies end a lookup after eight of them', async () => {
  const lies = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [i + 1, owners(45 + (i % 10))]))
  const { asked, run } = asking(lies, { isPlausible: () => false })
  expect(await run(closer(...Array.from({ length: 20 }, (_, i) => 20 - i)))).toMatchObject({ unsure: true })
  expect(asked).toHaveLength(8)
})
