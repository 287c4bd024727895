import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { ManualClock } from '../common/clock.ts'
import { silentLog } from '../common/log.ts'
import type { LimitsChange } from '../common/schemas.ts'
import { Limits } from './limits.ts'

const HOUR = 3_600_000
const MB = 1_000_000
/** A Wednesday. */
const NOON = Date.parse('2026-03-04T12:00:00Z')
const EVENING = { from: '18:00', to: '22:00', download: 2 * MB }

const utc = (ms: number) => {
  const date = new Date(ms)
  return { day: date.getUTCDay(), minutes: date.getUTCHours() * 60 + date.getUTCMinutes() }
}

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'limits-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  return folder
}

function limitsIn(folder: string, configured: LimitsChange = {}, clock = new ManualClock(NOON)): Limits {
  return new Limits({ clock, log: silentLog, local: utc }, { file: join(folder, 'limits.json'), configured })
}

test('without any, there is no limit', () => {
  const limits = limitsIn(temporaryFolder())
  expect(limits.now()).toEqual({ download: undefined, upload: undefined, until: undefined })
  expect(limits.status()).toEqual({
    download: null,
    upload: null,
    schedule: [],
    now: { download: null, upload: null, until: null },
    set: [],
  })
})

test('those of the configuration hold, by the time of day', () => {
  const clock = new ManualClock(NOON)
  const limits = limitsIn(temporaryFolder(), { download: 10 * MB, upload: MB, schedule: [EVENING] }, clock)
  expect(limits.now()).toEqual({ download: 10 * MB, upload: MB, until: NOON + 6 * HOUR })
  clock.advance(6 * HOUR)
  expect(limits.now()).toEqual({ download: 2 * MB, upload: MB, until: NOON + 10 * HOUR })
  expect(limits.status().now).toEqual({ download: 2 * MB, upload: MB, until: '2026-03-04T22:00:00.000Z' })
})

test('what is set while running holds over the configuration, key by key, after a restart too', () => {
  const folder = temporaryFolder()
  const limits = limitsIn(folder, { download: 10 * MB, upload: MB, schedule: [EVENING] })
  limits.set({ upload: null })
  limits.set({ schedule: [] })
  const expected = {
    download: 10 * MB,
    upload: null,
    schedule: [],
    now: { download: 10 * MB, upload: null, until: null },
    set: ['upload', 'schedule'],
  }
  expect(limits.status()).toEqual(expected)
  expect(limitsIn(folder, { download: 10 * MB, upload: MB, schedule: [EVENING] }).status()).toEqual(expected)
  expect(limitsIn(folder, { download: 3 * MB }).now().download).toBe(3 * MB)
})

test('a reset goes back to the configuration, after a restart too', () => {
  const folder = temporaryFolder()
  const limits = limitsIn(folder, { upload: MB })
  limits.set({ download: 5 * MB, upload: 7 * MB })
  limits.reset()
  limits.reset()
  expect(limits.status()).toMatchObject({ download: null, upload: MB, set: [] })
  expect(limitsIn(folder, { upload: MB }).status()).toEqual(limits.status())
})

test('what can not be kept is refused and changes nothing', () => {
  const folder = temporaryFolder()
  const limits = limitsIn(folder)
  limits.set({ upload: MB })
  const saved = readFileSync(join(folder, 'limits.json'), 'utf8')
  mkdirSync(join(folder, 'limits.json.new'))
  expect(() => limits.set({ upload: 2 * MB })).toThrow()
  expect(limits.now().upload).toBe(MB)
  expect(readFileSync(join(folder, 'limits.json'), 'utf8')).toBe(saved)
})

test.each(['', '{', '[]', '{}', '{"download": "fast"}', '{"other": 1}'])(
  'a file that holds %j leaves those of the configuration, and can be replaced',
  (text) => {
    const folder = temporaryFolder()
    writeFileSync(join(folder, 'limits.json'), text)
    const limits = limitsIn(folder, { upload: MB })
    expect(limits.status()).toMatchObject({ upload: MB, set: [] })
    limits.set({ download: MB })
    expect(limitsIn(folder).status()).toMatchObject({ download: MB, set: ['download'] })
    limits.reset()
    expect(existsSync(join(folder, 'limits.json'))).toBe(false)
  },
)

test('listeners hear of what is set, and of the schedule when its time comes', async () => {
  const clock = new ManualClock(NOON)
  const limits = limitsIn(temporaryFolder(), { schedule: [EVENING] }, clock)
  const heard: (number | undefined)[] = []
  const end = limits.onChange(() => heard.push(limits.now().download))
  limits.set({ download: 5 * MB })
  limits.set({ download: 5 * MB })
  await limits.start()
  // The loop sleeps a minute at most; whoever asks meanwhile is answered right.
  for (let minutes = 0; minutes < 6 * 60; minutes++) {
    clock.advance(60_000)
    await Promise.resolve()
  }
  await expect.poll(() => heard).toEqual([5 * MB, 2 * MB])
  end()
  limits.reset()
  await limits.stop()
  expect(heard).toEqual([5 * MB, 2 * MB])
})

test('a bucket lets those who wait pass when the limit is taken away', async () => {
  const limits = limitsIn(temporaryFolder(), { upload: 1000 })
  const bucket = limits.bucket('upload')
  const { signal } = new AbortController()
  expect(bucket.take(100 * MB, signal)).toBeUndefined()
  const waits = bucket.take(1, signal)
  limits.set({ upload: null })
  await waits
  expect(limits.bucket('download').take(100 * MB, signal)).toBeUndefined()
})

test('a bucket lets those who wait pass when the schedule takes the limit away', async () => {
  const clock = new ManualClock(NOON)
  const limits = limitsIn(temporaryFolder(), { upload: 1000, schedule: [{ ...EVENING, upload: null }] }, clock)
  await limits.start()
  onTestFinished(() => limits.stop())
  const bucket = limits.bucket('upload')
  const { signal } = new AbortController()
  bucket.take(1000 * MB, signal)
  const waits = bucket.take(1, signal)
  clock.advance(6 * HOUR)
  await waits
})
