import { describe, expect, test } from 'vitest'
import { searchNames } from './search.ts'

const names = [
  'Música/Canción de otoño.mp3',
  'lectures/week1.pdf',
  'lectures/Week10 notes.txt',
  'film.mkv',
  'my film.mkv',
  'Straßen.pdf',
]

describe('searching names', () => {
  test.each([
    ['cancion', ['Música/Canción de otoño.mp3']],
    ['OTOÑO musica', ['Música/Canción de otoño.mp3']],
    ['week', ['lectures/Week10 notes.txt', 'lectures/week1.pdf']],
    ['week1 lect', ['lectures/Week10 notes.txt', 'lectures/week1.pdf']],
    ['notes pdf', []],
    ['film.mkv', ['film.mkv', 'my film.mkv']],
    ['ilm', ['film.mkv', 'my film.mkv']],
    ['STRASSE', ['Straßen.pdf']],
    ['  ', []],
  ])('for "%s" finds the names with every word, best first', (text, expected) => {
    expect(searchNames(names, text, 10)).toEqual(expected)
  })

  test('gives no more than asked for', () => {
    expect(searchNames(names, 'l', 2)).toHaveLength(2)
  })
})
