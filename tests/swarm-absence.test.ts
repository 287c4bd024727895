import { randomBytes } from 'node:crypto'
import { describe, expect, type TestContext, test } from 'vitest'
import { ManualClock } from '../common/clock.ts'
import { RestClient } from '../common/rest-client.ts'
import { LeaseSchema, type TransferBody } from '../common/schemas.ts'
import { startCluster, type TestPeer } from './cluster.ts'
import { freePorts } from './processes.ts'
import { begin, given, Link, limit, PATIENT, type Watched } from './swarm.fixture.ts'

const MB = 1_000_000
const MIB = 1024 * 1024
const FILM = 'film.mkv'
/** 16 pieces */
const film = randomBytes(4 * MIB)
/** What comes twice at most where a conversation is cut: pieces that were under way. */
const LOST = 4 * 256 * 1024

async function endsRight(download: Watched): Promise<void> {
  await download.is('done', 120_000)
  expect(download.peer.read(FILM).equals(film)).toBe(true)
}

/** Lets the taker's time pass until this is so of its download; @returns how much passed, ms. */
async function passUntil(
  download: Watched,
  clock: ManualClock,
  holds: (now: TransferBody) => boolean,
  stepMs: number,
): Promise<number> {
  const begun = clock.now()
  const seen = async () => {
    clock.advance(stepMs)
    return holds(await download.look())
  }
  await expect.poll(seen, { interval: 20, timeout: 60_000 }).toBe(true)
  return clock.now() - begun
}

const waits = ({ state }: TransferBody) => state === 'waiting'
const isDone = ({ state }: TransferBody) => state === 'done'
const isQuarter = ({ bytes }: TransferBody) => bytes >= MIB

describe('a taker whose only provider is gone', { timeout: 180_000 }, () => {
  test('waits for an hour, and goes on within a minute of its return, with all that it had', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const [port, grpc_port] = await freePorts(2)
    const provider = await cluster.addPeer('P', { port, grpc_port, upload_rate: MB })
    await provider.share(FILM, film)
    const clock = new ManualClock()
    const taker = await cluster.addPeer('T', { friend_peer_primary: provider.url, ...PATIENT }, { clock })
    const download = await begin(taker, { file: FILM })
    await passUntil(download, clock, isQuarter, 20)
    await provider.stop()
    await passUntil(download, clock, waits, 20)
    const { bytes } = download.last
    for (let minute = 0; minute < 60; minute++) {
      clock.advance(60_000)
      expect(await download.look()).toMatchObject({ state: 'waiting', bytes })
    }
    await provider.start()
    await limit(provider, { upload: null })
    clock.advance(60_000)
    await passUntil(download, clock, isDone, 20)
    expect(taker.read(FILM).equals(film)).toBe(true)
    expect((await given(provider, download.last.id)).bytes).toBeLessThanOrEqual(film.length - bytes)
    expect(download.last.received).toBeLessThanOrEqual(film.length + LOST)
  })

  test.for([
    { where: 'the same ports', ports: true },
    { where: 'other ports, which the Maestro knows', ports: false },
  ])('goes on when that one is back on $where', async ({ ports }, t) => {
    const cluster = await startCluster(t)
    const [port, grpc_port] = await freePorts(2)
    const provider = await cluster.addPeer('P', { upload_rate: MB, ...(ports ? { port, grpc_port } : {}) })
    await provider.share(FILM, film)
    const before = provider.agent.info().grpc_port
    const taker = await cluster.addPeer('T')
    const download = await begin(taker, { file: FILM })
    await download.has(MIB)
    await provider.stop()
    await download.is('waiting')
    const { bytes } = download.last
    await provider.start()
    expect(provider.agent.info().grpc_port === before).toBe(ports)
    await limit(provider, { upload: null })
    await endsRight(download)
    expect((await given(provider, download.last.id)).bytes).toBeLessThanOrEqual(film.length - bytes)
  })
})

describe('a network link', { timeout: 180_000 }, () => {
  /** A provider that can be reached over a link only, which its registration names; a taker that is a quarter through. */
  async function overLink(
    t: TestContext,
    clock?: ManualClock,
  ): Promise<{ provider: TestPeer; link: Link; download: Watched }> {
    const provider = await (await startCluster(t, { maestro: false })).addPeer('P', { upload_rate: MB })
    await provider.share(FILM, film)
    const link = await Link.to(t, provider.agent.info().grpc_port)
    const cluster = await startCluster(t, { leaseMs: 3_600_000 })
    const maestro = new RestClient({ name: 'the Maestro', baseUrl: cluster.maestroUrl })
    t.onTestFinished(() => maestro.close())
    const [found] = (await provider.locate({ file: FILM })).peers
    const files = [{ name: FILM, size: film.length, id: found!.id }]
    const body = { id: 'P', peer: provider.url, grpc_port: link.port, files }
    await maestro.call('POST', '/register', LeaseSchema, { body })
    const taker = await cluster.addPeer('T', {}, clock ? { clock } : {})
    const download = await begin(taker, { file: FILM })
    if (clock) await passUntil(download, clock, isQuarter, 20)
    else await download.has(MIB)
    return { provider, link, download }
  }

  test('that is cut and mended ends no download, nor fetches anything twice', async (t) => {
    const { provider, link, download } = await overLink(t)
    link.cut()
    await download.is('waiting')
    const kept = download.last.bytes
    link.mend()
    await download.is('running')
    expect(download.last.bytes).toBeGreaterThanOrEqual(kept)
    await limit(provider, { upload: null })
    await endsRight(download)
    expect(download.last.received).toBeLessThanOrEqual(film.length + LOST)
  })

  test('that falls silent is given up after 15 s, and taken up again once it carries', async (t) => {
    const clock = new ManualClock()
    const { provider, link, download } = await overLink(t, clock)
    link.silence()
    const { bytes } = await download.look()
    const patience = await passUntil(download, clock, waits, 250)
    expect(patience).toBeGreaterThanOrEqual(15_000)
    expect(download.last.providers).toMatchObject([
      { peer: 'P', state: 'dropped', reason: /sent nothing for 1[5-9] s/ },
    ])
    await limit(provider, { upload: null })
    await passUntil(download, clock, isDone, 250)
    expect(download.peer.read(FILM).equals(film)).toBe(true)
    expect(download.last.received).toBeLessThanOrEqual(film.length + LOST)
    expect(bytes).toBeGreaterThanOrEqual(MIB)
  })
})

describe('a download without a Maestro from its start to its end', () => {
  test('finds a friend that has it, where the first friend is gone too', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const provider = await cluster.addPeer('P')
    await provider.share(FILM, film)
    const nobody = 'http://127.0.0.1:9'
    const friends = { friend_peer_primary: nobody, friend_peer_backup: provider.url }
    const taker = await cluster.addPeer('T', { maestro_url: nobody, ...friends, ...PATIENT })
    const download = await begin(taker, { file: FILM })
    await endsRight(download)
    expect(download.last.via).toBe('friends')
    expect(taker.agent.info().maestro).toBe('unreachable')
  })
})
