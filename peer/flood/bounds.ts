import type { FloodQuery } from './protocol.ts'

/** Links that a query may take, whoever asks for more. */
const MAX_HOPS = { all: 7, tree: 32 } as const
/** ms */
export const MAX_TIME_MS = 5000
/** Less time for each hop: what comes when the asking one has left is lost, ms. */
export const HOP_MS = 50
/** Links to which a peer passes a query on. */
export const MAX_FAN_OUT = 12
/** Peers that looked, or messages sent, that another one tells of, at most. */
const MAX_COUNT = 100_000
const QUERY_ID = /^[0-9a-f]{32}$/

/** The query as it is dealt with, and undefined where it has no id. */
export function bounded(query: FloodQuery): FloodQuery | undefined {
  if (!QUERY_ID.test(query.id)) return undefined
  const most = MAX_HOPS[query.scope]
  const hops = clamped(query.hops, 1, most)
  return { ...query, hops, ttl: clamped(query.ttl, 0, most - hops), timeMs: clamped(query.timeMs, 0, MAX_TIME_MS) }
}

export function boundedCount(count: number): number {
  return clamped(count, 0, MAX_COUNT)
}

/** A whole number from the network, brought between two. What is no number is the least. */
function clamped(number: number, least: number, most: number): number {
  return Number.isNaN(number) ? least : Math.floor(Math.max(least, Math.min(number, most)))
}
