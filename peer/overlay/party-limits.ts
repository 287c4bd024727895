import { isLoopback, oneParty } from '../../common/address.ts'
import type { PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'

/** Questions at one machine that nobody answers, before no further one is asked there. */
const MAX_IN_VAIN = 16

/** Bounds what one lookup asks of strangers on the word of others: a liar could name somebody's machine a thousand times. */
export class UnansweredLimit {
  readonly #inVain = new Map<string, number>()

  /** Whether this one may be asked; it counts as asked in vain until it has answered, whatever. */
  begin({ host, peer }: PeerContact): boolean {
    const party = askedBy(host, peer)
    const inVain = this.#inVain.get(party) ?? 0
    if (inVain >= MAX_IN_VAIN) return false
    this.#inVain.set(party, inVain + 1)
    return true
  }

  answered({ host, peer }: PeerContact): void {
    const party = askedBy(host, peer)
    this.#inVain.set(party, (this.#inVain.get(party) ?? 1) - 1)
  }
}

/** Under what an asking peer is counted: its machine; on loopback, where labs run many agents, by the id that it gives. */
export function askedBy(host: string, peer: PeerId | undefined): string {
  return isLoopback(host) ? `${host} ${peer ?? ''}` : oneParty(host)
}
