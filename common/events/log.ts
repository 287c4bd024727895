import type { EventDraft, EventType, NetworkEvent } from './event.ts'

/** An event in a log. */
export interface LoggedEvent {
  /** where it is in this log: 1 and more, growing, with gaps perhaps; a log of its own for each process */
  readonly position: number
  readonly type: EventType
  /** parsed when it is asked for */
  readonly event: NetworkEvent
  /** the event as JSON, on one line */
  readonly text: string
}

/**
 * The events that a process has heard of, its own included, each once, in the order in which it heard of them. Whatever
 * is done because of an event is done by a reader of the log, which remembers in it how far it got: so it survives a
 * killed process, and a second delivery does nothing. Old events are dropped.
 */
export interface EventLog {
  /** this opening of this log and no other; positions under another name mean nothing here, but for `sameUpTo` */
  readonly name: string
  /** whose events are published here */
  readonly origin: string

  /** Gives own events their id and number, and keeps them; durable when it resolves. They are `unsent` from then on. */
  publish(drafts: readonly EventDraft[]): Promise<readonly NetworkEvent[]>
  /**
   * Keeps those that it has not seen; durable when it resolves. `resume`, where given, is kept in the same step.
   * @returns how many were new
   */
  keep(events: readonly NetworkEvent[], resume?: string): Promise<number>
  /** What was given to `keep` last: where the source of its events goes on. */
  resume(): Promise<string | undefined>

  /** Those after a position, in order; where `types` are given, one at least, those of them. */
  read(after: number, limit: number, types?: ReadonlySet<EventType>): Promise<readonly LoggedEvent[]>
  /** The positions of the first and the last event that are kept; `first` is `last + 1` where there is none. */
  bounds(): Promise<{ first: number; last: number }>
  /** Up to which position the log of that name is this one; undefined where it is another. */
  sameUpTo(name: string): Promise<number | undefined>
  /** The position after which `count` events follow up to `last`, of `types` where given, as far as there are so many. */
  back(last: number, count: number, types?: ReadonlySet<EventType>): Promise<number>
  /** Calls back after each commit with what it brought, in order. @returns how to stop listening */
  onAppend(listener: (rows: readonly LoggedEvent[]) => void): () => void

  /** How far a reader of that name got; undefined where it has never read. */
  cursor(reader: string): Promise<number | undefined>
  moveCursor(reader: string, position: number): Promise<void>

  /** Own events that nobody else has acknowledged yet, oldest first. */
  unsent(limit: number): Promise<readonly NetworkEvent[]>
  /** Others have them. */
  sent(ids: readonly string[]): Promise<void>
  /** How many are unsent, and how many were dropped unsent since the log was made because there were too many. */
  backlog(): Promise<{ unsent: number; dropped: number }>

  /** Drops what is too old or too much. Call it now and then. */
  sweep(): Promise<void>
  close(): Promise<void>
}
