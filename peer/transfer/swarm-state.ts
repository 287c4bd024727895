import type { PeerId } from '../../common/ids.ts'
import { type Manifest, pieceCount } from '../../common/merkle.ts'

const MISSING = 0
const REQUESTED = 1
const VERIFIED = 2

/**
 * Which pieces of one content are missing, requested from whom, and verified. Synchronous, no I/O. Several providers may
 * hold reservations at once; which piece a provider gets next is decided in `reserve` alone.
 */
export class SwarmState {
  readonly manifest: Manifest
  #state: Uint8Array
  #owned = new Map<PeerId, Set<number>>()
  /** no piece below is missing */
  #lowest = 0
  #left: number

  /** @param missing indexes of the pieces that are not on disk yet */
  constructor(manifest: Manifest, missing: Iterable<number>) {
    this.manifest = manifest
    this.#state = new Uint8Array(pieceCount(manifest.size, manifest.pieceSize)).fill(VERIFIED)
    this.#left = 0
    for (const index of missing) {
      if (this.#state[index] === VERIFIED) this.#left++
      this.#state[index] = MISSING
    }
  }

  /** Every piece is verified. */
  get complete(): boolean {
    return this.#left === 0
  }

  /** Pieces not verified yet. */
  get left(): number {
    return this.#left
  }

  /** The next piece for this provider, the lowest that nobody was asked for; undefined where there is none. */
  reserve(peer: PeerId): number | undefined {
    while (this.#lowest < this.#state.length && this.#state[this.#lowest] !== MISSING) this.#lowest++
    if (this.#lowest === this.#state.length) return undefined
    const index = this.#lowest++
    this.#state[index] = REQUESTED
    const owned = this.#owned.get(peer)
    if (owned) owned.add(index)
    else this.#owned.set(peer, new Set([index]))
    return index
  }

  /** The piece came, was right and is on disk. */
  verified(peer: PeerId, index: number): void {
    if (this.#owned.get(peer)?.delete(index) !== true) return
    this.#state[index] = VERIFIED
    this.#left--
  }

  /** The piece came and was wrong: it is missing again. */
  failed(peer: PeerId, index: number): void {
    if (this.#owned.get(peer)?.delete(index) === true) this.#release(index)
  }

  /** The provider is gone: what it was asked for is missing again. */
  dropPeer(peer: PeerId): void {
    for (const index of this.#owned.get(peer) ?? []) this.#release(index)
    this.#owned.delete(peer)
  }

  #release(index: number): void {
    this.#state[index] = MISSING
    this.#lowest = Math.min(this.#lowest, index)
  }
}
