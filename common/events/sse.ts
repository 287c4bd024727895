import type { LoggedEvent } from './log.ts'

/** Server-sent events of the HTML standard, as they are written. */

/** Where a reader of the log `name` goes on that has read up to a position. */
export function resumeId(name: string, position: number): string {
  return `${name}-${position}`
}

/** What `resumeId` made; undefined where it is of no such form. */
export function parseResumeId(text: string): { name: string; position: number } | undefined {
  const match = /^(.{1,64})-(0|[1-9]\d{0,14})$/.exec(text)
  return match ? { name: match[1]!, position: Number(match[2]) } : undefined
}

export function eventMessage(name: string, row: LoggedEvent): string {
  return `id: ${resumeId(name, row.position)}\nevent: ${row.type}\ndata: ${row.text}\n\n`
}

/** Tells how far a reader got, without an event. */
export function positionMessage(name: string, position: number): string {
  return `id: ${resumeId(name, position)}\n\n`
}

/** A message beside the events: no reader goes on after it. */
export function namedMessage(event: string, data: unknown): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`
}
