import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { manifestOf } from '../common/merkle.ts'
import { download, finds, formRing, LIVELY, locate, PeerProcess, ringOf } from './overlay.fixture.ts'
import { freePorts } from './processes.ts'

const PEERS = 8

test('eight agents that each know only the one before find every file; four of them killed at once, the others find all of theirs', {
  timeout: 150_000,
}, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'overlay-kill-'))
  t.onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
  const ports = await freePorts(2 * PEERS)
  const files = new Map<string, { name: string; id: string; data: Buffer }>()
  const peers: PeerProcess[] = []
  for (let i = 0; i < PEERS; i++) {
    const before = peers[i - 1]
    const friend = before ? { friend_peer_primary: before.url } : {}
    const at = { port: ports[2 * i]!, grpc_port: ports[2 * i + 1]! }
    const peer = new PeerProcess(`P${i}`, folder, at, { ...LIVELY, ...friend })
    const data = randomBytes(600_000)
    files.set(peer.id, { name: `story of ${peer.id}.bin`, id: manifestOf(data).id, data })
    peer.put(files.get(peer.id)!.name, data)
    peers.push(peer)
  }
  await Promise.all(peers.map((peer) => peer.start(t)))
  await formRing(peers, 60_000)

  /** Every file of these is found by each of them: by its name, by its content, and by part of its name. */
  const allFind = async (among: readonly PeerProcess[], timeout: number) => {
    const until = performance.now() + timeout
    const left = () => Math.max(1, until - performance.now())
    const told = (id: string) => `${id} ${files.get(id)!.name}`
    await Promise.all(
      among.map(async (peer) => {
        for (const { id } of among) {
          await finds(peer, { file: files.get(id)!.name }, [told(id)], left())
          await finds(peer, { id: files.get(id)!.id }, [told(id)], left())
          await finds(peer, { q: `ory of ${id}.` }, [told(id)], left())
        }
        await finds(
          peer,
          { q: 'STORY OF' },
          among.map(({ id }) => told(id)),
          left(),
        )
      }),
    )
  }
  await allFind(peers, 60_000)

  // Of the chain of friends, only P0 and P1 hold together.
  const killed = [2, 3, 5, 6].map((i) => peers[i]!)
  const live = peers.filter((peer) => !killed.includes(peer))
  await Promise.all(killed.map((peer) => peer.end('SIGKILL')))
  await allFind(live, 30_000)
  await formRing(live)
  for (const peer of live) {
    const { state, predecessor } = await ringOf(peer)
    expect(['small', 'whole']).toContain(state)
    expect(live.map(({ id }) => id)).toContain(predecessor?.peer)
  }
  for (const { id } of killed) {
    const { peers: named, network } = await locate(live[0]!, { file: files.get(id)!.name })
    expect(named).toEqual([])
    expect(network.text).toContain('no Maestro configured: using the ring')
  }

  const [p0, , p7] = [live[0]!, live[1]!, live[3]!]
  const { name, data } = files.get(p7.id)!
  expect(await download(p0, name)).toMatchObject({ state: 'done', error: null })
  expect(p0.read(name).equals(data)).toBe(true)
})
