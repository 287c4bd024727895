import { NetworkError } from '../common/errors.ts'
import { fold } from '../common/folding.ts'
import { type FileName, isFileName } from '../common/ids.ts'
import type { ProviderBody } from '../common/schemas.ts'
import type { DirectoryStore, NameRow } from './directory/store.ts'
import { beginningGrams, gramText, isShort, trigrams, wholeWordGrams, wordsOf } from './trigrams.ts'

/**
 * Ranked search over names: all words of the query must match. Results come by tiers: names that begin with the query
 * (the exact name first of all), names with its words as whole words, as beginnings or longer parts of words, and at
 * last with words of one or two letters anywhere inside words, which no trigram finds.
 *
 * A request works a bounded time, however common its words: what it did not get to, the next page does.
 */
const TIERS = ['beginning', 'words', 'parts', 'inside'] as const
type Tier = (typeof TIERS)[number]

export interface SearchOptions {
  /** milliseconds after which a page ends, full or not (default 8) */
  budgetMs?: number
}

export interface SearchHit {
  file: FileName
  providers: number
  peers: ProviderBody[]
}

export interface SearchPage {
  results: SearchHit[]
  next: string | null
}

/** Where a search stands: at the last name that was dealt with. Tier `beginning` goes by name, the others by key. */
interface Position {
  /** index into TIERS */
  tier: number
  key: number
  name: string
}

/** Name keys covered by one query of the index, and by one scan of the names. */
const GRAM_WINDOW = 524_288
const SCAN_WINDOW = 4096
/** Candidates of one step. */
const STEP = 64
const MAX_WORDS = 16
/** Trigrams that are asked for together. */
const GRAMS_ASKED = 4
const FAR_MORE_COMMON = 8
const GRAMS_OF_WORD = 12
const SAMPLE_NAMES = 512
const PEERS_SHOWN = 10

export class Search {
  readonly #store: DirectoryStore
  readonly #budgetMs: number
  /** the index texts of some names, which tell how common a trigram is; `size` is the largest key when it was taken */
  #sample: { size: number; texts: readonly string[] } = { size: 0, texts: [] }

  constructor(store: DirectoryStore, options: SearchOptions = {}) {
    this.#store = store
    this.#budgetMs = options.budgetMs ?? 8
  }

  /**
   * Up to `limit` names that a live peer offers, from the position `after`. A page may have fewer and still a `next`.
   * @throws NetworkError `invalid` where `after` is no position
   */
  async find(text: string, limit: number, after: string | undefined, now: number): Promise<SearchPage> {
    const query = new Query(text)
    const end = performance.now() + this.#budgetMs
    const results: SearchHit[] = []
    const position = after === undefined ? { tier: 0, key: 0, name: '' } : parsePosition(after)
    const lastKey = await this.#store.lastNameKey()
    await this.#takeSample(lastKey)
    for (; position.tier < TIERS.length; Object.assign(position, { tier: position.tier + 1, key: 0, name: '' })) {
      const tier = TIERS[position.tier]!
      if (!query.has(tier)) continue
      const grams = this.#rarest(query.grams(tier))
      for (let more = true; more; ) {
        const step = await this.#step(query, tier, grams, position, lastKey)
        for (const { key, name } of step.rows) {
          Object.assign(position, { key, name })
          if (query.tierOf(name) !== tier) continue
          const { count, providers } = await this.#store.providersOf(key, now, PEERS_SHOWN)
          if (count > 0) results.push({ file: name, providers: count, peers: providers })
          if (results.length === limit || performance.now() > end) return { results, next: format(position) }
        }
        if (step.reached !== undefined) position.key = step.reached
        more = step.more
        if (more && performance.now() > end) return { results, next: format(position) }
      }
    }
    return { results, next: null }
  }

