import fc from 'fast-check'
import { expect, test } from 'vitest'
import { members } from './dht.fixture.ts'
import { Pointers } from './pointers.ts'
import { between, type Member, plus, type RingId, ringIdOf, within } from './ring.ts'

const ring = members(12)
/** Those that follow the one at `at`, clockwise, once round without it. */
const after = (at: number, all: readonly Member[] = ring) =>
  Array.from({ length: all.length - 1 }, (_, i) => all[(at + 1 + i) % all.length]!)
const pointersAt = (at: number, most: number, known = most) => {
  const pointers = new Pointers(() => ring[at]!, most)
  const [first, ...next] = [...after(at).slice(0, known), ...(known >= ring.length - 1 ? [ring[at]!] : [])]
  pointers.adopt(first!, next)
  pointers.predecessor = ring[(at + ring.length - 1) % ring.length]
  return pointers
}
const names = (list: readonly Member[]) => list.map(({ peer }) => peer)

test('a list that is taken over is cut at its length, and where it comes round to this member', () => {
  const pointers = new Pointers(() => ring[3]!, 5)
  pointers.adopt(ring[4]!, after(4))
  expect(names(pointers.successors)).toEqual(names(after(3).slice(0, 5)))
  expect(pointers.isComplete).toBe(false)
  const small = new Pointers(() => ring[3]!, 5)
  small.adopt(ring[4]!, [ring[7]!, ring[3]!, ring[4]!])
  expect(names(small.successors)).toEqual(names([ring[4]!, ring[7]!]))
  expect(small.isComplete).toBe(true)
  expect(small.members).toBe(3)
})

test('whatever list others tell, successors stay in order, each once, without this member', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 11 }), { minLength: 1, maxLength: 40 }), (order) => {
      const pointers = new Pointers(() => ring[0]!, 8)
      const [first, ...next] = order.map((i) => ring[i]!)
      pointers.adopt(first!, next)
      const list = pointers.successors
      expect(list.length).toBeLessThanOrEqual(8)
      for (const [i, one] of list.entries())
        expect(between(list[i - 1]?.id ?? ring[0]!.id, one.id, ring[0]!.id)).toBe(true)
    }),
  )
})

test('a step names the owners where they are known, and nothing but nearer members elsewhere', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 11 }), fc.bigInt({ min: 0n, max: (1n << 256n) - 1n }), (at, place) => {
      const key = ringIdOf(place)
      const pointers = pointersAt(at, 4)
      const owner = ring.find((one, i) => within(ring[(i + 11) % 12]!.id, key, one.id))!
      const step = pointers.step(key)
      const known = [ring[at]!, ...after(at).slice(0, 4)].some(({ id }) => id === owner.id)
      expect(step.owners[0]?.id).toBe(known ? owner.id : undefined)
      for (const { id } of step.closer) expect(between(ring[at]!.id, id, key)).toBe(true)
      if (!known) expect(step.closer[0]!.id).toBe(after(at)[3]!.id)
    }),
  )
})

test('a member that saw all others owns what none of them does; one whose list was only shortened by failures does not', () => {
  const beyond = plus(ring[11]!.id, 0)
  const complete = pointersAt(0, 16, 11)
  complete.predecessor = undefined
  expect(complete.step(beyond).owners[0]?.peer).toBe(ring[0]!.peer)
  const shortened = pointersAt(0, 4)
  shortened.predecessor = undefined
  shortened.drop(ring[4]!)
  shortened.drop(ring[3]!)
  expect(shortened.successors).toHaveLength(2)
  expect(shortened.step(beyond).owners).toEqual([])
})

test('a member that knows all others names all of them as owners of any place, once round the circle', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 11 }), fc.bigInt({ min: 0n, max: (1n << 256n) - 1n }), (at, place) => {
      const key = ringIdOf(place)
      const first = ring.findIndex((one, i) => within(ring[(i + 11) % 12]!.id, key, one.id))
      const all = names([ring[first]!, ...after(first)])
      expect(names(pointersAt(at, 16, 11).step(key).owners)).toEqual(all)
    }),
  )
})

test('a member that lost all successors guesses no owner, and says so until one confirms it', () => {
  const pointers = pointersAt(0, 3)
  pointers.setFinger(255, ring[6]!)
  for (const one of after(0).slice(0, 3)) pointers.drop(one)
  expect(pointers.isLost).toBe(true)
  const key = plus(ring[0]!.id, 1) as RingId
  expect(pointers.step(key)).toEqual({ owners: [], closer: [], unsure: true })
  pointers.adopt(ring[6]!, [])
  expect(pointers.step(key)).toMatchObject({ owners: [{ peer: ring[6]!.peer }], unsure: true })
  pointers.found()
  expect(pointers.step(key).unsure).toBe(false)
})

test('who left is forgotten, the same peer at its new address is not', () => {
  const pointers = pointersAt(0, 3)
  const moved = { ...ring[1]!, host: '10.9.9.9' }
  pointers.drop(moved)
  expect(names(pointers.successors)).toEqual(names(after(0).slice(0, 3)))
  pointers.drop(ring[1]!)
  expect(names(pointers.successors)).toEqual(names(after(0).slice(1, 3)))
})

test('fingers are wanted only beyond the successors, and trimmed where those reach them', () => {
  const pointers = pointersAt(0, 4)
  for (const power of pointers.fingerPowers())
    expect(within(ring[0]!.id, plus(ring[0]!.id, power), after(0)[3]!.id)).toBe(false)
  expect(pointers.fingerPowers().length).toBeGreaterThan(0)
  pointers.setFinger(255, ring[7]!)
  pointers.adopt(ring[1]!, [...after(1).slice(0, 10), ring[0]!])
  pointers.setFinger(3, ring[1]!)
  pointers.trimFingers()
  expect(pointers.fingers.map(({ power }) => power)).not.toContain(3)
  expect(pointersAt(0, 16, 11).fingerPowers()).toEqual([])
})

test('an owner far behind the key is not believed', () => {
  const many = members(200)
  const pointers = new Pointers(() => many[0]!, 16)
  pointers.adopt(many[1]!, many.slice(2))
  const key = plus(many[100]!.id, 0)
  expect(pointers.isPlausible(key, many[101]!)).toBe(true)
  expect(pointers.isPlausible(key, many[180]!)).toBe(false)
})

test('others are told of a few nearer members; for itself a member knows them all, since those few may be gone', () => {
  const many = members(60)
  const pointers = new Pointers(() => many[0]!, 20)
  pointers.adopt(many[1]!, many.slice(2))
  const key = plus(many[50]!.id, 0)
  expect(names(pointers.step(key).closer)).toEqual(names(many.slice(13, 21).reverse()))
  expect(pointers.step(key, Number.POSITIVE_INFINITY).closer).toHaveLength(20)
})
