import { randomBytes } from 'node:crypto'
import type { Database } from 'better-sqlite3'
import { type Clock, systemClock } from '../clock.ts'
import { moveAside, openOrRenew } from '../database.ts'
import { isDamaged } from '../database-failure.ts'
import { NetworkError } from '../errors.ts'
import { GroupCommit } from '../group-commit.ts'
import { type Logger, silentLog } from '../log.ts'
import { EVENT_LIMITS, type EventDraft, type EventType, type NetworkEvent } from './event.ts'
import type { EventLog, LoggedEvent } from './log.ts'
import { logFailure, openLogDatabase, prepare } from './log-database.ts'

/** Rows of one step of a sweep. */
const BITE = 1000
/** Of so many sources it is known what was dropped of theirs. */
const FORGOTTEN_SOURCES = 10_000
/** Of so many openings of the log it is known how far they got. */
const OPENINGS = 1000
const DAY_MS = 24 * 3600 * 1000

export interface SqliteLogOptions {
  /** whose events are published here */
  origin: string
  clock?: Clock
  log?: Logger
  /** what is kept: so many events at most (default 200,000), for so many ms (default 14 days) */
  retain?: { events: number; ms: number }
  /** own events that may wait for others to have them (default 100,000); the oldest beyond no longer wait */
  maxUnsent?: number
}

/**
 * An event log in SQLite. Writes of one turn of the event loop share a commit. Positions have no gaps: rows go only
 * from the front. Reads see what is committed and nothing else, so no reader is ever ahead of a killed process.
 *
 * An own event's id is `<incarnation>.<seq>`, the incarnation being this opening of the log: after a power cut, which
 * may take the last commits with it, no number that others have seen already is given to another event.
 */
export class SqliteEventLog implements EventLog {
  readonly name: string
  readonly origin: string
  readonly #path: string
  readonly #db: Database
  readonly #sql: ReturnType<typeof prepare>
  readonly #commits: GroupCommit
  readonly #clock: Clock
  readonly #log: Logger
  readonly #retain: { events: number; ms: number }
  readonly #maxUnsent: number
  readonly #incarnation = randomBytes(8).toString('hex')
  readonly #listeners = new Set<(rows: readonly LoggedEvent[]) => void>()
  /** the last position that is committed */
  #last = 0
  /** written, and not committed yet */
  #fresh: LoggedEvent[] = []
  #seq = 0
  #unsent = 0
  #dropped = 0
  #damaged = false

  /** Takes over a database that `openLogDatabase` has opened. */
  constructor(db: Database, options: SqliteLogOptions) {
    this.#path = db.name
    this.#db = db
    this.origin = options.origin
    this.#clock = options.clock ?? systemClock
    this.#log = options.log ?? silentLog
    this.#retain = options.retain ?? { events: 200_000, ms: 14 * DAY_MS }
    this.#maxUnsent = options.maxUnsent ?? 100_000
    this.#sql = prepare(db)
    this.#commits = new GroupCommit(db, () => this.#reload())
    this.#load()
    this.name = this.#begin()
  }

  /**
   * `path` may be `:memory:`. A damaged file is moved aside, and a new one begun: events are hints, so a process has none
   * of the past rather than not starting.
   * @throws NetworkError where the file can't be used, in words for the person who configured it
   */
  static open(path: string, options: SqliteLogOptions): SqliteEventLog {
    try {
      const open = () => openLogDatabase(path, (db) => new SqliteEventLog(db, options))
      return openOrRenew(path, open, { log: options.log ?? silentLog, loss: 'a new event log begins' })
    } catch (error) {
      throw logFailure(error, path)
    }
  }

  // ---- writes

