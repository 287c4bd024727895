import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import { type LookupStep, type TransferBody, TransferSchema } from '../../common/schemas.ts'
import type { FolderDownload, FolderResult } from './folder/download.ts'
import { downloaded, ended, FakeNetwork, idOf, PIECE } from './manager.fixture.ts'
import type { TransferManager, TransferManagerDeps, TransferManagerOptions } from './manager.ts'
import type { PieceSource } from './source.ts'

const NAME = 'film.mkv' as FileName
const COPY = 'copy.mkv' as FileName
const FILM = idOf('a')
const OTHER = idOf('b')
const SIZE = 4 * PIECE

let network: FakeNetwork
let manager: TransferManager

beforeEach(() => {
  network = new FakeNetwork()
  manager = network.manager()
})
afterEach(() => manager.stop())

async function manage(options: TransferManagerOptions, deps: Partial<TransferManagerDeps> = {}): Promise<void> {
  await manager.stop()
  manager = network.manager(deps, options)
}

const state = ({ transfer }: TransferBody) => manager.get(transfer)?.state

/** The run of the downloader that was started last, once there are so many. */
async function run(count = 1) {
  await expect.poll(() => network.runs.length).toBe(count)
  return network.runs.at(-1)!
}

function latch(): { open: () => void; opened: Promise<void> } {
  let open = () => {}
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { open, opened }
}

function step(strategy: LookupStep['strategy'], outcome: LookupStep['outcome']): LookupStep {
  const trace = { messages: 1, hops: null, path: [], age_ms: null, silent: [] }
  return { strategy, asked: `the ${strategy}`, outcome, found: 0, ms: 1, detail: null, ...trace }
}

