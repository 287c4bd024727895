import type { Population } from './population.ts'

export interface IdleResults {
  readonly peers: number
  /** messages that a peer sends, each call and each answer counted as one, a second */
  readonly perSecond: number
  /** calls by verb, a peer and second */
  readonly calls: Readonly<Record<string, number>>
}

/** What maintenance costs where nothing happens: measured for `ms`, once it has run for `warmMs`. */
export async function idle(
  population: Population,
  { warmMs, ms }: { warmMs: number; ms: number },
): Promise<IdleResults> {
  const { clock, network } = population
  population.maintain()
  await clock.runUntil(clock.now() + warmMs)
  network.resetTraffic()
  await clock.runUntil(clock.now() + ms)
  const { messages, calls } = network.traffic
  const rate = (count: number) => count / population.members.length / (ms / 1000)
  return {
    peers: population.members.length,
    perSecond: rate(messages),
    calls: Object.fromEntries(Object.entries(calls).map(([verb, count]) => [verb, rate(count)])),
  }
}