  async publish(drafts: readonly EventDraft[]): Promise<readonly NetworkEvent[]> {
    const time = new Date(this.#clock.now()).toISOString()
    const made = drafts.map((draft, index) => {
      const seq = this.#seq + 1 + index
      const id = `${this.#incarnation}.${seq}`
      const event = { v: 1, id, origin: this.origin, seq, time, ...draft } as NetworkEvent
      const text = JSON.stringify(event)
      if (Buffer.byteLength(text) > EVENT_LIMITS.bytes)
        throw new NetworkError('too_large', `an event ${draft.type} of more than ${EVENT_LIMITS.bytes} bytes`)
      return { event, text }
    })
    if (made.length === 0) return []
    await this.#write(() => {
      for (const { event, text } of made) this.#sql.addUnsent.run(this.#add(event, text))
      this.#seq += made.length
      this.#unsent += made.length
      if (this.#unsent > this.#maxUnsent) {
        const { changes } = this.#sql.dropUnsent.run(this.#unsent - this.#maxUnsent)
        this.#unsent -= changes
        this.#dropped += changes
      }
      this.#sql.setState.run(this.#seq, this.#dropped)
    })
    return made.map(({ event }) => event)
  }

  async keep(events: readonly NetworkEvent[], resume?: string): Promise<number> {
    if (events.length === 0 && resume === undefined) return 0
    return this.#write(() => {
      let added = 0
      for (const event of events) if (this.#add(event, JSON.stringify(event)) !== undefined) added++
      if (resume !== undefined) this.#sql.setResume.run(resume)
      return added
    })
  }

  moveCursor(reader: string, position: number): Promise<void> {
    return this.#write(() => void this.#sql.setCursor.run(reader, position))
  }

  async sent(ids: readonly string[]): Promise<void> {
    if (ids.length === 0) return
    await this.#write(() => {
      for (const id of ids) this.#unsent -= this.#sql.sent.run(id).changes
    })
  }

  async sweep(): Promise<void> {
    while ((await this.#write(() => this.#bite())) === BITE);
    await this.#write(() => this.#sql.forgetSources.run(FORGOTTEN_SOURCES))
  }

  // ---- reads

  async read(after: number, limit: number, types?: ReadonlySet<EventType>): Promise<readonly LoggedEvent[]> {
    const rows = this.#read(() => {
      if (!types) return this.#sql.read.all(after, this.#last, limit)
      const ofEach = [...types].flatMap((type) => [type, after, this.#last])
      return this.#sql.ofTypes(types.size).read.all(ofEach, limit)
    })
    return rows.map(({ position, type, text }) => new StoredEvent(position, type, text))
  }

  async bounds(): Promise<{ first: number; last: number }> {
    const first = this.#read(() => this.#sql.first.get())
    return { first: first ?? this.#last + 1, last: this.#last }
  }

  async sameUpTo(name: string): Promise<number | undefined> {
    return name === this.name ? this.#last : this.#read(() => this.#sql.upTo.get(name))
  }

  async back(last: number, count: number, types?: ReadonlySet<EventType>): Promise<number> {
    if (count === 0) return last
    const { first } = await this.bounds()
    if (!types) return Math.max(first - 1, last - count)
    const ofEach = [...types].flatMap((type) => [type, last])
    return (this.#read(() => this.#sql.ofTypes(types.size).back.get(ofEach, count - 1)) ?? first) - 1
  }

  onAppend(listener: (rows: readonly LoggedEvent[]) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  async cursor(reader: string): Promise<number | undefined> {
    return this.#read(() => this.#sql.cursor.get(reader))
  }

  async resume(): Promise<string | undefined> {
    return this.#read(() => this.#sql.state.get()!).resume ?? undefined
  }

  async unsent(limit: number): Promise<readonly NetworkEvent[]> {
    return this.#read(() => this.#sql.unsent.all(this.#last, limit)).map((text) => JSON.parse(text) as NetworkEvent)
  }

  async backlog(): Promise<{ unsent: number; dropped: number }> {
    return { unsent: this.#unsent, dropped: this.#dropped }
  }

  async close(): Promise<void> {
    if (!this.#db.open) return
    this.#commits.flush()
    this.#db.close()
  }

  // ---- parts

  /** @returns its position, or undefined where it was seen before */
  #add(event: NetworkEvent, text: string): number | undefined {
    const source = sourceOf(event)
    if (source && source.seq <= (this.#sql.forgotten.get(source.name) ?? 0)) return undefined
    // Asked before, since an insert that is ignored leaves a gap in the positions.
    if (this.#sql.seen.get(event.id, event.origin)) return undefined
    const position = Number(
      this.#sql.add.run(event.id, event.origin, this.#clock.now(), event.type, text).lastInsertRowid,
    )
    this.#fresh.push({ position, type: event.type, event, text })
    return position
  }

  /**
   * A name of its own for each opening: a power cut may have taken the last events of the one before, and their positions
   * are given to others now.
   */
  #begin(): string {
    const { name: before } = this.#sql.state.get()!
    const name = randomBytes(4).toString('hex')
    const begin = this.#db.transaction(() => {
      this.#sql.addName.run(before, this.#last)
      this.#sql.setName.run(name)
      this.#sql.forgetNames.run(OPENINGS)
    })
    try {
      begin.immediate()
      return name
    } catch (error) {
      if (isDamaged(error)) throw error
      // A full disk keeps nobody from starting.
      return before
    }
  }

  /** Drops some of what is too old or too much; remembers how far each source's went, so that none comes back as new. */
  #bite(): number {
    const oldest = this.#clock.now() - this.#retain.ms
    const most = this.#last - this.#retain.events
    const rows = this.#sql.oldest.all(BITE)
    const kept = rows.findIndex(({ position, heard }) => position > most && heard >= oldest)
    const over = kept === -1 ? rows : rows.slice(0, kept)
    const upTo = over.at(-1)?.position
    if (upTo === undefined) return 0
    const sources = new Map<string, number>()
    for (const row of over) {
      const source = sourceOf(row)
      if (source) sources.set(source.name, Math.max(sources.get(source.name) ?? 0, source.seq))
    }
    for (const [source, seq] of sources) this.#sql.forget.run(source, seq, this.#clock.now())
    this.#sql.drop.run(upTo)
    const { changes } = this.#sql.dropUnsentUpTo.run(upTo)
    this.#unsent -= changes
    this.#dropped += changes
    this.#sql.setState.run(this.#seq, this.#dropped)
    return over.length
  }

  async #write<T>(work: () => T): Promise<T> {
    this.#checkOpen()
    const result = await this.#commits.write(work).catch((error) => this.#fail(error))
    this.#announce()
    return result
  }

  #read<T>(work: () => T): T {
    this.#checkOpen()
    try {
      return work()
    } catch (error) {
      return this.#fail(error)
    }
  }

  /** The first writer of a group to hear of its commit tells of all, before anybody can write again. */
  #announce(): void {
    const rows = this.#fresh
    if (rows.length === 0) return
    this.#fresh = []
    this.#last = rows.at(-1)!.position
    for (const listener of this.#listeners) listener(rows)
  }

  /** After a group was undone. Where even reading fails, its writers hear of that failure by their own. */
  #reload(): void {
    this.#fresh = []
    try {
      this.#load()
    } catch (error) {
      this.#log.warn({ database: this.#path, err: error }, 'the event log can not be read')
    }
  }

  #load(): void {
    const { seq, dropped } = this.#sql.state.get()!
    this.#seq = seq
    this.#dropped = dropped
    this.#unsent = this.#sql.countUnsent.get()!
    this.#last = this.#sql.last.get() ?? 0
  }

  #checkOpen(): void {
    if (!this.#db.open) throw new NetworkError('cancelled', 'the event log is closed')
  }

  /** So that the next start begins a new log. */
  #moveAside(): void {
    const path = this.#path
    try {
      this.#log.warn({ path, aside: moveAside(path) }, 'the event log is damaged: moved aside')
    } catch (error) {
      this.#log.warn({ path, err: error }, 'the event log is damaged, and can not be moved aside')
    }
  }

  #fail(error: unknown): never {
    if (isDamaged(error) && !this.#damaged) {
      this.#damaged = true
      this.#moveAside()
    }
    throw logFailure(error, this.#path)
  }
}

/** Most of those who read an event only pass its text on. */
class StoredEvent implements LoggedEvent {
  #event: NetworkEvent | undefined
  readonly position: number
  readonly type: EventType
  readonly text: string

  constructor(position: number, type: EventType, text: string) {
    this.position = position
    this.type = type
    this.text = text
  }

  get event(): NetworkEvent {
    this.#event ??= JSON.parse(this.text) as NetworkEvent
    return this.#event
  }
}

/** The incarnation that an event is of, and its number there, where its id has that form. */
function sourceOf(event: { id: string; origin: string }): { name: string; seq: number } | undefined {
  const match = /^(.+)\.([1-9]\d{0,14})$/.exec(event.id)
  return match ? { name: `${event.origin} ${match[1]}`, seq: Number(match[2]) } : undefined
}