describe('a transfer', () => {
  test('begins by locating, and ends with the file under its name', async () => {
    network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME })
    expect(begun).toMatchObject({ state: 'locating', file: NAME, mode: 'real', direction: 'download', bytes: 0 })
    const result = await ended(manager, begun)
    expect(TransferSchema.parse(result)).toEqual(result)
    expect(result).toMatchObject({
      state: 'done',
      id: FILM,
      size: SIZE,
      bytes: SIZE,
      received: SIZE,
      resumed_bytes: 0,
      pieces: { total: 4, verified: 4 },
      via: 'maestro',
      providers: [{ peer: 'P1', bytes: SIZE }],
      joined: null,
      error: null,
    })
    expect(network.landing.get(NAME)).toBe(FILM)
  })

  test('by content id takes the name that the provider has, or the one asked for', async () => {
    network.offer('P1', NAME, FILM)
    expect(await downloaded(manager, { id: FILM })).toMatchObject({ state: 'done', file: NAME })
    expect(await downloaded(manager, { id: FILM, as: COPY })).toMatchObject({ state: 'done', file: COPY })
    expect([...network.landing]).toEqual([
      [NAME, FILM],
      [COPY, FILM],
    ])
  })

  test('in dummy mode is simulated, and does not wait for providers', async () => {
    network.offer('P1', NAME, FILM)
    const result = await downloaded(manager, { file: NAME, mode: 'dummy' })
    expect(result).toMatchObject({ state: 'simulated', mode: 'dummy', bytes: SIZE })
    expect(network.runs[0]?.download).toMatchObject({ dummy: true, patient: false })
    expect(network.landing.size).toBe(0)
  })

  test('of what is here already is done at once', async () => {
    network.offer('P1', NAME, FILM)
    network.landing.set(NAME, FILM)
    const result = await downloaded(manager, { file: NAME })
    expect(result).toMatchObject({ state: 'done', bytes: SIZE, size: SIZE, providers: [] })
    expect(result.notes).toEqual([expect.stringContaining('already here')])
    expect(network.runs).toEqual([])
  })

  test('under a name that has other content here fails before anything is fetched', async () => {
    network.offer('P1', NAME, FILM)
    network.landing.set(NAME, OTHER)
    expect(await downloaded(manager, { file: NAME })).toMatchObject({ state: 'failed', error: { code: 'conflict' } })
    expect(network.runs).toEqual([])
  })

  test('of a name that stands for several contents fails with the choices', async () => {
    network.offer('P1', NAME, FILM)
    network.offer('P2', NAME, FILM)
    network.offer('P3', NAME, OTHER, { size: 7 })
    expect(await downloaded(manager, { file: NAME })).toMatchObject({
      state: 'failed',
      error: {
        code: 'conflict',
        choices: [
          { id: FILM, size: SIZE, peers: ['P1', 'P2'] },
          { id: OTHER, size: 7, peers: ['P3'] },
        ],
      },
    })
    expect(await downloaded(manager, { file: NAME, id: OTHER })).toMatchObject({ state: 'done', file: NAME })
  })

  test('of what nobody offers is not found', async () => {
    network.steps = [step('maestro', 'nothing')]
    expect(await downloaded(manager, { file: NAME })).toMatchObject({
      state: 'failed',
      error: { code: 'not_found' },
      steps: network.steps,
    })
  })

  test('where nobody who could know answers is unavailable', async () => {
    network.steps = [step('local', 'nothing'), step('maestro', 'unreachable'), step('friends', 'timeout')]
    expect(await downloaded(manager, { file: NAME })).toMatchObject({ state: 'failed', error: { code: 'unavailable' } })
  })

  test('asks who registered a bare name for its content', async () => {
    network.offer('P1', NAME, FILM, { bare: true })
    expect(await downloaded(manager, { file: NAME })).toMatchObject({ state: 'done', id: FILM })
  })

  test('leaves out who registered a bare name where others know the content', async () => {
    network.offer('P1', NAME, OTHER, { bare: true })
    network.offer('P2', NAME, FILM)
    expect(await downloaded(manager, { file: NAME })).toMatchObject({ state: 'done', id: FILM })
    expect(network.runs[0]?.from).toEqual(['P2'])
  })

  test('says so where a bare name can not be resolved', async () => {
    const offered = network.offer('P1', NAME, FILM, { bare: true })
    Object.assign(offered, { resolve: () => Promise.reject(new NetworkError('unavailable', 'P1 does not answer')) })
    const result = await downloaded(manager, { file: NAME })
    expect(result).toMatchObject({ state: 'failed', error: { code: 'not_found' } })
    expect(result.notes).toEqual([expect.stringMatching(/without a content id.*P1 does not answer/)])
  })

  test('that fails on the way ends with the error, and what went wrong besides', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME })
    const { download, fail } = await run().then((it) => ({ download: it.begin(SIZE).download, fail: it.fail.bind(it) }))
    download.observer?.onNote?.('dropped P1: sent wrong bytes')
    fail(new NetworkError('corrupt', 'no provider is left'))
    expect(await ended(manager, begun)).toMatchObject({
      state: 'failed',
      error: { code: 'corrupt' },
      notes: ['dropped P1: sent wrong bytes'],
    })
  })

  test('is in no swarm where it only simulates: to ask who takes the content says that it does', async () => {
    const swarmPeers = vi.fn(async () => [])
    await manage({}, { swarmPeers })
    network.automatic = false
    network.offer('P1', NAME, FILM)
    manager.start({ file: NAME, mode: 'dummy' })
    await (await run()).download.discover!(new AbortController().signal)
    expect(swarmPeers).not.toHaveBeenCalled()
  })

  test('finds more providers by every way of lookup, and by what is known of the swarm', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const neighbour = { peer: 'P9' as PeerId, address: 'P9:1' } as PieceSource
    await manage({}, { swarmPeers: async () => [neighbour] })
    manager.start({ file: NAME })
    const { download } = await run()
    network.offer('P2', NAME, FILM)
    const found = await download.discover!(new AbortController().signal)
    expect(new Set(found.map(({ peer }) => peer))).toEqual(new Set(['P1', 'P2', 'P9']))
    expect(network.lookups).toEqual([NAME, `${FILM}@all`])
  })

  test('is as fast as its limit lets it, which may change on the way', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME, limit: 5000 })
    const { download } = await run()
    expect([begun.limit, download.rate?.()]).toEqual([5000, 5000])
    expect(manager.setLimit(begun.transfer, 9000)).toMatchObject({ limit: 9000 })
    expect(download.rate?.()).toBe(9000)
    manager.setLimit(begun.transfer, null)
    expect(download.rate?.()).toBeUndefined()
  })
})

