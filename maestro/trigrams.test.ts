import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fold } from '../common/folding.ts'
import { beginningGrams, gramText, isShort, trigrams, wholeWordGrams, wordsOf } from './trigrams.ts'

describe('wordsOf', () => {
  it.each([
    ['lecture-01/week_2.tar.gz', ['lecture', '01', 'week', '2', 'tar', 'gz']],
    ['año 2024', ['año', '2024']],
    ['年度报告.pdf', ['年', '度', '报', '告', 'pdf']],
    ['+++', []],
    ['🎬 film', ['🎬', 'film']],
  ])('of %s', (text, words) => expect(wordsOf(text)).toEqual(words))
})

it('calls one or two letters short, but not one character of a script without spaces', () => {
  expect(['a', 'ab', 'abc', '报'].map(isShort)).toEqual([true, true, false, false])
})

describe('the trigrams of a name', () => {
  const text = fc.string({ unit: fc.constantFrom(...'abcÉñß1-_. /年报🎬'), minLength: 1, maxLength: 40 })
  const indexed = (name: string) => new Set(trigrams(gramText(fold(name))))

  it('hold those of each of its words, whole, its beginning and any part of it', () => {
    fc.assert(
      fc.property(text, fc.nat(), fc.nat(), (name, m, n) => {
        const all = indexed(name)
        for (const word of wordsOf(fold(name))) {
          const letters = [...word]
          const beginning = letters.slice(0, 1 + (m % letters.length)).join('')
          const part = letters.slice(m % letters.length, 1 + (n % letters.length)).join('')
          const asked = [...wholeWordGrams(word), ...beginningGrams(beginning), ...trigrams(part)]
          expect(asked.filter((gram) => !all.has(gram))).toEqual([])
        }
      }),
    )
  })

  it('tell a whole word from a part, and the beginning of a word from its middle', () => {
    const all = indexed('lectures/week')
    const has = (grams: string[]) => grams.every((gram) => all.has(gram))
    expect([has(wholeWordGrams('lectures')), has(wholeWordGrams('lecture'))]).toEqual([true, false])
    expect([has(beginningGrams('we')), has(beginningGrams('ee')), has(beginningGrams('k'))]).toEqual([
      true,
      false,
      false,
    ])
  })
})
