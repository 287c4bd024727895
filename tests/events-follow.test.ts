import { randomBytes } from 'node:crypto'
import { renameSync, rmSync } from 'node:fs'
import { expect, test } from 'vitest'
import { type FollowBody, FollowSchema, FollowsResponse } from '../common/events/rest.ts'
import { startCluster, type TestPeer } from './cluster.ts'

/** Files that arrive by themselves, from peer to peer. */

function follow(peer: TestPeer, pattern: string, quota?: number): Promise<FollowBody> {
  return peer.rest.call('POST', '/follows', FollowSchema, { body: { pattern, quota } })
}

async function following(peer: TestPeer): Promise<FollowBody> {
  return (await peer.rest.call('GET', '/follows', FollowsResponse)).follows[0]!
}

async function arrives(peer: TestPeer, name: string, data: Buffer): Promise<void> {
  await expect.poll(() => peer.has(name), { timeout: 15_000, interval: 20 }).toBe(true)
  expect(peer.read(name).equals(data)).toBe(true)
}

test('what there is and what comes under a pattern arrives at all who follow it, and nothing else', async (t) => {
  const cluster = await startCluster(t)
  const [p1, p2, p3] = await cluster.addPeers('P1', 'P2', 'P3')
  const [before, later, large] = [randomBytes(5000), randomBytes(6000), randomBytes(3_000_000)]
  await p1.share('lectures/before.pdf', before)
  await p1.share('other/private.txt', 'not followed')
  await follow(p2, 'lectures/**')
  await follow(p3, '**/*.{pdf,mkv}')
  await Promise.all([p2, p3].map((peer) => arrives(peer, 'lectures/before.pdf', before)))
  await p1.share('lectures/week1/later.pdf', later)
  await p2.share('lectures/large.mkv', large)
  await Promise.all([p2, p3].map((peer) => arrives(peer, 'lectures/week1/later.pdf', later)))
  await arrives(p3, 'lectures/large.mkv', large)
  await expect
    .poll(() => following(p3))
    .toMatchObject({ files: 3, bytes: before.length + later.length + large.length, fetching: 0, left_out: [] })
  expect(await following(p2)).toMatchObject({ files: 2, bytes: before.length + later.length })
  for (const peer of [p2, p3]) expect(await peer.has('other/private.txt')).toBe(false)
})

test('a file that was renamed arrives under its new name as well', async (t) => {
  const cluster = await startCluster(t)
  const [p1, p2] = await cluster.addPeers('P1', 'P2')
  const data = randomBytes(300_000)
  await follow(p2, '*.pdf')
  await p1.share('draft.pdf', data)
  await arrives(p2, 'draft.pdf', data)
  renameSync(p1.path('draft.pdf'), p1.path('final.pdf'))
  await arrives(p2, 'final.pdf', data)
  await expect.poll(() => following(p2)).toMatchObject({ files: 2, fetching: 0 })
})

test('a file of the follower’s own is never touched, nor one fetched again that was removed', async (t) => {
  const cluster = await startCluster(t)
  const [p1, p2] = await cluster.addPeers('P1', 'P2')
  await p2.share('mine.txt', 'mine')
  await follow(p2, '*.txt')
  await p1.share('mine.txt', 'theirs')
  await p1.share('gone.txt', 'gone')
  await arrives(p2, 'gone.txt', Buffer.from('gone'))
  rmSync(p2.path('gone.txt'))
  await expect.poll(() => following(p2)).toMatchObject({ files: 0 })
  await p1.share('last.txt', 'last')
  await arrives(p2, 'last.txt', Buffer.from('last'))
  expect(p2.read('mine.txt').toString()).toBe('mine')
  expect(await p2.has('gone.txt')).toBe(false)
  expect((await following(p2)).left_out).toContainEqual({
    name: 'mine.txt',
    why: 'P1 has another version: yours stays, since it did not come of this',
  })
})

test('a quota is kept, and what it left out comes once there is room', async (t) => {
  const cluster = await startCluster(t)
  const [p1, p2] = await cluster.addPeers('P1', 'P2')
  await follow(p2, '**', 1000)
  await p1.share('a.bin', randomBytes(900))
  await expect.poll(() => p2.has('a.bin')).toBe(true)
  const second = randomBytes(800)
  await p1.share('b.bin', second)
  await expect.poll(async () => (await following(p2)).left_out.map(({ name }) => name)).toEqual(['b.bin'])
  rmSync(p2.path('a.bin'))
  await arrives(p2, 'b.bin', second)
})

test('following survives a restart of the follower, which gets what it missed', async (t) => {
  const cluster = await startCluster(t)
  const [p1, p2] = await cluster.addPeers('P1', 'P2')
  await follow(p2, 'lectures/*')
  await p2.stop()
  const missed = randomBytes(2000)
  await p1.share('lectures/missed.pdf', missed)
  await p2.start()
  await arrives(p2, 'lectures/missed.pdf', missed)
})

test('what is shared while the Maestro is down arrives when it is back', async (t) => {
  const cluster = await startCluster(t)
  const [p1, p2] = await cluster.addPeers('P1', 'P2')
  await follow(p2, '*.pdf')
  await cluster.stopMaestro()
  const data = randomBytes(2000)
  await p1.share('meanwhile.pdf', data)
  await cluster.startMaestro()
  await arrives(p2, 'meanwhile.pdf', data)
})

test('without a Maestro the friends are asked', async (t) => {
  const cluster = await startCluster(t, { maestro: false })
  const p1 = await cluster.addPeer('P1')
  const p2 = await cluster.addPeer('P2', { friend_peer_primary: p1.url })
  const data = randomBytes(2000)
  await p1.share('lectures/a.pdf', data)
  await follow(p2, 'lectures/**')
  await arrives(p2, 'lectures/a.pdf', data)
})

test('who follows a pattern is the own user alone', async (t) => {
  const cluster = await startCluster(t)
  const p1 = await cluster.addPeer('P1', { token: 'a-token-of-the-user' })
  const foreign = { headers: { origin: 'http://evil.example' } }
  for (const [method, options] of [
    ['GET', {}],
    ['POST', { body: { pattern: '**' } }],
    ['DELETE', { query: { pattern: '**' } }],
  ] as const)
    await expect(p1.rest.send(method, '/follows', { ...foreign, ...options })).rejects.toMatchObject({
      code: 'forbidden',
    })
  await expect(follow(p1, '../*')).rejects.toMatchObject({ code: 'invalid' })
})
