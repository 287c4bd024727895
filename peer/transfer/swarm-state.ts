import { type Manifest, pieceCount } from '../../common/merkle.ts'
import type { Random } from '../../common/random.ts'
import { piecesOf, type Runs, runsOf } from './runs.ts'
import type { Want } from './source.ts'

/** What a provider sends in this time may be under way from it, ms; two pieces at least… */
const QUEUE_MS = 250
/** …and so many bytes at most. */
const MAX_QUEUE_BYTES = 16 * 1024 * 1024
/** Pieces that one provider with all of them is told of at a time, so that what it is told stays short. */
const MAX_POOL = 4096
/** A rate is measured over this long at least, ms. */
const RATE_SAMPLE_MS = 50
/** A provider that has sent all it may within this long is told at once what it may send next, ms. */
const URGENT_MS = 60
/** What a provider may begin may be on its way already: it is taken from it only if that saves this much, ms. */
const WORTH_MS = 300

export interface ProviderState {
  holds: number
  underWay: number
  begun: number
  next: number
  rate: number
  silentMs: number
}

/** One provider, as this taker sees it. */
interface Provider {
  readonly key: string
  /** 1 for a piece that it has */
  readonly held: Uint8Array
  holds: number
  /** told to it, and not begun: it chooses which of them comes next */
  readonly assigned: Set<number>
  /** begun, with the time at which */
  readonly begun: Map<number, number>
  /** pieces of those assigned that it may begin */
  credit: number
  /** bytes a second while something was under way; 0 until measured */
  rate: number
  sampleBytes: number
  sampleSince: number
  /** when it last sent something, or was first asked after it had nothing to send */
  progressAt: number
  readonly add: Set<number>
  readonly remove: Set<number>
  grant: number
}

/**
 * Which pieces of one content are missing, and from whom each of them is to come. Synchronous, no I/O.
 *
 * Every missing piece is with one provider at most, so that nothing comes twice. A provider that lacks some pieces is
 * given just as many as may be under way from it, the rarest first. A provider that has all of them is given the rest to
 * choose from: it knows which of them it has not sent to anybody. What such a provider has not begun may be taken back
 * for another at any time, and from anyone who is much slower than another that has nothing to do.
 */
export class SwarmState {
  readonly manifest: Manifest
  readonly #count: number
  readonly #random: Random
  readonly #providers = new Map<string, Provider>()
  /** 1 for what is verified */
  readonly #verified: Uint8Array
  /** with whom a missing piece is */
  readonly #owner: (Provider | undefined)[]
  /** connected providers that have a piece */
  readonly #availability: Uint16Array
  #left = 0
  #urgent = false

