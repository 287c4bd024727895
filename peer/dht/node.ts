import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { Random } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import { Finding, type RingFinding } from './finding.ts'
import type { RingLookup } from './lookup.ts'
import { Maintenance, type MaintenanceOptions } from './maintenance.ts'
import { type Finger, Pointers } from './pointers.ts'
import type { RecordKey, RingFound, RingHandlers, RingNetwork, RingRecord, RingStep, RingView } from './protocol.ts'
import type { RecordStore } from './record-store.ts'
import type { Member, RingId } from './ring.ts'
import { RingCalls } from './ring-calls.ts'

export interface ChordDeps {
  self: () => PeerContact
  network: RingNetwork
  known: KnownPeers
  records: Pick<RecordStore, 'find' | 'store' | 'withdraw'>
  clock: Clock
  random: Random
}

export interface ChordOptions extends MaintenanceOptions {
  /** length of the list of successors: so many neighbours may fail at once, less one */
  successors: number
  /** how long a silent member is asked last, ms; 0: it is not remembered */
  suspectMs: number
}

const DEFAULTS: ChordOptions = {
  successors: 16,
  stabilizeMs: [1000, 10_000],
  fingerMs: 30_000,
  mergeMs: 60_000,
  suspectMs: 30_000,
}

/** Nobody is asked any more after this: whoever is named on the way may be nobody, and is waited for, ms. */
const LOOKUP_MS = 15_000

/**
 * A member of a Chord ring: what it tells others, and how it finds what others keep. Its pointers are kept right by
 * `Maintenance`; whoever owns the node calls `tick`.
 */
export class ChordNode implements RingHandlers {
  readonly #deps: ChordDeps
  readonly #pointers: Pointers
  readonly #calls: RingCalls
  readonly #maintenance: Maintenance
  #answered = 0
  #hasLeft = false

  constructor(deps: ChordDeps, options: Partial<ChordOptions> = {}) {
    const { network, known, clock, random } = deps
    const settings = { ...DEFAULTS, ...options }
    this.#deps = deps
    const pointers = new Pointers(deps.self, settings.successors)
    const calls = new RingCalls({ network, pointers, known, clock }, settings)
    this.#maintenance = new Maintenance({ pointers, calls, known, clock, random }, settings)
    this.#pointers = pointers
    this.#calls = calls
  }

  get self(): Member {
    return this.#pointers.self
  }

  get view(): RingView {
    return { predecessor: this.#pointers.predecessor, successors: this.#pointers.successors }
  }

  get fingers(): readonly Finger[] {
    return this.#pointers.fingers
  }

  get state(): 'alone' | 'small' | 'whole' | 'repairing' {
    if (this.#pointers.isLost) return 'repairing'
    if (this.#pointers.successors.length === 0) return 'alone'
    return this.#pointers.isComplete ? 'small' : 'whole'
  }

  /** How many members there seem to be. */
  get members(): number {
    return Math.round(this.#pointers.members)
  }

  /** When the successor answered last, by the clock; undefined where there was none. */
  get checkedAt(): number | undefined {
    return this.#maintenance.checkedAt
  }

  /** Calls that this member made, and those that it answered. */
  get messages(): { sent: number; answered: number } {
    return { sent: this.#calls.sent, answered: this.#answered }
  }

  /** ms until the next round of maintenance is due */
  get pauseMs(): number {
    return this.#maintenance.pauseMs
  }

  /** One round of maintenance. */
  tick(signal: AbortSignal): Promise<void> {
    return this.#maintenance.tick(signal)
  }

  /** Takes pointers as given: a simulation begins with a ring that is whole. */
  resume(view: RingView, fingers: readonly Finger[]): void {
    this.#pointers.resume(view, fingers)
    this.#maintenance.resumed()
  }

  /**
   * Finds who follows a place on the circle.
   * @param least so many members in a row, where the ring has them
   * @throws NetworkError `unavailable` (`reason`: `ring_broken`) where nobody is left to ask; `cancelled`
   */
  lookup(key: RingId, signal: AbortSignal, least = 1): Promise<RingLookup> {
    return this.#calls.lookup(key, LOOKUP_MS).owners(this.#pointers.isComplete ? 1 : least, signal)
  }

  /**
   * The records of a name or a content.
   * @param isThorough several replicas of a content are asked, too: the first may have lied
   * @throws NetworkError `unavailable`, `reason`: `ring_broken` where who is responsible can't be reached; `alone` where
   *   there is no ring; `cancelled`
   */
  async find(key: RecordKey, of: FileName | ContentId, signal: AbortSignal, isThorough = false): Promise<RingFinding> {
    if (this.state === 'alone')
      throw new NetworkError('unavailable', 'this peer knows no other member of the ring', { reason: 'alone' })
    const own = () => this.#deps.records.find(key, of)
    return new Finding({ pointers: this.#pointers, calls: this.#calls, own }, key, of, isThorough).run(signal)
  }

  /** Says goodbye, so that nobody has to find out. */
  async leave(signal: AbortSignal): Promise<void> {
    await this.#maintenance.stop()
    const { successor, predecessor } = this.#pointers
    const told = [successor, predecessor?.id === successor?.id ? undefined : predecessor]
    await Promise.allSettled(told.map((member) => member && this.#deps.network.leave(member, signal)))
    this.#hasLeft = true
  }

  // ---- what others ask ------------------------------------------------------------------------------------------------

  async onStabilize(from: Member, seen = from.host): Promise<RingView> {
    this.#asked()
    this.#maintenance.rectify(from, seen)
    return this.view
  }

  onStep(key: RingId): RingStep {
    this.#asked()
    const step = this.#pointers.step(key)
    // Where somebody asks there is a ring, and one that knows of nobody has no place in it yet.
    return this.state === 'alone' ? { ...step, unsure: true } : step
  }

  onFind(key: RecordKey, of: FileName | ContentId): RingFound {
    this.#asked()
    return { ...this.#deps.records.find(key, of), predecessor: this.#pointers.predecessor }
  }

  onStore(from: Member, records: readonly RingRecord[], withdraw: readonly RingRecord[], seen = from.host): number {
    this.#asked()
    this.#deps.records.withdraw(withdraw, from)
    return this.#deps.records.store(records, from, seen)
  }

  /** A hint: who follows is found out by the next round, and who lied for another is back after it. */
  onLeave(from: Member): void {
    this.#answered++
    this.#pointers.drop(from)
    this.#maintenance.hurry()
  }

  /** @throws NetworkError `unavailable`: after its goodbye nobody shall take it for a member again */
  #asked(): void {
    if (this.#hasLeft) throw new NetworkError('unavailable', 'this peer has left the ring')
    this.#answered++
  }
}
