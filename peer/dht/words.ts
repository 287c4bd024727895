import type { ContentId, FileName } from '../../common/ids.ts'
import type { FileEntry } from '../../common/schemas.ts'
import type { RecordKey } from './protocol.ts'
import { placeOfRecord } from './record-store.ts'
import type { RingId } from './ring.ts'

/** A record about a file of this peer's, and how it stands with it in the ring. */
export interface Word {
  readonly place: RingId
  readonly key: RecordKey
  readonly name: FileName
  readonly content: ContentId
  readonly size: number
  /** it is not so any more: members are to forget it */
  isGone: boolean
  /** members may have it */
  wasSent: boolean
  /** it is not to be said any more, neither that it is so nor that it is gone */
  isDropped: boolean
  isPublished: boolean
  /** in a row */
  failures: number
  dueAt: number
  /** grows when what is to be said changes, so that an answer to what was said before counts for nothing */
  version: number
}

export type Changes = ReadonlyMap<FileName, FileEntry | null>

const NEVER = Number.POSITIVE_INFINITY
/** Where there are more files than are published, those to publish are chosen anew at most this often, ms: it is a sort of all names. */
const CHOOSE_MS = 10_000
/** A withdrawal that failed so often is left to the expiry. */
const WITHDRAWALS = 5
/** Hex digits of a place that tell its shelf. */
const SHELF_DIGITS = 2
/** Words that `due` looks at before a pause: about 2 ms. */
const LOOKED_AT = 5000

/** The words at places that begin alike. */
interface Shelf {
  /** by place; those that were dropped stay until `due` comes by */
  words: Word[]
  /** none is due before */
  dueAt: number
}

/**
 * What this peer says in the ring: two words a file, under its name and under its content. State only, no I/O. Tens of
 * thousands of files take their time, so what is long goes in slices, between which others have their turn.
 */
export class Words {
  readonly #maxFiles: number
  /** all that could be published */
  readonly #files = new Map<FileName, FileEntry>()
  /** what is published of them, by name */
  readonly #chosen = new Map<FileName, readonly Word[]>()
  /** names whose words are to be brought up to date, and whether they are to have any */
  readonly #stale = new Map<FileName, boolean>()
  readonly #words = new Map<string, Word>()
  /** by the first digits of the place */
  readonly #shelves: Shelf[] = Array.from({ length: 16 ** SHELF_DIGITS }, () => ({ words: [], dueAt: NEVER }))
  #chosenAt = Number.NEGATIVE_INFINITY
  #isChoiceOld = false

  constructor(maxFiles: number) {
    this.#maxFiles = maxFiles
  }

