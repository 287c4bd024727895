import type { EventDraft } from '../../common/events/event.ts'
import { isEndState, type TransferBody } from '../../common/schemas.ts'

/** What others hear of a transfer that has begun or ended; its providers, steps and notes are the user's own. */
export function transferDraft(transfer: TransferBody): EventDraft {
  const { transfer: number, direction, mode, file, id, size, state, bytes, seconds, error } = transfer
  const data = { transfer: number, direction, mode, file, id, size }
  if (!isEndState(state)) return { type: 'transfer.started', data }
  if (state === 'done' || state === 'simulated')
    return { type: 'transfer.completed', data: { ...data, bytes, seconds } }
  const { code, message } = error ?? { code: 'cancelled', message: 'cancelled' }
  return { type: 'transfer.failed', data: { ...data, error: { code, message: message.slice(0, 2000) } } }
}
