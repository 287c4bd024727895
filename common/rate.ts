import { NetworkError } from './errors.ts'
import { printable } from './ids.ts'

/** A slower one would hold a single frame for minutes. */
const MIN_RATE = 1000

const BYTES = new Map(
  Object.entries({
    b: 1,
    kb: 1e3,
    mb: 1e6,
    gb: 1e9,
    kib: 2 ** 10,
    mib: 2 ** 20,
    gib: 2 ** 30,
    kbit: 1e3 / 8,
    mbit: 1e6 / 8,
    gbit: 1e9 / 8,
  }),
)
const RATE = /^(\d+(?:\.\d+)?) ?([a-z]*?)(?:\/s)?$/i
/** `Mb` is read as megabit by some and as megabyte by others. */
const AMBIGUOUS = /^[KMG]b$/
const NONE = /^(none|off)$/i

/**
 * Bytes a second: a number of them, or text such as `10MB/s`, `500 KB`, `1.5MiB`, `80Mbit`; null for no limit: null,
 * `none` or `off`. 0 is refused: some mean no limit by it, and some that nothing moves.
 * @throws NetworkError `invalid`
 */
export function parseRate(given: number | string | null): number | null {
  if (given === null) return null
  const text = String(given).trim()
  if (NONE.test(text)) return null
  const [, number = '', unit = ''] = RATE.exec(text) ?? []
  const factor = unit === '' ? 1 : BYTES.get(unit.toLowerCase())
  if (number === '' || factor === undefined || AMBIGUOUS.test(unit))
    throw new NetworkError(
      'invalid',
      `"${printable(text, 40)}" is not a rate: it is a number of bytes a second, or has a unit as in 10MB/s, 500KB, 2MiB or 80Mbit, or is "none"`,
    )
  const rate = Math.round(Number(number) * factor)
  if (Number(number) === 0)
    throw new NetworkError('invalid', `a rate of ${printable(text, 40)} would let nothing through: "none" is no limit`)
  if (rate < MIN_RATE || rate > Number.MAX_SAFE_INTEGER)
    throw new NetworkError(
      'invalid',
      `a rate of ${printable(text, 40)} is too ${rate < MIN_RATE ? 'low: 1KB/s is the least' : 'high'}; "none" is no limit`,
    )
  return rate
}
