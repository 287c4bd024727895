import type { PeerId } from '../../common/ids.ts'
import { type Random, sample } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import type { KnownPeers } from '../overlay/protocol.ts'

/**
 * Whom a simulated peer knows: so many at most, the first of them by chance. It stands for `PeerBook`, which holds more and
 * is more careful, where ten thousand peers have one each.
 */
export class Acquaintances implements KnownPeers {
  readonly #random: Random
  readonly #most: number
  readonly #alive = new Map<PeerId, PeerContact>()
  /** those not tried for longest first */
  readonly #lost = new Map<PeerId, PeerContact>()

  constructor(random: Random, most: number) {
    this.#random = random
    this.#most = most
  }

  alive(most: number): PeerContact[] {
    return sample(this.#alive.values(), most, this.#random)
  }

  lost(most: number): PeerContact[] {
    const lost: PeerContact[] = []
    for (const contact of this.#lost.values()) if (lost.push(contact) >= most) break
    return lost.slice(0, most)
  }

  seen(contact: PeerContact): void {
    if (this.#lost.delete(contact.peer) || this.#alive.has(contact.peer) || this.#alive.size < this.#most)
      this.#alive.set(contact.peer, contact)
  }

  missed(contact: PeerContact): void {
    if (!this.#alive.delete(contact.peer) && !this.#lost.delete(contact.peer)) return
    this.#lost.set(contact.peer, contact)
    for (const peer of this.#lost.keys()) if (this.#lost.size > this.#most) this.#lost.delete(peer)
  }
}

/** Nobody: of a lookup that shall leave no trace. */
export const NOBODY: KnownPeers = { alive: () => [], lost: () => [], seen: () => {}, missed: () => {} }
