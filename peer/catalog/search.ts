import { fold } from '../../common/folding.ts'

/** How well a name fits: the whole name, its last part, the start of that, or anywhere. */
function rank(name: string, words: string[], whole: string): number {
  const base = name.slice(name.lastIndexOf('/') + 1)
  if (name === whole || base === whole) return 0
  return base.startsWith(words[0]!) ? 1 : base.includes(words[0]!) ? 2 : 3
}

/** The names in which every word of `text` occurs, best first, at most `limit` of them. */
export function searchNames<Name extends string>(names: Iterable<Name>, text: string, limit: number): Name[] {
  const whole = fold(text).trim()
  const words = whole.split(/\s+/).filter(Boolean)
  if (words.length === 0) return []
  const hits: { name: Name; rank: number }[] = []
  for (const name of names) {
    const folded = fold(name)
    if (words.every((word) => folded.includes(word))) hits.push({ name, rank: rank(folded, words, whole) })
  }
  hits.sort((a, b) => a.rank - b.rank || (a.name < b.name ? -1 : 1))
  return hits.slice(0, limit).map(({ name }) => name)
}
