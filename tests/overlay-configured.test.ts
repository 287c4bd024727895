import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { FriendsResponse } from '../common/schemas.ts'
import {
  download,
  finds,
  formRing,
  found,
  knownTo,
  LIVELY,
  locate,
  ringOf,
  roundsPass,
  startNetwork,
} from './overlay.fixture.ts'
import { runPeer } from './processes.ts'

test('an agent with "ring": false shares and finds by the Maestro and its friends, and no ring counts it', {
  timeout: 60_000,
}, async (t) => {
  const cluster = await startNetwork(t, {})
  const p1 = await cluster.addPeer('P1', { ...LIVELY, lookup_timeout_ms: 500 })
  const p2 = await cluster.addPeer('P2', { ...LIVELY, lookup_timeout_ms: 500 })
  const apart = await cluster.addPeer('P3', { ring: false, lookup_timeout_ms: 500, friend_peer_primary: p1.url })
  for (const peer of cluster.peers) await peer.share(`of-${peer.id}.txt`, `from ${peer.id}`)
  await formRing([p1, p2])

  expect(await ringOf(apart)).toMatchObject({ state: 'off', members: 0, successors: [], predecessor: null })
  expect(apart.agent.info().network.level).toBe('maestro')
  await finds(p1, { file: 'of-P3.txt' }, ['P3 of-P3.txt'])
  expect(await download(p2, 'of-P3.txt')).toMatchObject({ state: 'done' })
  expect((await locate(apart, { file: 'of-P2.txt' })).via).toBe('maestro')
  await expect(locate(apart, { file: 'of-P2.txt', via: 'chord' })).rejects.toMatchObject({ code: 'invalid' })
  await expect(locate(apart, { file: 'of-P2.txt', via: 'flood' })).rejects.toMatchObject({ code: 'invalid' })

  await cluster.stopMaestro()
  await finds(apart, { file: 'of-P1.txt' }, ['P1 of-P1.txt'])
  const { via, network } = await locate(apart, { file: 'of-P1.txt' })
  expect([via, network.level]).toEqual(['friends', 'friends'])
  // It has nobody who asks others for it, and says so much.
  expect(await found(apart, { file: 'of-P2.txt' })).toEqual([])
  await p1.rest.call('POST', '/friends', FriendsResponse, { body: { url: apart.url } })
  await finds(p1, { file: 'of-P3.txt' }, ['P3 of-P3.txt'])

  await roundsPass([p1, p2])
  for (const peer of [p1, p2]) {
    const { members, successors, predecessor } = await ringOf(peer)
    expect(members).toBe(2)
    expect([...successors, predecessor].map((member) => member?.peer)).not.toContain('P3')
    expect((await knownTo(peer)).P3).not.toBe('alive')
  }
})

test('strategies are asked in the order of the configuration, and no others', { timeout: 60_000 }, async (t) => {
  const cluster = await startNetwork(t, {})
  const p1 = await cluster.addPeer('P1', LIVELY)
  const friend_peer_primary = p1.url
  const flooding = await cluster.addPeer('P2', { ...LIVELY, friend_peer_primary, strategies: ['local', 'flood'] })
  const turned = await cluster.addPeer('P3', {
    ...LIVELY,
    friend_peer_primary,
    strategies: 'chord, friends, maestro, local',
  })
  await p1.share('film.txt', 'found by all ways')
  await formRing(cluster.peers)
  const asked = async (peer: typeof p1, file: string) => {
    const { steps } = await peer.locate({ file })
    return steps.map(({ strategy }) => strategy)
  }
  await finds(flooding, { file: 'film.txt' }, ['P1 film.txt'])
  expect(await asked(flooding, 'film.txt')).toEqual(['local', 'flood'])
  expect(await asked(flooding, 'nobody-has.txt')).toEqual(['local', 'flood'])
  await finds(turned, { file: 'film.txt', via: 'chord' }, ['P1 film.txt'])
  expect(await asked(turned, 'film.txt')).toEqual(['chord'])
  expect(await asked(turned, 'nobody-has.txt')).toEqual(['chord', 'friends', 'maestro', 'local'])
})

test('a configuration with a strategy that does not exist, none at all, or one twice ends the agent with exit 2 and one line', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'strategies-'))
  t.onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const cases: [unknown, string][] = [
    [['local', 'oracle'], '"oracle" is none of local, maestro, friends, chord, flood'],
    ['local,oracle', '"oracle"'],
    [[], 'must not be empty'],
    [['flood', 'flood'], 'twice'],
  ]
  const file = join(folder, 'peer.json')
  for (const [strategies, says] of cases) {
    writeFileSync(
      file,
      JSON.stringify({ id: 'P1', ip: '127.0.0.1', port: 0, grpc_port: 0, shared_dir: folder, strategies }),
    )
    const { code, stderr } = await runPeer(['run', '--config', file])
    expect(stderr).toContain('"strategies"')
    expect(stderr).toContain(says)
    expect(stderr.trim().split('\n')).toHaveLength(1)
    expect(code).toBe(2)
  }
})
