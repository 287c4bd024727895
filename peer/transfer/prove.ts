import { setImmediate } from 'node:timers/promises'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import { type Manifest, provingManifest } from '../../common/merkle.ts'
import { Slots } from './slots.ts'
import type { ManifestClaim } from './source.ts'

/** Proofs of many steps go one at a time, so that all of them together take one step between other work. */
const turns = new Slots(1)

/**
 * A manifest from a stranger, proven against the content id, while other work goes on.
 * @throws NetworkError `corrupt` where it does not lead to `id`, or its numbers can't be; `cancelled`
 */
export async function prove(id: ContentId, claim: ManifestClaim, signal: AbortSignal): Promise<Manifest> {
  const steps = provingManifest(id, claim)
  let step = steps.next()
  if (step.done) return step.value
  const turn = await turns.acquire(signal)
  try {
    while (!step.done) {
      await setImmediate()
      if (signal.aborted) throw new NetworkError('cancelled', 'cancelled')
      step = steps.next()
    }
    return step.value
  } finally {
    turn.release()
  }
}
