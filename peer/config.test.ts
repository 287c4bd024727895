import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { loadConfig } from '../common/config.ts'
import { PeerConfig } from './config.ts'

function load(content: object, env: Record<string, string> = {}, flags: Record<string, string> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'config-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'peer.json')
  writeFileSync(file, JSON.stringify({ id: 'P1', shared_dir: '.', ...content }))
  return loadConfig(PeerConfig, { file, env, flags })
}

test('rates are numbers or texts, from the file, the environment or a flag', () => {
  const { download_rate, upload_rate, rate_schedule } = load({})
  expect([download_rate, upload_rate, rate_schedule]).toEqual([undefined, undefined, undefined])
  expect(load({ download_rate: 5000, upload_rate: '10MB/s' })).toMatchObject({ download_rate: 5000, upload_rate: 1e7 })
  expect(load({ download_rate: 5000 }, { P2P_DOWNLOAD_RATE: '80Mbit' }).download_rate).toBe(1e7)
  expect(load({}, {}, { upload_rate: '2000000' }).upload_rate).toBe(2e6)
  expect(load({ upload_rate: 5000 }, {}, { upload_rate: 'none' }).upload_rate).toBeNull()
})

test('a schedule comes from the file, or as JSON', () => {
  const rate_schedule = [{ from: '08:00', to: '18:00', days: ['mon'], download: '2MB/s' }]
  const expected = [{ ...rate_schedule[0], download: 2e6 }]
  expect(load({ rate_schedule }).rate_schedule).toEqual(expected)
  expect(load({}, { P2P_RATE_SCHEDULE: JSON.stringify(rate_schedule) }).rate_schedule).toEqual(expected)
})

test('strategies are a list, or names separated by commas', () => {
  expect(load({}).strategies).toEqual(['local', 'maestro', 'friends', 'chord', 'flood'])
  expect(load({ strategies: ['local', 'chord'] }).strategies).toEqual(['local', 'chord'])
  expect(load({}, { P2P_STRATEGIES: 'local, flood' }).strategies).toEqual(['local', 'flood'])
  expect(load({}, {}, { strategies: '["chord","local"]' }).strategies).toEqual(['chord', 'local'])
})

test('the ring has settings', () => {
  expect(load({})).toMatchObject({ ring: true, ring_successors: 16, stabilize_ms: 10_000 })
  expect(load({}, { P2P_RING: 'false', P2P_RING_SUCCESSORS: '4' })).toMatchObject({ ring: false, ring_successors: 4 })
})

test.each([
  [
    { strategies: ['local', 'magic'] },
    'the key "strategies" has a bad value ["local","magic"]: "magic" is none of local',
  ],
  [{ strategies: 'local,local' }, 'the key "strategies" has a bad value "local,local": it names one twice'],
  [{ strategies: [] }, 'the key "strategies" has a bad value []: it must not be empty'],
  [{ strategies: 5 }, 'the key "strategies" has a bad value 5: it must be a list or be a text'],
  [{ ring_successors: 1 }, 'the key "ring_successors" has a bad value 1: it must be at least 2'],
  [{ stabilize_ms: 5 }, 'the key "stabilize_ms" has a bad value 5: it must be at least 100'],
  [{ ring: 'yes' }, 'the key "ring" has a bad value "yes": it must be true or false'],
  [{ download_rate: 'fast' }, 'the key "download_rate" has a bad value "fast": "fast" is not a rate'],
  [{ upload_rate: 5 }, 'the key "upload_rate" has a bad value 5: a rate of 5 is too low'],
  [{ upload_rate: {} }, 'the key "upload_rate" has a bad value {}: it must be a number or be a text'],
  [{ rate_schedule: 'nights' }, 'the key "rate_schedule" has a bad value "nights": it must be a list'],
  [{ rate_schedule: [{ from: '8', to: '18:00', upload: 0 }] }, '"from" is a time of day'],
  [{ rate_schedule: [{ from: '08:00', upload: 0 }] }, 'the key "rate_schedule" has a bad value'],
  [{ rate_schedule: [{ from: '08:00', to: '18:00', upload: 'x' }] }, '"x" is not a rate'],
  [{ rate_schedule: [{ from: '08:00', to: '18:00', speed: 1 }] }, 'it must not have "speed"'],
])('%j is refused in one sentence that names the key', (content, says) => {
  expect(() => load(content)).toThrow(says)
})