describe('several transfers', () => {
  test('of the same request are one', async () => {
    network.offer('P1', NAME, FILM)
    const first = manager.start({ file: NAME })
    expect(manager.start({ file: NAME }).transfer).toBe(first.transfer)
    expect(manager.start({ file: NAME, mode: 'dummy' }).transfer).not.toBe(first.transfer)
    await ended(manager, first)
    expect(network.lookups).toHaveLength(2)
  })

  test('of the same content fetch it once, and it lands under the name of each', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const first = manager.start({ file: NAME })
    const swarm = (await run()).begin(SIZE, PIECE).piece()
    const second = manager.start({ id: FILM, as: COPY })
    await expect
      .poll(() => manager.get(second.transfer))
      .toMatchObject({
        state: 'running',
        joined: first.transfer,
        bytes: 2 * PIECE,
        resumed_bytes: PIECE,
        providers: [{ peer: 'P1', bytes: PIECE }],
      })
    swarm.piece().piece().finish()
    expect(await ended(manager, first)).toMatchObject({ state: 'done', joined: null, bytes: SIZE })
    expect(await ended(manager, second)).toMatchObject({ state: 'done', file: COPY, bytes: SIZE })
    expect(network.runs).toHaveLength(1)
    expect([...network.landing.keys()]).toEqual([NAME, COPY])
  })

  test('of the same content in other modes are apart', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    manager.start({ file: NAME })
    manager.start({ id: FILM, mode: 'dummy' })
    expect((await run(2)).download.dummy).toBe(true)
  })

  test('of the same content go on as long as one of them wants it', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const first = manager.start({ file: NAME })
    const swarm = (await run()).begin(SIZE)
    const second = manager.start({ id: FILM, as: COPY })
    await expect.poll(() => state(second)).toBe('running')
    manager.pause(first.transfer)
    swarm.piece()
    expect(manager.get(first.transfer)).toMatchObject({ state: 'paused', bytes: 0 })
    expect(manager.get(second.transfer)).toMatchObject({ state: 'running', bytes: PIECE })
    expect(swarm.signal.aborted).toBe(false)
    expect(swarm.download.names()).toEqual([COPY])
    manager.cancel(second.transfer)
    expect(swarm.signal.aborted).toBe(true)
  })

  test('of the same content run as fast as the one with the highest limit', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const first = manager.start({ file: NAME, limit: 1000 })
    const { download } = (await run()).begin(SIZE)
    const second = manager.start({ id: FILM, as: COPY, limit: 3000 })
    await expect.poll(() => state(second)).toBe('running')
    expect(download.rate?.()).toBe(3000)
    manager.setLimit(first.transfer, null)
    expect(download.rate?.()).toBeUndefined()
  })

  test('that ask for a content while its file gets its names get it from what is here then', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const first = manager.start({ file: NAME })
    const swarm = (await run()).begin(SIZE)
    swarm.download.names()
    const second = manager.start({ id: FILM, as: COPY })
    await expect.poll(() => network.lookups.length).toBe(2)
    swarm.finish()
    expect(await ended(manager, first)).toMatchObject({ state: 'done' })
    const again = await run(2)
    expect(again.download.names()).toEqual([COPY])
    again.begin(SIZE, SIZE).finish()
    expect(await ended(manager, second)).toMatchObject({ state: 'done', joined: null })
  })

  test('of one content fail alone where other content takes their name meanwhile', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const first = manager.start({ file: NAME })
    const swarm = (await run()).begin(SIZE)
    const second = manager.start({ id: FILM, as: COPY })
    await expect.poll(() => state(second)).toBe('running')
    network.landing.set(NAME, OTHER)
    swarm.finish()
    expect(await ended(manager, first)).toMatchObject({ state: 'failed', error: { code: 'conflict' } })
    expect(await ended(manager, second)).toMatchObject({ state: 'done' })
  })

  test('of one content fail alone where it could not be kept under their name', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const first = manager.start({ file: NAME })
    const swarm = (await run()).begin(SIZE)
    const second = manager.start({ id: FILM, as: COPY })
    await expect.poll(() => state(second)).toBe('running')
    swarm.refused.add(COPY)
    swarm.finish()
    expect(await ended(manager, first)).toMatchObject({ state: 'done' })
    expect(await ended(manager, second)).toMatchObject({
      state: 'failed',
      error: { message: 'it came, but could not be kept as "copy.mkv": its notes say why' },
    })
  })

  test('run no more than so many at a time, in order', async () => {
    await manage({ maxRunning: 1 })
    network.automatic = false
    network.offer('P1', 'a', FILM)
    network.offer('P2', 'b', OTHER)
    const first = manager.start({ file: 'a' as FileName })
    const second = manager.start({ file: 'b' as FileName })
    const running = (await run()).begin(SIZE)
    expect([state(first), state(second)]).toEqual(['running', 'queued'])
    expect(network.lookups).toHaveLength(1)
    running.finish()
    expect((await run(2)).from).toEqual(['P2'])
  })

  test('do not wait in line for one that itself waits for a provider', async () => {
    await manage({ maxRunning: 1 })
    network.automatic = false
    network.offer('P1', 'a', FILM)
    network.offer('P2', 'b', OTHER)
    const first = manager.start({ file: 'a' as FileName })
    manager.start({ file: 'b' as FileName })
    const { download } = (await run()).begin(SIZE)
    expect(download.patient).toBe(true)
    download.observer?.onWaiting?.(8000)
    expect(manager.get(first.transfer)).toMatchObject({ state: 'waiting', waiting: { retry_ms: 8000 } })
    await run(2)
    download.observer?.onResumed?.()
    expect(manager.get(first.transfer)).toMatchObject({ state: 'running', waiting: null })
  })

  test('beyond the bound are refused', async () => {
    await manage({ maxActive: 1 })
    network.offer('P1', 'a', FILM)
    const first = manager.start({ file: 'a' as FileName })
    expect(() => manager.start({ file: 'b' as FileName })).toThrow(/try again/)
    await ended(manager, first)
  })

  test('are listed newest first, all or those of one state, and only so many of the ended are remembered', async () => {
    await manage({ history: 2 })
    for (const [i, name] of ['a', 'b', 'c', 'd'].entries()) {
      network.offer('P1', name, idOf(String(i)))
      await downloaded(manager, { file: name as FileName })
    }
    await expect.poll(() => manager.list().map(({ file }) => file)).toEqual(['d', 'c'])
    expect(manager.get('1')).toBeUndefined()
    expect(manager.list({ state: 'done' })).toHaveLength(2)
    expect(manager.list({ state: 'running' })).toEqual([])
  })
})

