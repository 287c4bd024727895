import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished, vi } from 'vitest'
import { ManualClock } from '../common/clock.ts'
import { parsePeerId } from '../common/ids.ts'
import { silentLog } from '../common/log.ts'
import { MaestroConfig } from './config.ts'
import { SqliteStore } from './directory/sqlite.ts'
import { MaestroEvents } from './events.ts'

function open(config: object) {
  const store = SqliteStore.open(':memory:')
  const warn = vi.fn()
  const log = Object.assign(Object.create(silentLog), { warn })
  const events = MaestroEvents.open(MaestroConfig.parse(config), { store, clock: new ManualClock(), log })
  onTestFinished(async () => {
    await events.stop()
    await store.close()
  })
  return { events, warn }
}

it.each([
  ['beside the directory', {}, ['directory.events.db', 'directory.mail.db']],
  ['where they are configured to be', { events_database: 'news.events.db' }, ['news.events.db', 'news.mail.db']],
  ['nowhere but in memory', { database: ':memory:' }, []],
  ['without mail where a broker keeps it', { events: 'amqp://127.0.0.1:1' }, ['directory.events.db']],
])('events and mail are kept %s', (_, over, files) => {
  const folder = mkdtempSync(join(tmpdir(), 'maestro-events-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const config: Record<string, string> = { database: 'directory.db', ...over }
  for (const key of ['database', 'events_database'])
    if (config[key]?.endsWith('.db')) config[key] = join(folder, config[key])
  open(config)
  expect(
    readdirSync(folder)
      .filter((file) => file.endsWith('.db'))
      .sort(),
  ).toEqual(files)
})

it('an event that can not be kept is logged, and fails nobody', async () => {
  const { events, warn } = open({ database: ':memory:' })
  await events.start()
  await events.stop()
  events.publish([{ type: 'peer.withdrawn', data: { peer: parsePeerId('P1') } }])
  await expect.poll(() => warn.mock.calls.length).toBe(1)
  expect(warn).toHaveBeenCalledWith(expect.objectContaining({ events: 1 }), 'events could not be kept')
})
