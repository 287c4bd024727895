import { NetworkError } from '../../common/errors.ts'
import { printable } from '../../common/ids.ts'
import { parseRate } from '../../common/rate.ts'
import { DAYS, type Day, RateScheduleSchema, type ScheduleEntry } from '../../common/schemas.ts'

/** Entries of a schedule as people write and read them: `mon-fri 08:00-18:00 download=2MB/s upload=none`. */

/** Weeks begin on Monday for people. */
const WEEK: readonly Day[] = [...DAYS.slice(1), DAYS[0]]
const ENTRY = /^(?:([a-z,-]+) +)?(\d?\d:\d\d)-(\d?\d:\d\d)((?: +[a-z]+=\S+)+)$/i

/** @throws NetworkError `invalid`, saying what is wrong with it */
export function parseScheduleEntry(text: string): ScheduleEntry {
  const [, days, from, to, rates = ''] = ENTRY.exec(text.trim()) ?? []
  if (from === undefined || to === undefined)
    throw faulty(text, 'it reads as in "mon-fri 08:00-18:00 download=2MB/s upload=1MB/s"')
  const entry: Record<string, unknown> = { from: from.padStart(5, '0'), to: to.padStart(5, '0') }
  if (days !== undefined) entry.days = daysOf(days.toLowerCase(), text)
  for (const pair of rates.trim().split(/ +/)) {
    const [key = '', value = ''] = pair.split(/=(.*)/)
    if ((key !== 'download' && key !== 'upload') || key in entry)
      throw faulty(text, `"${printable(pair, 40)}" is not "download=RATE" or "upload=RATE", each at most once`)
    entry[key] = parseRate(value)
  }
  const parsed = RateScheduleSchema.safeParse([entry])
  if (!parsed.success) throw faulty(text, parsed.error.issues[0]!.message)
  return parsed.data[0]!
}

/** `mon-fri`, `sat,sun`, `fri-mon,wed` */
function daysOf(text: string, entry: string): Day[] {
  const named = new Set<Day>()
  for (const part of text.split(',')) {
    const ends = part.split('-').map((name) => (WEEK as readonly string[]).indexOf(name))
    const [first = -1, last = first] = ends
    if (ends.length > 2 || first < 0 || last < 0)
      throw faulty(entry, `"${printable(part, 40)}" is not a day or days, such as mon, sat,sun or mon-fri`)
    for (let i = first; ; i = (i + 1) % 7) {
      named.add(WEEK[i]!)
      if (i === last) break
    }
  }
  return WEEK.filter((day) => named.has(day))
}

/** `mon-fri 08:00-18:00`: when an entry holds. */
export function whenText({ from, to, days }: Pick<ScheduleEntry, 'from' | 'to' | 'days'>): string {
  const times = `${from}-${to}`
  if (days === undefined || new Set(days).size === 7) return times
  const runs: Day[][] = []
  for (const [i, day] of WEEK.entries()) {
    if (!days.includes(day)) continue
    const run = runs.at(-1)
    if (run !== undefined && i > 0 && run.at(-1) === WEEK[i - 1]) run.push(day)
    else runs.push([day])
  }
  return `${runs.map((run) => (run.length > 2 ? `${run[0]}-${run.at(-1)}` : run.join(','))).join(',')} ${times}`
}

function faulty(text: string, why: string): NetworkError {
  return new NetworkError('invalid', `the schedule "${printable(text, 80)}": ${why}`)
}