  /** The next candidates; `reached` is the key up to which there are no others. */
  async #step(query: Query, tier: Tier, grams: string[], { key, name }: Position, lastKey: number): Promise<Step> {
    if (tier === 'beginning') {
      const after = name === '' ? undefined : { folded: fold(name), key }
      const rows = await this.#store.namesBeginning(query.folded, after, STEP)
      return { rows, more: rows.length === STEP }
    }
    const to = Math.min(lastKey, key + (grams.length > 0 ? GRAM_WINDOW : SCAN_WINDOW))
    const rows =
      grams.length > 0
        ? await this.#store.namesWithGrams(grams, key, to, STEP)
        : await this.#store.namesContaining(query.shortest, key, to, STEP)
    return rows.length === STEP ? { rows, more: true } : { rows, reached: to, more: to < lastKey }
  }

  /**
   * Few of the trigrams of some words, which leave few candidates, to be compared in full. The index walks through all
   * names of each trigram that it is asked for, so one that is far more common than the rarest costs more than it
   * excludes; of those that remain, one of each word comes first.
   */
  #rarest(gramsOfWords: readonly (readonly string[])[]): string[] {
    const byRarity = (a: Ranked, b: Ranked) => a.count - b.count
    const words = gramsOfWords.map((grams) => grams.map((gram) => this.#rank(gram)).sort(byRarity))
    const firsts = words.flatMap((ranked) => ranked.slice(0, 1)).sort(byRarity)
    const others = words.flatMap((ranked) => ranked.slice(1)).sort(byRarity)
    const most = FAR_MORE_COMMON * Math.max(1, firsts[0]?.count ?? 0)
    const worthwhile = [...firsts, ...others].filter(({ count }) => count <= most).map(({ gram }) => gram)
    return [...new Set(worthwhile)].slice(0, GRAMS_ASKED)
  }

  #rank(gram: string): Ranked {
    return { gram, count: this.#sample.texts.reduce((count, text) => count + (text.includes(gram) ? 1 : 0), 0) }
  }

  /** Takes a new sample where there are many more names by now, or other ones. */
  async #takeSample(lastKey: number): Promise<void> {
    const { size } = this.#sample
    if (lastKey <= size * 1.25 && lastKey >= size * 0.75) return
    const names = await this.#store.sampleNames(SAMPLE_NAMES)
    this.#sample = { size: lastKey, texts: names.map((name) => gramText(fold(name))) }
  }
}

/** A trigram, and how many names of the sample have it. */
interface Ranked {
  gram: string
  count: number
}

interface Step {
  rows: readonly NameRow[]
  reached?: number
  more: boolean
}

/** A query, folded; knows where to look for each tier, and which tier a name is of. */
class Query {
  readonly folded: string
  readonly #words: readonly string[]
  readonly #grams: Readonly<Record<Tier, readonly (readonly string[])[]>>
  /** the shortest word */
  readonly shortest: string

  constructor(text: string) {
    this.folded = fold(text.trim())
    // Long words tell more than short ones.
    this.#words = [...new Set(wordsOf(this.folded))].slice(0, MAX_WORDS).sort((a, b) => b.length - a.length)
    this.shortest = this.#words.at(-1) ?? ''
    const few = this.#words.slice(0, GRAMS_ASKED)
    this.#grams = {
      beginning: [],
      words: few.map((word) => sample(wholeWordGrams(word))),
      parts: few.map((word) => sample(partGrams(word))),
      inside: few.filter((word) => !isShort(word)).map((word) => sample(partGrams(word))),
    }
  }

  /** Whether there is anything to look for in this tier. */
  has(tier: Tier): boolean {
    switch (tier) {
      case 'beginning':
        // Marks alone fold to nothing, which every name begins with.
        return this.folded !== ''
      case 'words':
      case 'parts':
        return this.#words.length > 0
      case 'inside':
        return this.#words.some(isShort)
    }
  }

  /** Of some words, trigrams that all names of this tier have; none where it has to be scanned. */
  grams(tier: Tier): readonly (readonly string[])[] {
    return this.#grams[tier]
  }

  /** The first tier that the name is of: it is shown there, and in no other. */
  tierOf(name: FileName): Tier | undefined {
    const folded = fold(name)
    if (folded.startsWith(this.folded)) return 'beginning'
    if (this.#words.length === 0 || !this.#words.every((word) => folded.includes(word))) return undefined
    const words = wordsOf(folded)
    if (this.#words.every((word) => words.includes(word))) return 'words'
    const begins = (part: string) => words.some((word) => word.startsWith(part))
    return this.#words.every((word) => !isShort(word) || begins(word)) ? 'parts' : 'inside'
  }
}

function partGrams(word: string): string[] {
  const grams = trigrams(word)
  return grams.length > 0 ? grams : beginningGrams(word)
}

/** Some trigrams of a long word, spread over all of it. */
function sample(grams: readonly string[]): string[] {
  const step = Math.max(1, grams.length / GRAMS_OF_WORD)
  return Array.from({ length: Math.min(grams.length, GRAMS_OF_WORD) }, (_, i) => grams[Math.floor(i * step)]!)
}

function format({ tier, key, name }: Position): string {
  return Buffer.from(`${tier}.${key}.${tier === 0 ? name : ''}`).toString('base64url')
}

function parsePosition(text: string): Position {
  const match = /^([0-3])\.(\d{1,15})\.(.*)$/s.exec(Buffer.from(text, 'base64url').toString())
  const [tier, key, name] = [Number(match?.[1]), Number(match?.[2]), match?.[3] ?? '']
  if (!match || (tier === 0 ? !isFileName(name) : name !== ''))
    throw new NetworkError('invalid', '"after" is not the "next" of an earlier page')
  return { tier, key, name }
}
