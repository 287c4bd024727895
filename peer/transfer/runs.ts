/** A set of pieces as runs: first, count, first, count, …, ascending. How sets travel. */
export type Runs = readonly number[]

/** @param pieces ascending, once each */
export function runsOf(pieces: Iterable<number>): number[] {
  const runs: number[] = []
  let next = -1
  for (const piece of pieces) {
    if (piece === next) runs[runs.length - 1]!++
    else runs.push(piece, 1)
    next = piece + 1
  }
  return runs
}

/** The pieces of runs that were checked. */
export function* piecesOf(runs: Runs): Generator<number> {
  for (let i = 0; i + 1 < runs.length; i += 2)
    for (let piece = runs[i]!; piece < runs[i]! + runs[i + 1]!; piece++) yield piece
}

/** How many pieces these are. */
export function lengthOf(runs: Runs): number {
  let sum = 0
  for (let i = 1; i < runs.length; i += 2) sum += runs[i]!
  return sum
}

/** Whether a stranger's runs are ascending and within `count` pieces. */
export function areRuns(runs: Runs, count: number): boolean {
  if (runs.length % 2 !== 0) return false
  let end = 0
  for (let i = 0; i < runs.length; i += 2) {
    const [first, length] = [runs[i]!, runs[i + 1]!]
    if (first < end || length < 1 || first + length > count) return false
    end = first + length
  }
  return true
}
