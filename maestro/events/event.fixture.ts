import type { EventDraft, NetworkEvent } from '../../common/events/event.ts'

export const CONTENT = 'a'.repeat(64)

/** An event as its origin makes it. */
export function eventOf(origin: string, seq: number, draft: EventDraft = added(`${seq}.txt`, seq)): NetworkEvent {
  return { v: 1, id: `${origin}-run.${seq}`, origin, seq, time: '2026-01-01T00:00:00.000Z', ...draft } as NetworkEvent
}

/** A file that is added between two revisions. */
export function added(name: string, from: number, to = from + 1, part?: number): EventDraft {
  return draft('file.added', { name, id: CONTENT, size: 1, revision: { from, to, ...(part ? { part } : {}) } })
}

export function removed(name: string, from: number, to = from + 1, part?: number): EventDraft {
  return draft('file.removed', { name, revision: { from, to, ...(part ? { part } : {}) } })
}

export function renamed(was: string, name: string, from: number, to = from + 1): EventDraft {
  return draft('file.renamed', { name, id: CONTENT, size: 1, from: was, revision: { from, to } })
}

/** Of any form, also of a wrong one. */
export function draft(type: string, data: Record<string, unknown>): EventDraft {
  return { type, data } as EventDraft
}
