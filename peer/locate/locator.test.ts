import { expect, test } from 'vitest'
import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { StrategyName } from '../../common/schemas.ts'
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
  return { name, asked, locate: (_, signal) => answer(signal) }
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
    search: async () => ({ peer: 'P2' as PeerId, grpc_port: 7, matches: [file, { ...file, name: 'g' as FileName }] }),
  })
  const found = await locator(liar).locate(byName)
  expect(found.providers).toMatchObject([{ peer: 'P2', rest: 'http://friend:8001', grpc_port: 7, file: 'f' }])
})

test('what the directory holds of this peer itself is left out: its own catalog knows better', async () => {
  const maestro = new MaestroStrategy(
    {
      url: 'http://m',
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
})
