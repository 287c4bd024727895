import type { LoggedEvent } from './log.ts'

/** Server-sent events of the HTML standard, as they are written. */

/** Where a reader of the log `name` goes on that has read up to a position. */
export function resumeId(name: string, position: number): string {
  return `${name}-${position}`
}

/** The position that `text` stands for in the log `name`; undefined where it is of another log, or none at all. */
export function positionOf(text: string, name: string): number | undefined {
  const match = /^(.{1,64})-(0|[1-9]\d{0,14})$/.exec(text)
  return match?.[1] === name ? Number(match[2]) : undefined
}

export function eventMessage(name: string, row: LoggedEvent): string {
  return `id: ${resumeId(name, row.position)}\nevent: ${row.event.type}\ndata: ${row.text}\n\n`
}

/** Tells how far a reader got, without an event. */
export function positionMessage(name: string, position: number): string {
  return `id: ${resumeId(name, position)}\n\n`
}

/** A message beside the events: no reader goes on after it. */
export function namedMessage(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
