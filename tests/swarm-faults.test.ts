import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { NetworkError } from '../common/errors.ts'
import type { TransferProvider } from '../common/schemas.ts'
import { Cluster, type TestPeer } from './cluster.ts'
import { type Habits, HostileProvider, PIECE, type Talk } from './hostile-provider.fixture.ts'
import { begin, type Watched } from './swarm.fixture.ts'

/** An honest provider's rate, bytes a second, until the liar has been asked. */
const CRAWL = 50_000
const PIECES = 12

const cluster = new Cluster({ leaseMs: 60_000 })
let liar: HostileProvider
let honest: TestPeer
let first: TestPeer
let second: TestPeer
let count = 0

// Once, but within a test, where `expect.poll` is to be had.
async function start(): Promise<void> {
  if (liar) return
  await cluster.startMaestro()
  // Before all others, so that it is the first to be asked for a manifest.
  liar = await HostileProvider.start(undefined, cluster, 'Liar')
  honest = await cluster.addPeer('Honest')
  first = await cluster.addPeer('First')
  second = await cluster.addPeer('Second')
}

afterAll(async () => {
  await liar?.stop()
  await cluster.stop()
})

beforeEach(async () => {
  await start()
  await limitHonest(CRAWL)
})

async function limitHonest(upload: number | null): Promise<void> {
  await honest.rest.call('PUT', '/limits', z.unknown(), { body: { upload } })
}

interface Case {
  readonly name: string
  readonly data: Buffer
}

/** A new content that the liar offers in its way, and the honest provider likewise. */
async function offered(habits: Habits, pieces = PIECES): Promise<Case> {
  const name = `film-${++count}.mkv`
  const data = randomBytes(pieces * PIECE - 5000)
  await liar.offer({ [name]: data }, habits)
  await honest.share(name, data)
  return { name, data }
}

function seenOf({ last }: Watched, peer: { id: string }): TransferProvider | undefined {
  return last.providers.find((provider) => provider.peer === peer.id)
}

/** Downloads in the presence of the liar, to whom this must have happened before the honest provider gets up speed. */
async function downloaded(
  { name, data }: Case,
  hasHappened: (download: Watched, liar: TransferProvider | undefined) => unknown,
): Promise<Watched> {
  const download = await begin(first, { file: name })
  const look = async () => {
    await download.look()
    return hasHappened(download, seenOf(download, liar))
  }
  await expect.poll(look, { interval: 10 }).toBeTruthy()
  await limitHonest(null)
  await download.is('done')
  expect(first.read(name).equals(data)).toBe(true)
  return download
}

describe('a provider that sends wrong bytes', () => {
  function wrong(data: Buffer): Buffer {
    data[data.length >> 1]! ^= 1
    return data
  }

  test.each<[string, number]>([
    ['always', 1],
    ['in every tenth piece', 10],
  ])('%s is banned, nothing wrong is kept or served onward', async (_, nth) => {
    const lies: Record<string, number> = {}
    const sent: Record<string, number> = {}
    const { name, data } = await offered(
      {
        piece: (talk, piece) => {
          const { taker } = talk
          sent[taker] = (sent[taker] ?? 0) + 1
          const lie = sent[taker]! % nth === 0
          if (lie) lies[taker] = (lies[taker] ?? 0) + 1
          talk.send(piece, lie ? wrong(talk.truth(piece)) : talk.truth(piece))
        },
      },
      2 * PIECES,
    )
    const downloads = [await begin(first, { file: name }), await begin(second, { file: name })]
    await expect.poll(() => Object.keys(lies).sort(), { interval: 10 }).toEqual(['First', 'Second'])
    await limitHonest(null)
    for (const download of downloads) {
      await download.is('done')
      expect(download.peer.read(name).equals(data)).toBe(true)
      expect(seenOf(download, liar)).toMatchObject({
        state: 'banned',
        reason: expect.stringMatching(/sent wrong bytes/),
      })
      expect(download.last.notes.join()).toMatch(/banned Liar: sent wrong bytes in piece \d+/)
      expect(seenOf(download, liar)!.bytes > 0).toBe(nth > 1)
      for (const peer of [honest, first, second]) expect(seenOf(download, peer)?.state).not.toBe('banned')
    }
  })
})

