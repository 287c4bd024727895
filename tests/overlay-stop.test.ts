import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, test } from 'vitest'
import { projectFile } from '../common/project.ts'
import {
  endsSoon,
  formRing,
  knownTo,
  LIVELY,
  locate,
  PeerProcess,
  SilentServer,
  startNetwork,
} from './overlay.fixture.ts'
import { freePorts } from './processes.ts'

/** Who hangs is waited for: in the ring for half a second, and with its connection for two. */
const HANGING_MS = 5000

test('an agent stops in time right after its start, and in every phase of finding others', {
  timeout: 90_000,
}, async (t) => {
  const cluster = await startNetwork(t)
  const first = await cluster.addPeer('P1', LIVELY)
  for (const [i, ms] of [0, 20, 80, 300, 900, 1500].entries()) {
    const peer = await cluster.addPeer(`N${i}`, { ...LIVELY, friend_peer_primary: first.url })
    await new Promise((resolve) => setTimeout(resolve, ms))
    await endsSoon(() => peer.stop())
  }
})

test('an agent stops in time during lookups by every strategy, while nobody it asks answers', {
  timeout: 60_000,
}, async (t) => {
  const cluster = await startNetwork(t)
  const silent = await SilentServer.start(t)
  const mute = `http://127.0.0.1:${silent.port}`
  const first = await cluster.addPeer('P1', LIVELY)
  const config = { ...LIVELY, lookup_timeout_ms: 4000, maestro_url: mute }
  const asking = await cluster.addPeer('P2', { ...config, friend_peer_primary: first.url, friend_peer_backup: mute })
  const frozen = await startHanging(t, cluster.folder, first.url)
  await expect.poll(async () => (await knownTo(asking)).Z, { timeout: 20_000 }).toBe('alive')
  frozen.signal('SIGSTOP')
  const lookups = [
    ...['maestro', 'friends', 'chord', 'flood'].map((via) => locate(asking, { file: 'nobody-has.txt', via })),
    locate(asking, { file: 'nobody-has.txt' }),
    locate(asking, { q: 'nobody' }),
  ].map((lookup) => lookup.catch((error) => error))
  await expect.poll(() => silent.connections).toBeGreaterThan(1)
  await endsSoon(() => asking.stop(), HANGING_MS)
  // Each has its end too: an answer, or an error.
  expect(await Promise.all(lookups)).toHaveLength(6)
})

test('an agent stops in time during a round of the ring, while its neighbours hang', { timeout: 60_000 }, async (t) => {
  const cluster = await startNetwork(t)
  const first = await cluster.addPeer('P1', { stabilize_ms: 100 })
  const others = [
    await cluster.addPeer('P2', { stabilize_ms: 100, friend_peer_primary: first.url }),
    await cluster.addPeer('P3', { stabilize_ms: 100, friend_peer_primary: first.url }),
  ]
  await others[0]!.share('mine.txt', 'to be withdrawn where nobody answers')
  const frozen = await startHanging(t, cluster.folder, first.url)
  await formRing([...cluster.peers, frozen])
  frozen.signal('SIGSTOP')
  await Promise.all(others.map((peer) => endsSoon(() => peer.stop(), HANGING_MS)))
  await endsSoon(() => first.stop(), HANGING_MS)
})

test('nothing of agents that were stopped keeps their process alive', { timeout: 60_000 }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'overlay-stop-'))
  t.onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const silent = await SilentServer.start(t)
  const child = spawn(process.execPath, ['--input-type=module', '--eval', STOPPED_AGENTS], {
    env: {
      ...process.env,
      FOLDER: folder,
      DIST: pathToFileURL(projectFile('dist/')).href,
      MUTE: `http://127.0.0.1:${silent.port}`,
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.onTestFinished(() => void child.kill('SIGKILL'))
  let said = ''
  child.stdout.on('data', (data) => (said += data))
  const ended = once(child, 'exit')
  await expect.poll(() => said, { timeout: 40_000 }).toContain('stopped\n')
  await endsSoon(() => ended)
  expect(await ended).toEqual([0, null])
})

/** Agents that know each other, and a Maestro that never answers, look for something, are stopped, and that is all. */
const STOPPED_AGENTS = `
import { mkdirSync } from 'node:fs'
const { DIST, FOLDER, MUTE } = process.env
const { Agent } = await import(DIST + 'peer/agent.js')
const { PeerConfig } = await import(DIST + 'peer/config.js')
const { silentLog } = await import(DIST + 'common/log.js')
const agents = []
const json = async (agent, path) => (await fetch('http://127.0.0.1:' + agent.port + path)).json()
for (let i = 0; i < 3; i++) {
  const shared_dir = FOLDER + '/P' + i
  mkdirSync(shared_dir)
  const friend = i > 0 ? { friend_peer_primary: 'http://127.0.0.1:' + agents[0].port, maestro_url: MUTE } : {}
  const ports = { ip: '127.0.0.1', port: 0, grpc_port: 0 }
  const config = PeerConfig.parse({ id: 'P' + i, ...ports, shared_dir, stabilize_ms: 200, lookup_timeout_ms: 500, ...friend })
  const agent = new Agent({ ...config, state_dir: shared_dir + '-state' }, { log: silentLog })
  await agent.start()
  agents.push(agent)
}
while ((await json(agents[2], '/ring')).successors.length < 2) await new Promise((resolve) => setTimeout(resolve, 50))
for (const agent of agents) for (const q of ['file=nobody-has.txt', 'q=nobody']) await json(agent, '/locate?' + q)
for (const agent of agents) await agent.stop()
process.stdout.write('stopped\\n')
`

/** An agent of its own process, in the ring, that can be made to hang. */
async function startHanging(
  t: Parameters<typeof startNetwork>[0],
  folder: string,
  friend: string,
): Promise<PeerProcess> {
  const [port = 0, grpc_port = 0] = await freePorts(2)
  const peer = new PeerProcess('Z', folder, { port, grpc_port }, { ...LIVELY, friend_peer_primary: friend })
  await peer.start(t)
  return peer
}
