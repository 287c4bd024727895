import { readFileSync, writeFileSync } from 'node:fs'
import { afterAll, afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ManualClock, systemClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { MIN_PIECE_SIZE, manifestOf } from '../../common/merkle.ts'
import { type LocatedProvider, type LookupStep, type TransferBody, TransferSchema } from '../../common/schemas.ts'
import { WorkerHasher } from '../hashing/worker-hasher.ts'
import { Downloader } from './downloader.ts'
import { type DownloadRequest, TransferManager, type TransferManagerOptions } from './manager.ts'
import { type Behaviour, honest, MemorySource, patternOf, TemporaryLanding } from './transfer.fixture.ts'
import { Transfer } from './transfer.ts'

const film = patternOf(4 * MIN_PIECE_SIZE + 10)
const other = patternOf(1000, 3)
const NAME = 'film.mkv' as FileName
const hasher = new WorkerHasher({}, { size: 1 })

let landing: TemporaryLanding
let manager: TransferManager
/** What is located, under which name, at whom. */
let network: { file: string; source: MemorySource; id?: ContentId | null }[]
let steps: LookupStep[]
let lookups: number
let gate: Promise<void>

beforeEach(async () => {
  landing = await TemporaryLanding.create()
  network = []
  steps = []
  lookups = 0
  gate = Promise.resolve()
  manage()
})
afterEach(async () => {
  await manager.stop()
  await landing.remove()
})
afterAll(() => hasher.close())

function manage(options: TransferManagerOptions = {}): void {
  const clock = systemClock
  manager = new TransferManager(
    {
      locator: {
        locate: async (query) => {
          lookups++
          await gate
          const providers = network
            .map(({ file, source, id }): LocatedProvider => {
              const manifest = manifestOf(source.bytes)
              const rest = { rest: 'http://127.0.0.1:8000', grpc_port: 50051, via: 'maestro' as const }
              const known = id === null ? { id: null, size: null } : { id: manifest.id, size: manifest.size }
              return { peer: source.peer, file: file as FileName, ...rest, ...known }
            })
            .filter(({ file, id }) => (query.kind === 'name' ? file === query.name : id === query.id))
          return { providers, via: providers.length > 0 ? 'maestro' : null, steps }
        },
      },
      sources: ({ peer, file }) => network.find((entry) => entry.source.peer === peer && entry.file === file)!.source,
      landing,
      downloader: new Downloader({ landing, hasher, clock }),
      clock,
      log: silentLog,
    },
    options,
  )
}

function offer(peer: string, file: string, bytes: Buffer, behaviour: Behaviour = honest): MemorySource {
  const source = new MemorySource(peer, bytes, behaviour)
  network.push({ file, source })
  return source
}

async function ended({ transfer }: TransferBody): Promise<TransferBody> {
  let last: TransferBody | undefined
  for await (const snapshot of manager.watch(transfer, new AbortController().signal)) last = snapshot
  return last!
}

const download = (request: DownloadRequest) => ended(manager.start(request))

/** Serves once the gate opens. */
function gated(open: Promise<void>): Behaviour {
  return async function* (...args) {
    await open
    yield* honest(...args)
  }
}

function latch(): { open: () => void; opened: Promise<void> } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open, opened }
}

