import { describe, expect, it } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { EventDraft, NetworkEvent } from '../../common/events/event.ts'
import type { PeerRecord } from '../directory/store.ts'
import { draft, eventOf } from './event.fixture.ts'
import { EventDesk } from './event-desk.ts'

const FAR = '10.0.0.7'
const signal = new AbortController().signal

function world(peers = ['P1', 'P2']) {
  const clock = new ManualClock()
  const kept = new Set<string>()
  const carried: string[] = []
  let problem: NetworkError | undefined
  const desk = new EventDesk({
    clock,
    store: { peer: async (id) => (peers.includes(id) ? ({ id } as PeerRecord) : undefined) },
    log: {
      keep: async (events) => {
        const before = kept.size
        for (const { id } of events) kept.add(id)
        return kept.size - before
      },
    },
    bus: {
      publish: async (events) => {
        if (problem) throw problem
        carried.push(...events.map(({ id }) => id))
      },
    },
  })
  let seq = 0
  const some = (origin: string, count: number) => Array.from({ length: count }, () => eventOf(origin, ++seq))
  return {
    clock,
    desk,
    kept: () => [...kept],
    carried,
    some,
    fail: (error: NetworkError | undefined) => {
      problem = error
    },
    publish: (events: NetworkEvent[], from?: string) => desk.publish(events, from, signal),
    /** Publishes until that is too much; @returns how many were taken, and the refusal. */
    flood: async (origin: string, from?: string) => {
      for (let taken = 0; ; taken += 500) {
        const refusal = await desk.publish(some(origin, 500), from, signal).catch((error: NetworkError) => error)
        if (refusal instanceof NetworkError) return { taken, refusal }
      }
    },
  }
}

describe('what is published', () => {
  it('is kept and carried on', async () => {
    const { publish, kept, carried } = world()
    expect(await publish([eventOf('P1', 1), eventOf('P1', 2)])).toBe(2)
    expect(kept()).toEqual(['P1-run.1', 'P1-run.2'])
    expect(carried).toEqual(kept())
  })

  it('is kept while the broker is away, and carried on when it comes again', async () => {
    const { publish, kept, carried, fail } = world()
    fail(new NetworkError('unavailable', 'the broker is away'))
    await expect(publish([eventOf('P1', 1)])).rejects.toMatchObject({ code: 'unavailable' })
    expect([kept(), carried]).toEqual([['P1-run.1'], []])
    fail(undefined)
    expect(await publish([eventOf('P1', 1)])).toBe(0)
    expect(carried).toEqual(['P1-run.1'])
  })
})

describe('a request is refused, and nothing of it is kept,', () => {
  const big = draft('transfer.failed', {
    transfer: '1',
    direction: 'download',
    mode: 'real',
    file: '\u0001'.repeat(4000),
    id: null,
    size: null,
    error: { code: 'x', message: 'y' },
  })
  it.each<[string, NetworkEvent[], object]>([
    ['of several origins', [eventOf('P1', 1), eventOf('P2', 2)], { code: 'invalid' }],
    ['of an origin without a lease', [eventOf('P9', 1)], { code: 'not_found', details: { peer: 'P9' } }],
    [
      'that tells what only the Maestro knows',
      [eventOf('P1', 1), eventOf('P1', 2, draft('peer.expired', { peer: 'P2' }))],
      { code: 'forbidden', details: { id: 'P1-run.2' } },
    ],
    [
      'with too large an event',
      [eventOf('P1', 1), eventOf('P1', 2, big)],
      { code: 'too_large', details: { id: 'P1-run.2' } },
    ],
  ])('%s', async (_, events, error) => {
    const { publish, kept, carried, desk } = world()
    await expect(publish(events)).rejects.toMatchObject(error)
    expect([kept(), carried, desk.refused]).toEqual([[], [], events.length])
  })
})

describe('the rate', () => {
  it('of one origin is bounded, and that of others is not touched', async () => {
    const { flood, publish, some, clock } = world()
    const { taken, refusal } = await flood('P1')
    expect(taken).toBe(10_000)
    expect(refusal).toMatchObject({ code: 'limited', details: { retry_ms: 500 } })
    expect(await publish(some('P2', 500))).toBe(500)
    clock.advance(499)
    await expect(publish(some('P1', 500))).rejects.toMatchObject({ details: { retry_ms: 1 } })
    clock.advance(1)
    expect(await publish(some('P1', 500))).toBe(500)
  })

  it('of one remote host is bounded over all its origins, and that of this machine is not', async () => {
    const peers = Array.from({ length: 6 }, (_, i) => `P${i}`)
    const { flood, publish, some } = world(peers)
    const remote = []
    for (const peer of peers) remote.push((await flood(peer, FAR)).taken)
    expect(remote).toEqual([10_000, 10_000, 10_000, 10_000, 0, 0])
    expect(await publish(some('P5', 1), '10.0.0.8')).toBe(1)
    expect((await flood('P4', '127.0.0.1')).taken).toBe(10_000)
  })

  it('is not used up by what is refused', async () => {
    const { flood, publish, some } = world()
    for (let i = 0; i < 30; i++) {
      const forbidden: EventDraft = draft('peer.expired', { peer: 'P2' })
      await expect(publish([...some('P1', 499), eventOf('P1', 0, forbidden)])).rejects.toThrow()
    }
    expect((await flood('P1')).taken).toBe(10_000)
  })
})