describe('a paused transfer', () => {
  test('counts what was written as it was stopped as its own, not as kept from before', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME })
    ;(await run()).begin(SIZE).piece()
    manager.pause(begun.transfer)
    manager.resume(begun.transfer)
    const after = await run(2)
    after
      .begin(SIZE, 2 * PIECE)
      .piece()
      .piece()
      .finish()
    expect(await ended(manager, begun)).toMatchObject({ state: 'done', bytes: SIZE, resumed_bytes: 0 })
  })

  test('keeps what it has, and goes on by content id with whoever is there then', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME })
    const before = (await run()).begin(SIZE).piece()
    expect(manager.pause(begun.transfer)).toMatchObject({ state: 'paused', bytes: PIECE, pieces: { verified: 1 } })
    expect(before.signal.aborted).toBe(true)
    network.offers.length = 0
    network.offer('P2', 'another name', FILM)
    expect(manager.resume(begun.transfer)).toMatchObject({ state: 'queued', bytes: PIECE })
    const after = await run(2)
    expect(after.from).toEqual(['P2'])
    after.begin(SIZE, PIECE).piece().piece().piece().finish()
    expect(await ended(manager, begun)).toMatchObject({ state: 'done', file: NAME, bytes: SIZE, resumed_bytes: 0 })
    expect(network.lookups).toEqual([NAME, FILM])
  })

  test('counts what arrived while it was being paused as its own', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME })
    const before = (await run()).begin(SIZE).piece()
    manager.pause(begun.transfer)
    before.piece()
    manager.resume(begun.transfer)
    ;(await run(2))
      .begin(SIZE, 2 * PIECE)
      .piece()
      .piece()
      .finish()
    expect(await ended(manager, begun)).toMatchObject({
      bytes: SIZE,
      resumed_bytes: 0,
      providers: [{ peer: 'P1', bytes: SIZE }],
    })
  })

  test('is resumed by the same request', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const { transfer } = manager.start({ file: NAME })
    await run()
    manager.pause(transfer)
    expect(manager.start({ file: NAME, limit: 700 })).toMatchObject({ transfer, state: 'queued', limit: 700 })
    await run(2)
  })

  test('can be paused before anything is located', async () => {
    const { open, opened } = latch()
    network.gate = opened
    network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME })
    await expect.poll(() => network.lookups.length).toBe(1)
    manager.pause(begun.transfer)
    open()
    manager.resume(begun.transfer)
    expect(await ended(manager, begun)).toMatchObject({ state: 'done' })
    expect(network.runs).toHaveLength(1)
  })

  test('waits for a provider when it is resumed, and asks again by itself', async () => {
    const clock = new ManualClock()
    await manage({}, { clock })
    network.automatic = false
    const offered = network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME })
    ;(await run()).begin(SIZE).piece()
    manager.pause(begun.transfer)
    network.offers.length = 0
    manager.resume(begun.transfer)
    await expect
      .poll(() => manager.get(begun.transfer))
      .toMatchObject({ state: 'waiting', waiting: { retry_ms: 1000 } })
    clock.advance(1000)
    await expect
      .poll(() => manager.get(begun.transfer))
      .toMatchObject({ state: 'waiting', waiting: { retry_ms: 2000 } })
    network.offers.push(offered)
    clock.advance(2000)
    await run(2)
  })

  test('that waits for a provider asks at once where the same is asked for', async () => {
    await manage({}, { clock: new ManualClock() })
    network.automatic = false
    const offered = network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME })
    ;(await run()).begin(SIZE).piece()
    manager.pause(begun.transfer)
    network.offers.length = 0
    manager.resume(begun.transfer)
    await expect.poll(() => state(begun)).toBe('waiting')
    network.offers.push(offered)
    manager.start({ file: NAME })
    await run(2)
  })

  test('is told where pausing and resuming make no sense', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const { transfer } = manager.start({ file: NAME })
    expect(() => manager.resume(transfer)).toThrow(/transfer 1 is not paused: its state is/)
    manager.pause(transfer)
    expect(() => manager.pause(transfer)).toThrow(/transfer 1 is paused already: resume it/)
    manager.cancel(transfer)
    expect(() => manager.pause(transfer)).toThrow(/transfer 1 has ended: cancelled/)
    expect(() => manager.resume(transfer)).toThrow(/transfer 1 has ended: cancelled/)
    expect(() => manager.pause('99')).toThrow(/no transfer "99"/)
  })
})

