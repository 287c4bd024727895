import type { PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { FloodQuery } from './protocol.ts'

/** Links. Over a shorter way a query tells nothing about which links are detours. */
const WIDE = 7
/** Links remembered beyond those that there are: they come and go. */
const MAX_LINKS = 1000
const MAX_OFFENCES = 3
const IGNORED_MS = 600_000

/**
 * Which links are no detour. A link over which a query came a second time is pruned, at both ends; one over which it came
 * first is part of the tree again. So a query over the tree's links reaches all with hardly any duplicates. Source:
 * Leitão, Pereira, Rodrigues, "Epidemic broadcast trees" (Plumtree), SRDS 2007; what it calls lazy push is here the wider
 * round of the search, which repairs the tree.
 *
 * Links of neighbours that break the rules are ignored for a while.
 */
export class Tree {
  readonly #now: () => number
  readonly #pruned = new Set<PeerId>()
  readonly #offences = new Map<PeerId, number>()
  readonly #ignoredUntil = new Map<PeerId, number>()

  /** @param now ms */
  constructor(now: () => number) {
    this.#now = now
  }

  has(peer: PeerId): boolean {
    return !this.#pruned.has(peer)
  }

  prune(peer: PeerId): void {
    this.#pruned.add(peer)
    forgetOldest(this.#pruned)
  }

  graft(peer: PeerId): void {
    this.#pruned.delete(peer)
  }

  /** Of these links, those over which a query is passed on. */
  open<T extends PeerContact>(links: readonly T[], scope: FloodQuery['scope']): T[] {
    return links.filter(({ peer }) => !this.#isIgnored(peer) && (scope === 'all' || this.has(peer)))
  }

  /** It sent what it must not: after the third time its link is not used for 10 min. */
  offended(peer: PeerId): void {
    const offences = (this.#offences.get(peer) ?? 0) + 1
    this.#offences.set(peer, offences % MAX_OFFENCES)
    forgetOldest(this.#offences)
    if (offences < MAX_OFFENCES) return
    this.#ignoredUntil.set(peer, this.#now() + IGNORED_MS)
    forgetOldest(this.#ignoredUntil)
  }

  #isIgnored(peer: PeerId): boolean {
    return (this.#ignoredUntil.get(peer) ?? Number.NEGATIVE_INFINITY) > this.#now()
  }
}

/** Whether it tells of a link, by how a query comes over it, that it is a detour or that it is none. */
export function shapesTree({ scope, hops, ttl }: FloodQuery): boolean {
  return scope === 'tree' || hops + ttl >= WIDE
}

function forgetOldest(peers: Set<PeerId> | Map<PeerId, unknown>): void {
  const [oldest] = peers.keys()
  if (peers.size > MAX_LINKS && oldest !== undefined) peers.delete(oldest)
}
