import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, describe, expect, test } from 'vitest'
import { systemClock } from '../common/clock.ts'
import type { FileName, PeerId } from '../common/ids.ts'
import { manifestOf } from '../common/merkle.ts'
import { TransfersResponse } from '../common/schemas.ts'
import { RpcClients } from '../peer/rpc/client.ts'
import { pushFile } from '../peer/rpc/push.ts'
import { TokenBucket } from '../peer/transfer/rate-limit.ts'
import { Uploader } from '../peer/transfer/uploader.ts'
import { Cluster, startCluster, type TestPeer } from './cluster.ts'
import { begin, given, Link, limit, PATIENT, Watched } from './swarm.fixture.ts'

const MB = 1_000_000
const MIB = 1024 * 1024
const FILM = 'film.mkv'

async function endsRight(download: Watched, bytes: Buffer, as = FILM): Promise<void> {
  await download.is('done', 120_000)
  expect(download.peer.read(as).equals(bytes), `${as} at ${download.peer.id}`).toBe(true)
}

describe('a swarm', { timeout: 240_000 }, () => {
  /** 48 pieces */
  const film = randomBytes(12 * MIB)

  /** One who has the film and gives it slowly, and so many who may take it. Without a Maestro they know only that one. */
  async function swarmOf(cluster: Cluster, takers: number): Promise<TestPeer[]> {
    const seeder = await cluster.addPeer('S', { upload_rate: 6 * MB })
    await seeder.share(FILM, film)
    const config = cluster.hasMaestro ? {} : { friend_peer_primary: seeder.url, ...PATIENT }
    const ids = Array.from({ length: takers }, (_, i) => `T${i + 1}`)
    return [seeder, ...(await Promise.all(ids.map((id) => cluster.addPeer(id, config))))]
  }

  test.for([
    { takers: 6, where: 'who find each other through the Maestro', maestro: true },
    { takers: 4, where: 'who know one friend and no Maestro', maestro: false },
  ])('of $takers takers $where: all get it, all give, who had it sends few copies', async ({ takers, maestro }, t) => {
    const cluster = await startCluster(t, { maestro })
    const [seeder, ...others] = await swarmOf(cluster, takers)
    const downloads = await Promise.all(others.map((taker) => begin(taker, { file: FILM })))
    for (const download of downloads) await endsRight(download, film)
    const { id } = downloads[0]!.last
    for (const taker of others) expect((await given(taker, id)).sent_once, `given by ${taker.id}`).toBeGreaterThan(0)
    const copies = (await given(seeder!, id)).bytes / film.length
    expect(copies).toBeGreaterThanOrEqual(1)
    expect(copies).toBeLessThan(takers / 2)
  })

  test('is found through the Maestro by takers that have no provider in common', async (t) => {
    const elsewhere = await startCluster(t, { maestro: false })
    const cluster = await startCluster(t)
    const downloads: Watched[] = []
    for (const number of [1, 2]) {
      const seeder = await elsewhere.addPeer(`S${number}`, { upload_rate: MB })
      await seeder.share(FILM, film)
      const taker = await cluster.addPeer(`T${number}`, { friend_peer_primary: seeder.url, ...PATIENT })
      const download = await begin(taker, { file: FILM, via: 'friends' })
      await download.has(1)
      downloads.push(download)
    }
    const [, second] = downloads
    await expect.poll(async () => (await second!.givers()).get('T1')).toBeGreaterThan(0)
    expect([...(await second!.givers()).keys()].sort()).toEqual(['S2', 'T1'])
    for (const seeder of elsewhere.peers) await limit(seeder, { upload: null })
    for (const download of downloads) await endsRight(download, film)
  })

  test('gives from the first verified pieces on, and tells earlier takers of later ones without the Maestro', async (t) => {
    const cluster = await startCluster(t)
    const [seeder, t1, t2, t3] = await swarmOf(cluster, 3)
    await limit(seeder!, { upload: MB })
    const downloads: Watched[] = []
    for (const taker of [t1!, t2!, t3!]) {
      const download = await begin(taker, { file: FILM })
      await download.has(1)
      downloads.push(download)
    }
    const [first, second] = downloads
    await cluster.stopMaestro()
    // The first one asked for others when there were none: now only the provider can tell it of them.
    await expect.poll(async () => [...(await first!.givers()).keys()].sort()).toEqual(['S', 'T2', 'T3'])
    await expect.poll(async () => (await second!.givers()).get('T1')).toBeGreaterThan(0)
    await expect.poll(async () => (await first!.givers()).get('T2')).toBeGreaterThan(0)
    for (const download of downloads) expect((await download.look()).state).toBe('running')
    await limit(seeder!, { upload: null })
    for (const download of downloads) await endsRight(download, film)
  })
})

