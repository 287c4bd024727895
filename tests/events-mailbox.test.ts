import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { brokerUrl, TestNetwork } from '../common/events/rabbitmq.fixture.ts'
import { AgentMailboxResponse, type OfferBody, SendOfferResponse } from '../common/events/rest.ts'
import { PeerSearchResponse } from '../common/schemas.ts'
import { run } from '../peer/cli/fake-agent.fixture.ts'
import { type Cluster, startCluster, type TestPeer } from './cluster.ts'

/** Files for peers that are away: left by one who is gone, perhaps, when they come back. */

// Agents start and stop again, which takes seconds on a busy machine.
vi.setConfig({ testTimeout: 60_000 })
const PATIENT = { timeout: 30_000, interval: 50 }

async function idOf(peer: TestPeer, file: string): Promise<string> {
  const { matches } = await peer.rest.call('GET', '/search', PeerSearchResponse, { query: { file } })
  return matches[0]!.id
}

async function offer(from: TestPeer, file: string, ...to: string[]): Promise<void> {
  await from.rest.call('POST', '/mailbox', SendOfferResponse, { body: { to, id: await idOf(from, file) } })
}

async function sent(peer: TestPeer): Promise<OfferBody[]> {
  return (await peer.rest.call('GET', '/mailbox', AgentMailboxResponse)).sent
}

async function received(peer: TestPeer): Promise<OfferBody[]> {
  return (await peer.rest.call('GET', '/mailbox', AgentMailboxResponse)).received
}

async function sentState(peer: TestPeer, ...states: string[]): Promise<void> {
  await expect.poll(async () => (await sent(peer)).map(({ state }) => state), PATIENT).toEqual(states)
}

async function pair(cluster: Cluster) {
  const [p1, p2] = await cluster.addPeers('P1', 'P2')
  const film = randomBytes(1_500_000)
  await p1.share('evening/film.mkv', film)
  return { p1, p2, film }
}

test('a file waits for a peer that is away, which fetches it when it is back', async (t) => {
  const cluster = await startCluster(t)
  const { p1, p2, film } = await pair(cluster)
  await p2.stop()
  await offer(p1, 'evening/film.mkv', 'P2')
  await sentState(p1, 'queued')
  await p2.start()
  await sentState(p1, 'delivered')
  expect(p2.read('evening/film.mkv')).toEqual(film)
  expect(await received(p2)).toMatchObject([{ peer: 'P1', name: 'evening/film.mkv', state: 'delivered' }])
})

test('a peer that is there has it at once; one that was never seen has it when it comes', async (t) => {
  const cluster = await startCluster(t)
  const { p1, p2, film } = await pair(cluster)
  await offer(p1, 'evening/film.mkv', 'P2', 'P3')
  await sentState(p1, 'queued', 'delivered')
  expect(p2.read('evening/film.mkv')).toEqual(film)
  const p3 = await cluster.addPeer('P3')
  await sentState(p1, 'delivered', 'delivered')
  expect(p3.read('evening/film.mkv')).toEqual(film)
})

test('it comes from whoever has it, also where its sender is gone; the sender hears of it later', async (t) => {
  const cluster = await startCluster(t)
  const { p1, p2, film } = await pair(cluster)
  await p2.stop()
  const p3 = await cluster.addPeer('P3')
  await p3.download('evening/film.mkv')
  await offer(p1, 'evening/film.mkv', 'P2')
  await sentState(p1, 'queued')
  await p1.stop()
  await p2.start()
  await expect.poll(async () => (await received(p2))[0]?.state, PATIENT).toBe('delivered')
  expect(p2.read('evening/film.mkv')).toEqual(film)
  await p1.start()
  await sentState(p1, 'delivered')
})

test('where nobody has it, the offer waits until its sender is back', async (t) => {
  const cluster = await startCluster(t)
  const { p1, p2, film } = await pair(cluster)
  await p2.stop()
  await offer(p1, 'evening/film.mkv', 'P2')
  await sentState(p1, 'queued')
  await p1.stop()
  await p2.start()
  await expect.poll(async () => (await received(p2))[0]?.problem, PATIENT).toEqual(expect.any(String))
  await p1.start()
  await sentState(p1, 'delivered')
  expect(p2.read('evening/film.mkv')).toEqual(film)
})

test('an offer that is made while the Maestro is down goes out once it is up, and says meanwhile what it waits for', async (t) => {
  const cluster = await startCluster(t)
  const { p1, p2, film } = await pair(cluster)
  await cluster.stopMaestro()
  await offer(p1, 'evening/film.mkv', 'P2')
  await expect
    .poll(async () => (await sent(p1))[0], PATIENT)
    .toMatchObject({ state: 'sending', problem: expect.stringContaining('Maestro') })
  await cluster.startMaestro()
  await sentState(p1, 'delivered')
  expect(p2.read('evening/film.mkv')).toEqual(film)
})

test('a Maestro that is started again has kept what waits', async (t) => {
  const cluster = await startCluster(t)
  const { p1, p2 } = await pair(cluster)
  await p2.stop()
  await offer(p1, 'evening/film.mkv', 'P2')
  await sentState(p1, 'queued')
  await cluster.stopMaestro()
  await cluster.startMaestro()
  await p2.start()
  await sentState(p1, 'delivered')
})

test('who takes no files refuses, and so does who has another file of that name, which stays', async (t) => {
  const cluster = await startCluster(t)
  const { p1, p2 } = await pair(cluster)
  await cluster.addPeer('P3', { accept_uploads: false })
  await p2.share('evening/film.mkv', 'mine')
  await offer(p1, 'evening/film.mkv', 'P2', 'P3')
  await sentState(p1, 'refused', 'refused')
  const problems = new Map((await sent(p1)).map(({ peer, problem }) => [peer as string, problem]))
  expect(problems.get('P2')).toMatch(/another content as "evening\/film.mkv", which stays as it is/)
  expect(problems.get('P3')).toBe('it takes no files from others')
  expect(p2.read('evening/film.mkv').toString()).toBe('mine')
})

test('an upload to a peer that has gone leaves an offer, and says so', async (t) => {
  const cluster = await startCluster(t)
  const { p1, p2 } = await pair(cluster)
  const path = join(cluster.folder, 'notes.txt')
  writeFileSync(path, 'notes')
  await p2.stop()
  const { code, stdout } = await run(['upload', path, '--to', 'P2', '--agent', p1.url])
  expect(stdout).toMatch(
    /^notes.txt: P2 is away: shared here, with everybody, and an offer waits for it \(expires .*\n$/,
  )
  expect(code).toBe(0)
  const waiting = run(['send', 'notes.txt', 'P2', '--wait', '30s', '--agent', p1.url])
  await p2.start()
  expect(await waiting).toMatchObject({ code: 0, stdout: 'notes.txt → P2: delivered\n' })
  expect(p2.read('notes.txt').toString()).toBe('notes')
})

test('a RabbitMQ keeps the mailboxes where it carries the events', async (t) => {
  const broker = await brokerUrl(t)
  const network = new TestNetwork(broker, ['P1', 'P2'])
  const cluster = await startCluster(t, { maestro: false })
  const events = { events: broker, events_prefix: network.prefix }
  const p1 = await cluster.addPeer('P1', events)
  await p1.share('film.mkv', 'a film')
  await offer(p1, 'film.mkv', 'P2')
  await sentState(p1, 'queued')
  const p2 = await cluster.addPeer('P2', { ...events, friend_peer_primary: p1.url })
  await sentState(p1, 'delivered')
  expect(p2.read('film.mkv').toString()).toBe('a film')
})
