import { NetworkError } from '../../common/errors.ts'
import { printable } from '../../common/ids.ts'

const SECONDS: Record<string, number> = { s: 1, m: 60, min: 60, h: 3600, d: 86_400, w: 604_800 }
const DURATION = /^(\d+(?:\.\d+)?) ?(s|m|min|h|d|w)?$/
/** As long as an offer may wait; a timer can't wait as long. */
const MAX_S = 366 * 86_400

/**
 * Seconds: a number of them, or text such as `30s`, `10m`, `12h`, `7d`, `2w`.
 * @throws NetworkError `invalid`
 */
export function parseDuration(text: string): number {
  const [, number = '', unit = 's'] = DURATION.exec(text.trim().toLowerCase()) ?? []
  const seconds = Number(number) * SECONDS[unit]!
  if (number === '' || seconds <= 0 || seconds > MAX_S)
    throw new NetworkError(
      'invalid',
      `"${printable(text, 40)}" is not a duration: it is a number of seconds, or has a unit as in 30s, 10m, 12h, 7d or 2w, up to 366d`,
    )
  return seconds
}
