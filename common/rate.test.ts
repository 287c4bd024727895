import { expect, test } from 'vitest'
import { parseRate } from './rate.ts'

test.each([
  [1000, 1000],
  ['2500', 2500],
  ['5000B/s', 5000],
  ['500KB', 500_000],
  ['500 kB/s', 500_000],
  ['500kb', 500_000],
  ['10MB/s', 10_000_000],
  [' 10 mb ', 10_000_000],
  ['1.5GB', 1_500_000_000],
  ['64KiB', 65_536],
  ['2MiB/s', 2_097_152],
  ['1GiB', 1_073_741_824],
  ['64kbit', 8000],
  ['80Mbit', 10_000_000],
  ['2.5Gbit/s', 312_500_000],
  ['none', null],
  ['Off', null],
  [null, null],
])('%j is %j bytes a second', (given, rate) => {
  expect(parseRate(given)).toBe(rate)
})

test.each([
  '',
  'fast',
  'MB/s',
  '-1MB',
  '10 parsecs',
  '10MB/h',
  '1e9',
  '0x10',
  '1,5MB',
  '10MBit/s/s',
  '10  MB',
  'NaN',
  'Infinity',
  '10constructor',
])('%j is not a rate', (text) => {
  expect(() => parseRate(text)).toThrow(/is not a rate: it is a number of bytes a second, or has a unit as in 10MB\/s/)
})

test.each(['10Mb', '1Gb/s', '5Kb'])('%j could be bits or bytes, and is refused', (text) => {
  expect(() => parseRate(text)).toThrow(/is not a rate: .* 80Mbit/)
})

test.each([
  [0, 'a rate of 0 would let nothing through: "none" is no limit'],
  ['0MB/s', 'a rate of 0MB/s would let nothing through'],
  ['0.0', 'would let nothing through'],
  [1, 'a rate of 1 is too low: 1KB/s is the least; "none" is no limit'],
  ['0.0001KB', 'too low'],
  [1e16, 'too high'],
  ['99999999999GB', 'too high'],
  [-5, 'is not a rate'],
  [Number.NaN, 'is not a rate'],
  [Number.POSITIVE_INFINITY, 'is not a rate'],
])('%j is refused', (given, says) => {
  expect(() => parseRate(given)).toThrow(says)
})
