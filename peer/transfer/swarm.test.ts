import { afterEach, describe, expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { FileName } from '../../common/ids.ts'
import { MIN_PIECE_SIZE, manifestOf } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import { Downloader } from './downloader.ts'
import { KnownProviders } from './known-providers.ts'
import type { PieceSource } from './source.ts'
import { ScriptedSource, UploadingSource } from './swarm.fixture.ts'
import { Swarm, type SwarmDeps } from './swarm.ts'
import { SwarmState } from './swarm-state.ts'
import { patternOf, TemporaryLanding } from './transfer.fixture.ts'

const PIECES = 40
const film = patternOf(PIECES * MIN_PIECE_SIZE)
const manifest = manifestOf(film)
const sink = { manifest, dummy: false, fd: -1, commit: async () => true, taker: undefined }
const everything = { kind: 'have', pieces: [0, PIECES] } as const

let clock: ManualClock
const cleanups: (() => unknown)[] = []
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
})

/** Lets what is ready run. */
async function settle(rounds = 10): Promise<void> {
  for (let i = 0; i < rounds; i++) await new Promise((resolve) => setImmediate(resolve))
}

async function pass(seconds: number, until = () => false): Promise<void> {
  for (let i = 0; i < 4 * seconds && !until(); i++) {
    clock.advance(250)
    await settle()
  }
}

async function startSwarm(
  sources: PieceSource[],
  deps: Partial<SwarmDeps> = {},
  { patient = true, onEnd = () => {} } = {},
): Promise<KnownProviders> {
  clock = new ManualClock()
  const providers = new KnownProviders()
  for (const source of sources) providers.add(source)
  const state = new SwarmState(manifest, Array(PIECES).keys())
  const all = { clock, state, sink, keep: () => {}, observer: undefined, providers, ...deps }
  const over = new AbortController()
  const ended = new Swarm(all, { patient }).run(over.signal).then(onEnd, () => {})
  cleanups.push(() => {
    over.abort()
    clock.advance(1e6)
    return ended
  })
  await settle()
  return providers
}

function scripted(count: number, prefix: string, options: { hint?: boolean } = {}): ScriptedSource[] {
  return Array.from({ length: count }, (_, i) => new ScriptedSource(`${prefix}${i}`, options))
}

describe('a provider that has the content is asked', () => {
  test.each([false, true])(
    'again after it failed, whoever else is connected and has nothing (hints: %s)',
    async (hint) => {
      const seed = new ScriptedSource('seed')
      await startSwarm([seed], { discover: async () => [seed, ...scripted(60, 'P', { hint })] })
      seed.says(everything)
      await settle()
      seed.says(new NetworkError('unavailable', 'ended the conversation early'))
      await pass(30)
      expect(seed.opened).toBeGreaterThan(1)
    },
  )

  test('whoever else is connected, and tells of a piece that it never gives', async () => {
    const seed = new ScriptedSource('seed')
    const mute = scripted(60, 'P')
    let round = 0
    await startSwarm(mute, { discover: async () => (round++ === 0 ? [] : [seed]) })
    for (let i = 0; i < 40 && seed.opened === 0; i++) {
      for (const source of mute) source.says({ kind: 'have', pieces: [0, 1] })
      await pass(5)
    }
    expect(seed.opened).toBeGreaterThan(0)
  })

  test('whoever else a hostile one names', async () => {
    let named = 0
    const contacts = () =>
      Array.from({ length: 64 }, () => ({ peer: `X${++named}` as never, host: '9.9.9.9', grpcPort: named }))
    const hostile = new ScriptedSource('hostile')
    const honest = new ScriptedSource('honest')
    let asked = 0
    await startSwarm([hostile], {
      discover: async () => (asked++ === 0 ? [] : [honest]),
      sourceAt: ({ peer, host, grpcPort }) => new ScriptedSource(peer, { address: `${host}:${grpcPort}`, hint: true }),
    })
    for (let i = 0; i < 10; i++) hostile.says({ kind: 'takers', contacts: contacts() })
    await pass(60)
    expect(asked).toBeGreaterThan(1)
    expect(honest.opened).toBeGreaterThan(0)
  })

  test('where a liar used its name', async () => {
    const liar = new ScriptedSource('P1', { address: 'evil:50051' })
    const honest = new ScriptedSource('P1')
    await startSwarm([liar], { discover: async () => [honest] })
    liar.says(new NetworkError('corrupt', 'sent wrong bytes in piece 7'))
    await pass(5)
    expect(honest.opened).toBe(1)
  })
})

describe('addresses that a provider names', () => {
  function naming(options: { single?: boolean } = {}) {
    const opened: string[] = []
    const provider = new ScriptedSource('P1', options)
    let named = 0
    const name = (count: number) => {
      const contacts = Array.from({ length: count }, () => ({
        peer: `X${++named}` as never,
        host: '9.9.9.9',
        grpcPort: named,
      }))
      provider.says({ kind: 'takers', contacts })
    }
    const sourceAt: SwarmDeps['sourceAt'] = ({ peer, host, grpcPort }) => {
      const source = new ScriptedSource(peer, { address: `${host}:${grpcPort}`, hint: true })
      const { open } = source
      source.open = (...args) => {
        opened.push(source.address)
        queueMicrotask(() => source.says(new NetworkError('unavailable', 'nobody is there')))
        return open.apply(source, args)
      }
      return source
    }
    return { provider, name, opened, sourceAt }
  }

  test('are tried, a few a second', async () => {
    const { provider, name, opened, sourceAt } = naming()
    await startSwarm([provider], { sourceAt })
    for (let i = 0; i < 100; i++) {
      name(64)
      await pass(1)
    }
    expect(opened.length).toBeGreaterThan(100)
    expect(opened.length).toBeLessThanOrEqual(32 + 4 * 101)
  })

  test('are not tried where it is the one who pushes', async () => {
    const { provider, name, opened, sourceAt } = naming({ single: true })
    await startSwarm([provider], { sourceAt })
    name(64)
    await pass(5)
    expect(opened).toEqual([])
  })
})

