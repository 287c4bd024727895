import type { Clock } from '../../common/clock.ts'
import type { FileName } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import type { Random } from '../../common/random.ts'
import type { FileEntry } from '../../common/schemas.ts'
import { type PeerContact, sameAddress } from '../contact.ts'
import type { AnnouncedCatalog } from '../maestro-session.ts'
import { OwnRecords } from './own-records.ts'
import type { RingNetwork } from './protocol.ts'
import type { RecordStore } from './record-store.ts'
import { type Member, memberOf, type RingId, within } from './ring.ts'
import { type Message, messagesOf } from './word-messages.ts'
import { type Word, Words } from './words.ts'

export type PublishedCatalog = Pick<AnnouncedCatalog, 'entries' | 'onChange'>

export interface PublisherDeps {
  ring: { lookup(key: RingId, signal: AbortSignal): Promise<{ readonly owners: readonly Member[] }> }
  network: Pick<RingNetwork, 'store'>
  catalog: PublishedCatalog
  self: () => PeerContact
  /** what this member keeps itself, where it is among those that keep a record */
  own: Pick<RecordStore, 'store' | 'withdraw'>
  clock: Clock
  random: Random
  log: Logger
}

export interface PublisherOptions {
  /** members that keep a record (default 6) */
  replicas: number
  /** everything is said again at least this often, ms (default 1,200,000: records live three times as long) */
  republishMs: number
  /** the first by name are published (default 25,000) */
  maxFiles: number
}

const DEFAULTS: PublisherOptions = { replicas: 6, republishMs: 1_200_000, maxFiles: 25_000 }
/** Stretches of places that are published at the same time. */
const LANES = 4
/** Words for which another lane is worth its lookup. */
const LANE_WORDS = 500
/** Owners that a lane publishes to in one tick, and words to one of them: then what has changed has its turn. */
const MAX_RUNS = 16
const MAX_RUN = 5000
/** Lookups that fail before the ring counts as broken. */
const MAX_BROKEN = 3
/** ms; doubled with each failure up to the second. */
const BACKOFF = [2000, 60_000] as const
const SOON_MS = 60_000
/** Between two ticks, also where something is left. */
const LEAST_MS = 100
/** Files that are taken in before a pause: of each, two places are hashed. About 3 ms. */
const SLICE = 250

/** What came of a message to a member. */
type Answer = 'taken' | 'refused' | 'silent'

/**
 * Keeps this peer's own files up in the ring: each under its name and under its content, at the first members that follow
 * the place. Places are gone through in order, so one lookup tells the owner of all the places up to its own.
 */
