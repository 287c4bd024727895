import type { ServerResponse } from 'node:http'
import type { Clock } from '../clock.ts'
import type { EventType } from './event.ts'
import type { LoggedEvent } from './log.ts'
import { eventMessage, namedMessage, positionMessage } from './sse.ts'

/** Of a log, what is written at a time to one that is behind, bytes. */
const PORTION = 32 * 1024

/** One that reads the events of a feed. */
export class FeedReader {
  readonly #outgoing: ServerResponse
  readonly #name: string
  readonly #clock: Clock
  /** what waits for room, the latest of each name */
  readonly #hints = new Map<string, unknown>()
  /** the position that its client knows */
  #told = 0
  #ended = false
  /** undefined: all */
  readonly types: ReadonlySet<EventType> | undefined
  /** the same for all that want the same types */
  readonly filter: string
  /** it has been sent what it wants of everything up to there */
  position = 0
  /** it ends there, where it does not follow */
  until: number | undefined
  /** so many of the past that it wants are before its position */
  lacking = 0
  /** since when its socket is full, ms */
  blockedSince: number | undefined
  lastWrite: number

  constructor(
    outgoing: ServerResponse,
    name: string,
    options: { types?: ReadonlySet<EventType> | undefined },
    clock: Clock,
  ) {
    this.#outgoing = outgoing
    this.#name = name
    this.types = options.types
    this.#clock = clock
    this.filter = options.types ? [...options.types].sort().join() : '*'
    this.lastWrite = clock.now()
  }

  /** Nothing more is sent to it. */
  get gone(): boolean {
    return this.#ended || this.#outgoing.destroyed
  }

  get writable(): boolean {
    return this.blockedSince === undefined && !this.gone
  }

  wants(type: EventType): boolean {
    return this.types?.has(type) ?? true
  }

  /** The head of the answer, at once. */
  begin(): void {
    this.#outgoing.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-accel-buffering': 'no',
    })
    this.write(': events\n\n')
  }

  /** @returns whether there is room for more */
  write(bytes: Buffer | string): boolean {
    if (this.gone) return false
    this.lastWrite = this.#clock.now()
    if (!this.#outgoing.write(bytes)) this.blockedSince ??= this.lastWrite
    return this.blockedSince === undefined
  }

  /** Its socket took everything. @returns whether there is still room now */
  drained(): boolean {
    this.blockedSince = undefined
    for (const [event, data] of this.#hints) {
      this.#hints.delete(event)
      if (!this.write(namedMessage(event, data))) return false
    }
    return true
  }

  /** Sends as many of `rows`, which it wants, as are a portion. @returns how many it sent */
  take(rows: readonly LoggedEvent[]): number {
    const messages: string[] = []
    let length = 0
    for (const row of rows) {
      if (length >= PORTION) break
      this.position = row.position
      const message = eventMessage(this.#name, row)
      messages.push(message)
      length += message.length
    }
    if (messages.length > 0) this.write(messages.join(''))
    return messages.length
  }

  /** Tells it that events were dropped which it has not seen; null: nobody knows how many. */
  gap(lost: number | null): void {
    this.write(namedMessage('gap', { lost }))
  }

  /** A message beside the events; where there is no room, the latest of that name is sent when there is. */
  hint(event: string, data: unknown): void {
    if (this.writable) this.write(namedMessage(event, data))
    else this.#hints.set(event, data)
  }

  tellPosition(): void {
    this.#told = this.position
    this.write(positionMessage(this.#name, this.position))
  }

  keepAlive(): void {
    if (this.lacking === 0 && this.position > this.#told) this.tellPosition()
    else this.write(': nothing new\n\n')
  }

  end(): void {
    this.#ended = true
    this.#outgoing.end()
  }

  cut(): void {
    this.#outgoing.destroy()
  }
}
