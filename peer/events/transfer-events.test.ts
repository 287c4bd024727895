import { afterEach, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import { EVENT_SCHEMAS, type EventDraft } from '../../common/events/event.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import { downloaded, ended, FakeNetwork, idOf } from '../transfer/manager.fixture.ts'
import type { TransferManager } from '../transfer/manager.ts'
import { transferDraft } from './transfer-events.ts'

const NAME = 'film.mkv' as FileName
const FILM = idOf('a')

let manager: TransferManager | undefined
afterEach(() => manager?.stop())

function watched() {
  const network = new FakeNetwork()
  const told: EventDraft[] = []
  const news = {
    started: (transfer: Parameters<typeof transferDraft>[0]) => void told.push(transferDraft(transfer)),
    ended: (transfer: Parameters<typeof transferDraft>[0]) => void told.push(transferDraft(transfer)),
  }
  manager = network.manager({ news })
  return { network, manager, told }
}

function expectValid(told: readonly EventDraft[]): void {
  for (const { type, data } of told) expect(EVENT_SCHEMAS[type].shape.data.safeParse(data).error).toBeUndefined()
}

test('a download is told of when it begins to fetch, and when it has all', async () => {
  const { network, manager, told } = watched()
  network.offer('P1', NAME, FILM)
  await downloaded(manager, { file: NAME })
  expect(told).toMatchObject([
    { type: 'transfer.started', data: { transfer: '1', file: NAME, id: FILM, direction: 'download', mode: 'real' } },
    { type: 'transfer.completed', data: { transfer: '1', file: NAME, id: FILM, size: 400, bytes: 400 } },
  ])
  expectValid(told)
})

test('one that nobody has failed, and never started', async () => {
  const { manager, told } = watched()
  await downloaded(manager, { file: NAME })
  expect(told).toMatchObject([{ type: 'transfer.failed', data: { file: NAME, error: { code: 'not_found' } } }])
  expectValid(told)
})

test('one that is paused and resumed has started once; one that is cancelled failed', async () => {
  const { network, manager, told } = watched()
  network.automatic = false
  network.offer('P1', NAME, FILM)
  const begun = manager.start({ file: NAME })
  await expect.poll(() => network.runs.length).toBe(1)
  manager.pause(begun.transfer)
  manager.resume(begun.transfer)
  await expect.poll(() => network.runs.length).toBe(2)
  manager.cancel(begun.transfer)
  await ended(manager, begun)
  expect(told.map(({ type }) => type)).toEqual(['transfer.started', 'transfer.failed'])
  expect(told[1]).toMatchObject({ data: { error: { code: 'cancelled' } } })
  expectValid(told)
})

test('a push is told of as well, with its own direction', () => {
  const { manager, told } = watched()
  const push = { file: NAME, id: FILM, size: 4, from: 'P2' as PeerId, mode: 'real' as const }
  manager.receiving(push).end('done')
  manager.receiving(push).end(new NetworkError('unavailable', 'P2 is gone'))
  expect(told.map(({ type }) => type)).toEqual([
    'transfer.started',
    'transfer.completed',
    'transfer.started',
    'transfer.failed',
  ])
  for (const { data } of told) expect(data).toMatchObject({ direction: 'push' })
  expectValid(told)
})
