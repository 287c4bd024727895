import { getEventListeners } from 'node:events'
import { expect, test } from 'vitest'
import { deadline } from './deadline.ts'

test('a deadline aborts when its time is over, and with the outer signal', async () => {
  const short = deadline(1)
  await expect.poll(() => short.signal.aborted).toBe(true)
  expect((short.signal.reason as Error).name).toBe('TimeoutError')
  const outer = new AbortController()
  const long = deadline(60_000, outer.signal)
  outer.abort(new Error('enough'))
  expect(long.signal.reason).toEqual(new Error('enough'))
  expect(deadline(60_000, outer.signal).signal.aborted).toBe(true)
})

test('one that is over or cleared leaves nothing on a signal that lives on', async () => {
  const outer = new AbortController()
  deadline(60_000, outer.signal).clear()
  const short = deadline(1, outer.signal)
  await expect.poll(() => short.signal.aborted).toBe(true)
  expect(getEventListeners(outer.signal, 'abort')).toHaveLength(0)
})
