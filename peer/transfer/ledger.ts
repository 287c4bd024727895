import { randomInt } from 'node:crypto'
import type { ContentId } from '../../common/ids.ts'
import { pieceCount } from '../../common/merkle.ts'
import type { Contact } from './source.ts'

/** A conversation as the others about the same content see it. */
export interface Taker {
  /** where it serves what it has; undefined where it doesn't */
  readonly contact: Contact | undefined
  /** Others that take the content, too. */
  meet(others: readonly Contact[]): void
  /** One of them takes it no more. */
  part(other: Contact): void
}

/** What a provider remembers of one content while somebody takes it. */
export class ContentLedger {
  /** how often each piece was sent, or is being sent */
  readonly #sent: Uint16Array
  /** 1 for what has left in full at least once */
  readonly #whole: Uint8Array
  readonly #takers = new Set<Taker>()
  #sentOnce = 0
  /** payload bytes that left */
  bytes = 0

  constructor(pieces: number) {
    this.#sent = new Uint16Array(pieces)
    this.#whole = new Uint8Array(pieces)
  }

  get takers(): number {
    return this.#takers.size
  }

  get pieces(): number {
    return this.#sent.length
  }

  /** Pieces that have left in full at least once. */
  get sentOnce(): number {
    return this.#sentOnce
  }

  /**
   * Of the pieces that a taker wants (1 in `wanted`), one that was sent least often: the next such one from `cursor` on.
   * Undefined where none may be sent.
   */
  choose(wanted: Uint8Array, cursor: number, has: (piece: number) => boolean): number | undefined {
    let best: number | undefined
    let fewest = Number.POSITIVE_INFINITY
    const among = (from: number, to: number) => {
      for (let piece = from; piece < to && fewest > 0; piece++) {
        if (wanted[piece] === 0) {
          // What is not wanted is passed over at the speed of memory: there may be 262,144 pieces, and one wanted.
          const next = wanted.indexOf(1, piece + 1)
          if (next < 0 || next >= to) return
          piece = next
        }
        if (this.#sent[piece]! >= fewest || !has(piece)) continue
        best = piece
        fewest = this.#sent[piece]!
      }
    }
    among(cursor, this.#sent.length)
    among(0, cursor)
    return best
  }

  begin(piece: number): void {
    if (this.#sent[piece]! < 0xffff) this.#sent[piece]!++
  }

  /** It was not sent to its end. */
  abandon(piece: number): void {
    if (this.#sent[piece]! > 0) this.#sent[piece]!--
  }

  finish(piece: number): void {
    if (this.#whole[piece] === 1) return
    this.#whole[piece] = 1
    this.#sentOnce++
  }

  /** Where a new conversation begins among pieces that were sent equally often: the first one at the start. */
  firstCursor(): number {
    return this.#takers.size <= 1 || this.#sent.length === 0 ? 0 : randomInt(this.#sent.length)
  }

  contacts(): Contact[] {
    return [...this.#takers].flatMap(({ contact }) => contact ?? [])
  }

  join(taker: Taker): void {
    const { contact } = taker
    const others = this.contacts()
    this.#takers.add(taker)
    if (!contact) return
    if (others.length > 0) taker.meet(someOf(others, MAX_MET))
    for (const other of this.#takers) if (other !== taker) other.meet([contact])
  }

  leave(taker: Taker): void {
    const { contact } = taker
    if (!this.#takers.delete(taker) || !contact) return
    for (const other of this.#takers) other.part(contact)
  }
}

/** Takers that a new one is told of at most. */
const MAX_MET = 50
/** Contents remembered that nobody takes at the moment. */
const MAX_REMEMBERED = 64

/** The ledgers of all contents, by content id. */
export class Ledgers {
  readonly #ledgers = new Map<ContentId, ContentLedger>()

  of(manifest: { id: ContentId; size: number; pieceSize: number }): ContentLedger {
    const ledger = this.#ledgers.get(manifest.id) ?? new ContentLedger(pieceCount(manifest.size, manifest.pieceSize))
    // The least recently used come first.
    this.#ledgers.delete(manifest.id)
    this.#ledgers.set(manifest.id, ledger)
    this.#forget()
    return ledger
  }

  find(id: ContentId): ContentLedger | undefined {
    return this.#ledgers.get(id)
  }

  /** Those of late, the latest last. */
  list(): { id: ContentId; ledger: ContentLedger }[] {
    return [...this.#ledgers].map(([id, ledger]) => ({ id, ledger }))
  }

  #forget(): void {
    let excess = this.#ledgers.size - MAX_REMEMBERED
    for (const [id, { takers }] of this.#ledgers) {
      if (excess <= 0) return
      if (takers > 0) continue
      this.#ledgers.delete(id)
      excess--
    }
  }
}

function someOf<T>(all: T[], most: number): T[] {
  for (let i = 0; i < Math.min(most, all.length); i++) {
    const j = randomInt(i, all.length)
    ;[all[i], all[j]] = [all[j]!, all[i]!]
  }
  return all.slice(0, most)
}