describe('a transfer', () => {
  test('begins by locating, and ends with the file under its name', async () => {
    offer('P1', NAME, film)
    const begun = manager.start({ file: NAME })
    expect(begun).toMatchObject({ state: 'locating', file: NAME, mode: 'real', bytes: 0 })
    const result = await ended(begun)
    expect(TransferSchema.parse(result)).toEqual(result)
    expect(result).toMatchObject({
      state: 'done',
      id: manifestOf(film).id,
      size: film.length,
      bytes: film.length,
      resumed_bytes: 0,
      via: 'maestro',
      providers: [{ peer: 'P1', bytes: film.length }],
      error: null,
    })
    expect(readFileSync(landing.path(NAME)).equals(film)).toBe(true)
  })

  test('by content id takes the name that the provider has, or the one asked for', async () => {
    offer('P1', NAME, film)
    const { id } = manifestOf(film)
    expect(await download({ id })).toMatchObject({ state: 'done', file: NAME })
    expect(await download({ id, as: 'copy.mkv' as FileName })).toMatchObject({ state: 'done', file: 'copy.mkv' })
    expect(readFileSync(landing.path('copy.mkv')).equals(film)).toBe(true)
  })

  test('in dummy mode is simulated', async () => {
    offer('P1', NAME, film)
    const result = await download({ file: NAME, mode: 'dummy' })
    expect(result).toMatchObject({ state: 'simulated', mode: 'dummy', bytes: film.length })
    expect(landing.existing(NAME)).toBeUndefined()
  })

  test('of what is here already is done at once', async () => {
    const source = offer('P1', NAME, film)
    writeFileSync(landing.path(NAME), film)
    const result = await download({ file: NAME })
    expect(result).toMatchObject({ state: 'done', bytes: film.length, size: film.length, providers: [] })
    expect(result.notes).toEqual([expect.stringContaining('already here')])
    expect(source.requested).toEqual([])
  })

  test('under a name that has other content here fails before anything is fetched', async () => {
    const source = offer('P1', NAME, film)
    writeFileSync(landing.path(NAME), other)
    const result = await download({ file: NAME })
    expect(result).toMatchObject({ state: 'failed', error: { code: 'conflict' } })
    expect(source.requested).toEqual([])
    expect(readFileSync(landing.path(NAME)).equals(other)).toBe(true)
  })

  test('of a name that stands for several contents fails with the choices', async () => {
    offer('P1', NAME, film)
    offer('P2', NAME, film)
    offer('P3', NAME, other)
    const result = await download({ file: NAME })
    expect(result).toMatchObject({
      state: 'failed',
      error: {
        code: 'conflict',
        choices: [
          { id: manifestOf(film).id, size: film.length, peers: ['P1', 'P2'] },
          { id: manifestOf(other).id, size: other.length, peers: ['P3'] },
        ],
      },
    })
    expect(await download({ file: NAME, id: manifestOf(other).id })).toMatchObject({ state: 'done', file: NAME })
  })

  test('of what nobody offers is not found', async () => {
    steps = [step('maestro', 'nothing')]
    expect(await download({ file: NAME })).toMatchObject({ state: 'failed', error: { code: 'not_found' }, steps })
  })

  test('where nobody who could know answers is unavailable', async () => {
    steps = [step('local', 'nothing'), step('maestro', 'unreachable'), step('friends', 'timeout')]
    expect(await download({ file: NAME })).toMatchObject({ state: 'failed', error: { code: 'unavailable' } })
  })

  test('notes a provider that was dropped, and why', async () => {
    offer('P1', NAME, film, async function* (requests, manifest, bytes) {
      for await (const frame of honest(requests, manifest, bytes)) yield { ...frame, data: frame.data.fill(0) }
    })
    offer('P2', NAME, film)
    const result = await download({ file: NAME })
    expect(result).toMatchObject({ state: 'done', notes: [expect.stringMatching(/dropped P1: sent wrong bytes/)] })
    expect(result.providers).toContainEqual({ peer: 'P2', bytes: expect.any(Number) })
  })

  test('asks who registered a bare name for its content', async () => {
    network.push({ file: NAME, source: new MemorySource('P1', film), id: null })
    expect(await download({ file: NAME })).toMatchObject({ state: 'done', id: manifestOf(film).id })
  })

  test('leaves out who registered a bare name where others know the content', async () => {
    const bare = new MemorySource('P1', other)
    network.push({ file: NAME, source: bare, id: null })
    offer('P2', NAME, film)
    expect(await download({ file: NAME })).toMatchObject({ state: 'done', id: manifestOf(film).id })
    expect(bare.requested).toEqual([])
  })

  test('says so where a bare name can not be resolved', async () => {
    const bare = new MemorySource('P1', film)
    bare.resolve = () => Promise.reject(new NetworkError('unavailable', 'P1 does not answer'))
    network.push({ file: NAME, source: bare, id: null })
    const result = await download({ file: NAME })
    expect(result).toMatchObject({ state: 'failed', error: { code: 'not_found' } })
    expect(result.notes).toEqual([expect.stringMatching(/without a content id.*P1 does not answer/)])
  })
})

function step(strategy: LookupStep['strategy'], outcome: LookupStep['outcome']): LookupStep {
  return { strategy, asked: `the ${strategy}`, outcome, found: 0, ms: 1, detail: null }
}

describe('several transfers', () => {
  test('of the same request are one', async () => {
    offer('P1', NAME, film)
    const first = manager.start({ file: NAME })
    expect(manager.start({ file: NAME }).transfer).toBe(first.transfer)
    expect(manager.start({ file: NAME, mode: 'dummy' }).transfer).not.toBe(first.transfer)
    await ended(first)
    expect(lookups).toBe(2)
  })

  test('of the same content fetch it once, one after the other', async () => {
    const { open, opened } = latch()
    const source = offer('P1', NAME, film, gated(opened))
    const first = manager.start({ file: NAME })
    await expect.poll(() => manager.get(first.transfer)?.state).toBe('running')
    const second = manager.start({ id: manifestOf(film).id })
    await expect.poll(() => manager.get(second.transfer)?.notes.length).toBe(1)
    open()
    expect(await ended(first)).toMatchObject({ state: 'done', bytes: film.length })
    expect(await ended(second)).toMatchObject({ state: 'done', providers: [] })
    expect(source.requested).toHaveLength(5)
  })

  test('run no more than so many at a time, in order', async () => {
    await manager.stop()
    manage({ maxRunning: 1 })
    const { open, opened } = latch()
    offer('P1', 'a', film, gated(opened))
    offer('P2', 'b', other)
    const first = manager.start({ file: 'a' as FileName })
    const second = manager.start({ file: 'b' as FileName })
    await expect.poll(() => manager.get(first.transfer)?.state).toBe('running')
    expect(manager.get(second.transfer)?.state).toBe('locating')
    expect(lookups).toBe(1)
    open()
    expect(await ended(second)).toMatchObject({ state: 'done' })
  })

  test('beyond the bound are refused', async () => {
    await manager.stop()
    manage({ maxActive: 1 })
    offer('P1', 'a', film)
    const first = manager.start({ file: 'a' as FileName })
    expect(() => manager.start({ file: 'b' as FileName })).toThrow(/try again/)
    await ended(first)
  })

  test('are listed newest first, and only so many of the ended are remembered', async () => {
    await manager.stop()
    manage({ history: 2 })
    for (const name of ['a', 'b', 'c', 'd']) {
      offer('P1', name, other)
      await download({ file: name as FileName })
    }
    await expect.poll(() => manager.list().map(({ file }) => file)).toEqual(['d', 'c'])
    expect(manager.get('1')).toBeUndefined()
  })
})

