import { expect, it } from 'vitest'
import { KeyedHash } from './keyed-hash.ts'

/** The reference code's results for the key 00 01 … 07 and the inputs of n bytes 00 01 02 …, those of even length. */
const VECTORS = [
  [0, '218d1f59b9b83cc8'],
  [2, '064f39ef7c50eb57'],
  [4, 'd5e78a175be52ea1'],
  [6, 'ce3e91358aa2bc25'],
  [30, '291aaf864898179d'],
  [62, 'f90b3ab572d46693'],
] as const

const counting = (length: number) => Uint8Array.from({ length }, (_, i) => i)

it.each(VECTORS)('of %d bytes gives what the reference code gives', (length, expected) => {
  const { low, high } = new KeyedHash(counting(8)).of(Buffer.from(counting(length)).toString('utf16le'))
  const bytes = Buffer.alloc(8)
  bytes.writeUInt32LE(low, 0)
  bytes.writeUInt32LE(high, 4)
  expect(bytes.toString('hex')).toBe(expected)
})

it('differs under another key', () => {
  const [one, other] = [new KeyedHash(counting(8)).of('film.mkv'), new KeyedHash(new Uint8Array(8)).of('film.mkv')]
  expect([one.low, one.high]).not.toEqual([other.low, other.high])
})
