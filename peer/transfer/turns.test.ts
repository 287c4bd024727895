import { expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { LEAF_SIZE } from '../../common/merkle.ts'
import { TokenBucket } from './rate-limit.ts'
import { Turns } from './turns.ts'

test('who waits in line begins where the last one that a frame was held back of is gone', async () => {
  const clock = new ManualClock()
  const signal = new AbortController().signal
  const turns = new Turns(clock, new TokenBucket(clock, () => 1000))
  const leaves = new AbortController()
  const first = turns.tryTake()!
  expect(turns.pass(first, LEAF_SIZE, signal).wait).toBeUndefined()
  const wait = turns.pass(first, LEAF_SIZE, signal).wait!
  clock.advance(16_384)
  await wait
  // The pace of its own taker made it give its turn back, and now the limit holds it up.
  first.release()
  const held = turns.pass(undefined, LEAF_SIZE, leaves.signal).wait!
  const second = turns.take(signal)
  leaves.abort()
  await expect(held).rejects.toMatchObject({ code: 'cancelled' })
  const begun = await Promise.race([second.then(() => 'begun'), new Promise((done) => setImmediate(done, 'in line'))])
  expect(begun).toBe('begun')
})