test('who never tells of a piece is not waited for where nobody has patience', async () => {
  const mute = new ScriptedSource('P1')
  let ended = false
  await startSwarm([mute], {}, { patient: false, onEnd: () => (ended = true) })
  await pass(50)
  expect(ended).toBe(false)
  await pass(20)
  expect(ended).toBe(true)
})

test('a provider that tells of the same pieces again and again is banned', async () => {
  const chatty = new ScriptedSource('P1')
  const providers = await startSwarm([chatty])
  for (let i = 0; i < 100; i++) chatty.says(everything)
  await settle()
  expect([...providers.all].map(({ state }) => state)).toEqual(['banned'])
})

describe('a second conversation with a single fast provider', () => {
  /** Sends a piece in a millisecond, 262 MB/s. */
  async function fast(source: ScriptedSource): Promise<void> {
    const large = { ...manifest, size: 1024 * manifest.pieceSize }
    const state = new SwarmState(large, Array(1024).keys())
    await startSwarm([source], { state, sink: { ...sink, manifest: large } })
    source.says({ kind: 'have', pieces: [0, 1024] })
    for (let piece = 0; piece < 300; piece++) {
      source.says({ kind: 'begun', piece })
      clock.advance(1)
      source.says({ kind: 'bytes', bytes: manifest.pieceSize })
      source.says({ kind: 'piece', piece, right: true })
      await settle(2)
    }
  }

  test('is opened', async () => {
    const source = new ScriptedSource('P1')
    await fast(source)
    expect(source.opened).toBe(2)
  })

  test('is not opened where it can not be, as with a push', async () => {
    const source = new ScriptedSource('P1', { single: true })
    await fast(source)
    expect(source.opened).toBe(1)
  })
})

describe('a limit', () => {
  test('is told to the only one that has anything, and not shared out to those that have nothing', async () => {
    const seed = new ScriptedSource('seed')
    await startSwarm([seed, ...scripted(9, 'P')], { rate: () => 1_000_000 })
    seed.says(everything)
    await pass(10)
    expect(
      seed.wants
        .map(({ rate }) => rate)
        .filter((rate) => rate !== undefined)
        .at(-1),
    ).toBe(1_000_000)
  })

  test.each([
    ['one small file at 1 KB/s', 100_000, 1, 1000],
    ['one provider', film.length, 1, 20_000],
    ['20 providers, which one could serve alone', film.length, 20, 20_000],
    ['20 providers at 100 KB/s', film.length, 20, 100_000],
  ])('however low, drops nobody, and is kept: %s', async (_, size, count, rate) => {
    const { notes, result, received, seconds } = await downloadWithin({ size, count, rate })
    expect(notes).toEqual([])
    expect(await result).toMatchObject({ bytes: size })
    expect(received()).toBeLessThanOrEqual(Math.max(1.1 * size, size + MIN_PIECE_SIZE))
    expect(seconds()).toBeGreaterThan(0.8 * (size / rate) - MIN_PIECE_SIZE / rate)
    expect(seconds()).toBeLessThan(1.3 * (size / rate) + (2 * MIN_PIECE_SIZE) / rate + 5)
  })
})

test("this peer's slow disk is no fault of the provider", async () => {
  const { notes, result } = await downloadWithin({ size: 8 * MIN_PIECE_SIZE, count: 1, commitMs: 20_000 })
  expect(notes).toEqual([])
  expect(await result).toMatchObject({ outcome: 'done' })
})

/** A download from honest providers, on a clock that runs while it does; until 3,000 s have passed at most. */
async function downloadWithin(options: { size: number; count: number; rate?: number; commitMs?: number }) {
  clock = new ManualClock()
  const start = clock.now()
  const landing = await TemporaryLanding.create()
  cleanups.push(() => landing.remove())
  const hasher = {
    commitPiece: async () => {
      if (options.commitMs) await clock.sleep(options.commitMs)
      return true
    },
    verifyFile: async (_: number, __: unknown, ___: unknown, pieces: number[]) => pieces.map(() => true),
  } as unknown as Hasher
  const bytes = patternOf(options.size)
  const sources = Array.from({ length: options.count }, (_, i) => new UploadingSource(`P${i}`, bytes, clock))
  const notes: string[] = []
  let received = 0
  const over = new AbortController()
  let ended = false
  const result = new Downloader({ landing, hasher, clock })
    .run(
      {
        id: manifestOf(bytes).id,
        names: () => ['film' as FileName],
        sources,
        dummy: false,
        patient: true,
        rate: () => options.rate,
        observer: {
          onNote: (note) => notes.push(note),
          onReceived: (bytes) => {
            received += bytes
          },
        },
      },
      over.signal,
    )
    .finally(() => {
      ended = true
    })
  result.catch(() => {})
  cleanups.push(() => over.abort())
  await pass(3000, () => ended)
  over.abort()
  return { notes, result, received: () => received, seconds: () => (clock.now() - start) / 1000 }
}
