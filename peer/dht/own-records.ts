import type { Clock } from '../../common/clock.ts'
import type { RecordStore } from './record-store.ts'
import type { Member } from './ring.ts'
import type { Message } from './word-messages.ts'

/** Records that are kept before a pause: about 1 ms. */
const SLICE = 100

/** What this member keeps itself of what it says in the ring. */
export class OwnRecords {
  readonly #deps: { readonly own: Pick<RecordStore, 'store' | 'withdraw'>; readonly clock: Clock }
  #last: Promise<unknown> = Promise.resolve()

  constructor(deps: { own: Pick<RecordStore, 'store' | 'withdraw'>; clock: Clock }) {
    this.#deps = deps
  }

  /**
   * One message after the other: several by turns would use up each other's pauses.
   * @returns how many of its records are kept
   */
  keep(message: Pick<Message, 'records' | 'withdraw'>, self: Member): Promise<number> {
    const kept = this.#last.then(() => this.#keep(message, self))
    this.#last = kept.catch(() => {})
    return kept
  }

  async #keep({ records, withdraw }: Pick<Message, 'records' | 'withdraw'>, self: Member): Promise<number> {
    const { own, clock } = this.#deps
    let kept = 0
    for (let at = 0; at < Math.max(records.length, withdraw.length); at += SLICE) {
      own.withdraw(withdraw.slice(at, at + SLICE), self)
      kept += own.store(records.slice(at, at + SLICE), self)
      await clock.sleep(0)
    }
    return kept
  }
}
