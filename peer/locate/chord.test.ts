import { describe, expect, test } from 'vitest'
import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { FloodHit } from '../flood/protocol.ts'
import { ChordStrategy, type Confirm, type RingAnswer, type RingRecords } from './chord.ts'
import { Locator } from './locator.ts'
import type { LocateQuery } from './strategy.ts'

const A = 'a'.repeat(64) as ContentId
const B = 'b'.repeat(64) as ContentId
const NAME = 'film.mkv' as FileName
const byName: LocateQuery = { kind: 'name', name: NAME }
const byId: LocateQuery = { kind: 'id', id: A }
const contact = (peer: string): PeerContact => ({
  peer: peer as PeerId,
  host: `10.0.0.${peer.slice(1)}`,
  restPort: 8000,
  grpcPort: 50051,
})
const record = (peer: string, content = A, more: Partial<RingAnswer['records'][number]> = {}) => ({
  ...{ key: 'name' as const, name: NAME, content, size: 9, provider: contact(peer), ageMs: 1000, witnesses: 3 },
  ...more,
})
const answer = (records: RingAnswer['records'], more: Partial<RingAnswer> = {}): RingAnswer => ({
  ...{ records, replicas: 3, hops: 2, unsure: false },
  path: [
    { member: contact('P7'), answered: true },
    { member: contact('P3'), answered: false },
    { member: contact('P9'), answered: true },
  ],
  ...more,
})
const hit = (peer: string, content = A, more: Partial<FloodHit> = {}): FloodHit => ({
  ...{ provider: contact(peer), name: NAME, content, size: 9, hops: 1 },
  ...more,
})
/** Each of these has it; the others don't answer. */
const has = (hits: Record<string, FloodHit | FloodHit[]>): Confirm =>
  async function* (asked) {
    const own = hits[asked.peer]
    if (!own) throw new NetworkError('unavailable', 'silent')
    yield* [own].flat()
  }

async function locate(found: RingAnswer | Error, confirm: Confirm, query = byName) {
  const ring = {
    find: async () => {
      if (found instanceof Error) throw found
      return found
    },
  }
  const strategy = new ChordStrategy({ ring, confirm, self: 'me' as PeerId })
  const locator = new Locator({ strategies: () => [strategy], clock: systemClock }, { timeoutMs: 50 })
  const { providers, steps } = await locator.locate(query)
  return { peers: providers.map(({ peer }) => peer), providers, step: steps[0]! }
}

