import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { DAYS, type RateSettings, type ScheduleEntry } from '../common/schemas.ts'
import { type LocalTime, localTime, nextChange, ratesAt } from './rate-schedule.ts'

const HOUR = 3_600_000

function settings(...schedule: ScheduleEntry[]): RateSettings {
  return { download: 100, upload: null, schedule }
}

/** `fri 23:30` */
function at(text: string): LocalTime {
  const [day, time] = text.split(' ') as [(typeof DAYS)[number], string]
  const [hours, minutes] = time.split(':').map(Number) as [number, number]
  return { day: DAYS.indexOf(day), minutes: hours * 60 + minutes }
}

/** The calendar of a zone, as the system knows it. */
function zone(timeZone: string): (ms: number) => LocalTime {
  const options = { timeZone, weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' } as const
  const format = new Intl.DateTimeFormat('en-US', options)
  return (ms) => {
    const parts = Object.fromEntries(format.formatToParts(ms).map(({ type, value }) => [type, value]))
    return {
      day: (DAYS as readonly string[]).indexOf(parts.weekday?.toLowerCase() ?? ''),
      minutes: Number(parts.hour) * 60 + Number(parts.minute),
    }
  }
}

describe('an entry holds', () => {
  test.each<[string, Omit<ScheduleEntry, 'download'>, string, boolean]>([
    ['from its beginning', { from: '08:00', to: '18:00' }, 'mon 08:00', true],
    ['not before', { from: '08:00', to: '18:00' }, 'mon 07:59', false],
    ['until its end', { from: '08:00', to: '18:00' }, 'sun 17:59', true],
    ['not at its end', { from: '08:00', to: '18:00' }, 'sun 18:00', false],
    ['on its days', { from: '08:00', to: '18:00', days: ['mon', 'fri'] }, 'fri 12:00', true],
    ['not on others', { from: '08:00', to: '18:00', days: ['mon', 'fri'] }, 'thu 12:00', false],
    ['until midnight', { from: '22:00', to: '24:00' }, 'thu 23:59', true],
    ['not beyond midnight', { from: '22:00', to: '24:00', days: ['thu'] }, 'fri 00:00', false],
    ['before midnight where it crosses it', { from: '22:00', to: '06:00', days: ['fri'] }, 'fri 22:00', true],
    ['after midnight, on the day after its own', { from: '22:00', to: '06:00', days: ['fri'] }, 'sat 05:59', true],
    ['from Saturday into Sunday', { from: '22:00', to: '06:00', days: ['sat'] }, 'sun 01:00', true],
    ['not in the night before its day', { from: '22:00', to: '06:00', days: ['fri'] }, 'fri 05:59', false],
    ['not in the evening after its day', { from: '22:00', to: '06:00', days: ['fri'] }, 'sat 22:00', false],
    ['around the clock where it ends as it begins', { from: '07:00', to: '07:00', days: ['fri'] }, 'sat 06:59', true],
    ['and then no longer', { from: '07:00', to: '07:00', days: ['fri'] }, 'sat 07:00', false],
    ['all day from 00:00 to 24:00', { from: '00:00', to: '24:00' }, 'wed 00:00', true],
  ])('%s: %j at %s', (_, entry, time, holds) => {
    expect(ratesAt(settings({ ...entry, download: 7 }), at(time)).download).toBe(holds ? 7 : 100)
  })
})

test('the first entry that covers the time wins, and what it does not give is the base', () => {
  const rates = settings(
    { from: '08:00', to: '12:00', upload: 5 },
    { from: '08:00', to: '18:00', download: 6, upload: 6 },
    { from: '18:00', to: '20:00', download: null },
  )
  expect(ratesAt(rates, at('mon 09:00'))).toEqual({ download: 100, upload: 5 })
  expect(ratesAt(rates, at('mon 12:00'))).toEqual({ download: 6, upload: 6 })
  expect(ratesAt(rates, at('mon 18:00'))).toEqual({ download: null, upload: null })
  expect(ratesAt(rates, at('mon 21:00'))).toEqual({ download: 100, upload: null })
})

describe('the next change', () => {
  const change = (from: string, timeZone: string, ...schedule: ScheduleEntry[]) => {
    const next = nextChange(settings(...schedule), Date.parse(from), zone(timeZone))
    return next === undefined ? undefined : new Date(next).toISOString()
  }
  const office: ScheduleEntry = { from: '08:00', to: '18:00', days: ['mon', 'tue', 'wed', 'thu', 'fri'], download: 7 }

  test.each([
    ['the end of what holds', '2026-03-04T09:12:34.567Z', '2026-03-04T18:00:00.000Z'],
    ['the beginning of the next', '2026-03-04T18:00:00.000Z', '2026-03-05T08:00:00.000Z'],
    ['after a weekend', '2026-03-06T18:00:00.000Z', '2026-03-09T08:00:00.000Z'],
  ])('is %s', (_, from, next) => {
    expect(change(from, 'UTC', office)).toBe(next)
  })

  test('is none where there is no schedule, or it changes nothing', () => {
    expect(change('2026-03-04T09:00:00Z', 'UTC')).toBeUndefined()
    expect(change('2026-03-04T09:00:00Z', 'UTC', { from: '08:00', to: '18:00', download: 100 })).toBeUndefined()
    expect(change('2026-03-04T09:00:00Z', 'UTC', { from: '00:00', to: '24:00', download: 7 })).toBeUndefined()
  })

  test('passes over boundaries between entries of the same rates', () => {
    const half = { from: '08:00', to: '12:00', download: 7 }
    expect(change('2026-03-04T09:00:00Z', 'UTC', half, { from: '12:00', to: '18:00', download: 7 })).toBe(
      '2026-03-04T18:00:00.000Z',
    )
  })

  test('may be a week away', () => {
    const sunday: ScheduleEntry = { from: '10:00', to: '10:01', days: ['sun'], download: 7 }
    expect(change('2026-03-01T10:01:00Z', 'UTC', sunday)).toBe('2026-03-08T10:00:00.000Z')
  })

  // Europe/Madrid: 02:00 becomes 03:00 on 2026-03-29 at 01:00 UTC; 03:00 becomes 02:00 on 2026-10-25 at 01:00 UTC.
  test.each([
    ['the day before', '2026-03-28T12:00:00Z', { from: '20:00', to: '22:00' }, '2026-03-28T19:00:00.000Z'],
    ['across it', '2026-03-28T22:00:00Z', { from: '08:00', to: '18:00' }, '2026-03-29T06:00:00.000Z'],
    ['within the hour that is not', '2026-03-28T22:00:00Z', { from: '02:30', to: '05:00' }, '2026-03-29T01:00:00.000Z'],
    ['back, across it', '2026-10-24T22:30:00Z', { from: '08:00', to: '18:00' }, '2026-10-25T07:00:00.000Z'],
  ])('is right where clocks are set: %s', (_, from, times, next) => {
    expect(change(from, 'Europe/Madrid', { ...times, download: 7 })).toBe(next)
  })

  test('is right in zones of half and quarter hours', () => {
    expect(change('2026-03-04T00:00:00Z', 'Asia/Kathmandu', { from: '08:00', to: '18:00', download: 7 })).toBe(
      '2026-03-04T02:15:00.000Z',
    )
    expect(change('2026-03-04T00:00:00Z', 'Asia/Kolkata', { from: '08:07', to: '18:00', download: 7 })).toBe(
      '2026-03-04T02:37:00.000Z',
    )
  })

  test('is when the rates first differ, whatever the schedule', () => {
    const time = fc
      .tuple(fc.integer({ min: 0, max: 23 }), fc.integer({ min: 0, max: 59 }))
      .map((pair) => pair.map((n) => String(n).padStart(2, '0')).join(':'))
    const entry = fc.record(
      { from: time, to: time, days: fc.subarray([...DAYS], { minLength: 1 }), download: fc.constantFrom(1, 2, null) },
      { requiredKeys: ['from', 'to', 'download'] },
    )
    const local = (ms: number): LocalTime => {
      const minutes = Math.floor(ms / 60_000)
      return { day: Math.floor(minutes / 1440) % 7, minutes: minutes % 1440 }
    }
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 3 }), fc.integer({ min: 0, max: 7 * 24 * HOUR }), (schedule, now) => {
        const rates = settings(...schedule)
        const same = (ms: number) => ratesAt(rates, local(ms)).download === ratesAt(rates, local(now)).download
        let expected: number | undefined
        for (let ms = now - (now % 60_000) + 60_000; expected === undefined && ms < now + 7.5 * 24 * HOUR; ms += 60_000)
          if (!same(ms)) expected = ms
        expect(nextChange(rates, now, local)).toBe(expected)
      }),
      { numRuns: 100 },
    )
  })
})

test('local time is that of the machine', () => {
  const date = new Date(2026, 2, 4, 9, 41, 59)
  expect(localTime(date.getTime())).toEqual({ day: 3, minutes: 9 * 60 + 41 })
})
