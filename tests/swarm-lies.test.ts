import { randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { createServer } from 'node:net'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { manifestOf } from '../common/merkle.ts'
import type { TransferProvider } from '../common/schemas.ts'
import { manifestToWire, type WireContact } from '../peer/rpc/codec.ts'
import { Cluster, type TestPeer } from './cluster.ts'
import { type Habits, HostileProvider, JumpingClock, PIECE, type Talk } from './hostile-provider.fixture.ts'
import { begin, type Watched } from './swarm.fixture.ts'

const PIECES = 6
const never = new Promise<never>(() => {})

const cluster = new Cluster({ leaseMs: 60_000 })
const clock = new JumpingClock()
let liar: HostileProvider
let honest: HostileProvider
let taker: TestPeer
let count = 0

// Once, but within a test, where `expect.poll` is to be had.
beforeEach(async () => {
  if (taker) return
  await cluster.startMaestro()
  liar = await HostileProvider.start(undefined, cluster, 'Liar')
  honest = await HostileProvider.start(undefined, cluster, 'Honest')
  taker = await cluster.addPeer('Taker', {}, { clock })
})

afterAll(async () => {
  await liar?.stop()
  await honest?.stop()
  await cluster.stop()
})

interface Case {
  readonly name: string
  readonly data: Buffer
}

/** A new content that the liar offers in its way. Who registers first is asked first for the manifest. */
async function offered(habits: Habits): Promise<Case> {
  const name = `film-${++count}.mkv`
  const data = randomBytes(PIECES * PIECE - 5000)
  await liar.offer({ [name]: data }, habits)
  return { name, data }
}

function seenOf({ last }: Watched, { id }: { id: string }): TransferProvider | undefined {
  return last.providers.find(({ peer }) => peer === id)
}

async function arrives({ name, data }: Case): Promise<Watched> {
  const download = await begin(taker, { file: name })
  await download.is('done')
  expect(taker.read(name).equals(data)).toBe(true)
  return download
}

describe('a false manifest', () => {
  const other = manifestToWire(manifestOf(randomBytes(PIECES * PIECE - 5000)))
  const lies: [what: string, manifest: NonNullable<Habits['manifest']>][] = [
    ['with the hashes of another content', (truth) => ({ ...truth, hashes: other.hashes })],
    ['that is one of another content', () => other],
    ['with a size beyond all files', (truth) => ({ ...truth, size: 2 ** 60 })],
    ['with a size of a TiB', (truth) => ({ ...truth, size: 2 ** 40, piece_size: 2 ** 22 })],
    ['with another piece size', (truth) => ({ ...truth, piece_size: 2 * PIECE })],
    ['with a piece size of 0', (truth) => ({ ...truth, piece_size: 0 })],
    ['with a hash too few', (truth) => ({ ...truth, hashes: truth.hashes.subarray(32) })],
    ['with half a hash', (truth) => ({ ...truth, hashes: truth.hashes.subarray(16) })],
    ['of no byte', (truth) => ({ ...truth, size: 0, hashes: Buffer.alloc(0) })],
  ]

  test.each(lies)('%s gets its teller banned, who is not asked for anything more', async (_, manifest) => {
    const lie = await offered({ manifest })
    await honest.offer({ [lie.name]: lie.data })
    const download = await arrives(lie)
    expect(liar.manifests).toBe(1)
    expect(liar.talks).toEqual([])
    expect(seenOf(download, liar)).toMatchObject({ state: 'banned', reason: expect.stringContaining('false manifest') })
  })

  test.each<[string, NonNullable<Habits['manifest']>]>([
    ['is garbage', () => Buffer.alloc(1000, 0xff)],
    ['is gigantic', () => Buffer.alloc(20_000_000, 1)],
    ['never comes', () => undefined],
  ])('that %s is had from another', async (_, manifest) => {
    const lie = await offered({ manifest })
    await honest.offer({ [lie.name]: lie.data })
    const download = await arrives(lie)
    expect(liar.manifests).toBe(1)
    expect(download.last.seconds).toBeLessThan(10)
  })

  test('from all providers: the error says so, and nothing is left behind', async () => {
    const { name } = await offered({ manifest: () => other })
    const ended = await taker.transfer({ file: name })
    expect(ended).toMatchObject({ state: 'failed', error: { code: 'corrupt' } })
    expect(ended.error!.message).toMatch(/no provider is left: Liar: a false manifest/)
    expect(readdirSync(taker.folder).filter((entry) => entry === name || entry.includes('.part'))).toEqual([])
  })
})

test('wrong bytes from all providers: the error says so, and nothing is published', async () => {
  const { name } = await offered({ piece: (talk, piece) => talk.send(piece, randomBytes(talk.truth(piece).length)) })
  const ended = await taker.transfer({ file: name })
  expect(ended).toMatchObject({ state: 'failed', error: { code: 'corrupt' }, bytes: 0 })
  expect(ended.error!.message).toMatch(/no provider is left: Liar: sent wrong bytes/)
  expect(readdirSync(taker.folder).filter((entry) => entry === name || entry.includes('.part'))).toEqual([])
})

describe('a provider that falls silent', () => {
  const begun = (talk: Talk, piece: number) => {
    talk.frame(piece, 0, talk.truth(piece).subarray(0, 16_384))
    return never
  }
  test.each<[string, number, NonNullable<Habits['piece']>]>([
    ['in the middle of a piece', 15_000, begun],
    ['before its first piece', 60_000, () => {}],
  ])('%s is dropped in time, and its pieces come from who is there next', async (_, ms, piece) => {
    const lie = await offered({ piece })
    const download = await begin(taker, { file: lie.name })
    await expect.poll(() => liar.asked.length, { interval: 10 }).toBeGreaterThan(0)
    await expect.poll(async () => (await download.look()) && seenOf(download, liar)?.pieces).toBe(PIECES)
    clock.jump(ms - 5000)
    await download.look()
    expect(download.last.notes).toEqual([])
    clock.jump(5500)
    const { notes } = await download.is('waiting')
    expect(notes.join()).toMatch(/dropped Liar: sent nothing for \d+ s/)
    await honest.offer({ [lie.name]: lie.data })
    clock.jump(60_000)
    await download.is('done')
    expect(taker.read(lie.name).equals(lie.data)).toBe(true)
  })
})

describe('a provider that names others', () => {
  /** Somebody who has nothing to do with all this, and counts who calls. */
  async function bystander(t: { onTestFinished: (stop: () => void) => void }) {
    let calls = 0
    const server = createServer((socket) => {
      calls++
      socket.destroy()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    t.onTestFinished(() => void server.close())
    return { port: (server.address() as { port: number }).port, calls: () => calls }
  }

  function naming(
    contacts: WireContact[],
    then: NonNullable<Habits['piece']> = (talk, piece) => talk.send(piece),
  ): Habits {
    return {
      greet: (talk) => {
        for (let from = 0; from < contacts.length; from += 100)
          talk.say({ kind: 'takers', takers: { contacts: contacts.slice(from, from + 100) } })
        talk.have()
      },
      piece: then,
    }
  }

  test('where nobody is: they are called a few times, and forgotten', async (t) => {
    const other = await bystander(t)
    const lie = await offered(naming([{ peer: 'Bystander', host: '127.0.0.1', grpc_port: other.port }], () => {}))
    const download = await begin(taker, { file: lie.name })
    await expect.poll(() => other.calls(), { interval: 10 }).toBeGreaterThan(0)
    for (let i = 0; i < 10; i++) {
      clock.jump(5000)
      await download.look()
      await new Promise((resolve) => setTimeout(resolve, 30))
    }
    await honest.offer({ [lie.name]: lie.data })
    clock.jump(60_000)
    await download.is('done')
    expect(other.calls()).toBeLessThanOrEqual(5)
    expect(taker.read(lie.name).equals(lie.data)).toBe(true)
  })

  test.each<[string, () => WireContact[]]>([
    ['the taker itself', () => [{ peer: 'Taker', host: '127.0.0.1', grpc_port: portOf(taker) }]],
    ['the taker under another name', () => [{ peer: 'Somebody', host: '127.0.0.1', grpc_port: portOf(taker) }]],
    ['itself', () => [{ peer: 'Liar', host: '127.0.0.1', grpc_port: liar.grpcPort }]],
    ['itself under another name', () => [{ peer: 'Somebody', host: '127.0.0.1', grpc_port: liar.grpcPort }]],
    ['host names', () => [{ peer: 'Somebody', host: 'localhost', grpc_port: honest.grpcPort }]],
    ['addresses that nobody can have', () => ['0.0.0.0', '169.254.169.254', '224.0.0.1', '::'].map(somebodyAt)],
    ['what is no contact', () => [{ peer: '../..', host: 'x y', grpc_port: 4_000_000_000 }]],
    [
      '10,000 others',
      () =>
        Array.from({ length: 10_000 }, (_, i) => ({
          ...somebodyAt('127.0.0.1'),
          peer: `S${i}`,
          grpc_port: 1 + (i % 1000),
        })),
    ],
  ])('%s: the download arrives all the same', async (_, contacts) => {
    const download = await arrives(await offered(naming(contacts())))
    expect(seenOf(download, liar)).toMatchObject({ state: 'connected', bytes: PIECES * PIECE - 5000 })
    expect(download.last.providers.length).toBeLessThanOrEqual(100)
  })

  test('who take all connections there may be, and say nothing: who is found later gets one all the same', async () => {
    const ports = await liar.morePorts(55)
    const lie = await offered({
      piece: () => {},
      greet: (talk) => {
        if (liar.talks.length > 1) return
        talk.have()
        const contacts = ports.map((port, i) => ({ peer: `Sybil-${i}`, host: '127.0.0.1', grpc_port: port }))
        talk.say({ kind: 'takers', takers: { contacts } })
      },
    })
    const download = await begin(taker, { file: lie.name })
    await expect.poll(() => liar.talks.length, { interval: 10 }).toBe(50)
    await honest.offer({ [lie.name]: lie.data })
    clock.jump(31_000)
    await download.is('done')
    expect(taker.read(lie.name).equals(lie.data)).toBe(true)
  })

  const somebodyAt = (host: string): WireContact => ({ peer: 'Somebody', host, grpc_port: 9 })
  const portOf = (peer: TestPeer) => peer.agent.info().grpc_port
})
