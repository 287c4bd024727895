import { DAYS, type RateSettings, type ScheduleEntry } from '../common/schemas.ts'

/** Which rates hold when. Pure: local time comes from outside, so that daylight saving is the calendar's business. */

/** Bytes a second; null where there is no limit. */
export interface Rates {
  readonly download: number | null
  readonly upload: number | null
}

export interface LocalTime {
  /** 0 is Sunday */
  readonly day: number
  /** since midnight */
  readonly minutes: number
}

const DAY_MINUTES = 24 * 60
const MINUTE_MS = 60_000
/** Clocks are set forward and back at such times only. */
const QUARTER_MS = 15 * MINUTE_MS
/** A schedule repeats after a week. */
const HORIZON_MS = 8 * DAY_MINUTES * MINUTE_MS

/** The time on this machine's wall. */
export function localTime(ms: number): LocalTime {
  const date = new Date(ms)
  return { day: date.getDay(), minutes: date.getHours() * 60 + date.getMinutes() }
}

/** Those of the first entry that covers the time; what it does not give, and all where none does, is the base. */
export function ratesAt({ download, upload, schedule }: RateSettings, at: LocalTime): Rates {
  const entry = schedule.find((entry) => covers(entry, at))
  if (!entry) return { download, upload }
  return {
    download: entry.download === undefined ? download : entry.download,
    upload: entry.upload === undefined ? upload : entry.upload,
  }
}

/** When the rates are others than `now`, ms; undefined where they stay. */
export function nextChange(
  settings: RateSettings,
  now: number,
  local: (ms: number) => LocalTime = localTime,
): number | undefined {
  if (settings.schedule.length === 0) return undefined
  const boundaries = [0, ...settings.schedule.flatMap(({ from, to }) => [minutesOf(from), minutesOf(to)])]
  const before = ratesAt(settings, local(now))
  for (let at = now; at < now + HORIZON_MS; ) {
    const { minutes } = local(at)
    const ahead = Math.min(...boundaries.map((boundary) => boundary - minutes).filter((distance) => distance > 0))
    at = Math.min(at - (at % MINUTE_MS) + ahead * MINUTE_MS, at - (at % QUARTER_MS) + QUARTER_MS)
    const then = ratesAt(settings, local(at))
    if (then.download !== before.download || then.upload !== before.upload) return at
  }
  return undefined
}

/** An entry that crosses midnight belongs to the day on which it begins. */
function covers({ from, to, days }: ScheduleEntry, { day, minutes }: LocalTime): boolean {
  const [begin, end] = [minutesOf(from), minutesOf(to)]
  const on = (day: number) => days === undefined || days.includes(DAYS[(day + 7) % 7]!)
  if (begin < end) return minutes >= begin && minutes < end && on(day)
  return (minutes >= begin && on(day)) || (minutes < end && on(day - 1))
}

/** `08:30` → 510 */
function minutesOf(time: string): number {
  return Number(time.slice(0, 2)) * 60 + Number(time.slice(3))
}
