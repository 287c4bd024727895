import type { Clock } from '../../common/clock.ts'
import type { FileName } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import type { Random } from '../../common/random.ts'
import type { FileEntry } from '../../common/schemas.ts'
import type { PeerContact } from '../contact.ts'
import type { AnnouncedCatalog } from '../maestro-session.ts'
import type { RingNetwork, RingRecord } from './protocol.ts'
import { fitting } from './record-messages.ts'
import type { RecordStore } from './record-store.ts'
import { type Member, memberOf, type RingId, within } from './ring.ts'
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
/** Between two ticks, also where one has left something to do. */
const LEAST_MS = 100

interface Message {
  readonly words: readonly Word[]
  readonly versions: readonly number[]
  readonly records: RingRecord[]
  readonly withdraw: RingRecord[]
  /** members that have it */
  taken: number
}

/**
 * Keeps this peer's own files up in the ring: each under its name and under its content, at the first members that follow
 * the place. Places are gone through in order, so one lookup tells the owner of all the places up to its own.
 */
export class Publisher {
  readonly #deps: PublisherDeps
  readonly #options: PublisherOptions
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
    this.#absorb(now)
    const self = this.#deps.self()
    if (now >= this.#againAt || !isSame(self, this.#told)) {
      this.#words.sayAgain(now)
      this.#againAt = this.#nextPass()
    }
    this.#told = self
    await this.#publish(signal)
  }

  /** Ends it: members are told to forget what they keep of this peer, as far as the signal lets. */
  async withdrawAll(signal: AbortSignal): Promise<void> {
    this.close()
    this.#words.retireAll(this.#deps.clock.now())
    while (!signal.aborted && this.#words.due(this.#deps.clock.now()).length > 0) await this.#publish(signal)
  }

  close(): void {
    this.#isClosed = true
    this.#unsubscribe()
  }

  #absorb(now: number): void {
    const { catalog, log } = this.#deps
    // Taken together, without a pause between them: what changes later is a change again.
    if (!this.#isLoaded) this.#changes = new Map(catalog.entries().map((entry) => [entry.name, entry]))
    this.#isLoaded = true
    this.#words.apply(this.#changes, now)
    this.#changes = new Map()
    const { beyond } = this.#words
    if (beyond === 0 || this.#isWarned) return
    this.#isWarned = true
    const published = this.#options.maxFiles
    log.warn(
      { published, unpublished: beyond },
      'too many files for the ring: it finds the first of them, by name, only',
    )
  }

  async #publish(signal: AbortSignal): Promise<void> {
    const due = this.#words.due(this.#deps.clock.now())
    const self = memberOf(this.#deps.self())
    const lanes = Math.min(LANES, Math.ceil(due.length / LANE_WORDS))
    const length = Math.ceil(due.length / lanes)
    const walks = Array.from({ length: lanes }, (_, i) => due.slice(i * length, (i + 1) * length))
    await Promise.all(walks.map((words) => this.#walk(words, self, signal)))
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
    const words = run.filter((word) => this.#words.has(word))
    const messages = messagesOf(words, self)
    for (const word of words) word.wasSent = true
    await Promise.all(owners.map((owner) => this.#give(owner, messages, self, signal)))
    for (const { words: told, versions, taken } of messages) {
      const isDone = taken > 0 && 2 * taken >= owners.length
      if (!isDone && signal.aborted) continue
      const retryAt = this.#retryAt(told[0]?.failures ?? 0)
      for (const [i, word] of told.entries()) {
        if (isDone) this.#words.succeeded(word, versions[i]!)
        else this.#words.failed(word, versions[i]!, taken > 0, retryAt)
      }
    }
  }

  async #give(owner: Member, messages: readonly Message[], self: Member, signal: AbortSignal): Promise<void> {
    const { network, own, log } = this.#deps
    for (const message of messages) {
      const { records, withdraw } = message
      if (signal.aborted) return
      try {
        const isSelf = owner.id === self.id
        if (isSelf) own.withdraw(withdraw, self)
        const kept = isSelf ? own.store(records, self) : await network.store(owner, records, withdraw, signal)
        // One that has hardly any room left does not count.
        if (2 * kept >= records.length) message.taken++
      } catch (error) {
        log.debug({ peer: owner.peer, err: error }, 'a member of the ring took no records')
        return
      }
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

function messagesOf(words: readonly Word[], self: PeerContact): Message[] {
  const messages: Message[] = []
  const { peer, host, restPort, grpcPort } = self
  const provider = { peer, host, restPort, grpcPort }
  const recordOf = ({ key, name, content, size }: Word) => ({ key, name, content, size, provider, ageMs: 0 })
  for (let at = 0; at < words.length; ) {
    const some = fitting(eachFrom(words, at)).flat()
    at += some.length
    messages.push({
      words: some,
      versions: some.map(({ version }) => version),
      records: some.filter(({ isGone }) => !isGone).map(recordOf),
      withdraw: some.filter(({ isGone }) => isGone).map(recordOf),
      taken: 0,
    })
  }
  return messages
}

function* eachFrom(words: readonly Word[], at: number): Generator<[Word]> {
  for (let i = at; i < words.length; i++) yield [words[i]!]
}

function isSame(a: PeerContact, b: PeerContact | undefined): boolean {
  return a.peer === b?.peer && a.host === b.host && a.grpcPort === b.grpcPort && a.restPort === b.restPort
}