test('a manager that has stopped starts nothing more', async () => {
  offer('P1', NAME, film)
  await manager.stop()
  expect(() => manager.start({ file: NAME })).toThrow(/stopping/)
  expect(lookups).toBe(0)
})

describe('a cancelled transfer', () => {
  test('ends at once, and keeps what was verified', async () => {
    const { opened } = latch()
    let served = 0
    offer('P1', NAME, film, async function* (...args) {
      for await (const frame of honest(...args)) {
        if (++served > 4) await opened
        yield frame
      }
    })
    const begun = manager.start({ file: NAME })
    await expect.poll(() => manager.get(begun.transfer)?.bytes).toBe(2 * MIN_PIECE_SIZE)
    expect(manager.cancel(begun.transfer)).toMatchObject({ state: 'cancelled', bytes: 2 * MIN_PIECE_SIZE })
    await expect.poll(() => landing.open.size).toBe(0)
    network = []
    offer('P2', NAME, film)
    expect(await download({ file: NAME })).toMatchObject({ state: 'done', resumed_bytes: 2 * MIN_PIECE_SIZE })
  })

  test('while it waits in line never begins', async () => {
    await manager.stop()
    manage({ maxRunning: 1 })
    const { open, opened } = latch()
    gate = opened
    const first = manager.start({ file: 'a' as FileName })
    const second = manager.start({ file: 'b' as FileName })
    manager.cancel(second.transfer)
    open()
    await ended(first)
    expect(lookups).toBe(1)
  })

  test('can not be cancelled again, nor one that never was', async () => {
    offer('P1', NAME, other)
    const { transfer } = await download({ file: NAME })
    expect(() => manager.cancel(transfer)).toThrow(/has ended: done/)
    expect(() => manager.cancel('99')).toThrow(/no transfer "99"/)
  })
})

describe('who watches a transfer', () => {
  const fresh = (clock: ManualClock) => new Transfer({ clock }, { number: '1', mode: 'real', file: NAME, id: null })

  test('sees changes no more often than asked for, and the end always', async () => {
    const clock = new ManualClock()
    const transfer = fresh(clock)
    const seen: number[] = []
    const watching = (async () => {
      for await (const { bytes } of transfer.watch(200, new AbortController().signal)) seen.push(bytes)
    })()
    transfer.running(1000, 0)
    for (let i = 0; i < 50; i++) {
      transfer.received('P1' as PeerId, 10)
      await new Promise((resolve) => setImmediate(resolve))
    }
    expect(seen).toHaveLength(1)
    clock.advance(200)
    await expect.poll(() => seen).toHaveLength(2)
    transfer.end('done')
    await watching
    expect(seen).toEqual([seen[0], 500, 500])
  })

  test('can stop watching while nothing happens', async () => {
    const clock = new ManualClock()
    const stop = new AbortController()
    const watching = fresh(clock).watch(200, stop.signal)
    expect((await watching.next()).value).toMatchObject({ state: 'locating' })
    const next = watching.next()
    clock.advance(200)
    stop.abort()
    expect((await next).done).toBe(true)
  })

  test('reads a rate of late, and after the end the rate of all', () => {
    const clock = new ManualClock()
    const transfer = fresh(clock)
    transfer.running(100_000, 50_000)
    for (let i = 0; i < 10; i++) {
      clock.advance(1000)
      transfer.received('P1' as PeerId, i < 5 ? 1000 : 4000)
    }
    expect(transfer.snapshot()).toMatchObject({ rate: 4000, bytes: 75_000, resumed_bytes: 50_000 })
    transfer.end('done')
    expect(transfer.snapshot()).toMatchObject({ rate: 2500, seconds: 10 })
  })

  test('sees an ended transfer unchanged', () => {
    const transfer = fresh(new ManualClock())
    transfer.end('cancelled')
    transfer.end('done')
    transfer.verifying()
    expect(transfer.snapshot().state).toBe('cancelled')
  })
})