describe('a cancelled transfer', () => {
  test('ends at once, and lets go of what it fetches', async () => {
    network.automatic = false
    network.offer('P1', NAME, FILM)
    const begun = manager.start({ file: NAME })
    const fetching = (await run()).begin(SIZE).piece()
    expect(manager.cancel(begun.transfer)).toMatchObject({ state: 'cancelled', bytes: PIECE })
    expect(fetching.signal.aborted).toBe(true)
    expect(manager.start({ file: NAME }).transfer).not.toBe(begun.transfer)
    await run(2)
  })

  test('while it waits in line never begins', async () => {
    await manage({ maxRunning: 1 })
    network.automatic = false
    network.offer('P1', 'a', FILM)
    const first = manager.start({ file: 'a' as FileName })
    const second = manager.start({ file: 'b' as FileName })
    manager.cancel(second.transfer)
    ;(await run()).begin(SIZE).finish()
    await ended(manager, first)
    expect(network.lookups).toEqual(['a'])
  })

  test('can not be cancelled again, nor one that never was', async () => {
    network.offer('P1', NAME, OTHER)
    const { transfer } = await downloaded(manager, { file: NAME })
    expect(() => manager.cancel(transfer)).toThrow(/has ended: done/)
    expect(() => manager.cancel('99')).toThrow(/no transfer "99"/)
  })
})