describe('a provider that breaks the protocol', () => {
  const WHOLE = (talk: Talk, piece: number) => talk.truth(piece)
  const breaches: [what: string, habits: Habits, reason: RegExp][] = [
    [
      'sends more of a piece than there is',
      { piece: (talk, piece) => talk.frame(piece, 0, Buffer.concat([WHOLE(talk, piece), randomBytes(16_384)])) },
      /sent more of piece \d+ than there is/,
    ],
    [
      'sends more after the end of a piece',
      {
        piece: (talk, piece) => {
          talk.send(piece)
          talk.frame(piece, PIECE, randomBytes(16_384))
        },
      },
      /sent piece \d+, which nobody asked for/,
    ],
    [
      'sends a piece twice',
      {
        piece: (talk, piece) => {
          talk.send(piece)
          talk.send(piece)
        },
      },
      /sent piece \d+, which nobody asked for/,
    ],
    [
      'sends pieces before anybody asked',
      {
        greet: (talk) => {
          talk.have()
          for (let piece = 0; piece < talk.pieces; piece++) talk.send(piece)
        },
      },
      /sent piece 0, which nobody asked for/,
    ],
    ['sends pieces that do not exist', { piece: (talk) => talk.frame(1_000_000, 0, randomBytes(16_384)) }, /1000000/],
    [
      'leaves out the middle of a piece',
      {
        piece: (talk, piece) => {
          talk.frame(piece, 0, WHOLE(talk, piece).subarray(0, 16_384))
          talk.frame(piece, 32_768, WHOLE(talk, piece).subarray(32_768))
        },
      },
      /sent offset 32768 of piece \d+ where 16384 was next/,
    ],
    [
      'sends two pieces in turn',
      {
        piece: (talk, piece) => {
          talk.frame(piece, 0, WHOLE(talk, piece).subarray(0, 16_384))
          talk.frame(piece + 1, 0, WHOLE(talk, piece).subarray(0, 16_384))
        },
      },
      /sent piece \d+ in the middle of \d+/,
    ],
    [
      'sends empty frames',
      { piece: (talk, piece) => talk.frame(piece, 0, Buffer.alloc(0)) },
      /sent an empty frame of piece/,
    ],
    [
      'gives up every piece that it begins',
      {
        piece: (talk, piece) => {
          talk.frame(piece, 0, WHOLE(talk, piece).subarray(0, 16_384))
          talk.say({ kind: 'abandoned', abandoned: { piece } })
        },
      },
      /gave up piece \d+, which/,
    ],
    [
      'makes an offer',
      { piece: (talk) => talk.say({ kind: 'offer', offer: { filename: 'x', manifest: null, dummy: false } }) },
      /offer"? where frames were due/,
    ],
    ...[[0, 1_000_000_000], [PIECES, 1], [3], [4, 2, 1, 1]].map((runs): [string, Habits, RegExp] => [
      `has pieces ${runs.join(', ')}`,
      { greet: (talk) => talk.have(runs) },
      /told of pieces that do not exist/,
    ]),
  ]

  test.each(breaches)('%s: it is banned', async (_, habits, reason) => {
    const download = await downloaded(await offered(habits), (_, seen) => seen?.state === 'banned')
    expect(seenOf(download, liar)).toMatchObject({ state: 'banned', reason: expect.stringMatching(reason) })
    expect(seenOf(download, honest)!.state).not.toBe('banned')
    expect(liar.talks.length).toBe(1)
  })

  test('sends pieces before it is their turn: it is banned', async () => {
    const { name, data } = await offered({
      wanted: (talk) => {
        for (const piece of talk.wanted) talk.send(piece)
      },
    })
    // A limit holds back the right to send, so that nobody has it yet.
    const download = await begin(first, { file: name, limit: 1000 })
    await expect.poll(() => seenOf(download, liar)?.state ?? download.look()).toBe('banned')
    expect(seenOf(download, liar)!.reason).toMatch(/sent piece \d+ before it was its turn/)
    await limitHonest(null)
    await begin(first, { file: name, limit: null })
    await download.is('done')
    expect(first.read(name).equals(data)).toBe(true)
  })
})

const never = new Promise<never>(() => {})

describe('a provider that leaves the taker without its pieces', () => {
  const part = (talk: Talk, piece: number) => talk.frame(piece, 0, talk.truth(piece).subarray(0, 16_384))
  test.each<[string, Habits, RegExp | undefined]>([
    [
      'cuts a piece and ends',
      {
        piece: (talk, piece) => {
          part(talk, piece)
          talk.end()
        },
      },
      /dropped Liar: ended the conversation early/,
    ],
    ['cuts a piece and hangs', { piece: (talk, piece) => part(talk, piece) ?? never }, undefined],
    ['has all and sends nothing', { piece: () => {} }, undefined],
    ['says nothing at all', { greet: () => {} }, undefined],
    [
      'has all and says that it has nothing',
      { piece: (talk) => talk.say({ kind: 'refusal', refusal: { code: 'not_found', message: 'not here' } }) },
      /dropped Liar: not here/,
    ],
    [
      'has all and fails with not_found',
      { piece: (talk) => talk.end(new NetworkError('not_found', 'not here')) },
      /dropped Liar: not here/,
    ],
    ['says what is no message', { piece: (talk) => talk.say(Buffer.alloc(300, 0xff)) }, /(dropped|banned) Liar: /],
    ['says an empty message', { piece: (talk) => talk.say(Buffer.alloc(0)) }, /(dropped|banned) Liar: /],
    ['says a gigantic message', { piece: (talk) => talk.say(Buffer.alloc(20_000_000, 1)) }, /(dropped|banned) Liar: /],
    [
      'announces a message and sends a byte of it now and then',
      {
        greet: async (talk) => {
          talk.raw(Buffer.from([0, 0, 15, 0, 0]))
          for (; !talk.over; await pause(50)) talk.raw(Buffer.alloc(1))
        },
      },
      undefined,
    ],
    [
      'sends frames of one byte',
      {
        piece: async (talk, piece) => {
          const truth = talk.truth(piece)
          for (let i = 0; i < truth.length && !talk.over; i++) {
            talk.frame(piece, i, truth.subarray(i, i + 1))
            await pause(50)
          }
        },
      },
      /banned Liar: sent offset 1 of piece/,
    ],
  ])('%s: the others give what it does not', async (_, habits, note) => {
    const download = await downloaded(await offered(habits), ({ last }) =>
      note ? note.test(last.notes.join('\n')) : liar.talks.length > 0,
    )
    expect(seenOf(download, liar)?.bytes ?? 0).toBe(0)
    // Also what was begun at the liar does not make the honest one's pieces come twice.
    expect(download.last.received).toBeLessThan(1.2 * (PIECES + 4) * PIECE)
  })
})
