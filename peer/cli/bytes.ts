import { NetworkError } from '../../common/errors.ts'
import { printable } from '../../common/ids.ts'

const UNITS: Record<string, number> = {
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
}
const SIZE = /^(\d+(?:\.\d+)?) ?([kmgt]?i?b)?$/

/**
 * Bytes: a number of them, or text such as `500MB`, `10 GB`, `1.5TiB`.
 * @throws NetworkError `invalid`
 */
export function parseBytes(text: string): number {
  const [, number = '', unit = 'b'] = SIZE.exec(text.trim().toLowerCase()) ?? []
  const bytes = Math.round(Number(number) * (UNITS[unit] ?? Number.NaN))
  if (number === '' || !Number.isSafeInteger(bytes))
    throw new NetworkError(
      'invalid',
      `"${printable(text, 40)}" is not a size: it is a number of bytes, or has a unit as in 500MB, 10GB or 1.5TiB`,
    )
  return bytes
}