describe('a download that runs', { timeout: 180_000 }, () => {
  const cluster = new Cluster({})
  let seeder: TestPeer
  let taker: TestPeer
  let count = 0

  afterAll(() => cluster.stop())

  /** The two agents of these tests, started for the first one. */
  async function pair(): Promise<void> {
    if (cluster.peers.length > 0) return
    await cluster.startMaestro()
    ;[seeder, taker] = await cluster.addPeers('S', 'T')
  }

  /** A download of a new file that comes slowly, at a quarter of it. */
  async function underWay(): Promise<{ download: Watched; name: string; bytes: Buffer }> {
    await pair()
    const name = `film-${++count}.mkv`
    const bytes = randomBytes(4 * MIB)
    await limit(seeder, { upload: MB })
    await seeder.share(name, bytes)
    const download = await begin(taker, { file: name })
    await download.has(MIB)
    return { download, name, bytes }
  }

  const unlimited = () => limit(seeder, { upload: null })
  /** What came twice at most, where a download was stopped once: pieces that were under way. */
  const LOST = 4 * 256 * 1024

  test('is shared by a second name for the same content: it comes once, and lands under both', async () => {
    const { download, name, bytes } = await underWay()
    const second = await begin(taker, { id: download.last.id!, as: 'copies/again.mkv' })
    await second.is('running')
    expect(second.number).not.toBe(download.number)
    expect(second.last.joined).toBe(download.number)
    expect((await given(seeder, download.last.id)).takers).toBe(1)
    await unlimited()
    await endsRight(download, bytes, name)
    await endsRight(second, bytes, 'copies/again.mkv')
    expect((await given(seeder, download.last.id)).bytes).toBe(bytes.length)
  })

  test('is joined by whoever asks for the same again', async () => {
    const { download, name, bytes } = await underWay()
    const again = await begin(taker, { file: name })
    expect(again.number).toBe(download.number)
    await unlimited()
    await endsRight(again, bytes, name)
    expect((await given(seeder, download.last.id)).bytes).toBe(bytes.length)
  })

  test('keeps its pieces while it is paused, and goes on where it was', async () => {
    const { download, name, bytes } = await underWay()
    expect(await download.command('pause')).toBe('paused')
    const kept = download.last.bytes
    expect(kept).toBeGreaterThanOrEqual(MIB)
    await expect.poll(async () => (await given(seeder, download.last.id)).takers).toBe(0)
    expect(await download.look()).toMatchObject({ state: 'paused', bytes: kept })
    await download.command('resume')
    await download.is('running')
    expect(download.last.bytes).toBeGreaterThanOrEqual(kept)
    await unlimited()
    await endsRight(download, bytes, name)
    expect((await given(seeder, download.last.id)).bytes).toBeLessThanOrEqual(bytes.length + LOST)
  })

  test('leaves its pieces to the next one when it is cancelled', async () => {
    const { download, name, bytes } = await underWay()
    await download.cancel()
    expect(download.last.state).toBe('cancelled')
    expect(await taker.has(name)).toBe(false)
    await unlimited()
    const next = await begin(taker, { file: name })
    expect(next.number).not.toBe(download.number)
    await endsRight(next, bytes, name)
    expect(next.last.resumed_bytes).toBeGreaterThanOrEqual(MIB)
    expect((await given(seeder, download.last.id)).bytes).toBeLessThanOrEqual(bytes.length + LOST)
  })

  test('goes on by itself when its agent is started again', async () => {
    const { download, name, bytes } = await underWay()
    await taker.stop()
    await unlimited()
    await taker.start()
    await endsRight(download, bytes, name)
    expect(download.last.resumed_bytes).toBeGreaterThanOrEqual(MIB)
    expect((await given(seeder, download.last.id)).bytes).toBeLessThanOrEqual(bytes.length + LOST)
  })

  test('stays paused when its agent is started again, until it is resumed', async () => {
    const { download, name, bytes } = await underWay()
    await download.command('pause')
    await taker.stop()
    await unlimited()
    await taker.start()
    expect((await download.look()).state).toBe('paused')
    // Had it gone on by itself, it would have been asked for before this one.
    await seeder.share('small.txt', 'small')
    await taker.download('small.txt')
    expect((await download.look()).state).toBe('paused')
    await download.command('resume')
    await endsRight(download, bytes, name)
    expect(download.last.resumed_bytes).toBeGreaterThanOrEqual(MIB)
    expect((await given(seeder, download.last.id)).bytes).toBeLessThanOrEqual(bytes.length + LOST)
  })

  test('obeys other limits, of either agent or its own, within two seconds', async () => {
    await pair()
    await unlimited()
    const bytes = randomBytes(32 * MIB)
    await limit(taker, { download: MB })
    await seeder.share('long.mkv', bytes)
    const download = await begin(taker, { file: 'long.mkv' })
    await download.has(1)
    /** Bytes a second from two seconds from now on. */
    const rate = async () => {
      await pause(2000)
      const [from, begun] = [(await given(seeder, download.last.id)).bytes, performance.now()]
      await pause(1500)
      return (((await given(seeder, download.last.id)).bytes - from) * 1000) / (performance.now() - begun)
    }
    const changes: [string, number, (bytesPerSecond: number) => Promise<void>][] = [
      ['the taker may download', 4 * MB, (download) => limit(taker, { download })],
      ['the provider may upload', 2 * MB, (upload) => limit(seeder, { upload })],
      ['the transfer may', MB, (bytesPerSecond) => download.limit(bytesPerSecond)],
    ]
    for (const [who, most, change] of changes) {
      await change(most)
      const measured = (await rate()) / most
      expect(measured, who).toBeGreaterThan(0.7)
      expect(measured, who).toBeLessThan(1.3)
    }
    await limit(taker, { download: null })
    await unlimited()
    await download.limit(null)
    await endsRight(download, bytes, 'long.mkv')
  })
})

