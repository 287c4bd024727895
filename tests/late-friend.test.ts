import { createServer } from 'node:net'
import { expect, test } from 'vitest'
import { z } from 'zod'
import { KnownPeersResponse } from '../common/schemas.ts'
import { startCluster } from './cluster.ts'

test('a friend that starts later than its friends is found within seconds, and is in the list once', async (t) => {
  const cluster = await startCluster(t, { maestro: false })
  const port = await freePort()
  const early = await cluster.addPeer('early', { friend_peer_primary: `http://localhost:${port}` })
  await early.share('early.txt', 'e')
  // The first round has passed: the friend did not answer.
  await expect.poll(async () => (await known(early)).map(({ status }) => status)).toEqual(['self', 'lost'])
  const late = await cluster.addPeer('late', { port })
  await expect
    .poll(async () => (await known(early)).slice(1), { timeout: 10_000 })
    .toEqual([expect.objectContaining({ id: 'late', status: 'alive', friend: true })])
  await expect
    .poll(async () => (await late.locate({ file: 'early.txt' })).peers.map(({ peer }) => peer), { timeout: 15_000 })
    .toEqual(['early'])
})

async function known(peer: Awaited<ReturnType<Awaited<ReturnType<typeof startCluster>>['addPeer']>>) {
  return (await peer.rest.call('GET', '/peers', KnownPeersResponse)).peers
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = z.object({ port: z.number() }).parse(server.address())
  await new Promise((resolve) => server.close(resolve))
  return port
}
