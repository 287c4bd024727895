import { describe, expect, test } from 'vitest'
import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { FloodHit } from '../flood/protocol.ts'
import { FloodStrategy, type Searches } from './flood.ts'
import { Locator } from './locator.ts'
import type { LocateQuery } from './strategy.ts'

const A = 'a'.repeat(64) as ContentId
const NAME = 'film.mkv' as FileName
const byName: LocateQuery = { kind: 'name', name: NAME }
const hit = (peer: string, hops = 1, more: Partial<FloodHit> = {}): FloodHit => ({
  provider: { peer: peer as PeerId, host: `10.0.0.${peer.slice(1)}`, restPort: 8000, grpcPort: 50051 },
  ...{ name: NAME, content: A, size: 9, hops },
  ...more,
})

/** Hits that come in, and what providers answer when they are asked themselves. */
function flood(hits: FloodHit[], own: Record<string, FloodHit> = {}, detail: string | null = null) {
  const asked: string[] = []
  const searches: Searches = {
    search: async function* (_, trace) {
      trace.messages = 40
      trace.detail = detail
      yield* hits
    },
    confirm: async function* ({ peer }) {
      asked.push(peer)
      if (!own[peer]) throw new NetworkError('unavailable', 'silent')
      yield own[peer]
    },
  }
  return { searches, asked }
}

async function locate(searches: Searches, query = byName, timeoutMs?: number) {
  const strategy = new FloodStrategy({ flood: searches, self: 'me' as PeerId })
  // A test does not wait for six seconds.
  const bounded = timeoutMs === undefined ? strategy : Object.assign(strategy, { timeoutMs })
  const locator = new Locator({ strategies: () => [bounded], clock: systemClock }, { timeoutMs: 50 })
  const { providers, steps } = await locator.locate(query)
  return { peers: providers.map(({ peer }) => peer), providers, step: steps[0]! }
}

describe('a query to the neighbours', () => {
  test('takes the word of a neighbour for itself, and asks those further away themselves', async () => {
    const { searches, asked } = flood([hit('P2', 1), hit('P5', 4), hit('P6', 3)], { P5: hit('P5') }, '2 rounds')
    const { peers, step } = await locate(searches)
    expect(peers.sort()).toEqual(['P2', 'P5'])
    expect(asked).toEqual(['P5', 'P6'])
    expect(step).toMatchObject({
      outcome: 'found',
      asked: 'the neighbours',
      hops: 1,
      messages: 42,
      detail: '2 rounds; 1 provider that others named did not confirm',
    })
  })

  test('tells the least hops of those that confirmed', async () => {
    const { searches } = flood([hit('P6', 2), hit('P5', 4)], { P5: hit('P5') })
    expect((await locate(searches)).step.hops).toBe(4)
  })

  test('does not count what was not asked for, nor this peer itself, nor one twice', async () => {
    const other = { name: 'other' as FileName }
    const { searches, asked } = flood(
      [hit('P2', 1, other), hit('me', 1), hit('P3'), hit('P3'), hit('P4', 3), hit('P4', 2)],
      { P4: hit('P4', 1, other) },
    )
    const { peers, step } = await locate(searches)
    expect([peers, asked, step.found]).toEqual([['P3'], ['P4'], 1])
  })

  test('does not take a third party that a confirming peer names', async () => {
    const { searches } = flood([hit('P4', 3)], { P4: hit('P9') })
    expect((await locate(searches)).step).toMatchObject({
      outcome: 'nothing',
      detail: '1 provider that others named did not confirm',
    })
  })

  test('finds several names of one peer where it looks for part of one', async () => {
    const two = [hit('P2'), hit('P2', 1, { name: 'film two.mkv' as FileName })]
    const { providers } = await locate(flood(two).searches, { kind: 'text', text: 'film' })
    expect(providers.map(({ file }) => file)).toEqual(['film.mkv', 'film two.mkv'])
  })

  test('with nobody to pass it to is told as such', async () => {
    const searches: Searches = {
      // biome-ignore lint/correctness/useYield: it fails before it finds anything
      search: async function* () {
        throw new NetworkError('unavailable', 'this peer has no neighbours')
      },
      confirm: flood([]).searches.confirm,
    }
    expect((await locate(searches)).step).toMatchObject({
      outcome: 'unreachable',
      detail: 'this peer has no neighbours',
    })
  })

  test('is taken back at its deadline, and what was found until then counts', async () => {
    let taken = false
    const searches: Searches = {
      search: async function* (_, __, signal) {
        signal.addEventListener('abort', () => {
          taken = true
        })
        yield hit('P2')
        await new Promise(() => {})
      },
      confirm: flood([]).searches.confirm,
    }
    const { peers, step } = await locate(searches, byName, 30)
    expect([peers, step.outcome, taken]).toEqual([['P2'], 'found', true])
  })

  test('asks 8 providers at a time, however many are named', async () => {
    let running = 0
    let most = 0
    const { searches } = flood(Array.from({ length: 50 }, (_, i) => hit(`P${i + 1}`, 3)))
    searches.confirm = async function* (contact) {
      most = Math.max(most, ++running)
      await new Promise((resolve) => setImmediate(resolve))
      running--
      yield hit(contact.peer)
    }
    expect([(await locate(searches)).peers.length, most]).toEqual([50, 8])
  })
})
