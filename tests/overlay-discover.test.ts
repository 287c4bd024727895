import { expect, test } from 'vitest'
import type { NetworkError } from '../common/errors.ts'
import { DiscoverResponse } from '../common/schemas.ts'
import type { Cluster, TestPeer } from './cluster.ts'
import { finds, formRing, found, knownTo, LIVELY, SilentServer, startNetwork } from './overlay.fixture.ts'
import { freePorts, runPeer } from './processes.ts'

type Test = Parameters<typeof startNetwork>[0]

function discover({ rest }: TestPeer, url: string) {
  return rest.call('POST', '/discover', DiscoverResponse, { body: { url } })
}

/** Five agents with a file each, that know each other. */
async function networkOfFive(t: Test): Promise<Cluster> {
  const cluster = await startNetwork(t)
  const first = await cluster.addPeer('P1', LIVELY)
  for (const id of ['P2', 'P3', 'P4', 'P5']) await cluster.addPeer(id, { ...LIVELY, friend_peer_primary: first.url })
  for (const peer of cluster.peers) await peer.share(`of-${peer.id}.txt`, `from ${peer.id}`)
  await formRing(cluster.peers)
  return cluster
}

test('a newcomer that knows nobody learns a network of five through one address, over REST or by "peer discover URL"', {
  timeout: 60_000,
}, async (t) => {
  const cluster = await networkOfFive(t)
  const five = [...cluster.peers]
  const newcomer = await cluster.addPeer('N1', LIVELY)
  expect(await found(newcomer, { file: 'of-P3.txt' })).toEqual([])

  // Not even the one that all others know.
  const { asked, peers } = await discover(newcomer, five[3]!.url)
  expect(asked).toBe(five[3]!.url)
  expect(peers[0]).toMatchObject({ id: 'P4', rest: five[3]!.url, outcome: 'kept' })
  for (const { id, outcome } of peers) expect(`${id} ${outcome}`).toMatch(/^(P\d (kept|known)|N1 self)$/)
  for (const { id } of five) await finds(newcomer, { file: `of-${id}.txt` }, [`${id} of-${id}.txt`])
  await formRing(cluster.peers)
  await expect
    .poll(() => knownTo(newcomer))
    .toEqual({
      N1: 'self',
      P1: 'alive',
      P2: 'alive',
      P3: 'alive',
      P4: 'alive',
      P5: 'alive',
    })
  await newcomer.share('of-N1.txt', 'from the newcomer')
  for (const peer of five) await finds(peer, { file: 'of-N1.txt' }, ['N1 of-N1.txt'])

  const second = await cluster.addPeer('N2', LIVELY)
  const { code, stdout } = await runPeer(['--agent', second.url, 'discover', five[1]!.url])
  expect(stdout).toMatch(/P2 .*kept/)
  expect(code).toBe(0)
  for (const { id } of five) await finds(second, { file: `of-${id}.txt` }, [`${id} of-${id}.txt`])
  const again = await discover(second, five[1]!.url)
  expect(again.peers[0]).toMatchObject({ id: 'P2', outcome: 'known' })
})

test('discover refuses an address where nobody, or no agent, answers, and keeps nothing of it', {
  timeout: 60_000,
}, async (t) => {
  const cluster = await startNetwork(t)
  const alone = await cluster.addPeer('P1', { ...LIVELY, lookup_timeout_ms: 500 })
  await cluster.startMaestro()
  const [nobody] = await freePorts(1)
  const silent = await SilentServer.start(t)
  const refusals: [string, string, number][] = [
    [`http://127.0.0.1:${nobody}`, 'unavailable', 4],
    [`http://127.0.0.1:${silent.port}`, 'unavailable', 4],
    [cluster.maestroUrl, 'not_found', 2],
    ['not a URL', 'invalid', 2],
  ]
  for (const [url, code, exit] of refusals) {
    const refused = await discover(alone, url).then(
      () => 'kept',
      (error: NetworkError) => error.code,
    )
    expect(`${url} ${refused}`).toBe(`${url} ${code}`)
    const { code: status, stdout, stderr } = await runPeer(['--agent', alone.url, 'discover', url])
    expect(`${url} ${status}`).toBe(`${url} ${exit}`)
    expect(stdout).toBe('')
    expect(stderr.trim().split('\n').length).toBeLessThanOrEqual(2)
    if (url === cluster.maestroUrl) expect(stderr).toContain('is a Maestro, not an agent')
  }
  // Itself: it is told who that is.
  const { peers } = await discover(alone, alone.url)
  expect(peers).toEqual([{ id: 'P1', rest: alone.url, outcome: 'self', detail: null }])
  expect(await knownTo(alone)).toEqual({ P1: 'self' })
})
