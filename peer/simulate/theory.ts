/** What the literature expects of a ring, to stand beside what is measured. */

/** Mean path with fingers alone. Source: Stoica et al., IEEE/ACM ToN 11(1), 2003, section VI-C. */
export function pathOfFingers(members: number): number {
  return 0.5 * Math.log2(members)
}

/** Mean path where each member knows `successors`, which make the last steps needless: one of them is the step to the owner. Source: the same, VI-D. */
export function pathWithSuccessors(members: number, successors: number): number {
  return Math.max(0, pathOfFingers(members) - 0.5 * Math.log2(Math.min(successors, members)) + 1)
}

/**
 * Mean timeouts of a lookup that begins without memory, where a share of all members is silent: of each member on the
 * path the best pointer is silent with that probability, the next best likewise (a geometric series), where there are
 * enough pointers in the same direction.
 */
export function timeoutsExpected(path: number, silent: number): number {
  return silent >= 1 ? Number.POSITIVE_INFINITY : (path * silent) / (1 - silent)
}
