/** Bytes a second that a host sends and receives at best. */
export interface HostRates {
  up: number
  down: number
}

export interface Distribution {
  /** bytes of the file */
  size: number
  /** bytes a second that the seeder sends at best */
  seederUp: number
  takers: readonly HostRates[]
}

/**
 * The least seconds in which a file can reach all takers when each feeds the others: max{F/u_s, F/d_min, N·F/(u_s+Σu_i)}.
 * The seeder must send every byte once, the slowest taker must receive all of them, and N copies must be sent by
 * someone. Kurose and Ross, "Computer Networking: A Top-Down Approach", section 2.5 (peer-to-peer file distribution).
 * 0 without takers.
 */
export function kuroseRoss({ size, seederUp, takers }: Distribution): number {
  if (takers.length === 0 || size === 0) return 0
  const slowest = Math.min(...takers.map(({ down }) => down))
  const together = takers.reduce((sum, { up }) => sum + up, seederUp)
  return Math.max(size / seederUp, size / slowest, (takers.length * size) / together)
}
