/**
 * The words of folded names and queries, and which trigrams stand for a name in the search index.
 *
 * Words are padded before they are cut into trigrams (`  lecture  week1  pdf  `), so that the beginning and the end of
 * a word show in them: ` le` is a word that begins with "le", `df ` one that ends with "df", and `  l` serves a query
 * of one letter.
 */

const ASCII = /^[\x20-\x7e]*$/
const BETWEEN_WORDS = /[^\p{L}\p{N}\p{M}\p{So}]+/u
/** Scripts that put no space between words: each character counts as a word. */
const UNSPACED =
  /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/gu

/** The words of folded text, in order. */
export function wordsOf(folded: string): string[] {
  const words = ASCII.test(folded) ? folded.split(/[^a-z0-9]+/) : folded.replace(UNSPACED, ' $& ').split(BETWEEN_WORDS)
  return words.filter((word) => word !== '')
}

/** Whether a part of a word can be too short for any trigram: one or two letters of a script that has words. */
export function isShort(word: string): boolean {
  return [...word].length < 3 && word.search(UNSPACED) === -1
}

/** The text whose trigrams index a name, given folded. */
export function gramText(folded: string): string {
  return `  ${wordsOf(folded).join('  ')}  `
}

/** Trigrams of names that have `word` as a whole word. */
export function wholeWordGrams(word: string): string[] {
  return trigrams(` ${word} `)
}

/** Trigrams of names that have a word that begins with `part`. */
export function beginningGrams(part: string): string[] {
  const grams = trigrams(` ${part}`)
  return grams.length > 0 ? grams : [`  ${part}`]
}

/** The trigrams of `text`; none where it is shorter. */
export function trigrams(text: string): string[] {
  const characters = [...text]
  return characters.slice(2).map((last, i) => characters[i]! + characters[i + 1]! + last)
}
