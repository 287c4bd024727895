import { expect, test } from 'vitest'
import { Bucket } from './bucket.ts'

test('fills with time, up to what may come at once', () => {
  let now = 0
  const bucket = new Bucket({ perSecond: 10, atOnce: 2 }, () => now)
  expect([bucket.take(), bucket.take(), bucket.take()]).toEqual([true, true, false])
  now = 100
  expect([bucket.take(), bucket.take()]).toEqual([true, false])
  now = 10_000
  expect(bucket.left).toBe(2)
})

test('a clock that is set back takes nothing away', () => {
  let now = 3_600_000
  const bucket = new Bucket({ perSecond: 10, atOnce: 2 }, () => now)
  now = 0
  expect(bucket.left).toBe(2)
  bucket.take()
  now = 100
  expect(bucket.left).toBe(2)
})
