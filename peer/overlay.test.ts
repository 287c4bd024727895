import { expect, onTestFinished, test } from 'vitest'
import { NetworkError } from '../common/errors.ts'
import type { PeerId } from '../common/ids.ts'
import { silentLog } from '../common/log.ts'
import type { PeerContact } from './contact.ts'
import type { Introduction } from './overlay/protocol.ts'
import { Overlay, type OverlayDeps } from './overlay.ts'
import type { RpcAddress, RpcClients } from './rpc/client.ts'
import { seededRandom } from './simulate/seeded.ts'
import { VirtualClock } from './simulate/virtual-clock.ts'

const peer = (id: string, grpcPort: number): PeerContact => ({
  peer: id as PeerId,
  host: '127.0.0.1',
  restPort: 8000,
  grpcPort,
})
const silent = () => new NetworkError('unavailable', 'no answer')

/** An overlay on virtual time; `unary` is each call of gRPC. */
function overlayOf(
  deps: Partial<OverlayDeps>,
  unary: (target: RpcAddress, path: string) => Promise<unknown>,
): { clock: VirtualClock; overlay: Overlay } {
  const clock = new VirtualClock()
  const clients = { unary: (target: RpcAddress, method: { path: string }) => unary(target, method.path) }
  const overlay = new Overlay(
    {
      self: () => peer('me', 1),
      catalog: { get: () => undefined, byId: () => [], search: () => [], entries: () => [], onChange: () => () => {} },
      clients: clients as unknown as RpcClients,
      friends: { identify: async () => {}, contacts: () => [], list: () => [] },
      maestro: undefined,
      file: { load: () => [], save: () => {} },
      clock,
      random: seededRandom(1),
      log: silentLog,
      ...deps,
    },
    { successors: 4, stabilizeMs: 10_000, timeoutMs: 1000 },
  )
  onTestFinished(async () => clock.run(overlay.stop()))
  return { clock, overlay }
}

test('a friend at whose port another peer answers by now is asked again in the next round, not at once and for ever', async () => {
  let asked = 0
  const there: Introduction = { self: peer('another', 2), peers: [] }
  const friends = { identify: async () => {}, contacts: () => [peer('friend', 2)], list: () => [] }
  const { clock, overlay } = overlayOf({ friends }, async (_, path) => {
    if (!path.endsWith('Exchange')) throw silent()
    if (++asked > 1000) await clock.sleep(1_000_000)
    return there
  })
  await overlay.start()
  await clock.runUntil(60_000)
  expect(asked).toBeLessThan(100)
})

test('friends that are silent do not hold up the question to the Maestro', async () => {
  let askedAt: number | undefined
  const made = overlayOf(
    {
      friends: { identify: () => made.clock.sleep(1000), contacts: () => [], list: () => [] },
      maestro: {
        url: 'http://127.0.0.1:5000',
        peers: async () => {
          askedAt ??= made.clock.now()
          return { peers: [], next: null }
        },
      },
    },
    () => Promise.reject(silent()),
  )
  await made.overlay.start()
  await made.clock.runUntil(5000)
  expect(askedAt).toBe(0)
})

test('a peer that becomes known between two rounds is joined in the next one, however long there was nobody', async () => {
  let joinedAt: number | undefined
  const { clock, overlay } = overlayOf({}, async ({ grpc_port }, path) => {
    if (grpc_port !== 2) throw silent()
    if (path.endsWith('Exchange')) return { self: peer('other', 2), peers: [] }
    if (path.endsWith('Step')) joinedAt ??= clock.now()
    throw silent()
  })
  await overlay.start()
  await clock.runUntil(100_500)
  const { onExchange } = overlay.handlers.overlay
  onExchange.call(overlay.handlers.overlay, peer('other', 2), [], false, '127.0.0.1')
  const begin = clock.now()
  await clock.runUntil(begin + 30_000)
  expect(joinedAt! - begin).toBeLessThan(3000)
})