describe('a push', { timeout: 180_000 }, () => {
  test('is among the transfers of who receives it, and goes on where it was cut', async (t) => {
    const receiver = await (await startCluster(t, { maestro: false })).addPeer('R')
    const link = await Link.to(t, receiver.agent.info().grpc_port)
    const clients = new RpcClients()
    t.onTestFinished(() => clients.close())
    const bytes = randomBytes(4 * MIB)
    let rate: number | undefined = MB
    const push = () =>
      pushFile(
        { clients, uploader: new Uploader({ clock: systemClock, limit: new TokenBucket(systemClock, () => rate) }) },
        { peer: 'R' as PeerId, rest: receiver.url, grpc_port: link.port },
        {
          filename: FILM as FileName,
          manifest: manifestOf(bytes),
          reader: { read: async (into, position) => void bytes.copy(into, 0, position) },
          dummy: false,
        },
        new AbortController().signal,
      )
    const pushed = async () => {
      const { transfers } = await receiver.rest.call('GET', '/transfers', TransfersResponse)
      return transfers.map(({ direction, state }) => `${direction} ${state}`)
    }

    const first = push().catch((error) => error)
    await expect.poll(pushed).toEqual(['push running'])
    const incoming = new Watched(receiver, '1')
    await incoming.has(MIB)
    link.cut()
    expect(await first).toMatchObject({ code: 'unavailable' })
    await expect.poll(pushed).not.toContain('push running')

    link.mend()
    rate = undefined
    const second = await push()
    expect(second.bytes).toBeLessThanOrEqual(3 * MIB)
    expect(await pushed()).toEqual(['push done', 'push failed'])
    expect((await new Watched(receiver, '2').look()).resumed_bytes).toBeGreaterThanOrEqual(MIB)
    expect(receiver.read(FILM).equals(bytes)).toBe(true)
  })
})
