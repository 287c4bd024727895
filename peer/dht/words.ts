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
  isPublished: boolean
  /** in a row */
  failures: number
  dueAt: number
  /** grows when what is to be said changes, so that an answer to what was said before counts for nothing */
  version: number
}

export type Changes = ReadonlyMap<FileName, FileEntry | null>

/** Where there are more files than are published, those to publish are chosen anew at most this often, ms: it is a sort of all names. */
const CHOOSE_MS = 10_000
/** A withdrawal that failed so often is left to the expiry. */
const WITHDRAWALS = 5

/** What this peer says in the ring: two words a file, under its name and under its content. State only, no I/O. */
export class Words {
  readonly #maxFiles: number
  /** all that could be published */
  readonly #files = new Map<FileName, FileEntry>()
  /** what is published of them, by name */
  readonly #chosen = new Map<FileName, ContentId>()
  readonly #words = new Map<string, Word>()
  /** by place; words that were dropped stay in it until `due` sorts again */
  #sorted: Word[] = []
  #added: Word[] = []
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

  /** Files that are new or changed, or null, gone. Those without a content id or size can't be found, so are left out. */
  apply(changes: Changes, now: number): void {
    const wereTooMany = this.beyond > 0
    for (const [name, entry] of changes) {
      if (entry && entry.id !== null && entry.size !== null) this.#files.set(name, entry)
      else this.#files.delete(name)
    }
    if ((this.beyond > 0 || wereTooMany) && changes.size > 0) this.#isChoiceOld = true
    for (const name of changes.keys()) if (this.beyond === 0 || this.#chosen.has(name)) this.#follow(name, now)
    if (this.#isChoiceOld && now >= this.#chosenAt + CHOOSE_MS) this.#choose(now)
  }

  /** What is to be said now, in the order of places: what is new first, and only where there is none of it, what is said again. */
  due(now: number): Word[] {
    if (this.#added.length > 0) {
      const still = this.#sorted.filter((word) => this.has(word))
      // Nearly sorted already, which makes it cheap.
      this.#sorted = [...still, ...this.#added].sort((a, b) => (a.place < b.place ? -1 : a.place > b.place ? 1 : 0))
      this.#added = []
    }
    const due = this.#sorted.filter((word) => word.dueAt <= now && this.has(word))
    const urgent = due.filter(({ isGone, isPublished }) => isGone || !isPublished)
    return urgent.length > 0 ? urgent : due
  }

  /** Whether it is still to be said; else it was dropped before anybody was told. */
  has(word: Word): boolean {
    return this.#words.get(idOf(word)) === word
  }

  /** When something is due next; infinity where nothing is. */
  nextAt(): number {
    let next = this.#isChoiceOld ? this.#chosenAt + CHOOSE_MS : Number.POSITIVE_INFINITY
    for (const { dueAt } of this.#words.values()) if (dueAt < next) next = dueAt
    return next
  }

  sayAgain(now: number): void {
    for (const word of this.#words.values()) if (word.dueAt === Number.POSITIVE_INFINITY) word.dueAt = now
  }

  retireAll(now: number): void {
    this.#files.clear()
    this.#isChoiceOld = false
    for (const name of [...this.#chosen.keys()]) this.#follow(name, now)
  }

  /** Members have taken what was said of it at that version. */
  succeeded(word: Word, version: number): void {
    if (word.version !== version) return
    if (word.isGone) this.#words.delete(idOf(word))
    word.isPublished = !word.isGone
    word.failures = 0
    word.dueAt = Number.POSITIVE_INFINITY
  }

  /** Too few have: it is due again after the delay. `kept`: one at least has it. */
  failed(word: Word, version: number, kept: boolean, at: number): void {
    if (word.version !== version) return
    word.failures++
    word.isPublished = kept && !word.isGone
    word.dueAt = at
    if (word.isGone && word.failures >= WITHDRAWALS) this.#words.delete(idOf(word))
  }

  #choose(now: number): void {
    const names = [...this.#files.keys()].sort()
    const wanted = new Set(names.slice(0, this.#maxFiles))
    for (const name of [...this.#chosen.keys()]) if (!wanted.has(name)) this.#say(name, undefined, now)
    for (const name of wanted) this.#follow(name, now)
    this.#chosenAt = now
    this.#isChoiceOld = false
  }

  #follow(name: FileName, now: number): void {
    this.#say(name, this.#files.get(name), now)
  }

  #say(name: FileName, entry: FileEntry | undefined, now: number): void {
    const before = this.#chosen.get(name)
    const content = entry?.id ?? undefined
    if (before === content) return
    if (before !== undefined)
      for (const key of ['name', 'content'] as const) this.#retire({ key, name, content: before }, now)
    if (content === undefined) {
      this.#chosen.delete(name)
      return
    }
    this.#chosen.set(name, content)
    const size = entry?.size ?? 0
    for (const key of ['name', 'content'] as const) this.#add({ key, name, content, size }, now)
  }

  #retire(file: Pick<Word, 'key' | 'name' | 'content'>, now: number): void {
    const word = this.#words.get(idOf(file))
    if (!word) return
    if (!word.wasSent) this.#words.delete(idOf(word))
    else change(word, true, now)
  }

  #add(file: Pick<Word, 'key' | 'name' | 'content' | 'size'>, now: number): void {
    const gone = this.#words.get(idOf(file))
    if (gone) {
      change(gone, false, now)
      return
    }
    const state = { isGone: false, wasSent: false, isPublished: false, failures: 0, dueAt: now, version: 0 }
    const word = { place: placeOfRecord(file), ...file, ...state }
    this.#words.set(idOf(word), word)
    this.#added.push(word)
  }
}

function change(word: Word, isGone: boolean, now: number): void {
  word.isGone = isGone
  word.isPublished = false
  word.failures = 0
  word.dueAt = now
  word.version++
}

function idOf({ key, name, content }: Pick<Word, 'key' | 'name' | 'content'>): string {
  return `${key} ${content} ${name}`
}
