import fc from 'fast-check'
import picomatch from 'picomatch'
import { describe, expect, test } from 'vitest'
import { parsePattern } from './pattern.ts'

const matches = (pattern: string, name: string) => parsePattern(pattern).matches(name)

describe('what matches', () => {
  test.each([
    ['film.mkv', 'film.mkv', true],
    ['film.mkv', 'Film.mkv', false],
    ['*', 'film.mkv', true],
    ['*', 'a/film.mkv', false],
    ['**', 'a/b/film.mkv', true],
    ['**', 'film.mkv', true],
    ['lectures/**', 'lectures/1.pdf', true],
    ['lectures/**', 'lectures/week/1/notes.pdf', true],
    ['lectures/**', 'lectures', false],
    ['lectures/**', 'lectures2/1.pdf', false],
    ['**/*.pdf', '1.pdf', true],
    ['**/*.pdf', 'a/b/1.pdf', true],
    ['a/**/b', 'a/b', true],
    ['a/**/b', 'a/x/y/b', true],
    ['a/**/b/*/c', 'a/b/b/b/x/c', true],
    ['*.{pdf,mkv}', 'a.mkv', true],
    ['*.{pdf,mkv}', 'a.txt', false],
    ['{a,b/{c,d}}/*', 'b/d/x', true],
    ['{a,b/{c,d}}/*', 'b/x', false],
    ['?.txt', 'é.txt', true],
    ['?.txt', '🎬.txt', true],
    ['??.txt', 'a.txt', false],
    ['film (1).mkv', 'film (1).mkv', true],
    ['!*.pdf', 'a.pdf', false],
    ['!*.pdf', '!a.pdf', true],
    ['+(a)', 'aa', false],
    ['a\\{1\\}', 'a{1}', true],
    ['\\[2024\\]/*', '[2024]/a', true],
    ['a\\*', 'ab', false],
    ['cafe\u0301/*', 'café/a', true],
    ['a,b', 'a,b', true],
  ])('%s on %s: %s', (pattern, name, expected) => {
    expect(matches(pattern, name)).toBe(expected)
  })

  test('as picomatch would say, for what both know', () => {
    const part = fc
      .array(fc.constantFrom('a', 'b', '*', '?', '.', '{a,b*}'), { minLength: 1, maxLength: 5 })
      .map((c) => c.join(''))
    const pattern = fc.array(fc.oneof(part, fc.constant('**')), { minLength: 1, maxLength: 4 }).map((p) => p.join('/'))
    const named = fc
      .array(fc.string({ unit: fc.constantFrom('a', 'b', '.'), minLength: 1, maxLength: 5 }), {
        minLength: 1,
        maxLength: 5,
      })
      .map((p) => p.join('/'))
    fc.assert(
      fc.property(pattern, named, (pattern, name) => {
        // Only names that can be shared; and a folder itself is no file in it.
        fc.pre(!name.split('/').some((part) => /^\.|\.$/.test(part)) && !/\*\*[^/]|[^/]\*\*|\*{3}/.test(pattern))
        let ours: boolean
        try {
          ours = matches(pattern, name)
        } catch {
          return
        }
        fc.pre(!(pattern.endsWith('/**') && picomatch(pattern.slice(0, -3), { dot: true })(name)))
        expect({ pattern, name, matches: ours }).toEqual({
          pattern,
          name,
          matches: picomatch(pattern, { dot: true, nonegate: true, noextglob: true })(name),
        })
      }),
      { numRuns: 2000 },
    )
  })

  test('a name that is made to keep a pattern busy does not', () => {
    const pattern = parsePattern(`${'*a'.repeat(100)}/${'**/b/'.repeat(12)}c`)
    const begin = performance.now()
    for (let i = 0; i < 100; i++) pattern.matches(`${'a'.repeat(255)}/${'b/'.repeat(380)}d`)
    expect(performance.now() - begin).toBeLessThan(1000)
  })
})

describe('what is no pattern', () => {
  test.each([
    ['', 'it is empty'],
    ['/etc/*', 'it is an absolute path'],
    ['lectures/', 'write "lectures/**"'],
    ['a//b', 'it has an empty part'],
    ['../*', 'it climbs out of the shared folder'],
    ['.git/*', 'hidden files are not shared'],
    ['a{b', 'it has a "{" without a "}"'],
    ['a}b', 'it has a "}" without a "{"'],
    ['a\\', 'nothing follows its last "\\"'],
    ['[0-9].pdf', 'ranges as in [0-9] are not known here'],
    ['{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}', 'its braces stand for more than 64 patterns'],
    [`${'{a,'.repeat(120)}`, 'without a "}"'],
    ['x'.repeat(400), 'longer than 255 bytes'],
  ])('%s', (pattern, why) => {
    expect(() => parsePattern(pattern)).toThrow(why)
  })
})

test.each([
  ['lectures/**', 'lectures'],
  ['lectures/week 1/*.pdf', 'lectures/week 1'],
  ['lectures/film.mkv', 'lectures'],
  ['lectures/{a,b}/*', 'lectures'],
  ['{lectures/a,lectures/b}/*', 'lectures'],
  ['{a,b}/*', undefined],
  ['*/a', undefined],
  ['film.mkv', undefined],
  ['**', undefined],
  ['a\\*/b', 'a*'],
])('%s is about names in %s', (pattern, folder) => {
  expect(parsePattern(pattern).folder).toBe(folder)
})
