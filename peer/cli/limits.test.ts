import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { LimitsBody, ScheduleEntry } from '../../common/schemas.ts'
import { FakeAgent, run } from './fake-agent.fixture.ts'
import { parseScheduleEntry, whenText } from './schedule.ts'

const UNLIMITED = { download: null, upload: null, until: null }
const OFFICE: ScheduleEntry = {
  from: '08:00',
  to: '18:00',
  days: ['mon', 'tue', 'wed', 'thu', 'fri'],
  download: 2_000_000,
  upload: 1_000_000,
}

describe('peer limits', () => {
  let agent: FakeAgent

  beforeEach(async () => {
    agent = await new FakeAgent().start()
  })
  afterEach(() => agent.stop())

  const on = (...args: string[]) => run(['limits', ...args], { env: { P2P_AGENT: agent.url } })
  const asked = () => agent.requests.map(({ method, path, body }) => ({ method, path, body }))

  test('shows that there are none', async () => {
    expect(await on()).toEqual({
      code: 0,
      stdout: 'WHEN    DOWNLOAD    UPLOAD\nalways  no limit  no limit\n',
      stderr: '',
    })
  })

  test('shows the schedule, what holds now and until when, and what was set while running', async () => {
    agent.limits = {
      download: 10_000_000,
      upload: null,
      schedule: [OFFICE, { from: '22:00', to: '06:00', upload: 500_000 }],
      now: { download: 2_000_000, upload: 1_000_000, until: '2026-03-02T17:00:00.000Z' },
      set: ['download', 'schedule'],
    }
    const { stdout } = await on()
    expect(stdout).toMatch(/^mon-fri 08:00-18:00 +2 MB\/s +1 MB\/s$/m)
    expect(stdout).toMatch(/^22:00-06:00 +10 MB\/s +500 kB\/s$/m)
    expect(stdout).toMatch(/^otherwise +10 MB\/s +no limit$/m)
    expect(stdout).toMatch(/^now, until 2026-03-0\d \d\d:\d\d +2 MB\/s +1 MB\/s$/m)
    expect(stdout).toMatch(/^Set while running, .*: download and schedule\. "peer limits reset"/m)
    expect(JSON.parse((await on('--json')).stdout)).toEqual(agent.limits)
  })

  test('set sends what is given, and only that', async () => {
    await on('set', '--download', '10MB/s', '--upload', 'none')
    await on(
      'set',
      '--schedule',
      'mon-fri 08:00-18:00 download=2MB/s upload=8Mbit',
      '--schedule',
      '22:00-06:00 upload=off',
    )
    await on('set', '--schedule', 'none')
    expect(asked()).toEqual([
      { method: 'PUT', path: '/limits', body: { download: 10_000_000, upload: null } },
      { method: 'PUT', path: '/limits', body: { schedule: [OFFICE, { from: '22:00', to: '06:00', upload: null }] } },
      { method: 'PUT', path: '/limits', body: { schedule: [] } },
    ])
  })

  test('set shows what holds then', async () => {
    const set: LimitsBody['set'] = ['download']
    agent.limits = { download: 1_000_000, upload: null, schedule: [], now: { ...UNLIMITED, download: 1_000_000 }, set }
    expect((await on('set', '--download', '1MB')).stdout).toMatch(
      /always +1 MB\/s +no limit\nSet while running, .*: download\. /,
    )
  })

  test('reset goes back to the configuration', async () => {
    expect((await on('reset')).stdout).toMatch(/always +no limit/)
    expect(asked()).toEqual([{ method: 'DELETE', path: '/limits', body: undefined }])
  })

  test.each([
    [['set'], 'give --download, --upload or --schedule; see "peer limits set --help"'],
    [['set', '--download', 'fast'], '"fast" is not a rate'],
    [['set', '--download', '0'], 'a rate of 0 would let nothing through: "none" is no limit'],
    [['set', '--schedule', '108:00-18:00 upload=1MB'], 'it reads as in'],
    [['set', '--schedule', 'at night'], 'the schedule "at night": it reads as in "mon-fri 08:00-18:00 download=2MB/s'],
    [['set', '--schedule', '08:00-18:00'], 'it reads as in'],
    [['set', '--schedule', '08:00-18:00 speed=1MB'], '"speed=1MB" is not "download=RATE" or "upload=RATE"'],
    [['set', '--schedule', '08:00-18:00 upload=1MB upload=2MB'], 'each at most once'],
    [['set', '--schedule', '08:00-18:00 upload=fast'], '"fast" is not a rate'],
    [['set', '--schedule', '08:00-25:00 upload=1MB'], '"to" is a time of day, 00:00 to 24:00'],
    [['set', '--schedule', '24:00-08:00 upload=1MB'], '"from" is a time of day, 00:00 to 23:59'],
    [['set', '--schedule', 'mon-funday 08:00-18:00 upload=1MB'], '"mon-funday" is not a day or days'],
    [['set', '--schedule', 'mon-tue-wed 08:00-18:00 upload=1MB'], 'is not a day or days'],
    [['set', '--schedule', 'none', '--schedule', '08:00-18:00 upload=1MB'], 'the schedule "none"'],
  ])('%j is wrong usage in one line, and nothing is sent', async (args, says) => {
    const { code, stdout, stderr } = await on(...args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(says)
    expect(stderr).toMatch(/^peer: .*\n$/)
    expect(agent.requests).toEqual([])
  })

  test.each([['set'], ['reset']])('%s --help has an example', async (command) => {
    const { stdout, code } = await run(['limits', command, '--help'])
    expect(code).toBe(0)
    expect(stdout).toMatch(/Examples?:\n {2}peer limits /)
  })
})

describe('an entry of a schedule reads back as it was written', () => {
  test.each([
    '08:00-18:00',
    'mon 08:00-18:00',
    'mon-fri 08:00-18:00',
    'sat,sun 22:00-06:00',
    'mon,wed-fri,sun 00:00-24:00',
  ])('%s', (text) => {
    expect(whenText(parseScheduleEntry(`${text} upload=1MB`))).toBe(text)
  })

  test.each([
    ['fri-mon 08:00-18:00', 'mon,fri-sun 08:00-18:00'],
    ['SAT,MON  08:00-18:00', 'mon,sat 08:00-18:00'],
    ['mon-sun 08:00-18:00', '08:00-18:00'],
    ['tue,tue 08:00-18:00', 'tue 08:00-18:00'],
    ['sat,sun 8:00-9:30', 'sat,sun 08:00-09:30'],
  ])('%s as %s', (text, read) => {
    expect(whenText(parseScheduleEntry(`${text} upload=1MB`))).toBe(read)
  })
})
