import { expect, test, vi } from 'vitest'
import { ManualClock } from './clock.ts'
import { Loop } from './lifecycle.ts'
import { silentLog } from './log.ts'

test('a loop ticks at once, then at its interval, until it is stopped', async () => {
  const clock = new ManualClock()
  const tick = vi.fn(async () => {})
  const loop = new Loop('t', tick, silentLog, { interval: () => 1000, jitter: 0, clock })
  await loop.start()
  await vi.waitFor(() => expect(tick).toHaveBeenCalledTimes(1))
  clock.advance(999)
  expect(tick).toHaveBeenCalledTimes(1)
  clock.advance(1)
  await vi.waitFor(() => expect(tick).toHaveBeenCalledTimes(2))
  await loop.stop()
  clock.advance(10_000)
  expect(tick).toHaveBeenCalledTimes(2)
})

test('a nudge during a tick is not lost, and a failing tick does not end the loop', async () => {
  const clock = new ManualClock()
  let loop: Loop
  let calls = 0
  const tick = async () => {
    calls++
    if (calls === 1) loop.nudge()
    throw new Error('this tick fails')
  }
  loop = new Loop('t', tick, silentLog, { interval: () => 1_000_000, clock })
  await loop.start()
  await vi.waitFor(() => expect(calls).toBe(2))
  await loop.stop()
})

test('stopping waits for the tick that runs', async () => {
  let release = () => {}
  let ended = false
  const loop = new Loop(
    't',
    async () => {
      await new Promise<void>((resolve) => {
        release = resolve
      })
      ended = true
    },
    silentLog,
    { interval: () => 1 },
  )
  await loop.start()
  const stopped = loop.stop()
  release()
  await stopped
  expect(ended).toBe(true)
})
