/** Between attempts, ms: the first pause, doubled with each failure in a row, up to the longest. */
export interface Backoff {
  readonly first: number
  readonly longest: number
}

/** How long to wait after a failure. @param before failures in a row before this one */
export function backoff({ first, longest }: Backoff, before: number): number {
  return Math.min(longest, first * 2 ** Math.min(before, 40))
}
