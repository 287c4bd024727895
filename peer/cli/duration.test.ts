import { expect, test } from 'vitest'
import { parseDuration } from './duration.ts'

test.each([
  ['90', 90],
  ['0.5s', 0.5],
  ['10m', 600],
  ['10 min', 600],
  ['12H', 43_200],
  ['7d', 604_800],
  ['2w', 1_209_600],
])('%s is so many seconds: %d', (text, seconds) => {
  expect(parseDuration(text)).toBe(seconds)
})

test.each(['', '0', '-1s', 'soon', '1y', '1h30m', '400d', '1e9'])('"%s" is no duration', (text) => {
  expect(() => parseDuration(text)).toThrow(/is not a duration: .* as in 30s, 10m, 12h, 7d or 2w/)
})
