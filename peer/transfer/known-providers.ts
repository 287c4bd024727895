import { NetworkError } from '../../common/errors.ts'
import { type Random, sample } from '../../common/random.ts'
import type { PieceSource } from './source.ts'

/** A provider that failed may be asked again after this long, doubled with each failure, ms. */
const COOL_MS = 1000
const MAX_COOL_MS = 60_000
/** Providers remembered, also those that were dropped; of these, the ones that only others named. */
const MAX_KNOWN = 500
const MAX_HINTS = 250
/** Times that a provider which only another one named may fail before it is forgotten. */
const HINT_FAILURES = 3

/** A provider that was heard of. */
export interface Known {
  readonly source: PieceSource
  /** `idle`: not asked since it was found, or since it cooled down */
  readonly state: 'idle' | 'connected' | 'cooling' | 'banned' | 'simulates'
  /** why it was dropped or banned last */
  readonly fault: NetworkError | undefined
  /** payload bytes from it that were verified and of use */
  verified: number
  /** pieces that it told of */
  pieces: number
}

type Entry = { -readonly [Key in keyof Known]: Known[Key] } & { coolUntil: number; failures: number }

/**
 * Who was heard of during one download, and what may be expected of each: who failed is asked again later, who lied
 * never. No I/O.
 */
export class KnownProviders {
  readonly #random: Random
  readonly #tell: (note: string) => void
  readonly #byAddress = new Map<string, Entry>()

  /** @param tell is given what people should know, in their words */
  constructor(tell: (note: string) => void = () => {}, random: Random = Math.random) {
    this.#tell = tell
    this.#random = random
  }

  get all(): Iterable<Known> {
    return this.#byAddress.values()
  }

  /** Why providers were dropped or banned, the latest of each. */
  get faults(): NetworkError[] {
    return [...this.#byAddress.values()].flatMap(({ fault }) => fault ?? [])
  }

  /** Those that only simulate, for a download that does, too; undefined where nobody does. */
  get simulators(): KnownProviders | undefined {
    const simulators = new KnownProviders(this.#tell, this.#random)
    for (const { state, source } of this.#byAddress.values()) if (state === 'simulates') simulators.add(source)
    return simulators.#byAddress.size > 0 ? simulators : undefined
  }

  /** Some are known, and all of them lied or simulate: nothing will be better later. */
  get hopeless(): boolean {
    const known = [...this.#byAddress.values()]
    return known.length > 0 && known.every(({ state }) => state === 'banned' || state === 'simulates')
  }

  has(address: string): boolean {
    return this.#byAddress.has(address)
  }

  /**
   * A provider to be asked. Nobody is asked twice, under one address or two. A hint is never in the way of one that was
   * located: anybody may name anything.
   * @returns whether it is a new one
   */
  add(source: PieceSource): boolean {
    if (this.#byAddress.has(source.address)) return false
    for (const { source: other, state } of this.#byAddress.values())
      if (other.peer === source.peer && (state === 'idle' || state === 'connected') && (source.hint || !other.hint))
        return false
    if (!this.#hasRoom(source)) return false
    this.#byAddress.set(source.address, {
      source,
      state: 'idle',
      fault: undefined,
      verified: 0,
      pieces: 0,
      coolUntil: 0,
      failures: 0,
    })
    return true
  }

  #hasRoom({ hint }: PieceSource): boolean {
    const entries = [...this.#byAddress.values()]
    if (hint && entries.filter(({ source }) => source.hint).length >= MAX_HINTS) return false
    if (entries.length < MAX_KNOWN) return true
    const worst = entries.find(({ state }) => state === 'banned') ?? entries.find(({ state }) => state === 'cooling')
    if (hint || !worst) return false
    this.#byAddress.delete(worst.source.address)
    return true
  }

  /**
   * Who may be asked now: what was located first; then what others named, at random, so that takers don't all talk to
   * the same few.
   */
  due(now: number): Known[] {
    const due: Known[] = []
    const hints: Known[] = []
    for (const entry of this.#byAddress.values()) {
      if (entry.state === 'cooling' && entry.coolUntil <= now) entry.state = 'idle'
      if (entry.state === 'idle') (entry.source.hint ? hints : due).push(entry)
    }
    return [...due, ...sample(hints, undefined, this.#random)]
  }

  /** When somebody may be asked again, ms; Infinity where nobody cools down. */
  get nextDue(): number {
    let next = Number.POSITIVE_INFINITY
    for (const { state, coolUntil } of this.#byAddress.values())
      if (state === 'cooling') next = Math.min(next, coolUntil)
    return next
  }

  connected(known: Known): void {
    this.#entry(known).state = 'connected'
  }

  /** What it does is right, so its failures of before don't count. */
  proved(known: Known): void {
    this.#entry(known).failures = 0
  }

  /** The conversations are over, and nobody is to blame: who was talked to may be again. */
  parted(): void {
    for (const entry of this.#byAddress.values()) if (entry.state === 'connected') entry.state = 'idle'
  }

  simulates(known: Known): void {
    this.#entry(known).state = 'simulates'
    this.#tell(`${known.source.peer} is in dummy mode and only simulates`)
  }

  /** Who lied (`corrupt`) is banned, who failed is dropped for a while; a mere hint that fails again is forgotten. */
  failed(known: Known, error: NetworkError, now: number): void {
    const entry = this.#entry(known)
    const { peer, address, hint } = entry.source
    const told = error.message.includes(peer) ? error.message : `${peer}: ${error.message}`
    entry.fault = new NetworkError(error.code, told, error.details, error)
    entry.failures++
    entry.coolUntil = now + Math.min(MAX_COOL_MS, COOL_MS * 2 ** (entry.failures - 1))
    entry.state = error.code === 'corrupt' ? 'banned' : 'cooling'
    if (entry.state === 'cooling' && hint && entry.verified === 0) {
      if (entry.failures >= HINT_FAILURES) this.#byAddress.delete(address)
      return
    }
    this.#tell(`${entry.state === 'banned' ? 'banned' : 'dropped'} ${told}`)
  }

  #entry(known: Known): Entry {
    return known as Entry
  }
}
