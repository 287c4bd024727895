import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { z } from 'zod'
import type { PeersResponse, SearchResponse, TransferBody } from '../common/schemas.ts'
import { answers, Daemon, freePorts } from './processes.ts'

const KILLS = 50
const PEERS = ['P1', 'P2', 'P3']
/** bytes of each peer's files */
const SIZES = [1, 300_000, 5_000_000, 40_000_000, 60_000_000]
const LEASE_MS = 4000

/** mulberry32: the same seed, the same kills. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

async function json<T>(url: string, init?: RequestInit): Promise<T | undefined> {
  try {
    const response = await fetch(url, { ...init, signal: AbortSignal.timeout(3000) })
    return response.ok ? ((await response.json()) as T) : undefined
  } catch {
    return undefined
  }
}

test(`${KILLS} times kill -9 of the Maestro and the agents under load: nothing false is shown, nothing verified or acknowledged is lost`, {
  timeout: 480_000,
}, async (t) => {
  const seed = Number(process.env.KILL_SEED ?? Math.floor(Math.random() * 2 ** 31))
  process.stdout.write(`kill test: KILL_SEED=${seed}\n`)
  const random = seeded(seed)
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!
  const folder = mkdtempSync(join(tmpdir(), 'kill-'))
  const ports = await freePorts(7)
  const maestroUrl = `http://127.0.0.1:${ports[0]}`
  const urls = new Map(PEERS.map((id, i) => [id, `http://127.0.0.1:${ports[1 + i]}`]))
  const daemons = new Map<string, Daemon>()
  t.onTestFinished(async () => {
    await Promise.all([...daemons.values()].map((daemon) => daemon.stop('SIGKILL')))
    rmSync(folder, { recursive: true, force: true })
  })

  // ---- the network
  writeFileSync(
    join(folder, 'maestro.json'),
    JSON.stringify({
      id: 'maestro',
      ip: '127.0.0.1',
      port: ports[0],
      database: 'maestro.db',
      lease_ms: LEASE_MS,
      log_level: 'error',
    }),
  )
  daemons.set('maestro', Daemon.maestro(join(folder, 'maestro.json')))
  const contents = new Map<string, Buffer>()
  for (const [i, id] of PEERS.entries()) {
    const shared = join(folder, id)
    mkdirSync(shared)
    for (const [f, size] of SIZES.entries()) {
      const name = `${id}-file-${f}.bin`
      contents.set(name, randomBytes(size))
      writeFileSync(join(shared, name), contents.get(name)!)
    }
    const friends = PEERS.filter((other) => other !== id).map((other) => urls.get(other)!)
    writeFileSync(
      join(folder, `${id}.json`),
      JSON.stringify({
        id,
        ip: '127.0.0.1',
        port: ports[1 + i],
        grpc_port: ports[4 + i],
        shared_dir: id,
        maestro_url: maestroUrl,
        friend_peer_primary: friends[0],
        friend_peer_backup: friends[1],
        log_level: 'error',
      }),
    )
    daemons.set(id, Daemon.peer(join(folder, `${id}.json`)))
  }
  const start = async (part: string) => {
    daemons.get(part)!.start()
    await answers(part === 'maestro' ? maestroUrl : urls.get(part)!)
  }
  for (const part of daemons.keys()) await start(part)

  // ---- the load: downloads everywhere, hostile registrations, until told to stop
  let loading = true
  /** peers whose load rests, so that only the kill explains what changes in their folders */
  const resting = new Set<string>()
  const load = PEERS.map(async (id) => {
    while (loading) {
      if (resting.has(id)) {
        await pause(10)
        continue
      }
      const wanted = pick([...contents.keys()])
      // What was fetched before goes, so that there is always something to fetch.
      if (!wanted.startsWith(id)) rmSync(join(folder, id, wanted), { force: true })
      await json(`${urls.get(id)}/transfers`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ file: wanted }),
      })
      await json(`${maestroUrl}/register`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          peer: 'http://127.0.0.1:1',
          grpc_port: 2,
          id: 'hostile',
          files: ['good.txt', '../evil.txt'],
        }),
      })
      await pause(20 + random() * 60)
    }
  })

  /** What a peer says it has verified, by content id, of transfers that run. */
  const verified = async (id: string) => {
    const answer = await json<{ transfers: TransferBody[] }>(`${urls.get(id)}/transfers`)
    return (answer?.transfers ?? []).filter(
      (transfer) => transfer.state === 'running' && transfer.bytes > 0 && transfer.id !== null,
    )
  }
  const registered = async () =>
    (await json<z.infer<typeof PeersResponse>>(`${maestroUrl}/peers`))?.peers.map((p) => p.id as string)

  let resumed = 0
  for (let kill = 0; kill < KILLS; kill++) {
    const victim = pick(['maestro', ...PEERS])
    await pause(random() * 250)
    if (victim === 'maestro') {
      const acknowledged = (await registered()) ?? []
      await daemons.get(victim)!.stop('SIGKILL')
      await start(victim)
      // Promise 2: every acknowledged registration that was alive is still there.
      const after = await registered()
      for (const id of acknowledged) expect(after, `kill ${kill}: the registration of ${id}`).toContain(id)
    } else {
      resting.add(victim)
      const before = await verified(victim)
      await daemons.get(victim)!.stop('SIGKILL')
      await start(victim)
      // Promise 2: what was verified is found again and not fetched again.
      for (const { id, bytes, file } of before) {
        // It came to its end just before the kill.
        if (existsSync(join(folder, victim, file ?? ''))) continue
        const body = JSON.stringify({ id })
        const begun = await json<TransferBody>(`${urls.get(victim)}/transfers`, {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body,
        })
        if (!begun) continue
        const deadline = Date.now() + 15_000
        let now: TransferBody | undefined = begun
        while (now && !['running', 'done', 'failed'].includes(now.state) && Date.now() < deadline) {
          await pause(10)
          now = await json<TransferBody>(`${urls.get(victim)}/transfers/${begun.transfer}`)
        }
        if (now?.state !== 'running' && now?.state !== 'done') continue
        expect(now.resumed_bytes, `kill ${kill}: ${file} at ${victim}`).toBeGreaterThanOrEqual(bytes)
        resumed++
      }
      resting.delete(victim)
    }
  }
  loading = false
  await Promise.all(load)
  process.stdout.write(`kill test: ${resumed} running downloads were killed and resumed\n`)
  expect(resumed).toBeGreaterThan(0)

  // Everything comes to rest: all peers registered, every file to be had.
  await expect.poll(registered, { timeout: 3 * LEASE_MS, interval: 100 }).toEqual(PEERS)
  for (const id of PEERS)
    for (const name of contents.keys()) {
      const asked = await json<TransferBody>(`${urls.get(id)}/transfers`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ file: name }),
      })
      expect(asked, `${id} takes up ${name}`).toBeDefined()
      let last = asked
      const settled = async () => {
        last = (await json<TransferBody>(`${urls.get(id)}/transfers/${asked!.transfer}`)) ?? last
        return ['done', 'failed', 'cancelled'].includes(last!.state)
      }
      await expect.poll(settled, { timeout: 20_000, interval: 20 }).toBe(true)
      expect(last?.state, `${id} has ${name}: ${JSON.stringify(last)}`).toBe('done')
    }

  // Promise 1: whatever is visible in a shared folder is whole and right.
  for (const id of PEERS) {
    const visible = readdirSync(join(folder, id)).filter((name) => !name.startsWith('.'))
    expect(visible.sort()).toEqual([...contents.keys()].sort())
    for (const name of visible)
      expect(readFileSync(join(folder, id, name)).equals(contents.get(name)!), `${name} at ${id}`).toBe(true)
  }
  // Promise 4: the refused registrations changed nothing.
  expect(await registered()).toEqual(PEERS)
  for (const word of ['good', 'evil'])
    expect((await json<z.infer<typeof SearchResponse>>(`${maestroUrl}/search?q=${word}`))?.results).toEqual([])
})
