import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import {
  between,
  placeOfContent,
  placeOfName,
  placeOfPeer,
  plus,
  type RingId,
  ringIdOf,
  share,
  within,
} from './ring.ts'

const CIRCLE = 1n << 256n
const id = fc.bigInt({ min: 0n, max: CIRCLE - 1n })
const clockwise = (from: bigint, to: bigint) => (to - from + CIRCLE) % CIRCLE

test('what lies between two places is what comes before the second, clockwise from the first', () => {
  fc.assert(
    fc.property(id, id, id, (from, x, to) => {
      const expected = from === to ? x !== from : clockwise(from, x) > 0n && clockwise(from, x) < clockwise(from, to)
      expect(between(ringIdOf(from), ringIdOf(x), ringIdOf(to))).toBe(expected)
      expect(within(ringIdOf(from), ringIdOf(x), ringIdOf(to))).toBe(expected || x === to)
    }),
  )
})

test('near places are told apart too', () => {
  fc.assert(
    fc.property(id, fc.bigInt({ min: 0n, max: 3n }), fc.bigInt({ min: 0n, max: 3n }), (from, a, b) => {
      const at = (distance: bigint) => ringIdOf((from + distance) % CIRCLE)
      expect(between(at(0n), at(a), at(b))).toBe(b === 0n ? a > 0n : a > 0n && a < b)
    }),
  )
})

test('a step of a power of two goes once round the circle at most', () => {
  fc.assert(
    fc.property(id, fc.integer({ min: 0, max: 255 }), (from, power) => {
      expect(plus(ringIdOf(from), power)).toBe(ringIdOf((from + (1n << BigInt(power))) % CIRCLE))
      expect(share(ringIdOf(from), plus(ringIdOf(from), power))).toBeCloseTo(2 ** (power - 256), 12)
    }),
  )
})

test('a place is made of what it is for: names, contents and peers that read alike are elsewhere', () => {
  const text = 'a'.repeat(64)
  const places = [placeOfPeer(text as PeerId), placeOfName(text as FileName), placeOfContent(text as ContentId)]
  expect(new Set(places).size).toBe(3)
  for (const place of places) expect(place).toMatch(/^[0-9a-f]{64}$/)
  // `printf 'peer:P1' | sha256sum`
  expect(placeOfPeer('P1' as PeerId)).toBe('44efa4ad5ae43822582b29ce5772a4e17103c2c1277f39c9a1d9aba9ec3733bc' as RingId)
})
