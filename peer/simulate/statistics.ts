/** A distribution in short. */
export interface Distribution {
  readonly mean: number
  /** the 1st and the 99th percentile */
  readonly p1: number
  readonly p99: number
  readonly max: number
  /** how often each whole number came, from 0 on */
  readonly counts: readonly number[]
}

/** Of whole numbers, 0 and more. */
export function distributionOf(values: readonly number[]): Distribution {
  const sorted = [...values].sort((a, b) => a - b)
  const max = sorted.at(-1) ?? 0
  const counts = new Array<number>(max + 1).fill(0)
  for (const value of sorted) counts[value]!++
  return { mean: mean(sorted), p1: percentile(sorted, 0.01), p99: percentile(sorted, 0.99), max, counts }
}

/** 0 of none. */
export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length
}

function percentile(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? 0
}
