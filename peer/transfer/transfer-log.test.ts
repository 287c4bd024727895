import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import type { FileName } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import { ended, FakeNetwork, idOf, PIECE } from './manager.fixture.ts'
import type { TransferManager } from './manager.ts'
import { TransferFile } from './transfer-log.ts'

const NAME = 'film.mkv' as FileName
const FILM = idOf('a')
const SIZE = 4 * PIECE

let folder: string
let file: string
let network: FakeNetwork
let warnings: string[]
const managers: TransferManager[] = []
const log = { warn: (_fields: unknown, text: string) => warnings.push(text) } as unknown as Logger

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'p2p-transfer-log-'))
  file = join(folder, 'transfers.json')
  network = new FakeNetwork()
  network.automatic = false
  warnings = []
})
afterEach(async () => {
  await Promise.all(managers.splice(0).map((manager) => manager.stop()))
  await rm(folder, { recursive: true })
})

const saved = () => new TransferFile({ log }, { file })

/** An agent's manager over the same state. The one before it is not told to stop: as after kill -9. */
function started(clock?: ManualClock): TransferManager {
  const manager = network.manager({ saved: saved(), ...(clock ? { clock } : {}) })
  managers.push(manager)
  return manager
}

async function run(count: number) {
  await expect.poll(() => network.runs.length).toBe(count)
  return network.runs.at(-1)!
}

describe('an unfinished transfer', () => {
  test('goes on by itself when the agent runs again, by content id under its number and name', async () => {
    network.offer('P1', NAME, FILM)
    const begun = started().start({ file: NAME, limit: 900 })
    ;(await run(1)).begin(SIZE).piece()
    await expect.poll(() => saved().load().transfers[0]?.id).toBe(FILM)
    const manager = started()
    expect(manager.list()).toMatchObject([
      { transfer: begun.transfer, state: 'queued', file: NAME, id: FILM, limit: 900 },
    ])
    manager.restore()
    ;(await run(2)).begin(SIZE, PIECE).piece().piece().piece().finish()
    expect(await ended(manager, begun)).toMatchObject({ state: 'done', resumed_bytes: PIECE, started: begun.started })
    expect(network.lookups).toEqual([NAME, FILM])
    await expect.poll(() => saved().load()).toEqual({ count: 1, transfers: [] })
  })

  test('stays paused where it was paused', async () => {
    network.offer('P1', NAME, FILM)
    const first = started()
    const { transfer } = first.start({ file: NAME })
    await run(1)
    first.pause(transfer)
    const manager = started()
    manager.restore()
    expect(manager.get(transfer)).toMatchObject({ state: 'paused' })
    manager.resume(transfer)
    await run(2)
  })

  test('waits for the network where nobody is there yet', async () => {
    const clock = new ManualClock()
    const offered = network.offer('P1', NAME, FILM)
    const { transfer } = started(clock).start({ file: NAME })
    await run(1)
    network.offers.length = 0
    const manager = started(clock)
    manager.restore()
    await expect.poll(() => manager.get(transfer)?.state).toBe('waiting')
    network.offers.push(offered)
    clock.advance(1000)
    await run(2)
  })

  test('begins with what is here of it, before anybody else is', async () => {
    network.offer('P1', NAME, FILM)
    const { transfer } = started().start({ file: NAME })
    await run(1)
    await expect.poll(() => saved().load().transfers[0]?.id).toBe(FILM)
    network.offers.length = 0
    network.journal = true
    const manager = started()
    manager.restore()
    const again = await run(2)
    expect(again.from).toEqual([])
    again.begin(SIZE, PIECE).download.observer?.onWaiting?.(2000)
    expect(manager.get(transfer)).toMatchObject({
      state: 'waiting',
      waiting: { retry_ms: 2000 },
      bytes: PIECE,
      file: NAME,
    })
    network.offer('P2', NAME, FILM)
    const found = await again.download.discover!(new AbortController().signal)
    expect(found[0]?.peer).toBe('P2')
  })

  test('is remembered through an orderly stop, and no longer once it was cancelled', async () => {
    network.offer('P1', NAME, FILM)
    const first = started()
    first.start({ file: NAME })
    const { transfer } = first.start({ folder: 'lectures' as FileName })
    first.cancel(transfer)
    await first.stop()
    expect(
      saved()
        .load()
        .transfers.map(({ request }) => request),
    ).toEqual([{ file: NAME }])
  })

  test('of a folder is remembered as one', async () => {
    const never = new Promise<never>(() => {})
    const manager = network.manager({ saved: saved(), folders: { run: () => never } })
    manager.start({ folder: 'lectures' as FileName })
    expect(started().list()).toMatchObject([{ file: 'lectures/', state: 'queued' }])
  })
})

test('numbers go on from one run of the agent to the next', async () => {
  network.automatic = true
  network.offer('P1', NAME, FILM)
  const first = started()
  await ended(first, first.start({ file: NAME }))
  expect(started().start({ id: FILM }).transfer).toBe('2')
})

describe('a list of transfers', () => {
  test.each([
    ['is cut', (text: string) => text.slice(0, -5)],
    ['is empty', () => ''],
    ['is another thing', () => '[1, 2]'],
    ['names a file outside', (text: string) => text.replaceAll(NAME, '../evil')],
  ])('that %s is moved aside with a warning, and begins empty', async (_, harm) => {
    network.offer('P1', NAME, FILM)
    started().start({ file: NAME })
    const harmed = harm(readFileSync(file, 'utf8'))
    writeFileSync(file, harmed)
    expect(saved().load()).toEqual({ count: 0, transfers: [] })
    expect(readFileSync(`${file}.broken`, 'utf8')).toBe(harmed)
    expect(existsSync(file)).toBe(false)
    expect(warnings).toEqual([expect.stringMatching(/broken/)])
  })

  test('that can not be written costs a warning, once, and no transfer', async () => {
    network.automatic = true
    network.offer('P1', NAME, FILM)
    await rm(folder, { recursive: true })
    const manager = started()
    expect(await ended(manager, manager.start({ file: NAME }))).toMatchObject({ state: 'done' })
    manager.start({ file: NAME })
    expect(warnings).toEqual([expect.stringMatching(/can not be saved/)])
    writeFileSync(folder, '')
    await rm(folder)
    folder = await mkdtemp(join(tmpdir(), 'p2p-transfer-log-'))
  })
})
