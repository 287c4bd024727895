import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fold } from './folding.ts'

describe('fold', () => {
  it.each([
    ['GROSSE', 'Größe'.replace('ö', 'o')],
    ['cancion', 'Canción'],
    ['istanbul', 'İSTANBUL'],
    ['ﬁnal', 'FINAL'],
    ['ΟΔΟΣ', 'οδος'],
    ['Ｗｉｄｅ', 'wide'],
    ['한국', '한국'.normalize('NFD')],
  ])('makes %s and %s the same', (a, b) => expect(fold(a)).toBe(fold(b)))

  it.each([
    ['день', 'дань'],
    ['किताब', 'कतब'],
  ])('keeps %s and %s apart, which differ by more than accents', (a, b) => expect(fold(a)).not.toBe(fold(b)))

  it('changes nothing the second time', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        expect(fold(fold(text))).toBe(fold(text))
      }),
    )
  })
})
