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
const PAGE = 200
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
  /** appended, and not yet sent to those at the head */
  #waiting: LoggedEvent[] = []
  /** the last position that was sent to those at the head */
  #head = 0
  #timer: NodeJS.Timeout | undefined
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
    const left = new AbortController()
    this.#readers.add(reader)
    outgoing.on('close', () => {
      left.abort()
      leave()
      this.#readers.delete(reader)
      this.#atHead.delete(reader)
    })
    outgoing.on('error', () => outgoing.destroy())
    outgoing.on('drain', () => {
      if (reader.drained()) void this.#supply(reader)
    })
    reader.begin()
    this.#flush()
    try {
      await this.#place(reader, request, bounds, left.signal)
      void this.#supply(reader)
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

  /** Puts a new reader where it begins, and tells it of what is gone. */
  async #place(
    reader: FeedReader,
    { types, lastEventId, last = 0, follow }: FeedRequest,
    bounds: { first: number; last: number },
    left: AbortSignal,
  ): Promise<void> {
    if (lastEventId === undefined) reader.position = await this.#log.back(last, types, left)
    else {
      const read = parseResumeId(lastEventId)
      const same = read && (await this.#log.sameUpTo(read.name))
      reader.position = same === undefined ? bounds.first - 1 : Math.min(read!.position, same, bounds.last)
      if (same === undefined || read!.position > same) reader.gap(null)
    }
    if (!follow) reader.until = bounds.last
    reader.tellPosition()
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
    this.#head = rows.at(-1)!.position
    const batches = new Map<string, { bytes: Buffer; count: number }>()
    for (const reader of this.#atHead) {
      if (!reader.writable) {
        this.#atHead.delete(reader)
        continue
      }
      let batch = batches.get(reader.filter)
      if (!batch) {
        const wanted = rows.filter((row) => reader.wants(row.event.type))
        const bytes = Buffer.from(wanted.map((row) => eventMessage(this.#log.name, row)).join(''))
        batch = { bytes, count: wanted.length }
        batches.set(reader.filter, batch)
      }
      reader.position = this.#head
      if (batch.count === 0) continue
      this.#delivered += batch.count
      if (!reader.write(batch.bytes)) this.#atHead.delete(reader)
    }
  }

  /** Sends from the log what the reader lacks, as far as its socket takes it; at the head it joins the others. */
  async #supply(reader: FeedReader): Promise<void> {
    if (reader.supplying) return
    reader.supplying = true
    try {
      while (reader.writable) {
        if (reader.position >= reader.until) return reader.end()
        if (reader.position === this.#head) return void this.#atHead.add(reader)
        await this.#page(reader, Math.min(this.#head, reader.until))
        await turn()
      }
    } catch {
      reader.cut()
    } finally {
      reader.supplying = false
    }
  }

  async #page(reader: FeedReader, upTo: number): Promise<void> {
    const rows = await this.#log.read(reader.position, PAGE)
    if (rows[0]?.position !== reader.position + 1) {
      const first = Math.min(upTo + 1, (await this.#log.bounds()).first)
      if (reader.position < first - 1) reader.gap(first - 1 - reader.position)
      reader.position = Math.max(reader.position, first - 1)
    }
    this.#delivered += reader.take(rows.filter(({ position }) => position <= upTo))
    if (rows.length === 0) reader.position = upTo
  }
}
