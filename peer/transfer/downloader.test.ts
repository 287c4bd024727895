import { existsSync, readFileSync, truncateSync } from 'node:fs'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest'
import { ManualClock, systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { FileName } from '../../common/ids.ts'
import { HASH_SIZE, MIN_PIECE_SIZE, manifestOf } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import { WorkerHasher } from '../hashing/worker-hasher.ts'
import { Downloader, type DownloaderOptions } from './downloader.ts'
import type { Frame, PieceSource } from './source.ts'
import {
  type Behaviour,
  framesOfPiece,
  honest,
  MemorySource,
  patternOf,
  simulating,
  TemporaryLanding,
} from './transfer.fixture.ts'

const PIECE = MIN_PIECE_SIZE
const NAME = 'film.mkv' as FileName
const film = patternOf(6 * PIECE + 1234)
const never = new AbortController().signal

const hasher = new WorkerHasher({}, { size: 1 })
let landing: TemporaryLanding
beforeAll(() => hasher.verifyFile(0, manifestOf(Buffer.alloc(0))))
afterAll(() => hasher.close())
beforeEach(async () => {
  landing = await TemporaryLanding.create()
})
afterEach(async () => {
  expect(landing.open.size).toBe(0)
  await landing.remove()
})

function download(
  sources: MemorySource[],
  options: DownloaderOptions & { dummy?: boolean; signal?: AbortSignal } = {},
) {
  const notes: string[] = []
  const verified = new Map<string, number>()
  let received = 0
  const { dummy = false, signal = new AbortController().signal, ...rest } = options
  const downloader = new Downloader({ landing, hasher, clock: systemClock }, { stallMs: 2000, ...rest })
  const run = downloader.run(
    {
      id: manifestOf(sources[0]!.bytes).id,
      names: () => [NAME],
      sources,
      dummy,
      patient: false,
      observer: {
        onNote: (note) => notes.push(note),
        onReceived: (bytes) => {
          received += bytes
        },
        onVerified: (peer, bytes) => verified.set(peer, (verified.get(peer) ?? 0) + bytes),
      },
    },
    signal,
  )
  return { run, notes, verified, received: () => received }
}

/** Serves `count` pieces honestly, then does something else with the next one. */
function honestFor(count: number, then: Behaviour): Behaviour {
  return async function* (requests, manifest, bytes) {
    let served = 0
    async function* rest(first: number): AsyncGenerator<number> {
      yield first
      yield* requests
    }
    for await (const index of requests) {
      if (served++ < count) yield* framesOfPiece(manifest, bytes, index)
      else return yield* then(rest(index), manifest, bytes)
    }
  }
}

function tampered(change: (frame: Frame) => Frame[]): Behaviour {
  return async function* (requests, manifest, bytes) {
    for await (const frame of honest(requests, manifest, bytes)) yield* change(frame)
  }
}

const silent: Behaviour = async function* (requests) {
  for await (const _ of requests) await new Promise(() => {})
}

/** One piece, and a part of the next. */
const halfThenSilent: Behaviour = async function* (requests, manifest, bytes) {
  let pieces = 0
  for await (const index of requests) {
    const frames = [...framesOfPiece(manifest, bytes, index)]
    yield* pieces++ === 0 ? frames : frames.slice(0, 1)
    if (pieces === 2) await new Promise(() => {})
  }
}

function throwing(error: Error): Behaviour {
  return () => ({ [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) })
}

describe('a download', () => {
  test.each([
    ['no byte', 0],
    ['one byte', 1],
    ['exactly one piece', PIECE],
    ['one byte more than a piece', PIECE + 1],
    ['many pieces and an odd tail', film.length],
  ])('of %s arrives whole', async (_, size) => {
    const data = patternOf(size)
    const { run, notes } = download([new MemorySource('P1', data)])
    expect(await run).toMatchObject({ outcome: 'done', bytes: size })
    expect(readFileSync(landing.path(NAME)).equals(data)).toBe(true)
    expect(notes).toEqual([])
  })

  test('asks for each piece once', async () => {
    const source = new MemorySource('P1', film)
    const { run, received } = download([source])
    await run
    expect(received()).toBe(film.length)
    expect(source.requested.sort()).toEqual([0, 1, 2, 3, 4, 5, 6])
  })

  test('whose manifest 20 providers keep to themselves has no leak of listeners', async () => {
    const warnings: string[] = []
    const note = ({ name }: Error) => warnings.push(name)
    process.on('warning', note)
    onTestFinished(() => void process.off('warning', note))
    const clock = new ManualClock()
    let asked = 0
    const sources = Array.from({ length: 20 }, (_, i) => {
      const source: PieceSource = new MemorySource(`P${i}`, film)
      source.manifest = (_, signal) => {
        asked++
        return new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(new NetworkError('cancelled', 'cancelled')), { once: true })
        })
      }
      return source
    })
    const over = new AbortController()
    const content = { id: manifestOf(film).id, names: () => [NAME], sources, dummy: false, patient: false }
    const run = new Downloader({ landing, hasher, clock }).run(content, over.signal)
    for (let i = 1; i <= 20; i++) {
      await expect.poll(() => asked).toBe(i)
      clock.advance(1000)
    }
    over.abort()
    await expect(run).rejects.toMatchObject({ code: 'cancelled' })
    expect(warnings).toEqual([])
  })

  test('takes from all providers at once, and each piece from one of them', async () => {
    const sources = ['P1', 'P2', 'P3'].map((peer) => new MemorySource(peer, film))
    const { run, verified, received } = download(sources)
    expect(await run).toMatchObject({ outcome: 'done' })
    expect(received()).toBe(film.length)
    expect(sources.flatMap(({ requested }) => requested).sort()).toEqual([0, 1, 2, 3, 4, 5, 6])
    expect(verified.size).toBeGreaterThan(1)
    expect(readFileSync(landing.path(NAME)).equals(film)).toBe(true)
  })

  test('takes of providers that lack pieces what each of them has', async () => {
    const [first, second] = [new MemorySource('P1', film), new MemorySource('P2', film)]
    first.tells = [0, 4]
    second.tells = [3, 4]
    const { run, received } = download([first, second])
    expect(await run).toMatchObject({ outcome: 'done' })
    expect(received()).toBe(film.length)
    expect(first.requested).toEqual(expect.arrayContaining([0, 1, 2]))
    expect(second.requested).toEqual(expect.arrayContaining([4, 5, 6]))
  })

  test('fetches after a break just what was not verified before', async () => {
    const first = download([
      new MemorySource(
        'P1',
        film,
        honestFor(4, async function* () {}),
      ),
    ])
    await expect(first.run).rejects.toMatchObject({ code: 'unavailable', message: expect.stringContaining('resume') })
    expect(existsSync(landing.path(NAME))).toBe(false)
    const source = new MemorySource('P2', film)
    expect(await download([source]).run).toMatchObject({ outcome: 'done', bytes: film.length - 4 * PIECE })
    expect(source.requested.sort()).toEqual([4, 5, 6])
    expect(readFileSync(landing.path(NAME)).equals(film)).toBe(true)
  })

  test('goes on with the other providers where one vanishes', async () => {
    const vanishing = honestFor(2, throwing(new NetworkError('unavailable', 'P1 does not answer')))
    const { run, notes, verified } = download([
      new MemorySource('P1', film, vanishing),
      new MemorySource(
        'P2',
        film,
        held(() => notes.length > 0),
      ),
    ])
    expect(await run).toMatchObject({ outcome: 'done' })
    expect(verified.get('P1')).toBe(2 * PIECE)
    expect(verified.get('P2')).toBe(film.length - 2 * PIECE)
    expect(notes).toEqual(['dropped P1 does not answer'])
  })

  test('that is cancelled keeps what was verified', async () => {
    const cancel = new AbortController()
    const { run, verified } = download([new MemorySource('P1', film, honestFor(2, silent))], { signal: cancel.signal })
    await vi.waitFor(() => expect(verified.get('P1')).toBe(2 * PIECE))
    cancel.abort()
    await expect(run).rejects.toMatchObject({ code: 'cancelled' })
    const source = new MemorySource('P2', film)
    await download([source]).run
    expect(source.requested).toHaveLength(5)
  })

  test('leaves nothing behind where nothing was verified', async () => {
    const { run } = download([new MemorySource('P1', film, async function* () {})])
    await expect(run).rejects.toMatchObject({ code: 'unavailable' })
    expect(existsSync(landing.partialPath(manifestOf(film).id))).toBe(false)
  })

  test('ends at once where the disk has no room, whoever else could serve', async () => {
    landing.room = 1000
    const second = new MemorySource('P2', film)
    await expect(download([new MemorySource('P1', film), second]).run).rejects.toThrow(/no room/)
    expect(second.requested).toEqual([])
  })

  test('ends at once where writing fails, and blames no provider', async () => {
    const full = committing(() => Promise.reject(new NetworkError('unavailable', 'the disk is full')))
    const downloader = new Downloader({ landing, hasher: full, clock: systemClock })
    const sources = [new MemorySource('P1', film), new MemorySource('P2', film)]
    const notes: string[] = []
    const observer = { onNote: (note: string) => notes.push(note) }
    const names = () => [NAME]
    const run = downloader.run(
      { id: manifestOf(film).id, names, sources, dummy: false, patient: false, observer },
      never,
    )
    await expect(run).rejects.toThrow('the disk is full')
    expect(notes).toEqual([])
  })

  test('holds no more in memory than its bounds, however slow the disk', async () => {
    let under = 0
    let most = 0
    const slow = committing(async (...args) => {
      most = Math.max(most, ++under)
      await new Promise((resolve) => setTimeout(resolve, 5))
      under--
      return hasher.commitPiece(...args)
    })
    const long = patternOf(120 * PIECE)
    const downloader = new Downloader({ landing, hasher: slow, clock: systemClock })
    const sources = [new MemorySource('P1', long)]
    const names = () => [NAME]
    await downloader.run({ id: manifestOf(long).id, names, sources, dummy: false, patient: false }, never)
    expect(most).toBeLessThanOrEqual(64)
  })
})

