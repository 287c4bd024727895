/** A number from 0 up to, but not, 1. Tests give one that repeats. */
export type Random = () => number

/** So many of these, picked at random without repetition, in random order (Fisher and Yates); all, where fewer. */
export function sample<T>(all: Iterable<T>, most = Number.POSITIVE_INFINITY, random: Random = Math.random): T[] {
  const items = [...all]
  const count = Math.min(most, items.length)
  for (let i = 0; i < count; i++) {
    const j = i + Math.floor(random() * (items.length - i))
    ;[items[i], items[j]] = [items[j]!, items[i]!]
  }
  return items.slice(0, count)
}