describe('a lookup in the ring', () => {
  test('tells the providers that confirm, at the address they were asked at, and how it went', async () => {
    const { providers, step } = await locate(answer([record('P4')]), has({ P4: hit('P4') }))
    expect(providers).toEqual([
      { peer: 'P4', rest: 'http://10.0.0.4:8000', grpc_port: 50051, file: NAME, id: A, size: 9, via: 'chord' },
    ])
    expect(step).toMatchObject({
      outcome: 'found',
      asked: 'the ring',
      hops: 2,
      messages: 4,
      age_ms: 1000,
      detail: null,
    })
    expect(step.path.map(({ peer, answered }) => [peer, answered])).toEqual([
      ['P7', true],
      ['P3', false],
      ['P9', true],
    ])
  })

  test('leaves out who does not confirm, and says how many', async () => {
    const records = [record('P4'), record('P5'), record('P6')]
    const { peers, step } = await locate(answer(records), has({ P5: hit('P5') }))
    expect(peers).toEqual(['P5'])
    expect(step.detail).toBe('2 of 3 providers did not confirm')
  })

  test('finds nothing where nobody confirms', async () => {
    const { step } = await locate(answer([record('P4')]), has({}))
    expect(step).toMatchObject({ outcome: 'nothing', detail: '1 of 1 provider did not confirm', age_ms: null })
  })

  test.each([
    ['another peer at its address', hit('P5')],
    ['something that was not asked for', hit('P4', A, { name: 'other' as FileName })],
  ])('does not count %s', async (_, answered) => {
    expect((await locate(answer([record('P4')]), has({ P4: answered }))).peers).toEqual([])
  })

  test('does not count another content than the one asked for, nor a record of one', async () => {
    const lie = [record('P4', B), record('P5')]
    const { peers, step } = await locate(answer(lie), has({ P4: hit('P4'), P5: hit('P5', B) }), byId)
    expect([peers, step.detail]).toEqual([[], '1 of 1 provider did not confirm'])
  })

  test('takes the address of an answer from where it was asked, not from what it names', async () => {
    const elsewhere = { ...contact('P4'), host: '169.254.169.254', grpcPort: 1 }
    const { providers } = await locate(answer([record('P4')]), has({ P4: hit('P4', A, { provider: elsewhere }) }))
    expect(providers).toMatchObject([{ rest: 'http://10.0.0.4:8000', grpc_port: 50051 }])
  })

  test('asks a provider once at a host, at its youngest port, and never this peer itself', async () => {
    const moved = { ...contact('P4'), grpcPort: 7000 }
    const namesake = { ...contact('P4'), host: '10.6.6.6' }
    const asked: string[] = []
    const confirm: Confirm = async function* (at) {
      asked.push(`${at.peer} ${at.host} ${at.grpcPort}`)
      yield* []
    }
    const old = record('P4', A, { ageMs: 90_000 })
    const others = [moved, namesake].map((provider) => record('P4', A, { provider }))
    await locate(answer([old, ...others, record('me')]), confirm)
    expect(asked).toEqual(['P4 10.0.0.4 7000', 'P4 10.6.6.6 50051'])
  })

  test('for a content asks more replicas where nobody that the first names has it: it may have lied', async () => {
    const thorough: (boolean | undefined)[] = []
    const asked: string[] = []
    const confirm: Confirm = async function* (at) {
      asked.push(at.peer)
      if (at.peer === 'P5') yield hit('P5')
    }
    const ring = {
      find: async (...question: Parameters<RingRecords['find']>) => {
        thorough.push(question[3])
        return answer(question[3] ? [record('P4'), record('P5')] : [record('P4')])
      },
    }
    const locate = async (query: LocateQuery) => {
      const strategy = new ChordStrategy({ ring, confirm, self: 'me' as PeerId })
      const { providers } = await new Locator(
        { strategies: () => [strategy], clock: systemClock },
        { timeoutMs: 50 },
      ).locate(query)
      return providers.map(({ peer }) => peer)
    }
    expect(await locate(byId)).toEqual(['P5'])
    expect([thorough, asked]).toEqual([
      [false, true],
      ['P4', 'P5'],
    ])
    expect(await locate(byName)).toEqual([])
    expect(thorough).toHaveLength(3)
  })

  test('asks 16 providers at most, 8 at a time', async () => {
    let running = 0
    let most = 0
    let asked = 0
    const confirm: Confirm = async function* () {
      asked++
      most = Math.max(most, ++running)
      await new Promise((resolve) => setImmediate(resolve))
      running--
      yield* []
    }
    await locate(answer(Array.from({ length: 40 }, (_, i) => record(`P${i}`))), confirm)
    expect([asked, most]).toEqual([16, 8])
  })

  test('tells first what most replicas name, and how many name something else', async () => {
    const lie = record('P4', B, { witnesses: 1 })
    const { providers, step } = await locate(
      answer([lie, record('P5', A, { witnesses: 2, ageMs: 40_000 })]),
      // The liar is the quicker one.
      async function* (asked) {
        if (asked.peer === 'P5') await new Promise((resolve) => setImmediate(resolve))
        yield asked.peer === 'P5' ? hit('P5') : hit('P4', B)
      },
    )
    expect(providers.map(({ id }) => id)).toEqual([A, B])
    expect(step).toMatchObject({ detail: '1 of 3 replicas named another content', age_ms: 40_000 })
  })

  test('finds no dissent in a name that stands for two contents at every replica', async () => {
    const two = [record('P4', B), record('P5')]
    expect((await locate(answer(two), has({ P4: hit('P4', B), P5: hit('P5') }))).step.detail).toBeNull()
  })

  test('is no knowledge where who keeps the records is a guess', async () => {
    const guess = answer([], { unsure: true })
    expect((await locate(guess, has({}))).step).toMatchObject({
      outcome: 'unreachable',
      detail: expect.stringMatching(/^the ring is being repaired/),
    })
    const found = await locate(answer([record('P4')], { unsure: true }), has({ P4: hit('P4') }))
    expect(found.step.outcome).toBe('found')
  })

  test('that fails says why, and on which way', async () => {
    const path = [{ member: contact('P3'), answered: false }]
    const broken = new NetworkError('unavailable', 'the ring is broken on the way', { reason: 'ring_broken', path })
    const { step } = await locate(broken, has({}))
    expect(step).toMatchObject({ outcome: 'unreachable', detail: 'the ring is broken on the way', messages: 1 })
    expect(step.path).toEqual([{ peer: 'P3', rest: 'http://10.0.0.3:8000', answered: false }])
    const alone = new NetworkError('unavailable', 'this peer knows no other member of the ring', { reason: 'alone' })
    expect((await locate(alone, has({}))).step.outcome).toBe('unreachable')
  })

  test('by part of a name is not possible, and says so', async () => {
    await expect(locate(answer([]), has({}), { kind: 'text', text: 'film' })).rejects.toThrow(
      'the ring finds exact names and content ids, not parts of names',
    )
  })
})