/** A hasher that keeps pieces in its own way. */
function committing(commitPiece: Hasher['commitPiece']): Hasher {
  return {
    hashFile: hasher.hashFile.bind(hasher),
    verifyFile: hasher.verifyFile.bind(hasher),
    close: hasher.close.bind(hasher),
    commitPiece,
  }
}

/** Serves honestly, but nothing before the condition holds. */
function held(until: () => boolean): Behaviour {
  return async function* (requests, manifest, bytes) {
    for await (const frame of honest(requests, manifest, bytes)) {
      while (!until()) await new Promise((resolve) => setTimeout(resolve, 1))
      yield frame
    }
  }
}

describe('a provider is dropped, and an honest one takes over,', () => {
  test.each<[string, Behaviour, RegExp]>([
    ['for wrong bytes', tampered((frame) => [{ ...frame, data: frame.data.fill(1) }]), /wrong bytes in piece/],
    ['for a truncated piece', tampered((frame) => (frame.offset > 0 ? [] : [frame])), /in the middle of|offset|ended/],
    [
      'for more bytes than the piece has',
      tampered((frame) => [{ ...frame, data: new Uint8Array(2 * PIECE) }]),
      /more of piece/,
    ],
    [
      'for a piece that it was not asked for',
      tampered((frame) => [{ ...frame, piece: frame.piece + 40 }]),
      /piece 4\d/,
    ],
    ['for overlapping frames', tampered((frame) => [frame, frame]), /offset 0 of piece \d/],
    ['for empty frames', tampered((frame) => [{ ...frame, data: new Uint8Array(0) }]), /empty frame/],
    ['where it refuses', throwing(new NetworkError('limited', 'too busy')), /P1: too busy/],
  ])('%s', async (_, behaviour, note) => {
    const honestOne = new MemorySource(
      'P2',
      film,
      held(() => notes.length > 0),
    )
    const { run, notes } = download([new MemorySource('P1', film, behaviour), honestOne])
    expect(await run).toMatchObject({ outcome: 'done' })
    expect(readFileSync(landing.path(NAME)).equals(film)).toBe(true)
    expect(notes).toEqual([expect.stringMatching(note)])
  })

  test('where it stalls', async () => {
    const clock = new ManualClock()
    const notes: string[] = []
    let verified = 0
    const downloader = new Downloader({ landing, hasher, clock }, { stallMs: 15_000 })
    const run = downloader.run(
      {
        id: manifestOf(film).id,
        names: () => [NAME],
        sources: [
          new MemorySource('P1', film, halfThenSilent),
          new MemorySource(
            'P2',
            film,
            held(() => notes.length > 0),
          ),
        ],
        dummy: false,
        patient: false,
        observer: { onNote: (note) => notes.push(note), onVerified: () => verified++ },
      },
      never,
    )
    await vi.waitFor(() => {
      clock.advance(25)
      expect(verified).toBe(1)
    })
    await vi.waitFor(() => {
      clock.advance(2000)
      expect(notes).not.toEqual([])
    })
    const ended = run.then(() => true)
    while (!(await Promise.race([ended, new Promise((resolve) => setTimeout(resolve, 5))]))) clock.advance(25)
    expect(notes).toEqual([expect.stringMatching(/^dropped P1: sent nothing for \d+ s$/)])
  })

  test('but not where it only has no time for the manifest just now', async () => {
    const clock = new ManualClock()
    const busy = new MemorySource('P1', film)
    let refusals = 2
    const manifest = busy.manifest.bind(busy)
    busy.manifest = async (id) => {
      if (refusals-- > 0) throw new NetworkError('limited', 'too many such calls')
      return manifest(id)
    }
    const content = { id: manifestOf(film).id, names: () => [NAME], dummy: false, patient: false }
    let ended = false
    const run = new Downloader({ landing, hasher, clock }).run({ ...content, sources: [busy] }, never).finally(() => {
      ended = true
    })
    while (!ended) {
      clock.advance(250)
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
    expect(await run).toMatchObject({ outcome: 'done' })
  })

  test.each([
    ['with false hashes', (m: ReturnType<typeof manifestOf>) => ({ ...m, hashes: Buffer.alloc(m.hashes.length, 1) })],
    ['with a huge size', (m: ReturnType<typeof manifestOf>) => ({ ...m, size: 2 ** 60 })],
    [
      'that is far too long',
      (m: ReturnType<typeof manifestOf>) => ({ ...m, hashes: Buffer.alloc(HASH_SIZE * 10_000) }),
    ],
  ])('for a manifest %s', async (_, falsify) => {
    const liar = new MemorySource('P1', film)
    liar.claim = falsify(manifestOf(film))
    const { run, notes } = download([liar, new MemorySource('P2', film)])
    expect(await run).toMatchObject({ outcome: 'done' })
    expect(notes).toEqual([expect.stringMatching(/P1: a false manifest/)])
    expect(liar.requested).toEqual([])
  })

  test('and is not asked again, not even where what was fetched is lost and fetched once more', async () => {
    const liar = new MemorySource(
      'P1',
      film,
      tampered((frame) => [{ ...frame, data: frame.data.fill(1) }]),
    )
    const honestOne = new MemorySource(
      'P2',
      film,
      held(() => notes.length > 0),
    )
    const notes: string[] = []
    let missing = 7
    let received = 0
    const observer = {
      onReceived: (bytes: number) => {
        received += bytes
      },
      onNote: (note: string) => notes.push(note),
      onVerified: () => {
        if (--missing === 0) truncateSync(landing.partialPath(manifestOf(film).id), 0)
      },
    }
    const downloader = new Downloader({ landing, hasher, clock: systemClock })
    const content = { id: manifestOf(film).id, names: () => [NAME], dummy: false, patient: false }
    await downloader.run({ ...content, sources: [liar, honestOne], observer }, never)
    expect(received).toBeGreaterThan(2 * film.length)
    expect(notes.filter((note) => note.startsWith('banned'))).toEqual([expect.stringMatching(/P1: sent wrong bytes/)])
    expect(readFileSync(landing.path(NAME)).equals(film)).toBe(true)
  })

  test('and where all lied, the error says so and nothing is published', async () => {
    const wrong = tampered((frame) => [{ ...frame, data: frame.data.fill(1) }])
    const { run } = download([new MemorySource('P1', film, wrong), new MemorySource('P2', film, wrong)])
    await expect(run).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringMatching(/no provider is left: P1: sent wrong bytes.*and 1 more/),
    })
    expect(existsSync(landing.path(NAME))).toBe(false)
  })
})

