import { describe, expect, test } from 'vitest'
import { systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { createMetrics } from '../../common/metrics.ts'
import { type LookupStep, STRATEGIES } from '../../common/schemas.ts'
import { Locator } from '../locate/locator.ts'
import { levelOf } from '../locate/outcome.ts'
import { createPeerApp, type PeerAppDeps } from './app.ts'

const self = { peer: 'P1' as PeerId, rest: 'http://p1:8000', place: '4'.repeat(64) }
const ring = {
  ...{ state: 'alone', text: 'this peer is alone in the ring', self, predecessor: null, successors: [], fingers: [] },
  ...{ successor_list: 16, members: 1, share: 1, checked_ms: null, messages: { sent: 0, answered: 0 } },
  records: { held: 0, own: 0, published: 0, unpublished: 0 },
}
const known = { rest: 'http://p1:8000', grpc_port: 1, friend: false, neighbour: false, seen: null }
const discovered = { id: 'P3' as PeerId, rest: 'http://p3:8000', outcome: 'kept' as const, detail: null }

const deps = {
  log: silentLog,
  metrics: createMetrics('test'),
  overlay: {
    ring: () => ring,
    knownPeers: () => [{ id: 'P1', status: 'self', ...known }],
    discover: async (url: string) => {
      if (url.includes('nobody')) throw new NetworkError('unavailable', `${url} does not answer`)
      return { asked: url, peers: [discovered] }
    },
  },
  files: { get: () => undefined, byId: () => [], search: () => [] },
  locator: new Locator(
    {
      strategies: () => [
        {
          name: 'maestro',
          asked: 'http://m',
          // biome-ignore lint/correctness/useYield: it fails before it finds anything
          locate: async function* () {
            throw new NetworkError('unavailable', 'gone')
          },
        },
        {
          name: 'chord',
          asked: 'the ring',
          locate: async function* (_, trace) {
            Object.assign(trace, { messages: 3, hops: 2, ageMs: 39_000 })
            yield* []
          },
        },
      ],
      clock: systemClock,
    },
    { timeoutMs: 50 },
  ),
  level: (steps: readonly LookupStep[]) =>
    levelOf({ strategies: STRATEGIES, maestro: 'answers', ring: 'whole', neighbours: 1, friends: 0 }, steps),
  events: {},
} as unknown as PeerAppDeps

const app = createPeerApp(deps, { token: 'a-long-token', advertiseHost: undefined })
const asked = (path: string, init: RequestInit = {}) =>
  app.request(`http://127.0.0.1${path}`, { ...init, headers: { host: '127.0.0.1', ...init.headers } })
const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
  asked(path, {
    method: 'POST',
    body: JSON.stringify(body),
    headers: { 'content-type': 'application/json', ...headers },
  })
const user = { authorization: 'Bearer a-long-token' }

describe('without a Maestro', () => {
  test('anybody may see whom this peer knows, its own user alone how it stands in the ring', async () => {
    expect((await asked('/ring')).status).toBe(401)
    expect(await (await asked('/ring', { headers: user })).json()).toEqual(ring)
    expect(await (await asked('/peers')).json()).toMatchObject({ peers: [{ id: 'P1', status: 'self' }] })
  })

  test('its own user alone has it ask others for peers', async () => {
    const url = 'http://p2:8000'
    expect((await post('/discover', { url })).status).toBe(401)
    expect(await (await post('/discover', { url }, user)).json()).toEqual({ asked: url, peers: [discovered] })
    expect((await post('/discover', { url: 'http://nobody' }, user)).status).toBe(503)
    expect((await post('/discover', {}, user)).status).toBe(400)
  })

  test('a lookup tells at which level the network works', async () => {
    expect(await (await asked('/locate?file=film.mkv')).json()).toMatchObject({
      peers: [],
      network: { level: 'ring', text: 'Maestro down: using the ring; records up to 39 s old' },
      steps: [{ outcome: 'unreachable' }, { outcome: 'nothing', messages: 3, hops: 2, age_ms: 39_000 }],
    })
  })
})
