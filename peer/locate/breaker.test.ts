import { describe, expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import { Breaker, type Party } from './breaker.ts'

const never = new AbortController().signal
const GONE = new NetworkError('unavailable', 'gone')

/** A party whose probes are counted, and answered as the test says. */
function party(asked: string) {
  const probes: AbortSignal[] = []
  const state = { asked, name: 'friends' as const, probes, answer: (): Promise<void> => Promise.reject(GONE) }
  return {
    ...state,
    set(answer: () => Promise<void>) {
      this.answer = answer
    },
    probe(signal: AbortSignal): Promise<void> {
      probes.push(signal)
      return this.answer()
    },
  }
}

function breakerOf(...parties: Party[]) {
  const clock = new ManualClock()
  const there = [...parties]
  return { clock, there, breaker: new Breaker({ parties: () => there, clock }, { timeoutMs: 500 }) }
}

/** Lets what is due come to pass, without time passing. */
const settle = () => new Promise<void>((resolve) => setImmediate(resolve))

describe('who did not answer', () => {
  test('is passed over until it is probed to answer, first after a second, then twice as long each time', async () => {
    const dead = party('http://a')
    const { clock, breaker } = breakerOf(dead)
    expect(breaker.silentMs(dead)).toBeUndefined()
    breaker.report(dead, false)
    const gaps: number[] = []
    for (let seconds = 0, last = 0; seconds < 150; seconds++, clock.advance(1000)) {
      const before = dead.probes.length
      await breaker.tick(never)
      if (dead.probes.length > before) {
        gaps.push(seconds - last)
        last = seconds
      }
    }
    expect(gaps).toEqual([1, 2, 4, 8, 16, 30, 30, 30])
    expect(breaker.silentMs(dead)).toBeLessThan(30_000)
    dead.set(() => Promise.resolve())
    clock.advance(30_000)
    await breaker.tick(never)
    expect(breaker.silentMs(dead)).toBeUndefined()
  })

  test('is told with how long ago that was, the last probe included', async () => {
    const dead = party('http://a')
    const { clock, breaker } = breakerOf(dead)
    breaker.report(dead, false)
    clock.advance(700)
    expect(breaker.silentMs(dead)).toBe(700)
    clock.advance(300)
    await breaker.tick(never)
    expect(breaker.silentMs(dead)).toBe(0)
  })

  test('and hangs when probed does not hold up the others, who are probed at the same time', async () => {
    const hanging = party('http://hanging')
    const back = party('http://back')
    hanging.set(() => new Promise(() => {}))
    back.set(() => Promise.resolve())
    const { clock, breaker } = breakerOf(hanging, back)
    for (const one of [hanging, back]) breaker.report(one, false)
    clock.advance(1000)
    const tick = breaker.tick(never)
    await settle()
    expect(breaker.silentMs(back)).toBeUndefined()
    clock.advance(500)
    await tick
    expect(breaker.silentMs(hanging)).toBe(0)
    expect(hanging.probes[0]?.aborted).toBe(true)
  })

  test('answers where it refuses, too', async () => {
    const busy = party('http://a')
    busy.set(() => Promise.reject(new NetworkError('limited', 'not now')))
    const { clock, breaker } = breakerOf(busy)
    breaker.report(busy, false)
    clock.advance(1000)
    await breaker.tick(never)
    expect(breaker.silentMs(busy)).toBeUndefined()
  })

  test('is asked again at once where whoever talks to it says that it answers', () => {
    const dead = party('http://a')
    const { breaker } = breakerOf(dead)
    breaker.report(dead, false)
    breaker.report({ name: 'friends', asked: 'http://a' }, true)
    expect(breaker.silentMs(dead)).toBeUndefined()
  })

  test('is always asked where nothing but a lookup can tell whether it answers', () => {
    const ring: Party = { name: 'chord', asked: 'the ring' }
    const { breaker } = breakerOf(ring)
    breaker.report(ring, false)
    expect(breaker.silentMs(ring)).toBeUndefined()
  })

  test('is forgotten once it is asked no more, and is not probed', async () => {
    const removed = party('http://a')
    const { clock, there, breaker } = breakerOf(removed)
    breaker.report(removed, false)
    there.pop()
    clock.advance(60_000)
    await breaker.tick(never)
    expect([removed.probes.length, breaker.silentMs(removed)]).toEqual([0, undefined])
  })

  test('keeps its state where the agent stops in the middle of a probe', async () => {
    const dead = party('http://a')
    dead.set(() => new Promise(() => {}))
    const { clock, breaker } = breakerOf(dead)
    breaker.report(dead, false)
    clock.advance(1000)
    const stop = new AbortController()
    const tick = breaker.tick(stop.signal)
    stop.abort()
    await tick
    expect(breaker.silentMs(dead)).toBe(1000)
  })
})

test('the pause until the next look is as long as nobody is due, within a second', () => {
  const dead = party('http://a')
  const { clock, breaker } = breakerOf(dead)
  expect(breaker.pauseMs).toBe(1000)
  breaker.report(dead, false)
  clock.advance(400)
  expect(breaker.pauseMs).toBe(600)
  clock.advance(10_000)
  expect(breaker.pauseMs).toBe(50)
})