describe('a dummy download', () => {
  test('has the whole conversation, and writes nothing', async () => {
    const source = new MemorySource('P1', film)
    const { run, verified, received } = download([source], { dummy: true })
    expect(await run).toMatchObject({ outcome: 'simulated', bytes: film.length })
    expect(received()).toBe(0)
    expect(source.requested.sort()).toEqual([0, 1, 2, 3, 4, 5, 6])
    expect(verified.get('P1')).toBe(film.length)
    expect(existsSync(landing.path(NAME))).toBe(false)
    expect(existsSync(landing.partialPath(manifestOf(film).id))).toBe(false)
  })

  test('drops a provider that sends bytes', async () => {
    const source = new MemorySource('P1', film)
    source.simulates = false
    const { run } = download([source], { dummy: true })
    await expect(run).rejects.toThrow(/sent bytes in a simulated transfer/)
  })

  test('is what comes of a real one where the provider only simulates', async () => {
    const { run, notes } = download([new MemorySource('P1', film, simulating)])
    expect(await run).toMatchObject({ outcome: 'simulated' })
    expect(notes).toEqual(['P1 is in dummy mode and only simulates'])
    expect(existsSync(landing.path(NAME))).toBe(false)
    expect(existsSync(landing.partialPath(manifestOf(film).id))).toBe(false)
  })

  test('is not what comes of a real one where another provider is real', async () => {
    const { run } = download([new MemorySource('P1', film, simulating), new MemorySource('P2', film)])
    expect(await run).toMatchObject({ outcome: 'done' })
    expect(readFileSync(landing.path(NAME)).equals(film)).toBe(true)
  })
})
