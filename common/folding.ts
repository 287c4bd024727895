const ASCII = /^[\x20-\x7e]*$/
const ACCENTS = /[\u0300-\u036f]+/g

/**
 * `text` as it is searched, without case, accents and compatibility forms: `Größe` and `GROSSE` are `grosse`. Marks that
 * make another letter, such as the vowel signs of Indian scripts, stay.
 */
export function fold(text: string): string {
  if (ASCII.test(text)) return text.toLowerCase()
  return text.normalize('NFKD').replace(ACCENTS, '').normalize('NFC').toUpperCase().toLowerCase().replaceAll('ς', 'σ')
}