describe('a folder', () => {
  const folder = 'lectures' as FileName
  const result: FolderResult = { outcome: 'done', files: 3, bytes: 30, faults: [], failed: 0 }
  let asked: FolderDownload[]
  let answer: Promise<FolderResult>

  beforeEach(async () => {
    asked = []
    answer = Promise.resolve(result)
    await manage(
      {},
      {
        folders: {
          run: (download) => {
            asked.push(download)
            return answer
          },
        },
      },
    )
  })

  /** @returns the number of a transfer that is under way */
  async function begun(): Promise<string> {
    const { transfer } = manager.start({ folder })
    await expect.poll(() => asked.length).toBe(1)
    return transfer
  }

  test('is one transfer that counts files and bytes', async () => {
    const { open, opened } = latch()
    answer = opened.then(() => result)
    const begun = manager.start({ folder, limit: 77 })
    expect(begun).toMatchObject({ file: 'lectures/', id: null })
    expect(manager.start({ folder }).transfer).toBe(begun.transfer)
    await expect.poll(() => asked.length).toBe(1)
    const { observer, rate } = asked[0]!
    expect(rate?.()).toBe(77)
    observer?.onListed?.({ files: 5, bytes: 50 }, { files: 2, bytes: 20 })
    observer?.onReceived?.(33)
    observer?.onVerified?.('P1' as PeerId, 30)
    observer?.onFiles?.(3, 30)
    expect(manager.get(begun.transfer)).toMatchObject({
      ...{ state: 'running', size: 50, bytes: 50, resumed_bytes: 20, pieces: null },
      files: { total: 5, done: 5 },
      providers: [{ peer: 'P1', bytes: 30 }],
    })
    open()
    expect(await ended(manager, begun)).toMatchObject({ state: 'done', received: 33, file: 'lectures/' })
  })

  test('that is paused counts what lands until it has stopped', async () => {
    const { open, opened } = latch()
    answer = opened.then(() => Promise.reject(new NetworkError('cancelled', 'cancelled')))
    const { transfer } = manager.start({ folder })
    await expect.poll(() => asked.length).toBe(1)
    const { observer } = asked[0]!
    observer?.onListed?.({ files: 5, bytes: 50 }, { files: 0, bytes: 0 })
    observer?.onVerified?.('P1' as PeerId, 30)
    expect(manager.pause(transfer)).toMatchObject({ state: 'paused', bytes: 30, files: { done: 0 } })
    observer?.onFiles?.(3, 30)
    open()
    await expect.poll(() => manager.get(transfer)).toMatchObject({ state: 'paused', bytes: 30, files: { done: 3 } })
  })

  test('that was cancelled is waited for before a stop is over', async () => {
    const { open, opened } = latch()
    answer = opened.then(() => Promise.reject(new NetworkError('cancelled', 'cancelled')))
    const { transfer } = manager.start({ folder })
    await expect.poll(() => asked.length).toBe(1)
    manager.cancel(transfer)
    let stopped = false
    const stopping = manager.stop().then(() => {
      stopped = true
    })
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(stopped).toBe(false)
    open()
    await stopping
  })

  test('that was cancelled and is asked for again begins once the first has let go of everything', async () => {
    const { open, opened } = latch()
    answer = opened.then(() => Promise.reject(new NetworkError('cancelled', 'cancelled')))
    manager.cancel(await begun())
    answer = Promise.resolve(result)
    const again = manager.start({ folder, as: 'other' as FileName })
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(asked.length).toBe(1)
    open()
    expect(await ended(manager, again)).toMatchObject({ state: 'done' })
    expect(asked.length).toBe(2)
  })

  test('that is cancelled while it waits for one before it to stop never begins', async () => {
    const { open, opened } = latch()
    answer = opened.then(() => Promise.reject(new NetworkError('cancelled', 'cancelled')))
    manager.cancel(await begun())
    const { transfer } = manager.start({ folder })
    manager.cancel(transfer)
    open()
    await manager.stop()
    expect([asked.length, manager.get(transfer)?.state]).toEqual([1, 'cancelled'])
  })

  test('that was cancelled has one of its files wait until it has stopped', async () => {
    const { open, opened } = latch()
    answer = opened.then(() => Promise.reject(new NetworkError('cancelled', 'cancelled')))
    manager.cancel(await begun())
    network.offer('P1', NAME, FILM)
    const file = manager.start({ file: NAME })
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
    expect(network.runs).toEqual([])
    open()
    expect(await ended(manager, file)).toMatchObject({ state: 'done' })
  })

  test('that runs holds up no other', async () => {
    const { open, opened } = latch()
    answer = opened.then(() => result)
    const first = manager.start({ folder })
    await expect.poll(() => asked.length).toBe(1)
    answer = Promise.resolve(result)
    expect(await downloaded(manager, { folder: 'other' as FileName })).toMatchObject({ state: 'done' })
    open()
    expect(await ended(manager, first)).toMatchObject({ state: 'done' })
  })

  test('of which files are missing has failed, and names some of them', async () => {
    answer = Promise.resolve({ ...result, faults: ['"lectures/a": nobody has it'], failed: 2 })
    expect(await downloaded(manager, { folder })).toMatchObject({
      state: 'failed',
      notes: ['"lectures/a": nobody has it'],
      error: { code: 'unavailable', message: expect.stringMatching(/^2 files of "lectures\/" could not be fetched/) },
    })
  })
})

