import type { Clock } from '../../common/clock.ts'
import type { TransferBody } from '../../common/schemas.ts'
import type { Transfer } from './transfer.ts'

/**
 * All transfers as they are, then each that changed since it was last seen, no more often than `intervalMs`, until the
 * signal aborts. What happens between two looks is seen as one change, so that a slow reader costs no memory.
 */
export async function* watchAll(
  transfers: () => Iterable<Transfer>,
  { clock, intervalMs }: { clock: Clock; intervalMs: number },
  signal: AbortSignal,
): AsyncGenerator<TransferBody, undefined> {
  let seen = new Map<Transfer, number>()
  while (!signal.aborted) {
    const now = new Map<Transfer, number>()
    for (const transfer of [...transfers()]) {
      const { version } = transfer
      now.set(transfer, version)
      if (seen.get(transfer) !== version) yield transfer.snapshot()
      if (signal.aborted) return
    }
    seen = now
    await clock.sleep(intervalMs, signal)
  }
}
