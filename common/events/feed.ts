import type { ServerResponse } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { partyOf } from '../address.ts'
import { type Clock, systemClock } from '../clock.ts'
import { NetworkError } from '../errors.ts'
import { type Component, Loop } from '../lifecycle.ts'
import { type Logger, silentLog } from '../log.ts'
import type { EventType } from './event.ts'
import { FeedReader } from './feed-reader.ts'
import type { EventLog, LoggedEvent } from './log.ts'
import { eventMessage, parseResumeId } from './sse.ts'

/** Rows of the log that are read at a time for one that is behind. */
const PAGE = 100
/** Events back from the end that are counted at a time to find where a reader begins. */
const SEARCH = 10_000
/**
 * For so long those that are behind are supplied before all else of the process has its turn. Short, since a server may
 * take in one new connection a turn only.
 */
const SLICE_MS = 1
/** Rows that wait to be sent together. */
const MOST_TOGETHER = 1000
/** In which what is appended is gathered. */
const FLUSH_MS = 10
/** Silence after which a reader is told that all is well. */
const KEEP_ALIVE_MS = 15_000
/** In which a reader has to take what was sent to it. */
const DRAIN_MS = 30_000
/** Between looks at who is silent or stuck. */
const CHECK_MS = 1000

export interface FeedDeps {
  log: EventLog
  clock?: Clock
  logger?: Logger
}

export interface FeedOptions {
  /** default 2,000 */
  maxReaders?: number
  /** of one host; this machine is excepted (default 200) */
  maxReadersOfHost?: number
}

/** What one reader wants. */
export interface FeedRequest {
  outgoing: ServerResponse
  /** the address it comes from, where known */
  host: string | undefined
  /** default: all */
  types?: ReadonlySet<EventType> | undefined
  /** so many of the past, of those types (default 0); not with `lastEventId` */
  last?: number | undefined
  lastEventId?: string | undefined
  /** whether it goes on when what there is was sent */
  follow: boolean
}

/**
 * Serves a log to many readers as server-sent events. A reader is a position in the log and a socket: at the head it
 * shares one buffer with all others that want the same; one whose socket is full has nothing queued, and reads the log
 * from its position once there is room. So memory does not grow with how slow a reader is.
 */
export class EventFeed implements Component {
  readonly #log: EventLog
  readonly #clock: Clock
  readonly #options: Required<FeedOptions>
  readonly #loop: Loop
  readonly #readers = new Set<FeedReader>()
  readonly #hosts = new Map<string, number>()
  /** those that have been sent everything up to the head */
  readonly #atHead = new Set<FeedReader>()
  /** those that lack something and have room for it; the first is the next to be supplied */
  readonly #behind = new Set<FeedReader>()
  /** appended, and not yet sent to those at the head */
  #waiting: LoggedEvent[] = []
  /** the last position that was sent to those at the head */
  #head = 0
  #timer: NodeJS.Timeout | undefined
  #supplying: Promise<void> | undefined
  #stopListening = () => {}
  #open = false
  #delivered = 0
  #dropped = 0

