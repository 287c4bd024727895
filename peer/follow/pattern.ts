import { NetworkError } from '../../common/errors.ts'
import { type FileName, parseFileName, printable } from '../../common/ids.ts'

/** Which names are meant: `*` within a folder, `**` across folders, `?` one character, `{a,b}` one of several. */
export interface Pattern {
  /** as it was given, in Unicode normal form C */
  readonly text: string
  /** the folder that all names are in; undefined where they may be anywhere */
  readonly folder: FileName | undefined
  matches(name: string): boolean
}

/** More would be a list of names, not a pattern. */
const MAX_ALTERNATIVES = 64

const MANY = Symbol('*')
const ONE = Symbol('?')
/** a character, or what stands for some */
type Token = string | typeof MANY | typeof ONE
const FOLDERS = Symbol('**')
/** a part of a name between slashes, or what stands for any number of them */
type Part = readonly Token[] | typeof FOLDERS

/**
 * Not by a regular expression: names come from strangers, and one made of several `*` can be kept busy for minutes by a
 * single name. Here a name costs at most its length times that of the pattern.
 * @throws NetworkError `invalid`, saying what is wrong with it
 */
export function parsePattern(given: string): Pattern {
  const text = given.normalize('NFC')
  const fault = (why: string) => new NetworkError('invalid', `"${printable(given)}" is no pattern of names: ${why}`)
  if (text.endsWith('/')) throw fault(`for all that is in a folder, write "${printable(text)}**"`)
  const alternatives = new Braces(text, fault).alternatives().map((tokens) => split(tokens, fault))
  return {
    text,
    folder: commonFolder(alternatives),
    matches: (name) => {
      const parts = name.split('/').map((part) => [...part])
      return alternatives.some((alternative) => fits(alternative, parts, FOLDERS, fitsPart))
    },
  }
}

function fitsPart(part: Part, characters: readonly string[]): boolean {
  return part !== FOLDERS && fits(part, characters, MANY, (token, character) => token === ONE || token === character)
}

/**
 * Whether the items fit the tokens one by one, where `any` stands for any number of items. Where they don't, only the
 * last `any` can be at fault: it takes one item more.
 */
function fits<Token, Item>(
  tokens: readonly Token[],
  items: readonly Item[],
  any: Token,
  fitsOne: (token: Token, item: Item) => boolean,
): boolean {
  let token = 0
  let item = 0
  let last = -1
  let taken = 0
  while (item < items.length) {
    if (token < tokens.length && tokens[token] === any) {
      last = token++
      taken = item
    } else if (token < tokens.length && fitsOne(tokens[token]!, items[item]!)) {
      token++
      item++
    } else if (last >= 0) {
      token = last + 1
      item = ++taken
    } else return false
  }
  return tokens.slice(token).every((left) => left === any)
}

/** The parts between the slashes, which must be such that a shared file can have the name. */
function split(tokens: readonly Token[], fault: (why: string) => NetworkError): Part[] {
  const parts: Token[][] = [[]]
  for (const token of tokens) {
    if (token === '/') parts.push([])
    else parts.at(-1)!.push(token)
  }
  const example = parts.map((part) => part.map((token) => (typeof token === 'string' ? token : 'x')).join(''))
  try {
    parseFileName(example.join('/'))
  } catch (error) {
    throw fault((error as Error).message)
  }
  const isFolders = (part: readonly Token[]) => part.length > 1 && part.every((token) => token === MANY)
  // What is in a folder is in it, however deep; the folder itself is no file.
  if (isFolders(parts.at(-1)!)) parts.push([MANY])
  return parts.map((part) => (isFolders(part) ? FOLDERS : part))
}

function commonFolder(alternatives: readonly (readonly Part[])[]): FileName | undefined {
  const [first = [], ...others] = alternatives.map((parts) => {
    const folders = parts.slice(0, -1).map(literal)
    const end = folders.indexOf(undefined)
    return end < 0 ? folders : folders.slice(0, end)
  })
  let same = 0
  while (same < first.length && others.every((folders) => folders[same] === first[same])) same++
  return same === 0 ? undefined : (first.slice(0, same).join('/') as FileName)
}

function literal(part: Part): string | undefined {
  return part !== FOLDERS && part.every((token) => typeof token === 'string') ? part.join('') : undefined
}

/** Reads a pattern, and writes out what its braces stand for. */
class Braces {
  readonly #characters: readonly string[]
  readonly #fault: (why: string) => NetworkError
  #at = 0
  #depth = 0

  constructor(text: string, fault: (why: string) => NetworkError) {
    this.#characters = [...text]
    this.#fault = fault
  }

  alternatives(): Token[][] {
    const all = this.#sequence()
    if (this.#at < this.#characters.length) throw this.#fault('it has a "}" without a "{"')
    return all
  }

  /** Up to the end, or to a `,` or `}` of the braces that it is within. */
  #sequence(): Token[][] {
    let all: Token[][] = [[]]
    for (; this.#at < this.#characters.length; this.#at++) {
      const character = this.#characters[this.#at]!
      if (character === '}' || (character === ',' && this.#depth > 0)) break
      const next: Token[][] = character === '{' ? this.#choices() : [[this.#token(character)]]
      all = all.flatMap((before) => next.map((after) => [...before, ...after]))
      if (all.length > MAX_ALTERNATIVES)
        throw this.#fault(`its braces stand for more than ${MAX_ALTERNATIVES} patterns: follow them one by one`)
    }
    return all
  }

  #token(character: string): Token {
    if (character === '*') return MANY
    if (character === '?') return ONE
    if (character === '[')
      throw this.#fault('ranges as in [0-9] are not known here; of a name that has a "[", write "\\["')
    if (character !== '\\') return character
    const escaped = this.#characters[++this.#at]
    if (escaped === undefined) throw this.#fault('nothing follows its last "\\"')
    return escaped
  }

  #choices(): Token[][] {
    const choices: Token[][] = []
    this.#depth++
    do {
      this.#at++
      choices.push(...this.#sequence())
    } while (this.#characters[this.#at] === ',')
    if (this.#characters[this.#at] !== '}') throw this.#fault('it has a "{" without a "}"')
    this.#depth--
    return choices
  }
}
