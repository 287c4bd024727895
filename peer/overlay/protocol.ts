import type { PeerContact } from '../contact.ts'

/** How peers tell each other of peers. */

export interface Acquaintance {
  readonly contact: PeerContact
  /** ms since it was last heard to be alive by the one who tells; never more than a day */
  readonly ageMs: number
}

export interface Introduction {
  /** the one that answers */
  readonly self: PeerContact
  readonly peers: readonly Acquaintance[]
}

export interface OverlayNetwork {
  /**
   * Introduces this peer to one at an address, with some peers that it knows, and is answered likewise.
   * @param linked whether this peer would have the other as its neighbour in the unstructured network
   * @throws NetworkError `unavailable`; `limited`
   */
  exchange(
    to: Pick<PeerContact, 'host' | 'grpcPort'>,
    peers: readonly Acquaintance[],
    linked: boolean,
    signal: AbortSignal,
  ): Promise<Introduction>
}

export interface OverlayHandlers {
  /**
   * @param from told its own contact: an address to be tried, not trusted
   * @param seen the host that its call came from
   */
  onExchange(from: PeerContact, peers: readonly Acquaintance[], linked: boolean, seen: string): Introduction
}

/** Peers told of in one message. */
export const MAX_TOLD = 32

/** Whom this peer knows, as the ring and floods see it. */
export interface KnownPeers {
  /** some that are believed to be alive, at random */
  alive(most: number): PeerContact[]
  /** some that were alive once and do not answer at present, those not tried for longest first */
  lost(most: number): PeerContact[]
  /** it answered just now, as that peer */
  seen(contact: PeerContact): void
  /** it did not answer */
  missed(contact: PeerContact): void
}
