import type { LookupStep } from '../../common/schemas.ts'

/** What the steps of a lookup tell together. */

/** Whether this step asked someone who gave no answer. */
export function isDown({ outcome }: LookupStep): boolean {
  return outcome === 'unreachable' || outcome === 'timeout'
}

/** Whether this step asked nobody but this peer itself. */
export function isLocal({ strategy }: LookupStep): boolean {
  return strategy === 'local'
}

/** Whether nobody but this peer could be asked, so that "nothing found" is no knowledge. */
export function noneAnswered(steps: readonly LookupStep[]): boolean {
  const asked = steps.filter((step) => !isLocal(step))
  return asked.length > 0 && asked.every(isDown)
}
