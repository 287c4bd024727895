import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FollowSchema } from '../common/events/rest.ts'
import { start } from '../peer/cli/fake-agent.fixture.ts'
import { startCluster, type TestPeer } from './cluster.ts'

/** `peer publish --wait`: a barrier that opens once so many peers hold a verified copy. */

const publish = (peer: TestPeer, ...args: string[]) =>
  start(['publish', ...args, '--json'], { env: { P2P_AGENT: peer.url } })

async function followAll(peers: readonly TestPeer[]): Promise<void> {
  for (const peer of peers) await peer.rest.call('POST', '/follows', FollowSchema, { body: { pattern: '**' } })
}

test('returns when all who follow have verified it, and says who', async (t) => {
  const cluster = await startCluster(t)
  const [p1, p2, p3, p4] = await cluster.addPeers('P1', 'P2', 'P3', 'P4')
  await followAll([p2, p3, p4])
  const path = join(cluster.folder, 'build.tar')
  writeFileSync(path, randomBytes(2_000_000))
  const { code, stdout } = publish(p1, path, '--as', 'builds/42.tar', '--wait', '3', '--timeout', '30s')
  expect(await code).toBe(0)
  const { name, wait, holders, seconds } = JSON.parse(stdout.text)
  expect({ name, wait, holders: holders.sort() }).toEqual({
    name: 'builds/42.tar',
    wait: 3,
    holders: ['P2', 'P3', 'P4'],
  })
  expect(seconds).toBeGreaterThan(0)
  for (const peer of [p2, p3, p4]) expect(await peer.has('builds/42.tar')).toBe(true)
})

test('returns soon after the last copy', async (t) => {
  const cluster = await startCluster(t)
  const [p1, p2, p3] = await cluster.addPeers('P1', 'P2', 'P3')
  await p1.share('film.mkv', randomBytes(500_000))
  const { code } = publish(p1, 'film.mkv', '--wait', '2', '--timeout', '30s')
  await p2.download('film.mkv')
  await p3.download('film.mkv')
  const last = performance.now()
  expect(await code).toBe(0)
  // Half a second, and as much for a machine that does other work.
  expect(performance.now() - last).toBeLessThan(1000)
})

test('a copy under another name counts, and one that was there before; asking is enough without a Maestro', async (t) => {
  const cluster = await startCluster(t, { maestro: false })
  const p1 = await cluster.addPeer('P1')
  const p2 = await cluster.addPeer('P2', { friend_peer_primary: p1.url })
  const p3 = await cluster.addPeer('P3', { friend_peer_primary: p1.url })
  const data = randomBytes(20_000)
  await p1.share('film.mkv', data)
  await p2.share('copy.mkv', data)
  for (const peer of [p2, p3]) await p1.rest.send('POST', '/friends', { body: { url: peer.url } })
  const { code, stdout } = publish(p1, 'film.mkv', '--wait', '2', '--timeout', '30s')
  await p3.download('film.mkv')
  expect(await code).toBe(0)
  expect(JSON.parse(stdout.text).holders.sort()).toEqual(['P2', 'P3'])
})

test('goes on while the Maestro is away', async (t) => {
  const cluster = await startCluster(t)
  const p1 = await cluster.addPeer('P1')
  const p2 = await cluster.addPeer('P2', { friend_peer_primary: p1.url })
  await p1.rest.send('POST', '/friends', { body: { url: p2.url } })
  await p1.share('film.mkv', randomBytes(20_000))
  await cluster.stopMaestro()
  const { code } = publish(p1, 'film.mkv', '--wait', '1', '--timeout', '30s')
  await p2.download('film.mkv')
  expect(await code).toBe(0)
})