export class Publisher {
  readonly #deps: PublisherDeps
  readonly #options: PublisherOptions
  readonly #own: OwnRecords
  readonly #words: Words
  readonly #unsubscribe: () => void
  /** by name; null: removed */
  #changes = new Map<FileName, FileEntry | null>()
  #isLoaded = false
  #isClosed = false
  #isWarned = false
  /** the contact that members were told */
  #told: PeerContact | undefined
  /** when everything is said again */
  #againAt: number
  /** the ring is broken: nothing before this */
  #pausedUntil = 0
  #broken = 0
  constructor(deps: PublisherDeps, options: Partial<PublisherOptions> = {}) {
    this.#deps = deps
    this.#options = { ...DEFAULTS, ...options }
    this.#own = new OwnRecords(deps)
    this.#words = new Words(this.#options.maxFiles)
    this.#againAt = this.#nextPass()
    this.#unsubscribe = deps.catalog.onChange(({ added, removed }) => {
      for (const name of removed) this.#changes.set(name, null)
      for (const entry of added) this.#changes.set(entry.name, entry)
    })
  }

  /** Records that one member at least keeps. */
  get published(): number {
    return this.#words.counts().published
  }

  /** Records that wait for it, or whose file is one too many. */
  get waiting(): number {
    return this.#words.counts().waiting + 2 * this.unpublished
  }

  /** Files that are too many. */
  get unpublished(): number {
    return this.#words.beyond
  }

  /** Until a tick has something to do, ms; where the catalog changes before that, it has at once. */
  get nextMs(): number {
    if (this.#isClosed) return Number.POSITIVE_INFINITY
    const now = this.#deps.clock.now()
    const due = this.#isLoaded && this.#changes.size === 0 ? Math.min(this.#againAt, this.#words.nextAt()) : now
    return Math.max(LEAST_MS, due - now, this.#pausedUntil - now)
  }

  /** The ring was repaired or has merged with another: everything is said again within a minute. */
  republishSoon(): void {
    const { clock, random } = this.#deps
    this.#againAt = Math.min(this.#againAt, clock.now() + random() * SOON_MS)
  }

  /** Says what is due. Who does not answer is passed over; what too few have taken is due again soon. */
  async tick(signal: AbortSignal): Promise<void> {
    const now = this.#deps.clock.now()
    if (this.#isClosed || now < this.#pausedUntil) return
    await this.#absorb(now, signal)
    if (signal.aborted) return
    const self = this.#deps.self()
    if (now >= this.#againAt || (this.#told && !sameAddress(self, this.#told))) {
      this.#words.sayAgain(now)
      this.#againAt = this.#nextPass()
    }
    this.#told = self
    await this.#publish(signal)
  }

  /** Ends it: members are told to forget what they keep of this peer, as far as the signal lets. */
  async withdrawAll(signal: AbortSignal): Promise<void> {
    this.close()
    this.#words.retireAll()
    while (!signal.aborted && this.#words.catchUp(SLICE, this.#deps.clock.now())) await this.#pause()
    while (!signal.aborted && (await this.#publish(signal)));
  }

  close(): void {
    this.#isClosed = true
    this.#unsubscribe()
  }

  async #absorb(now: number, signal: AbortSignal): Promise<void> {
    const { catalog, log } = this.#deps
    // Listed at once: what changes during the pauses is a change again.
    if (!this.#isLoaded) this.#changes = new Map(catalog.entries().map((entry) => [entry.name, entry]))
    this.#isLoaded = true
    for (;;) {
      this.#words.apply(this.#someChanges())
      if (this.#changes.size === 0) this.#words.choose(now)
      if (!this.#words.catchUp(SLICE, now) && this.#changes.size === 0) break
      await this.#pause()
      if (signal.aborted) return
    }
    const { beyond } = this.#words
    if (beyond === 0 || this.#isWarned) return
    this.#isWarned = true
    const published = this.#options.maxFiles
    log.warn(
      { published, unpublished: beyond },
      'too many files for the ring: it finds the first of them, by name, only',
    )
  }

  #someChanges(): Map<FileName, FileEntry | null> {
    const some = new Map<FileName, FileEntry | null>()
    for (const [name, entry] of this.#changes) {
      if (some.size === SLICE) break
      some.set(name, entry)
      this.#changes.delete(name)
    }
    return some
  }

  /** Others have their turn. */
  #pause(): Promise<void> {
    return this.#deps.clock.sleep(0)
  }

  async #due(): Promise<Word[]> {
    const looking = this.#words.due(this.#deps.clock.now())
    for (;;) {
      const { done, value } = looking.next()
      if (done) return value
      await this.#pause()
    }
  }

  /** @returns whether anything was due */
  async #publish(signal: AbortSignal): Promise<boolean> {
    const due = await this.#due()
    const self = memberOf(this.#deps.self())
    const lanes = Math.min(LANES, Math.ceil(due.length / LANE_WORDS))
    const length = Math.ceil(due.length / lanes)
    const walks = Array.from({ length: lanes }, (_, i) => due.slice(i * length, (i + 1) * length))
    await Promise.all(walks.map((words) => this.#walk(words, self, signal)))
    return due.length > 0
  }

  /** @param words by place */
  async #walk(words: readonly Word[], self: Member, signal: AbortSignal): Promise<void> {
    let [at, broken] = [0, 0]
    for (let runs = 0; at < words.length && runs < MAX_RUNS; runs++) {
      const first = words[at]!
      const owners = await this.#ownersOf(first.place, signal)
      if (signal.aborted) return
      const owner = owners[0]
      if (!owner) {
        this.#words.failed(first, first.version, first.isPublished, this.#retryAt(first.failures))
        at++
        if (++broken < MAX_BROKEN) continue
        this.#pausedUntil = this.#retryAt(this.#broken++)
        return
      }
      this.#broken = 0
      let end = at + 1
      const isIts = ({ place }: Word) => place === first.place || within(first.place, place, owner.id)
      while (end < words.length && end < at + MAX_RUN && isIts(words[end]!)) end++
      await this.#tell(words.slice(at, end), owners, self, signal)
      if (signal.aborted) return
      at = end
    }
  }

  async #ownersOf(place: RingId, signal: AbortSignal): Promise<readonly Member[]> {
    try {
      const { owners } = await this.#deps.ring.lookup(place, signal)
      return owners.slice(0, this.#options.replicas)
    } catch (error) {
      if (!signal.aborted) this.#deps.log.debug({ err: error }, 'nobody was found to keep records')
      return []
    }
  }

  async #tell(run: readonly Word[], owners: readonly Member[], self: Member, signal: AbortSignal): Promise<void> {
    // The catalog may have changed during the lookup.
    const words = run.filter(({ isDropped }) => !isDropped)
    for (const word of words) word.wasSent = true
    let answering = owners
    for (const message of messagesOf(words, self)) {
      const answers = await Promise.all(answering.map((owner) => this.#give(owner, message, self, signal)))
      const taken = answers.filter((answer) => answer === 'taken').length
      const isDone = taken > 0 && 2 * taken >= owners.length
      if (isDone || !signal.aborted) this.#settle(message, isDone, taken > 0)
      if (signal.aborted) return
      answering = answering.filter((_, i) => answers[i] !== 'silent')
    }
  }

  #settle({ words, versions }: Message, isDone: boolean, isKept: boolean): void {
    const retryAt = this.#retryAt(words[0]?.failures ?? 0)
    for (const [i, word] of words.entries()) {
      if (isDone) this.#words.succeeded(word, versions[i]!)
      else this.#words.failed(word, versions[i]!, isKept, retryAt)
    }
  }

  async #give(owner: Member, message: Message, self: Member, signal: AbortSignal): Promise<Answer> {
    const { network, log } = this.#deps
    const { records, withdraw } = message
    try {
      const isSelf = owner.id === self.id
      const kept = await (isSelf ? this.#own.keep(message, self) : network.store(owner, records, withdraw, signal))
      // One that has hardly any room left does not count.
      return 2 * kept >= records.length ? 'taken' : 'refused'
    } catch (error) {
      log.debug({ peer: owner.peer, err: error }, 'a member of the ring took no records')
      return 'silent'
    }
  }

  #nextPass(): number {
    const { clock, random } = this.#deps
    return clock.now() + this.#options.republishMs * (0.8 + 0.2 * random())
  }

  #retryAt(failures: number): number {
    const { clock, random } = this.#deps
    const [first, most] = BACKOFF
    return clock.now() + Math.min(first * 2 ** failures, most) * (0.75 + 0.5 * random())
  }
}
