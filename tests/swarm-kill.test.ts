import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { expect, type TestContext, test } from 'vitest'
import { systemClock } from '../common/clock.ts'
import type { ContentId, FileName, PeerId } from '../common/ids.ts'
import { PeerSearchResponse, type TransferBody, UploadsResponse } from '../common/schemas.ts'
import { WorkerHasher } from '../peer/hashing/worker-hasher.ts'
import { RpcClients } from '../peer/rpc/client.ts'
import { Downloader } from '../peer/transfer/downloader.ts'
import { TemporaryLanding } from '../peer/transfer/transfer.fixture.ts'
import { answers, Daemon, freePorts } from './processes.ts'

const MB = 1_000_000
const MIB = 1024 * 1024
const FILM = 'film.mkv'
/** A busy machine may take so long for anything. */
const PATIENCE_MS = 60_000
const TENTHS = [1, 2, 3, 4, 5, 6, 7, 8, 9]

/** An agent as a process of its own, on ports that it keeps over its lives. */
class RealPeer {
  readonly url: string
  readonly grpcPort: number
  readonly folder: string
  readonly daemon: Daemon

  static async make(folder: string, id: string, config: Record<string, unknown>): Promise<RealPeer> {
    const [port, grpcPort] = (await freePorts(2)) as [number, number]
    mkdirSync(join(folder, id))
    const file = join(folder, `${id}.json`)
    const given = { id, ip: '127.0.0.1', port, grpc_port: grpcPort, shared_dir: id, log_level: 'error', ...config }
    writeFileSync(file, JSON.stringify(given))
    return new RealPeer(join(folder, id), port, grpcPort, Daemon.peer(file))
  }