  constructor(deps: FeedDeps, options: FeedOptions = {}) {
    const { log, clock = systemClock, logger = silentLog } = deps
    this.#log = log
    this.#clock = clock
    this.#options = {
      maxReaders: 2000,
      maxReadersOfHost: 200,
      ...options,
    }
    this.#loop = new Loop('readers of events', async () => this.tick(), logger, { interval: () => CHECK_MS, clock })
  }

  get readers(): number {
    return this.#readers.size
  }

  /** Events sent to readers, each reader counted. */
  get delivered(): number {
    return this.#delivered
  }

  /** Readers that were cut because they took nothing. */
  get dropped(): number {
    return this.#dropped
  }

  async start(): Promise<void> {
    this.#stopListening = this.#log.onAppend((rows) => this.#appended(rows))
    const { last } = await this.#log.bounds()
    this.#head = Math.max(this.#head, last)
    this.#open = true
    await this.#loop.start()
  }

  /** Ends all readers at once. */
  async stop(): Promise<void> {
    this.#open = false
    this.#stopListening()
    clearTimeout(this.#timer)
    for (const reader of this.#readers) reader.writable ? reader.end() : reader.cut()
    await this.#supplying
    await this.#loop.stop()
  }

  /**
   * Answers a request with the events it asks for, until either side ends.
   * @throws NetworkError `limited` or `unavailable`, with nothing answered yet
   */
  async serve(request: FeedRequest): Promise<FeedReader> {
    const { outgoing } = request
    const bounds = await this.#log.bounds()
    if (!this.#open) throw new NetworkError('unavailable', 'this service is stopping: try again in a moment')
    if (outgoing.destroyed) throw new NetworkError('cancelled', 'the client went away')
    const leave = this.#enter(request.host)
    const reader = new FeedReader(outgoing, this.#log.name, request, this.#clock)
    this.#readers.add(reader)
    outgoing.on('close', () => {
      leave()
      this.#readers.delete(reader)
      this.#atHead.delete(reader)
      this.#behind.delete(reader)
    })
    outgoing.on('error', () => outgoing.destroy())
    outgoing.on('drain', () => {
      if (reader.drained()) this.#fallBehind(reader)
    })
    reader.position = bounds.last
    reader.begin()
    try {
      await this.#place(reader, request, bounds)
      this.#fallBehind(reader)
    } catch {
      reader.cut()
    }
    return reader
  }

  /** Cuts who takes nothing; tells who heard nothing that all is well. */
  tick(): void {
    const now = this.#clock.now()
    for (const reader of this.#readers) {
      if (reader.gone) continue
      if (reader.blockedSince !== undefined) {
        if (now - reader.blockedSince < DRAIN_MS) continue
        this.#dropped++
        reader.cut()
      } else if (now - reader.lastWrite >= KEEP_ALIVE_MS) reader.keepAlive()
    }
  }

  #enter(host: string | undefined): () => void {
    const { maxReaders, maxReadersOfHost } = this.#options
    if (this.#readers.size >= maxReaders)
      throw new NetworkError('limited', `${maxReaders} read the events of this service already: try again later`)
    const party = partyOf(host)
    if (party === undefined) return () => {}
    const held = this.#hosts.get(party) ?? 0
    if (held >= maxReadersOfHost)
      throw new NetworkError('limited', `${held} at ${party} read the events of this service already: end some first`)
    this.#hosts.set(party, held + 1)
    return () => {
      const left = this.#hosts.get(party)! - 1
      if (left > 0) this.#hosts.set(party, left)
      else this.#hosts.delete(party)
    }
  }

  /** Puts a new reader where it begins, or tells from where to look for that; and tells it of what is gone. */
  async #place(
    reader: FeedReader,
    { lastEventId, last = 0, follow }: FeedRequest,
    bounds: { first: number; last: number },
  ): Promise<void> {
    if (!follow) reader.until = bounds.last
    if (lastEventId === undefined) reader.lacking = last
    else {
      const read = parseResumeId(lastEventId)
      const same = read && (await this.#log.sameUpTo(read.name))
      reader.position = same === undefined ? bounds.first - 1 : Math.min(read!.position, same, bounds.last)
      if (same === undefined || read!.position > same) reader.gap(null)
    }
    if (reader.lacking === 0) reader.tellPosition()
  }

  #appended(rows: readonly LoggedEvent[]): void {
    if (this.#atHead.size === 0) {
      this.#waiting = []
      this.#head = rows.at(-1)!.position
      return
    }
    for (const row of rows) this.#waiting.push(row)
    if (this.#waiting.length >= MOST_TOGETHER) this.#flush()
    else this.#timer ??= setTimeout(() => this.#flush(), FLUSH_MS)
  }

  /** Sends to those at the head what was appended, in one buffer for all that want the same. */
  #flush(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const rows = this.#waiting
    if (rows.length === 0) return
    this.#waiting = []
    const before = this.#head
    this.#head = rows.at(-1)!.position
    const messages = rows.map((row) => eventMessage(this.#log.name, row))
    const batches = new Map<string, { bytes: Buffer; count: number }>()
    for (const reader of this.#atHead) {
      if (!reader.writable) {
        this.#atHead.delete(reader)
        continue
      }
      // One that came while these waited wants only those since.
      const after = Math.max(before, reader.position)
      const key = `${after} ${reader.filter}`
      let batch = batches.get(key)
      if (!batch) {
        const wanted = messages.filter((_, i) => rows[i]!.position > after && reader.wants(rows[i]!.type))
        batch = { bytes: Buffer.from(wanted.join('')), count: wanted.length }
        batches.set(key, batch)
      }
      reader.position = this.#head
      if (batch.count === 0) continue
      this.#delivered += batch.count
      if (!reader.write(batch.bytes)) this.#atHead.delete(reader)
    }
  }

  #fallBehind(reader: FeedReader): void {
    this.#behind.add(reader)
    this.#supplying ??= this.#supply()
  }

  /** Gives one step to each of those behind, in turn, and lets all else of the process go on in between. */
  async #supply(): Promise<void> {
    while (this.#behind.size > 0) {
      await turn()
      const begin = performance.now()
      for (const reader of this.#behind) {
        this.#behind.delete(reader)
        try {
          if (await this.#step(reader)) this.#behind.add(reader)
        } catch {
          reader.cut()
        }
        if (performance.now() - begin >= SLICE_MS) break
      }
    }
    this.#supplying = undefined
  }

  /** Finds where a reader begins, or sends it some of what it lacks. @returns whether there is more to do at present */
  async #step(reader: FeedReader): Promise<boolean> {
    if (!reader.writable) return false
    const upTo = reader.until ?? this.#head
    if (reader.lacking > 0) {
      const some = Math.min(reader.lacking, SEARCH)
      reader.position = await this.#log.back(reader.position, some, reader.types)
      reader.lacking -= some
      if (reader.lacking === 0) reader.tellPosition()
    } else if (reader.position < upTo) await this.#page(reader, upTo)
    else if (reader.until !== undefined) reader.end()
    else {
      this.#atHead.add(reader)
      return false
    }
    return reader.writable
  }

  async #page(reader: FeedReader, upTo: number): Promise<void> {
    const rows = await this.#log.read(reader.position, PAGE, reader.types)
    if (rows[0]?.position !== reader.position + 1) {
      const first = Math.min(upTo + 1, (await this.#log.bounds()).first)
      if (reader.position < first - 1) reader.gap(first - 1 - reader.position)
      reader.position = Math.max(reader.position, first - 1)
    }
    const due = rows.filter(({ position }) => position <= upTo)
    const sent = reader.take(due)
    this.#delivered += sent
    if (sent === due.length && (due.length < rows.length || rows.length < PAGE)) reader.position = upTo
  }
}
