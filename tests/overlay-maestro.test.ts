import { randomBytes } from 'node:crypto'
import { expect, test } from 'vitest'
import type { LookupStep } from '../common/schemas.ts'
import { download, finds, formRing, LIVELY, locate, SilentServer, startNetwork } from './overlay.fixture.ts'
import { begin } from './swarm.fixture.ts'

const outcomes = (steps: readonly LookupStep[]) => steps.map(({ strategy, outcome }) => `${strategy} ${outcome}`)

test('a Maestro that never answers costs the first lookup its time and the next ones nothing; it is asked again once it answers', {
  timeout: 60_000,
}, async (t) => {
  const cluster = await startNetwork(t)
  const silent = await SilentServer.start(t)
  const maestro_url = `http://127.0.0.1:${silent.port}`
  const config = { ...LIVELY, maestro_url, lookup_timeout_ms: 1000 }
  const p1 = await cluster.addPeer('P1', LIVELY)
  const p2 = await cluster.addPeer('P2', { ...LIVELY, friend_peer_primary: p1.url })
  const asking = await cluster.addPeer('P3', { ...config, friend_peer_primary: p1.url })
  await p1.share('of-p1.txt', 'the friend has it')
  await p2.share('of-p2.txt', 'somebody in the ring has it')

  // The first one waits for the Maestro, once, and finds the file nevertheless.
  const first = await asking.locate({ file: 'of-p1.txt' })
  expect(outcomes(first.steps)).toEqual(['local nothing', 'maestro timeout', 'friends found'])
  expect(first.steps[1]!.ms).toBeGreaterThan(900)
  expect(first.steps[1]!.ms).toBeLessThan(3000)
  expect(first.peers).toMatchObject([{ peer: 'P1', via: 'friends' }])

  // The next ones pass it over, also while it is probed in the background.
  await formRing([p1, p2, asking])
  await finds(asking, { file: 'of-p2.txt' }, ['P2 of-p2.txt'])
  for (let i = 0; i < 20; i++) {
    const { steps, peers, network } = await asking.locate({ file: 'of-p2.txt' })
    expect(outcomes(steps)).toEqual(['local nothing', 'maestro skipped', 'friends nothing', 'chord found'])
    expect(steps[1]).toMatchObject({ ms: 0, messages: 0, detail: expect.stringMatching(/did not answer \d+ s ago/) })
    expect(peers).toMatchObject([{ peer: 'P2', via: 'chord' }])
    expect(network).toMatchObject({ level: 'ring', text: expect.stringContaining('Maestro down: using the ring') })
  }
  expect(asking.agent.info().network.text).toContain('Maestro down: using the ring')

  // Now a real one listens there. Who finds that out is not the user's lookup: none waits for it, before and after.
  await silent.stop()
  await cluster.startMaestro(silent.port)
  const seen: string[] = []
  await expect
    .poll(
      async () => {
        const { steps } = await asking.locate({ file: 'nobody-has.txt' })
        const step = steps.find(({ strategy }) => strategy === 'maestro')!
        seen.push(step.outcome)
        return step.outcome
      },
      { timeout: 45_000 },
    )
    .toBe('nothing')
  expect(new Set(seen.slice(0, -1))).toEqual(new Set(['skipped']))
  await expect.poll(() => asking.agent.info().maestro, { timeout: 30_000 }).toBe('registered')
  expect(asking.agent.info().network).toEqual({ level: 'maestro', text: 'the Maestro answers' })
  expect((await asking.locate({ file: 'of-p1.txt' })).network.text).toBe('the Maestro answers')
})

test('peers without a friend learn of each other through the Maestro, and find every file when it is gone', {
  timeout: 60_000,
}, async (t) => {
  const cluster = await startNetwork(t, {})
  const ids = ['P1', 'P2', 'P3', 'P4', 'P5'] as const
  for (const id of ids) await cluster.addPeer(id, LIVELY)
  const large = randomBytes(6_000_000)
  for (const peer of cluster.peers) await peer.share(`of-${peer.id}.bin`, randomBytes(20_000))
  await cluster.peers[0]!.share('large.bin', large)
  await formRing(cluster.peers)
  for (const peer of cluster.peers) {
    const { steps } = await locate(peer, { file: 'large.bin' })
    expect(steps.map(({ strategy }) => strategy)).not.toContain('friends')
  }

  // One download is under way meanwhile, of about 3 s.
  const taker = cluster.peers[4]!
  const going = await begin(taker, { file: 'large.bin', limit: '2MB/s' })
  await going.is('running')
  await cluster.stopMaestro()

  for (const peer of cluster.peers)
    for (const { id } of cluster.peers) {
      if (id === peer.id) continue
      await finds(peer, { file: `of-${id}.bin` }, [`${id} of-${id}.bin`])
      await finds(peer, { q: `f-${id}.b` }, [`${id} of-${id}.bin`])
    }
  const { network, via } = await locate(taker, { file: 'of-P2.bin' })
  expect(via).toBe('chord')
  expect(network.text).toMatch(/^Maestro down: using the ring; records up to \d+ s old$/)

  await going.is('done')
  expect(taker.read('large.bin').equals(large)).toBe(true)
  expect(await download(cluster.peers[1]!, 'large.bin')).toMatchObject({ state: 'done', error: null })
  expect(cluster.peers[1]!.read('large.bin').equals(large)).toBe(true)
})