  private constructor(folder: string, port: number, grpcPort: number, daemon: Daemon) {
    this.folder = folder
    this.url = `http://127.0.0.1:${port}`
    this.grpcPort = grpcPort
    this.daemon = daemon
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  async start(): Promise<void> {
    this.daemon.start()
    const died = this.daemon.ended().then(({ code, stderr }) => {
      throw new Error(`${this.url} ended with ${code}: ${stderr}`)
    })
    await Promise.race([answers(this.url, PATIENCE_MS), died])
    died.catch(() => {})
  }

  async get<T>(path: string): Promise<T> {
    const response = await fetch(this.url + path)
    expect(response.status, path).toBe(200)
    return (await response.json()) as T
  }

  async post(path: string, body: unknown): Promise<TransferBody> {
    const headers = { 'content-type': 'application/json' }
    const response = await fetch(this.url + path, { method: 'POST', headers, body: JSON.stringify(body) })
    expect(response.status, path).toBe(202)
    return (await response.json()) as TransferBody
  }

  /** Waits until it shares the file; @returns its content id. */
  async shares(name: string): Promise<ContentId> {
    for (;;) {
      const { matches } = PeerSearchResponse.parse(await this.get(`/search?file=${name}`))
      if (matches[0]) return matches[0].id
      await pause(20)
    }
  }

  /** Waits until this is so of the one download; @returns it. */
  async download(holds: (transfer: TransferBody) => boolean, what: string): Promise<TransferBody> {
    const deadline = Date.now() + PATIENCE_MS
    for (;;) {
      const transfer = await this.get<TransferBody>('/transfers/1').catch(() => undefined)
      if (transfer && holds(transfer)) return transfer
      expect(transfer?.error ?? null, what).toBe(null)
      expect(Date.now(), `${what}: ${JSON.stringify(transfer)}`).toBeLessThan(deadline)
      await pause(10)
    }
  }
}

/** Makes agents that are gone with the test. */
function workshop(t: TestContext): (id: string, config: Record<string, unknown>) => Promise<RealPeer> {
  const folder = mkdtempSync(join(tmpdir(), 'swarm-kill-'))
  const made: RealPeer[] = []
  t.onTestFinished(async () => {
    await Promise.all(made.map(({ daemon }) => daemon.stop('SIGKILL').catch(() => {})))
    rmSync(folder, { recursive: true, force: true })
  })
  return async (id, config) => {
    const peer = await RealPeer.make(folder, id, config)
    made.push(peer)
    return peer
  }
}

/** A provider of 64 MiB, in 256 pieces, that gives them at this rate; a taker that has just begun to fetch them. */
async function pairUnderWay(
  t: TestContext,
  upload_rate: number,
): Promise<{ provider: RealPeer; taker: RealPeer; film: Buffer }> {
  const film = randomBytes(64 * MIB)
  const make = workshop(t)
  const provider = await make('P', { upload_rate })
  const taker = await make('T', { friend_peer_primary: provider.url })
  writeFileSync(provider.path(FILM), film)
  await Promise.all([provider.start(), taker.start()])
  await provider.shares(FILM)
  await taker.post('/transfers', { file: FILM })
  return { provider, taker, film }
}

test.concurrent('kill -9 of the taker at every tenth: it goes on by itself, and nothing verified comes twice', {
  timeout: 240_000,
}, async (t) => {
  const rate = 4 * MB
  const { provider, taker, film } = await pairUnderWay(t, rate)
  for (const tenth of TENTHS) {
    const { bytes } = await taker.download((now) => now.bytes >= (tenth / 10) * film.length, `tenth ${tenth}`)
    await taker.daemon.stop('SIGKILL')
    await taker.start()
    const back = await taker.download(({ pieces }) => pieces !== null, `back after tenth ${tenth}`)
    expect(back.resumed_bytes, `tenth ${tenth}`).toBeGreaterThanOrEqual(bytes)
  }
  const { resumed_bytes, received } = await taker.download(({ state }) => state === 'done', 'the end')
  expect(received).toBe(film.length - resumed_bytes)
  expect(readFileSync(taker.path(FILM)).equals(film)).toBe(true)
  const { uploads } = UploadsResponse.parse(await provider.get('/uploads'))
  process.stdout.write(`taker killed: ${(uploads[0]!.bytes / film.length).toFixed(3)} copies were sent\n`)
  // What is under way is lost each time: a quarter of a second's bytes and a piece or two, on a machine that is starved.
  const lost = rate / 4 + 2 * 256 * 1024
  expect(uploads[0]!.bytes).toBeLessThanOrEqual(film.length + TENTHS.length * lost)
})

test.concurrent('kill -9 of the provider at every tenth: the taker waits, and goes on by itself', {
  timeout: 240_000,
}, async (t) => {
  const { provider, taker, film } = await pairUnderWay(t, 8 * MB)
  for (const tenth of TENTHS) {
    const { bytes } = await taker.download((now) => now.bytes >= (tenth / 10) * film.length, `tenth ${tenth}`)
    await provider.daemon.stop('SIGKILL')
    await taker.download(({ state }) => state === 'waiting', `alone after tenth ${tenth}`)
    await provider.start()
    await taker.download((now) => now.state === 'running' && now.bytes > bytes, `back after tenth ${tenth}`)
  }
  const { received } = await taker.download(({ state }) => state === 'done', 'the end')
  expect(readFileSync(taker.path(FILM)).equals(film)).toBe(true)
  process.stdout.write(`provider killed: ${(received / film.length).toFixed(3)} copies came\n`)
  expect(received / film.length).toBeLessThan(1.1)
})

test('64 takers at once on one provider that is limited: all get it right, none much later than others, in bounded memory', {
  timeout: 120_000,
}, async (t) => {
  const TAKERS = 64
  const film = randomBytes(3 * MIB)
  const provider = await workshop(t)('P', { upload_rate: 24 * MB })
  writeFileSync(provider.path(FILM), film)
  await provider.start()
  const id = await provider.shares(FILM)

  const clients = new RpcClients()
  const hasher = new WorkerHasher()
  const landings = await Promise.all(Array.from({ length: TAKERS }, () => TemporaryLanding.create()))
  t.onTestFinished(async () => {
    await clients.close()
    await hasher.close()
    await Promise.all(landings.map((landing) => landing.remove()))
  })
  const progress = new Array<number>(TAKERS).fill(0)
  const received = new Array<number>(TAKERS).fill(0)
  let atHalf: number[] | undefined
  const source = { peer: 'P' as PeerId, rest: provider.url, grpc_port: provider.grpcPort }
  await Promise.all(
    landings.map((landing, taker) =>
      new Downloader({ landing, hasher, clock: systemClock }).run(
        {
          id,
          names: () => [FILM as FileName],
          sources: [clients.source(source)],
          dummy: false,
          patient: false,
          observer: {
            onReceived: (bytes) => {
              received[taker]! += bytes
            },
            onVerified: (_, bytes) => {
              progress[taker]! += bytes
              const total = progress.reduce((sum, each) => sum + each, 0)
              if (total >= (TAKERS * film.length) / 2) atHalf ??= [...progress]
            },
          },
        },
        new AbortController().signal,
      ),
    ),
  )

  expect(received).toEqual(new Array(TAKERS).fill(film.length))
  for (const landing of landings) expect(readFileSync(landing.path(FILM)).equals(film)).toBe(true)
  const [slowest, fastest] = [Math.min(...atHalf!), Math.max(...atHalf!)]
  const peak = peakMemory(provider.daemon.pid)
  process.stdout.write(`64 takers: ${slowest / MIB} to ${fastest / MIB} MiB at half time, ${peak / MB} MB of memory\n`)
  expect(slowest).toBeGreaterThanOrEqual(fastest / 3)
  expect(peak).toBeLessThan(200 * MB)
})

/** The most that a process ever had in memory, bytes. */
function peakMemory(pid: number): number {
  const [, kib] = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))!
  return Number(kib) * 1024
}
