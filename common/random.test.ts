import fc from 'fast-check'
import { expect, test } from 'vitest'
import { sample } from './random.ts'

test('a sample is so many of them, none twice', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer()), fc.nat(20), (all, most) => {
      const picked = sample(all, most)
      expect(picked).toHaveLength(Math.min(most, all.length))
      expect(new Set(picked).size).toBe(picked.length)
      for (const item of picked) expect(all).toContain(item)
    }),
  )
})

test('every order is as likely as another', () => {
  const seen = new Map<string, number>()
  for (let i = 0; i < 6000; i++) {
    const order = sample('abc').join('')
    seen.set(order, (seen.get(order) ?? 0) + 1)
  }
  expect(seen.size).toBe(6)
  for (const times of seen.values()) expect(Math.abs(times - 1000)).toBeLessThan(200)
})

test('what it picks from is left as it was', () => {
  const all = [1, 2, 3]
  expect(sample(all, 2, () => 0.99)).toEqual([3, 1])
  expect(all).toEqual([1, 2, 3])
})