describe('a push that comes in', () => {
  const push = { file: NAME, id: FILM, size: SIZE, from: 'P7' as PeerId, mode: 'real' as const }

  test('is listed beside the downloads until it ends', () => {
    const { observer, end } = manager.receiving(push)
    observer.onManifest?.({ id: FILM, size: SIZE, pieceSize: PIECE, hashes: Buffer.alloc(0) }, 0)
    observer.onVerified?.('P7' as PeerId, PIECE, 0)
    expect(manager.list()).toMatchObject([
      { direction: 'push', state: 'running', file: NAME, bytes: PIECE, providers: [{ peer: 'P7', bytes: PIECE }] },
    ])
    end('done')
    expect(manager.list()).toMatchObject([{ state: 'done' }])
  })

  test('that fails says why', () => {
    manager.receiving(push).end(new NetworkError('unavailable', 'P7 vanished'))
    expect(manager.list()).toMatchObject([{ state: 'failed', error: { code: 'unavailable' } }])
  })

  test('can be cancelled, but neither paused nor limited', () => {
    const { signal, end } = manager.receiving(push)
    const { transfer } = manager.list()[0]!
    expect(() => manager.pause(transfer)).toThrow(/is pushed by another peer: it can be cancelled, not paused/)
    expect(() => manager.setLimit(transfer, 1)).toThrow(/is pushed by another peer/)
    expect(manager.cancel(transfer)).toMatchObject({ state: 'cancelled' })
    expect(signal.aborted).toBe(true)
    end(new NetworkError('cancelled', 'cancelled'))
    expect(manager.get(transfer)?.state).toBe('cancelled')
  })
})

test('a manager that has stopped starts nothing more', async () => {
  network.offer('P1', NAME, FILM)
  await manager.stop()
  expect(() => manager.start({ file: NAME })).toThrow(/stopping/)
  expect(network.lookups).toEqual([])
})
