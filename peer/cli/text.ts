import prettyBytes from 'pretty-bytes'

/** How values read to people, and how long text is made to fit. */

export const STYLES = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
} as const
export interface Styled {
  readonly style: keyof typeof STYLES
  readonly text: string
}
/** Text as a command says it; `Output` escapes it, and colours it where the terminal shows colours. */
export type Text = string | Styled

export function styled(style: Styled['style'], text: string): Styled {
  return { style, text }
}

export function plain(text: Text): string {
  return typeof text === 'string' ? text : text.text
}

/** `1.07 GB` */
export function size(bytes: number): string {
  return prettyBytes(bytes)
}

/** `446 MB/s` */
export function rate(bytesPerSecond: number): string {
  return `${prettyBytes(Math.round(bytesPerSecond))}/s`
}

/** `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h` */
export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`
  const whole = Math.round(seconds)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return pair(whole, 60, 'min', 1, 's')
  if (whole < 86_400) return pair(whole, 3600, 'h', 60, 'min')
  return pair(whole, 86_400, 'd', 3600, 'h')
}

function pair(seconds: number, large: number, largeUnit: string, small: number, smallUnit: string): string {
  const rest = Math.floor((seconds % large) / small)
  return `${Math.floor(seconds / large)} ${largeUnit}${rest > 0 ? ` ${rest} ${smallUnit}` : ''}`
}

/** `3 files`, `1 file` */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`
}

/** The share of each in all of them, as whole per cents that add up to 100 (largest remainder); all 0 where all are. */
export function percents(amounts: readonly number[]): number[] {
  const all = amounts.reduce((sum, amount) => sum + amount, 0)
  if (all === 0) return amounts.map(() => 0)
  const exact = amounts.map((amount) => (amount / all) * 100)
  const whole = exact.map(Math.floor)
  const missing = 100 - whole.reduce((sum, share) => sum + share, 0)
  const byRemainder = [...exact.keys()].sort((a, b) => exact[b]! - whole[b]! - (exact[a]! - whole[a]!))
  for (const i of byRemainder.slice(0, missing)) whole[i]!++
  return whole
}

/** `a, b and c` */
export function list(items: readonly string[]): string {
  return items.length < 2 ? items.join('') : `${items.slice(0, -1).join(', ')} and ${items.at(-1)}`
}

/** An ISO time in the reader's own zone, to the minute: `2026-03-01 14:05`. */
export function localTime(iso: string): string {
  const date = new Date(iso)
  if (Number.isNaN(date.getTime())) return iso
  return new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16).replace('T', ' ')
}

const graphemes = new Intl.Segmenter()
const WIDE =
  /^[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97c\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{1f200}-\u{1f251}\u{20000}-\u{3fffd}]|^\p{Emoji_Presentation}|\ufe0f/u

/** Terminal columns that `text` takes. */
export function width(text: string): number {
  if (/^[\x20-\x7e]*$/.test(text)) return text.length
  let columns = 0
  for (const { segment } of graphemes.segment(text)) columns += graphemeWidth(segment)
  return columns
}

function graphemeWidth(segment: string): number {
  if (/^\p{M}/u.test(segment)) return 0
  return WIDE.test(segment) ? 2 : 1
}

/** `text` in at most `columns`, its middle left out where it is longer: beginning and extension tell names apart. */
export function shorten(text: string, columns: number): string {
  if (width(text) <= columns) return text
  if (columns < 2) return '…'.slice(0, columns)
  const parts = [...graphemes.segment(text)].map((s) => s.segment)
  const tail = Math.floor((columns - 1) / 2)
  return `${take(parts, columns - 1 - tail).join('')}…${take(parts.reverse(), tail).reverse().join('')}`
}

/** The first of `parts` that fit in `columns`. */
function take(parts: readonly string[], columns: number): string[] {
  let used = 0
  const taken: string[] = []
  for (const part of parts) {
    used += graphemeWidth(part)
    if (used > columns) break
    taken.push(part)
  }
  return taken
}
