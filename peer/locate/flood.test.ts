import { describe, expect, test } from 'vitest'
import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { FloodHit } from '../flood/protocol.ts'
import { FloodStrategy, type Search, type Searches } from './flood.ts'
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

const ROUNDS = [
  { ttl: 2, scope: 'all', messages: 12, peers: 7 },
  { ttl: 32, scope: 'tree', messages: 28, peers: 1 },
] as const
const TOLD = '2 rounds: TTL 2 (7 peers, 12 messages), TTL 32 over the tree (1 peer, 28 messages)'

function searchOf(hits: () => AsyncGenerator<FloodHit>, rounds: Search['trace']['rounds'] = ROUNDS, peers = 8): Search {
  const messages = rounds.reduce((sum, round) => sum + round.messages, 0)
  return { trace: { messages, peers, rounds }, [Symbol.asyncIterator]: hits }
}

/** Hits that come in, and what providers answer when they are asked themselves. */
function flood(hits: FloodHit[], own: Record<string, FloodHit> = {}) {
  const asked: string[] = []
  const searches: Searches = {
    search: () =>
      searchOf(async function* () {
        yield* hits
      }),
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
    const { searches, asked } = flood([hit('P2', 1), hit('P5', 4), hit('P6', 3)], { P5: hit('P5') })
    const { peers, step } = await locate(searches)
    expect(peers.sort()).toEqual(['P2', 'P5'])
    expect(asked).toEqual(['P5', 'P6'])
    expect(step).toMatchObject({
      outcome: 'found',
      asked: 'the neighbours',
      hops: 1,
      messages: 42,
      detail: `${TOLD}; 1 provider that others named did not confirm`,
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
      detail: `${TOLD}; 1 provider that others named did not confirm`,
    })
  })

  test('finds several names of one peer where it looks for part of one', async () => {
    const two = [hit('P2'), hit('P2', 1, { name: 'film two.mkv' as FileName })]
    const { providers } = await locate(flood(two).searches, { kind: 'text', text: 'film' })
    expect(providers.map(({ file }) => file)).toEqual(['film.mkv', 'film two.mkv'])
  })

  test.each([
    ['with nobody to pass it to', [], 'this peer has no neighbours'],
    ['that no neighbour answers', [{ ttl: 2, scope: 'all', messages: 4, peers: 0 }], 'none of the neighbours answers'],
  ] as const)('%s is no knowledge', async (_, rounds, detail) => {
    const { searches } = flood([])
    searches.search = () => searchOf(async function* () {}, rounds, 0)
    expect((await locate(searches)).step).toMatchObject({ outcome: 'unreachable', detail })
  })

  test('that somebody looked at, and found nothing, is', async () => {
    expect((await locate(flood([]).searches)).step).toMatchObject({ outcome: 'nothing', messages: 40, detail: TOLD })
  })

  test('is taken back at its deadline, and what was found until then counts', async () => {
    let taken = false
    const { searches } = flood([])
    searches.search = (_, signal) =>
      searchOf(async function* () {
        yield hit('P2')
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
        taken = true
      })
    const { peers, step } = await locate(searches, byName, 30)
    expect([peers, step.outcome, taken]).toEqual([['P2'], 'found', true])
    expect(step).toMatchObject({ messages: 40, detail: TOLD })
  })

  test('is taken back where enough is found', async () => {
    let taken = false
    const { searches } = flood([])
    searches.search = (_, signal) =>
      searchOf(async function* () {
        signal.addEventListener('abort', () => {
          taken = true
        })
        for (let i = 0; ; i++) yield hit('P2', 1, { name: `film ${i}` as FileName })
      })
    const { step } = await locate(searches, { kind: 'text', text: 'film' })
    expect([step.found, taken]).toEqual([1000, true])
  })

  test('that is over before all was looked at is late, not without a result', async () => {
    const { searches } = flood([])
    searches.search = (_, signal) =>
      searchOf(async function* () {
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()))
        yield* []
      })
    expect((await locate(searches, byName, 30)).step).toMatchObject({
      outcome: 'timeout',
      detail: 'no answer from the neighbours within 30 ms',
      messages: 40,
    })
  })

  test("asks no further at a machine where nobody answers, so that a liar can't turn a search against it", async () => {
    const lies = Array.from({ length: 500 }, (_, i) => {
      const { provider } = hit(`L${i}`)
      return hit(`L${i}`, 3, { provider: { ...provider, host: '10.6.6.6', grpcPort: 1000 + i } })
    })
    const { searches, asked } = flood([...lies, hit('P9', 3)], { P9: hit('P9') })
    const { peers } = await locate(searches)
    expect(peers).toContain('P9')
    expect(asked.length).toBeLessThanOrEqual(17)
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