  /** Files beyond the most that are published. */
  get beyond(): number {
    return Math.max(0, this.#files.size - this.#maxFiles)
  }

  counts(): { published: number; waiting: number } {
    let [published, waiting] = [0, 0]
    for (const { isGone, isPublished } of this.#words.values()) {
      if (isGone) continue
      if (isPublished) published++
      else waiting++
    }
    return { published, waiting }
  }

  /**
   * Files that are new or changed, or null, gone. Those without a content id or size can't be found, so are left out. What
   * follows from it for the words is left to `catchUp`.
   */
  apply(changes: Changes): void {
    const wereTooMany = this.beyond > 0
    for (const [name, entry] of changes) {
      if (entry && entry.id !== null && entry.size !== null) this.#files.set(name, entry)
      else this.#files.delete(name)
    }
    const areTooMany = this.beyond > 0
    if ((areTooMany || wereTooMany) && changes.size > 0) this.#isChoiceOld = true
    for (const name of changes.keys()) {
      if (!areTooMany) this.#stale.set(name, true)
      else if (this.#chosen.has(name) && !this.#stale.has(name)) this.#stale.set(name, true)
    }
  }

  /** Where there are too many files: chooses those to publish, if they have changed, and not too often. */
  choose(now: number): void {
    if (!this.#isChoiceOld || now < this.#chosenAt + CHOOSE_MS) return
    const names = [...this.#files.keys()].sort()
    const wanted = new Set(names.slice(0, this.#maxFiles))
    for (const name of [...this.#stale.keys(), ...this.#chosen.keys()]) this.#stale.set(name, wanted.has(name))
    for (const name of wanted) this.#stale.set(name, true)
    this.#chosenAt = now
    this.#isChoiceOld = false
  }

  /** Brings the words of at most so many files up to date: each is two hashes. @returns whether there are more */
  catchUp(most: number, now: number): boolean {
    let left = most
    for (const [name, isWanted] of this.#stale) {
      if (left-- === 0) return true
      this.#stale.delete(name)
      this.#say(name, isWanted ? this.#files.get(name) : undefined, now)
    }
    return false
  }

  /**
   * What is to be said now, in the order of places: what is new first, and only where there is none of it, what is said
   * again. Yields where it is time for a pause.
   */
  *due(now: number): Generator<undefined, Word[]> {
    const [urgent, again]: [Word[], Word[]] = [[], []]
    let seen = 0
    for (const shelf of this.#shelves) {
      if (shelf.dueAt > now) continue
      shelf.words = shelf.words.filter(({ isDropped }) => !isDropped)
      shelf.dueAt = NEVER
      for (const word of shelf.words) {
        if (word.dueAt < shelf.dueAt) shelf.dueAt = word.dueAt
        if (word.dueAt <= now) (word.isGone || !word.isPublished ? urgent : again).push(word)
      }
      seen += shelf.words.length
      if (seen < LOOKED_AT) continue
      seen = 0
      yield
    }
    return urgent.length > 0 ? urgent : again
  }

  /** Before this nothing is due; infinity where nothing is. */
  nextAt(): number {
    if (this.#stale.size > 0) return Number.NEGATIVE_INFINITY
    let next = this.#isChoiceOld ? this.#chosenAt + CHOOSE_MS : NEVER
    for (const { dueAt } of this.#shelves) if (dueAt < next) next = dueAt
    return next
  }

  sayAgain(now: number): void {
    for (const shelf of this.#shelves) {
      shelf.dueAt = Math.min(shelf.dueAt, now)
      for (const word of shelf.words) if (word.dueAt === NEVER) word.dueAt = now
    }
  }

  /** Nothing is shared any more: what follows from it is left to `catchUp`. */
  retireAll(): void {
    this.#files.clear()
    this.#isChoiceOld = false
    for (const name of [...this.#stale.keys(), ...this.#chosen.keys()]) this.#stale.set(name, false)
  }

  /** Members have taken what was said of it at that version. */
  succeeded(word: Word, version: number): void {
    if (word.version !== version) return
    if (word.isGone) this.#drop(word)
    word.isPublished = !word.isGone
    word.failures = 0
    word.dueAt = NEVER
  }

  /** Too few have: it is due again after the delay. `kept`: one at least has it. */
  failed(word: Word, version: number, kept: boolean, at: number): void {
    if (word.version !== version) return
    word.failures++
    word.isPublished = kept && !word.isGone
    this.#plan(word, at)
    if (word.isGone && word.failures >= WITHDRAWALS) this.#drop(word)
  }

  #say(name: FileName, entry: FileEntry | undefined, now: number): void {
    const before = this.#chosen.get(name) ?? []
    const content = entry?.id ?? undefined
    if (before[0]?.content === content) return
    for (const word of before) {
      if (word.wasSent) this.#change(word, true, now)
      else this.#drop(word)
    }
    if (content === undefined) {
      this.#chosen.delete(name)
      return
    }
    const size = entry?.size ?? 0
    const words = (['name', 'content'] as const).map((key) => this.#add({ key, name, content, size }, now))
    this.#chosen.set(name, words)
  }

  #add(file: Pick<Word, 'key' | 'name' | 'content' | 'size'>, now: number): Word {
    const gone = this.#words.get(idOf(file))
    if (gone) {
      this.#change(gone, false, now)
      return gone
    }
    const flags = { isGone: false, wasSent: false, isDropped: false, isPublished: false }
    const word = { place: placeOfRecord(file), ...file, ...flags, failures: 0, dueAt: now, version: 0 }
    this.#words.set(idOf(word), word)
    shelve(word, this.#shelfOf(word).words)
    this.#plan(word, now)
    return word
  }

  #change(word: Word, isGone: boolean, now: number): void {
    word.isGone = isGone
    word.isPublished = false
    word.failures = 0
    word.version++
    this.#plan(word, now)
  }

  #plan(word: Word, at: number): void {
    word.dueAt = at
    const shelf = this.#shelfOf(word)
    if (at < shelf.dueAt) shelf.dueAt = at
  }

  #shelfOf({ place }: Word): Shelf {
    return this.#shelves[Number.parseInt(place.slice(0, SHELF_DIGITS), 16)]!
  }

  #drop(word: Word): void {
    word.isDropped = true
    this.#words.delete(idOf(word))
  }
}

/** Puts it where it belongs, behind those of the same place. */
function shelve(word: Word, shelf: Word[]): void {
  let [from, to] = [0, shelf.length]
  while (from < to) {
    const middle = (from + to) >> 1
    if (shelf[middle]!.place <= word.place) from = middle + 1
    else to = middle
  }
  shelf.splice(from, 0, word)
}

function idOf({ key, name, content }: Pick<Word, 'key' | 'name' | 'content'>): string {
  return `${key} ${content} ${name}`
}