  /** @param missing indexes of the pieces that are not on disk yet */
  constructor(manifest: Manifest, missing: Iterable<number>, random: Random = Math.random) {
    this.manifest = manifest
    this.#count = pieceCount(manifest.size, manifest.pieceSize)
    this.#random = random
    this.#verified = new Uint8Array(this.#count).fill(1)
    this.#owner = new Array(this.#count).fill(undefined)
    this.#availability = new Uint16Array(this.#count)
    for (const piece of missing) {
      this.#left += this.#verified[piece]!
      this.#verified[piece] = 0
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

  /** Something is under way, or would be if no limit held it back. */
  get fetching(): boolean {
    for (const provider of this.#providers.values()) if (this.#underWay(provider) > 0) return true
    return false
  }

  /** A provider that has told of no piece yet. */
  add(key: string, now: number): void {
    this.#providers.set(key, {
      key,
      held: new Uint8Array(this.#count),
      holds: 0,
      assigned: new Set(),
      begun: new Map(),
      credit: 0,
      rate: 0,
      sampleBytes: 0,
      sampleSince: now,
      progressAt: now,
      add: new Set(),
      remove: new Set(),
      grant: 0,
    })
  }

  /** The provider has these pieces too. */
  has(key: string, pieces: Runs, now: number): void {
    const provider = this.#providers.get(key)
    if (!provider) return
    for (const piece of piecesOf(pieces)) {
      if (provider.held[piece] === 1) continue
      provider.held[piece] = 1
      provider.holds++
      this.#availability[piece]!++
    }
    if (this.#isFull(provider)) this.#share(provider)
    this.#refill(provider, now)
  }

  begun(key: string, piece: number, now: number): void {
    const provider = this.#providers.get(key)
    if (!provider) return
    provider.assigned.delete(piece)
    provider.begun.set(piece, now)
    provider.credit--
    provider.progressAt = now
    const owner = this.#owner[piece]
    if (this.#verified[piece] === 1) provider.remove.add(piece)
    else if (owner !== provider && !owner?.begun.has(piece)) {
      // It had been taken back too late: then it comes from here, and not from the other.
      if (owner) this.#takeBack(owner, piece)
      provider.remove.delete(piece)
      this.#owner[piece] = provider
    }
    this.#refill(provider, now)
  }

  /** So many bytes came from it. */
  bytes(key: string, bytes: number, now: number): void {
    const provider = this.#providers.get(key)
    if (!provider) return
    provider.progressAt = now
    provider.sampleBytes += bytes
    const ms = now - provider.sampleSince
    if (ms < RATE_SAMPLE_MS) return
    const rate = (provider.sampleBytes * 1000) / ms
    const weight = Math.min(1, ms / 1000)
    provider.rate = provider.rate === 0 ? rate : provider.rate + Math.max(0.1, weight) * (rate - provider.rate)
    provider.sampleBytes = 0
    provider.sampleSince = now
  }

  /**
   * The piece came, was right and is on disk; whoever else was to send it is told not to.
   * @returns false where it was here already: it came twice
   */
  verified(key: string, piece: number, now: number): boolean {
    const provider = this.#providers.get(key)
    provider?.begun.delete(piece)
    const fresh = this.#verified[piece] === 0
    if (fresh) {
      this.#verified[piece] = 1
      this.#left--
      this.#owner[piece] = undefined
      for (const other of this.#providers.values())
        if (other !== provider && (other.assigned.has(piece) || other.begun.has(piece))) this.#takeBack(other, piece)
    }
    if (provider) this.#refill(provider, now)
    return fresh
  }

  /** The piece came and was wrong, or was given up: it is missing again, unless another has it to send. */
  failed(key: string, piece: number, now: number): void {
    const provider = this.#providers.get(key)
    if (!provider?.begun.delete(piece)) return
    if (this.#owner[piece] === provider) this.#release(piece)
    this.#refillAll(now)
  }

  /** A piece that was here is not any more. */
  lost(piece: number, now: number): void {
    if (this.#verified[piece] === 0) return
    this.#verified[piece] = 0
    this.#left++
    this.#refillAll(now)
  }

  /** The provider is gone: what it was to send is missing again. */
  drop(key: string, now: number): void {
    const provider = this.#providers.get(key)
    if (!provider) return
    this.#providers.delete(key)
    for (const [piece, held] of provider.held.entries()) if (held === 1) this.#availability[piece]!--
    for (const piece of [...provider.assigned, ...provider.begun.keys()])
      if (this.#owner[piece] === provider) this.#release(piece)
    this.#refillAll(now)
  }

  /** Who has nothing to do may relieve who is slow. To be called now and then. */
  tick(now: number): void {
    this.#adopt()
    for (const provider of this.#providers.values()) if (this.#underWay(provider) === 0) this.#refill(provider, now)
  }

  /** Whether a provider may run out of things to send while it is not told what has changed. */
  get urgent(): boolean {
    return this.#urgent
  }

  /** What each provider is to be told since the last time. */
  *changes(): Generator<[key: string, want: Want]> {
    this.#urgent = false
    for (const provider of this.#providers.values()) {
      const { key, add, remove, grant } = provider
      if (add.size === 0 && remove.size === 0 && grant === 0) continue
      yield [key, { add: runsOfSet(add), remove: runsOfSet(remove), credit: grant }]
      add.clear()
      remove.clear()
      provider.grant = 0
    }
  }

  /**
   * Pieces that the provider has told of; those under way from it: begun, or `next` that it may begin; its rate in bytes
   * a second; ms since it sent anything.
   */
  report(key: string, now: number): ProviderState {
    const provider = this.#providers.get(key)
    if (!provider) return { holds: 0, underWay: 0, begun: 0, next: 0, rate: 0, silentMs: 0 }
    const underWay = this.#underWay(provider)
    return {
      holds: provider.holds,
      underWay,
      begun: provider.begun.size,
      next: underWay - provider.begun.size,
      rate: underWay === 0 ? 0 : provider.rate,
      silentMs: underWay === 0 ? 0 : now - provider.progressAt,
    }
  }

  #isFull({ holds }: Provider): boolean {
    return holds === this.#count
  }

  /** Pieces that it has begun, or may. */
  #underWay({ begun, credit, assigned }: Provider): number {
    return begun.size + Math.min(credit, assigned.size)
  }

  /** Pieces that may be under way from it. */
  #window({ rate }: Provider): number {
    const { pieceSize } = this.manifest
    const most = Math.max(2, Math.floor(MAX_QUEUE_BYTES / pieceSize))
    return Math.min(most, Math.max(2, 1 + Math.ceil((rate * QUEUE_MS) / 1000 / pieceSize)))
  }

  #refillAll(now: number): void {
    this.#adopt()
    for (const provider of this.#providers.values()) this.#refill(provider, now)
  }

  #refill(provider: Provider, now: number): void {
    if (this.#left === 0) return
    const idle = this.#underWay(provider) === 0
    const room = this.#window(provider) - provider.begun.size
    const wanted = room - provider.assigned.size
    if (wanted > 0) {
      if (this.#isFull(provider)) this.#fill(provider, room)
      else this.#pickRarest(provider, wanted)
      if (provider.assigned.size === 0 && provider.begun.size === 0) this.#relieve(provider, now)
    }
    const credit = Math.min(provider.assigned.size, room)
    if (credit > provider.credit) {
      const before = provider.begun.size + provider.credit
      if (before === 0 || before * this.manifest.pieceSize * 1000 < provider.rate * URGENT_MS) this.#urgent = true
      provider.grant += credit - provider.credit
      provider.credit = credit
    }
    if (idle && this.#underWay(provider) > 0) {
      // Time in which it had nothing to send says nothing about its rate.
      provider.progressAt = now
      provider.sampleSince = now
      provider.sampleBytes = 0
    }
  }

  /** For one that lacks pieces: the rarest that it has, also from those that others with all of them may choose from. */
  #pickRarest(provider: Provider, wanted: number): void {
    const { held } = provider
    const start = Math.floor(this.#random() * this.#count)
    // The rarest first; `wanted` is small, so that keeping them in order costs nothing.
    const rarest: number[] = []
    for (let i = 0; i < this.#count; i++) {
      const piece = start + i < this.#count ? start + i : start + i - this.#count
      if (held[piece] === 0 || this.#verified[piece] === 1) continue
      const rarity = this.#availability[piece]!
      if (rarest.length === wanted && rarity >= this.#availability[rarest.at(-1)!]!) continue
      const owner = this.#owner[piece]
      if (owner !== undefined && (owner === provider || !this.#mayGive(owner, piece))) continue
      let place = rarest.length
      while (place > 0 && this.#availability[rarest[place - 1]!]! > rarity) place--
      rarest.splice(place, 0, piece)
      if (rarest.length > wanted) rarest.pop()
    }
    for (const piece of rarest) {
      const owner = this.#owner[piece]
      if (owner === undefined || this.#mayGive(owner, piece)) this.#give(provider, piece)
    }
  }

  /** Whether a piece may be taken back from its owner for another: one that has all, and more than it may begin. */
  #mayGive(owner: Provider, piece: number): boolean {
    return this.#isFull(owner) && owner.assigned.size > owner.credit && owner.assigned.has(piece)
  }

  /** For one that has all pieces: those that are with nobody, else half of what another such one has not begun. */
  #fill(provider: Provider, room: number): void {
    this.#adopt()
    if (provider.assigned.size >= room) return
    let richest: Provider | undefined
    for (const other of this.#providers.values())
      if (other !== provider && this.#isFull(other) && (!richest || surplus(other) > surplus(richest))) richest = other
    if (!richest) return
    let take = Math.ceil(surplus(richest) / 2)
    for (const piece of richest.assigned) {
      if (take-- <= 0) return
      this.#give(provider, piece)
    }
  }

  /** What is with nobody goes to those that have all pieces. */
  #adopt(): void {
    const full = [...this.#providers.values()].filter((provider) => this.#isFull(provider))
    if (full.length === 0) return
    const start = Math.floor(this.#random() * this.#count)
    for (let i = 0; i < this.#count; i++) {
      const piece = start + i < this.#count ? start + i : start + i - this.#count
      if (this.#verified[piece] === 1 || this.#owner[piece] !== undefined) continue
      const best = full.reduce((a, b) => (score(piece, a.key) >= score(piece, b.key) ? a : b))
      if (best.assigned.size < MAX_POOL) this.#give(best, piece)
    }
  }

  /**
   * Another one that has all pieces: those not begun are shared out by a hash of piece and provider, which is the same
   * for all takers, so that each of these providers first sends pieces which the others don't.
   */
  #share(provider: Provider): void {
    for (let piece = 0; piece < this.#count && provider.assigned.size < MAX_POOL; piece++) {
      const owner = this.#owner[piece]
      if (owner === undefined || owner === provider || !this.#mayGive(owner, piece)) continue
      if (score(piece, provider.key) > score(piece, owner.key)) this.#give(provider, piece)
    }
  }

  /**
   * The end game: one that has nothing to do takes over the piece that would otherwise come last, if it is so much
   * faster that it pays: one that is not begun where it is, else also one that is, which then may come twice. Before the
   * end game this would cost more than it gives: what may be begun is mostly on its way.
   */
  #relieve(provider: Provider, now: number): void {
    if (!this.#isEndGame) return
    const { pieceSize } = this.manifest
    const mine = provider.rate > 0 ? (pieceSize * 1000) / provider.rate : this.#typicalMs()
    let worst: number | undefined
    let longest = 0
    for (const other of this.#providers.values()) {
      if (other === provider) continue
      const each = this.#pieceMs(other, now)
      const queued = each * this.#underWay(other)
      if (queued > longest && queued > 2 * mine + WORTH_MS)
        for (const piece of other.assigned)
          if (provider.held[piece] === 1) {
            worst = piece
            longest = queued
            break
          }
      for (const [piece, since] of other.begun) {
        const left = Math.max(each - (now - since), now - other.progressAt)
        if (left <= longest || left <= 2 * mine + WORTH_MS) continue
        if (provider.held[piece] === 0 || provider.begun.has(piece) || this.#owner[piece] !== other) continue
        worst = piece
        longest = left
      }
    }
    if (worst === undefined) return
    this.#give(provider, worst)
    this.#urgent = true
  }

  /** Every piece that is missing is under way. */
  get #isEndGame(): boolean {
    let underWay = 0
    for (const provider of this.#providers.values()) underWay += this.#underWay(provider)
    return underWay >= this.#left
  }

  /** How long this provider takes for a piece, ms; as long as it has been silent, where that is longer. */
  #pieceMs(provider: Provider, now: number): number {
    const silent = this.#underWay(provider) > 0 ? now - provider.progressAt : 0
    const each = provider.rate > 0 ? (this.manifest.pieceSize * 1000) / provider.rate : this.#typicalMs()
    return Math.max(each, silent)
  }

  /** For a provider that is not measured: the mean of those that are. */
  #typicalMs(): number {
    let rates = 0
    let measured = 0
    for (const { rate } of this.#providers.values())
      if (rate > 0) {
        rates += rate
        measured++
      }
    return measured === 0 ? 1000 : (this.manifest.pieceSize * 1000 * measured) / rates
  }

  /** The piece is to come from this provider; where it is not begun elsewhere, from nobody else. */
  #give(provider: Provider, piece: number): void {
    const owner = this.#owner[piece]
    if (owner?.assigned.has(piece)) this.#takeBack(owner, piece)
    this.#owner[piece] = provider
    provider.assigned.add(piece)
    if (!provider.remove.delete(piece)) provider.add.add(piece)
  }

  #takeBack(provider: Provider, piece: number): void {
    provider.assigned.delete(piece)
    if (!provider.add.delete(piece)) provider.remove.add(piece)
  }

  #release(piece: number): void {
    this.#owner[piece] = undefined
    for (const provider of this.#providers.values()) if (provider.begun.has(piece)) this.#owner[piece] = provider
  }
}

/** Pieces that it was told of beyond those it may begin. */
function surplus({ assigned, credit }: { assigned: Set<number>; credit: number }): number {
  return assigned.size - credit
}

function runsOfSet(pieces: Set<number>): number[] {
  return runsOf([...pieces].sort((a, b) => a - b))
}

/** FNV-1a. */
function score(piece: number, key: string): number {
  let hash = 0x811c9dc5 ^ piece
  hash = Math.imul(hash, 0x01000193)
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193)
  hash ^= hash >>> 15
  return Math.imul(hash, 0x2c1b3c6d) >>> 0
}
