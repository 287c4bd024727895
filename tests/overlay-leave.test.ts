import { expect, test } from 'vitest'
import type { Cluster, TestPeer } from './cluster.ts'
import {
  endsSoon,
  finds,
  formRing,
  found,
  LIVELY,
  locate,
  PeerProcess,
  ringOf,
  startNetwork,
} from './overlay.fixture.ts'
import { freePorts } from './processes.ts'

type Test = Parameters<typeof startNetwork>[0]

/** Four agents here, and a guest in a process of its own whose file all of them find. */
async function networkWithGuest(
  t: Test,
): Promise<{ cluster: Cluster; hosts: readonly TestPeer[]; guest: PeerProcess }> {
  const cluster = await startNetwork(t)
  const first = await cluster.addPeer('P1', LIVELY)
  for (const id of ['P2', 'P3', 'P4']) await cluster.addPeer(id, { ...LIVELY, friend_peer_primary: first.url })
  const guest = await startGuest(t, cluster)
  const hosts = [...cluster.peers]
  await formRing([...hosts, guest])
  for (const host of hosts) await finds(host, { file: 'guest.txt', via: 'chord' }, ['G guest.txt'])
  return { cluster, hosts, guest }
}

async function startGuest(t: Test, cluster: Cluster): Promise<PeerProcess> {
  const [port = 0, grpc_port = 0] = await freePorts(2)
  const config = { ...LIVELY, friend_peer_primary: cluster.peers[0]!.url }
  const guest = new PeerProcess('G', cluster.folder, { port, grpc_port }, config)
  guest.put('guest.txt', 'brought by the guest')
  await guest.start(t)
  return guest
}

test('a peer that leaves politely is gone from the rings of its neighbours at once, and nobody offers its files any more', {
  timeout: 60_000,
}, async (t) => {
  const { hosts, guest } = await networkWithGuest(t)
  const { predecessor, successors } = await ringOf(guest)
  const before = hosts.find(({ id }) => id === predecessor?.peer)!
  const after = hosts.find(({ id }) => id === successors[0]?.peer)!

  await endsSoon(() => guest.end('SIGTERM'))

  expect((await ringOf(before)).successors[0]?.peer).not.toBe('G')
  expect((await ringOf(after)).predecessor?.peer).not.toBe('G')
  for (const host of hosts) {
    // No record is left that somebody would have to find wrong.
    const { steps, peers } = await locate(host, { file: 'guest.txt', via: 'chord' })
    expect(peers).toEqual([])
    expect(steps).toMatchObject([{ outcome: 'nothing', detail: null }])
    expect(await found(host, { file: 'guest.txt' })).toEqual([])
  }
  await formRing(hosts)
})

test('a peer that vanishes is named as a provider by no lookup from then on, and the step says that it did not confirm', {
  timeout: 60_000,
}, async (t) => {
  const { hosts, guest } = await networkWithGuest(t)
  await guest.end('SIGKILL')
  for (const host of hosts) {
    const details: (string | null)[] = []
    const look = async () => {
      const { steps, peers } = await locate(host, { file: 'guest.txt', via: 'chord' })
      expect(peers).toEqual([])
      details.push(steps[0]!.detail)
      return steps[0]!.detail
    }
    await expect.poll(look).toContain('1 of 1 provider did not confirm')
    expect(await found(host, { file: 'guest.txt' })).toEqual([])
  }
  await formRing(hosts)
})

test('a peer that comes back with its old id on other ports is found there; its old records mislead nobody, whoever is at its old address', {
  timeout: 60_000,
}, async (t) => {
  const { cluster, hosts, guest } = await networkWithGuest(t)
  await guest.end('SIGKILL')
  // Another one, with the same file, at the very address that the records tell.
  const squatter = await cluster.addPeer('S', { ...LIVELY, ...guest.ports, friend_peer_primary: hosts[0]!.url })
  await squatter.share('guest.txt', 'brought by the guest')
  const back = await startGuest(t, cluster)
  expect(back.url).not.toBe(guest.url)
  const rests = async (host: TestPeer) => {
    const { peers } = await locate(host, { file: 'guest.txt', via: 'chord' })
    return peers.map(({ peer, rest, grpc_port }) => `${peer} ${rest} ${grpc_port}`).sort()
  }
  const old = `G ${guest.url} ${guest.ports.grpc_port}`
  const expected = [`G ${back.url} ${back.ports.grpc_port}`, `S ${squatter.url} ${guest.ports.grpc_port}`]
  for (const host of hosts)
    await expect
      .poll(
        async () => {
          const now = await rests(host)
          expect(now).not.toContain(old)
          return now
        },
        { timeout: 30_000 },
      )
      .toEqual(expected)
  await formRing([...hosts, squatter, back])
})
