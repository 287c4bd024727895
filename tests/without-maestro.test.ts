import { expect, test } from 'vitest'
import { startCluster } from './cluster.ts'

test('a network grows from one address, with no Maestro at all: by a friend each, everyone finds every file', async (t) => {
  const cluster = await startCluster(t, { maestro: false })
  const first = await cluster.addPeer('P0', { stabilize_ms: 500 })
  await first.share('file0.txt', 'from P0')
  for (let i = 1; i < 6; i++) {
    const peer = await cluster.addPeer(`P${i}`, { stabilize_ms: 500, friend_peer_primary: first.url })
    await peer.share(`file${i}.txt`, `from P${i}`)
  }
  for (const peer of cluster.peers)
    for (let i = 0; i < 6; i++)
      await expect
        .poll(async () => (await peer.locate({ file: `file${i}.txt` })).peers.map(({ peer: id }) => id), {
          timeout: 15_000,
        })
        .toEqual([`P${i}`])
  const byRing = await cluster.peers[5]!.locate({ file: 'file3.txt', via: 'chord' })
  const byFlood = await cluster.peers[5]!.locate({ file: 'file3.txt', via: 'flood' })
  for (const { peers, network } of [byRing, byFlood]) {
    expect(peers).toMatchObject([{ peer: 'P3' }])
    expect(network.text).toContain('no Maestro configured: using the ring')
  }
  expect(byRing.steps[0]).toMatchObject({
    outcome: 'found',
    path: expect.arrayContaining([{ answered: true, peer: expect.anything(), rest: expect.anything() }]),
  })
})
