import { expect, test } from 'vitest'
import { ManualClock, systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { LookupStep, StrategyName } from '../../common/schemas.ts'
import { Breaker } from './breaker.ts'
import { FriendStrategy } from './friends.ts'
import { Locator } from './locator.ts'
import { MaestroStrategy } from './maestro.ts'
import type { LocateQuery, LocateStrategy, Provider } from './strategy.ts'

const byName: LocateQuery = { kind: 'name', name: 'f' as FileName }
const byText: LocateQuery = { kind: 'text', text: 'f' }
const provider = (peer: string): Provider => ({
  peer: peer as PeerId,
  rest: `http://${peer}`,
  grpc_port: 1,
  file: 'f' as FileName,
  id: 'a'.repeat(64) as ContentId,
  size: 1,
})

function strategy(
  name: StrategyName,
  asked: string,
  answer: (signal: AbortSignal) => AsyncIterable<Provider>,
): LocateStrategy {
  return { name, asked, locate: (_, __, signal) => answer(signal) }
}
const finds = (name: StrategyName, ...peers: string[]) =>
  strategy(name, name, async function* () {
    yield* peers.map(provider)
  })
const fails = (name: StrategyName, error: Error) =>
  // biome-ignore lint/correctness/useYield: it fails before it finds anything
  strategy(name, name, async function* () {
    throw error
  })
const hangs = (name: StrategyName) =>
  strategy(name, name, async function* (signal) {
    await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
  })

const locator = (...strategies: LocateStrategy[]) =>
  new Locator({ strategies: () => strategies, clock: systemClock }, { timeoutMs: 50 })

test('the first strategy that finds a provider ends the lookup', async () => {
  const found = await locator(finds('local'), finds('maestro', 'P2'), finds('friends', 'P3')).locate(byName)
  expect(found.via).toBe('maestro')
  expect(found.providers.map((p) => [p.peer, p.via])).toEqual([['P2', 'maestro']])
  expect(found.steps.map((s) => [s.strategy, s.outcome])).toEqual([
    ['local', 'nothing'],
    ['maestro', 'found'],
  ])
})

test('a dead and a slow one cost a bounded wait and are explained', async () => {
  const dead = fails('maestro', new NetworkError('unavailable', 'the Maestro at http://m does not answer'))
  const found = await locator(finds('local'), dead, hangs('friends'), finds('friends', 'P3')).locate(byName)
  expect(found.via).toBe('friends')
  expect(found.steps.map((s) => s.outcome)).toEqual(['nothing', 'unreachable', 'timeout', 'found'])
  expect(found.steps[1]?.detail).toContain('http://m does not answer')
  expect(found.steps[2]!.ms).toBeLessThan(500)
})

test('nobody having it is an answer, not an error', async () => {
  const found = await locator(finds('local'), finds('maestro')).locate(byName)
  expect(found).toMatchObject({ providers: [], via: null })
})

test('part of a name is looked for in the own catalog and the directory; friends are asked where it fails', async () => {
  const all = [finds('local', 'me'), finds('maestro', 'P2'), finds('friends', 'P3')] as const
  expect((await locator(...all).locate(byText)).providers.map((p) => p.peer)).toEqual(['me', 'P2'])
  const dead = fails('maestro', new NetworkError('unavailable', 'gone'))
  const found = await locator(all[0], dead, all[2], finds('friends', 'P4')).locate(byText)
  expect(found.providers.map((p) => p.peer)).toEqual(['me', 'P3', 'P4'])
})

test('one strategy can be asked alone; one that is not there is an error', async () => {
  const some = locator(finds('local', 'me'), finds('friends', 'P3'))
  expect((await some.locate(byName, undefined, 'friends')).providers.map((p) => p.peer)).toEqual(['P3'])
  await expect(some.locate(byName, undefined, 'maestro')).rejects.toThrow('no maestro')
})

/** Counts how often it is asked, and can be probed. */
function counted(strategy: LocateStrategy, probe: () => Promise<void> = async () => {}) {
  const asked = { times: 0 }
  const locate: LocateStrategy['locate'] = (...args) => {
    asked.times++
    return strategy.locate(...args)
  }
  return { ...strategy, probe, locate, counts: asked }
}

function withBreaker(...strategies: LocateStrategy[]) {
  const clock = new ManualClock()
  const breaker = new Breaker({ parties: () => strategies, clock }, { timeoutMs: 50 })
  const steps: LookupStep[] = []
  const deps = { strategies: () => strategies, clock, breaker, onStep: (step: LookupStep) => steps.push(step) }
  return { clock, breaker, steps, locator: new Locator(deps, { timeoutMs: 50 }) }
}
const gone = new NetworkError('unavailable', 'gone')

test('who did not answer costs the first lookup a wait and the next ones nothing, until a probe finds it again', async () => {
  const dead = counted(hangs('maestro'))
  const { clock, breaker, locator, steps } = withBreaker(finds('local'), dead, finds('friends', 'P3'))
  expect((await locator.locate(byName)).steps[1]?.outcome).toBe('timeout')
  clock.advance(900)
  const second = await locator.locate(byName)
  expect(second.providers.map(({ peer }) => peer)).toEqual(['P3'])
  expect(second.steps[1]).toMatchObject({
    outcome: 'skipped',
    ms: 0,
    messages: 0,
    detail: 'did not answer 1 s ago; asked again in the background',
  })
  expect(dead.counts.times).toBe(1)
  expect(steps.map(({ outcome }) => outcome)).toEqual(['nothing', 'timeout', 'found', 'nothing', 'skipped', 'found'])
  clock.advance(100)
  await breaker.tick(new AbortController().signal)
  await locator.locate(byName)
  expect(dead.counts.times).toBe(2)
})

test('who is asked for by name is asked in any case, and counts again once it answers', async () => {
  let answers = false
  const back = counted(
    strategy('maestro', 'http://m', async function* () {
      if (!answers) throw gone
      yield provider('P2')
    }),
  )
  const { locator } = withBreaker(back, finds('friends', 'P3'))
  await locator.locate(byName)
  expect((await locator.locate(byName, undefined, 'maestro')).steps[0]?.outcome).toBe('unreachable')
  answers = true
  expect((await locator.locate(byName, undefined, 'maestro')).via).toBe('maestro')
  expect((await locator.locate(byName)).via).toBe('maestro')
})

test('a refusal is an answer: who refuses is asked again', async () => {
  const busy = counted(fails('maestro', new NetworkError('limited', 'not so often')))
  const { locator } = withBreaker(busy)
  expect((await locator.locate(byName)).steps[0]).toMatchObject({ outcome: 'refused', detail: 'not so often' })
  await locator.locate(byName)
  expect(busy.counts.times).toBe(2)
})

test('a lookup that its caller gives up says nothing against the one who was being asked', async () => {
  const slow = counted(hangs('maestro'))
  const { breaker, locator } = withBreaker(slow)
  const give = new AbortController()
  const lookup = locator.locate(byName, give.signal)
  give.abort()
  await expect(lookup).rejects.toThrow()
  expect(breaker.silentMs(slow)).toBeUndefined()
})

test('strategies are asked in the configured order, and those left out not at all', async () => {
  const all = [finds('local'), finds('maestro', 'P2'), finds('friends', 'P3'), finds('flood', 'P4')]
  const ordered = (order: StrategyName[]) =>
    new Locator({ strategies: () => all, clock: systemClock }, { timeoutMs: 50, order })
  expect((await ordered(['local', 'flood', 'friends']).locate(byName)).steps.map((s) => s.strategy)).toEqual([
    'local',
    'flood',
  ])
  await expect(ordered(['local']).locate(byName, undefined, 'maestro')).rejects.toThrow(
    'this peer has no maestro to ask: see its configuration',
  )
})

test('part of a name goes to friends and neighbours where the directory is silent, never to the ring, each answer once', async () => {
  const ring = counted({ ...finds('chord', 'P9'), kinds: ['name', 'id'] })
  const dead = counted(fails('maestro', gone), () => Promise.reject(gone))
  const { locator } = withBreaker(finds('local'), dead, finds('friends', 'P3'), ring, finds('flood', 'P3', 'P4'))
  for (const outcome of ['unreachable', 'skipped']) {
    const found = await locator.locate(byText)
    expect(found.providers.map(({ peer, via }) => `${peer} ${via}`)).toEqual(['P3 friends', 'P4 flood'])
    expect(found.steps.map((s) => s.outcome)).toEqual(['nothing', outcome, 'found', 'found'])
  }
  expect(ring.counts.times).toBe(0)
})

test('a name that the directory knows nothing of is still looked for everywhere else', async () => {
  const all = [finds('local'), finds('maestro'), finds('friends'), finds('chord'), finds('flood', 'P4')]
  const found = await locator(...all).locate(byName)
  expect([found.via, found.steps.length]).toEqual(['flood', 5])
})

test('each strategy has its own time, also one that does not mind the signal', async () => {
  const deaf = (timeoutMs?: number) => ({
    ...strategy('chord', 'the ring', async function* () {
      await new Promise(() => {})
      yield provider('P2')
    }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  })
  const { steps } = await locator(deaf(), deaf(120)).locate(byName)
  expect(steps.map(({ outcome, detail }) => [outcome, detail])).toEqual([
    ['timeout', 'no answer from the ring within 50 ms'],
    ['timeout', 'no answer from the ring within 120 ms'],
  ])
  expect(steps[1]!.ms).toBeGreaterThan(100)
})

test('one whose time is over may still tell what it did', async () => {
  const slow: LocateStrategy = {
    ...finds('flood'),
    locate: async function* (_, trace, signal) {
      await new Promise((resolve) => signal.addEventListener('abort', () => setTimeout(resolve, 10)))
      trace.messages = 40
      yield* []
    },
  }
  expect((await locator(slow).locate(byName)).steps[0]).toMatchObject({ outcome: 'timeout', messages: 40 })
})

test('the Maestro and a friend are probed with a question that costs them little', async () => {
  const { signal } = new AbortController()
  const asked: string[] = []
  const friend = new FriendStrategy({
    url: 'http://f',
    search: async () => ({ peer: 'P2' as PeerId, grpc_port: 7, matches: [] }),
    identify: async () => {
      asked.push('friend')
      return 'P2' as PeerId
    },
  })
  const directory = {
    url: 'http://m',
    locate: async () => ({ file: null, peers: [] }),
    search: async () => ({}) as never,
  }
  const maestro = new MaestroStrategy(
    {
      ...directory,
      info: async () => {
        asked.push('maestro')
        return {} as never
      },
    },
    'me' as PeerId,
  )
  await friend.probe(signal)
  await maestro.probe(signal)
  expect(asked).toEqual(['friend', 'maestro'])
})

test('a step tells what its strategy traced: messages, hops, path and age, within bounds', async () => {
  const traced: LocateStrategy = {
    ...finds('chord'),
    locate: async function* (_, trace) {
      const visited = { peer: 'P9' as PeerId, rest: 'http://p9', answered: true }
      Object.assign(trace, { messages: 7, hops: 3, ageMs: 40_000, detail: 'so it went' })
      trace.path = Array(500).fill(visited)
      yield provider('P2')
    },
  }
  const [step] = (await locator(traced).locate(byName)).steps
  expect(step).toMatchObject({ messages: 7, hops: 3, age_ms: 40_000, detail: 'so it went', outcome: 'found' })
  expect(step!.path).toHaveLength(100)
})

test('a caller who gives up ends the lookup', async () => {
  const gone = new AbortController()
  const lookup = new Locator(
    { strategies: () => [hangs('friends')], clock: systemClock },
    { timeoutMs: 60_000 },
  ).locate(byName, gone.signal)
  gone.abort()
  await expect(lookup).rejects.toThrow()
})

test("a friend's answer counts only for what was asked, at the address it was asked at", async () => {
  const file = { name: 'f' as FileName, size: 1, id: 'a'.repeat(64) as ContentId, modified: '' }
  const liar = new FriendStrategy({
    url: 'http://friend:8001',
    identify: async () => 'P2' as PeerId,
    search: async () => ({ peer: 'P2' as PeerId, grpc_port: 7, matches: [file, { ...file, name: 'g' as FileName }] }),
  })
  const found = await locator(liar).locate(byName)
  expect(found.providers).toMatchObject([{ peer: 'P2', rest: 'http://friend:8001', grpc_port: 7, file: 'f' }])
})

test('what the directory holds of this peer itself is left out: its own catalog knows better', async () => {
  const maestro = new MaestroStrategy(
    {
      url: 'http://m',
      info: async () => ({}) as never,
      locate: async () => ({ file: 'f', peers: [provider('me'), provider('P2')] }),
      search: async () => ({ query: '', results: [], next: null }),
    },
    'me' as PeerId,
  )
  expect((await locator(maestro).locate(byName)).providers.map((p) => p.peer)).toEqual(['P2'])
})

test('a search goes on over short pages of the directory', async () => {
  const pages = [
    { results: [], next: 'a' },
    { results: [{ file: 'f' as FileName, providers: 1, peers: [provider('P2')] }], next: 'b' },
    { results: [{ file: 'f2' as FileName, providers: 1, peers: [provider('P3')] }], next: null },
  ]
  const asked: (string | undefined)[] = []
  const maestro = new MaestroStrategy(
    {
      url: 'http://m',
      info: async () => ({}) as never,
      locate: async () => ({ file: null, peers: [] }),
      search: async (_, page) => {
        asked.push(page?.after)
        return { query: 'f', ...pages[asked.length - 1]! }
      },
    },
    'me' as PeerId,
  )
  expect((await locator(maestro).locate(byText)).providers.map((p) => p.file)).toEqual(['f', 'f2'])
  expect(asked).toEqual([undefined, 'a', 'b'])
  expect((await locator(maestro).locate(byName)).steps[0]?.messages).toBe(1)
  asked.length = 0
  expect((await locator(maestro).locate(byText)).steps[0]?.messages).toBe(3)
})

test('one that fetches a content hears of all at once who have it; a flood is for where nobody else knows any', async () => {
  const asked: string[] = []
  const noting = (one: LocateStrategy): LocateStrategy => ({
    ...one,
    locate: (query, trace, signal) => {
      asked.push(one.asked)
      return one.locate(query, trace, signal)
    },
  })
  const all = (flood: LocateStrategy, ...others: LocateStrategy[]) => locator(...[...others, flood].map(noting))
  const none = (name: StrategyName) => finds(name)
  const some = all(finds('flood', 'P9'), finds('local', 'me'), finds('maestro', 'P2'), finds('friends', 'P3', 'P2'))
  const signal = new AbortController().signal
  expect((await some.locateAll('a'.repeat(64) as ContentId, signal)).map(({ peer }) => peer)).toEqual(['P2', 'P3'])
  expect(asked).toEqual(['maestro', 'friends'])
  asked.length = 0
  const rare = all(finds('flood', 'P9'), none('maestro'), none('chord'))
  expect((await rare.locateAll('a'.repeat(64) as ContentId, signal)).map(({ peer }) => peer)).toEqual(['P9'])
  expect(asked).toEqual(['maestro', 'chord', 'flood'])
})
