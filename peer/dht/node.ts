import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { Random } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import type { RingLookup, Visit } from './lookup.ts'
import { Maintenance, type MaintenanceOptions } from './maintenance.ts'
import { type Finger, Pointers } from './pointers.ts'
import type { RecordKey, RingFound, RingHandlers, RingNetwork, RingRecord, RingStep, RingView } from './protocol.ts'
import type { RecordStore } from './record-store.ts'
import { between, type Member, placeOfContent, placeOfName, type RingId } from './ring.ts'
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

export interface FoundRecord extends RingRecord {
  /** of the replicas that answered, those that hold it */
  readonly witnesses: number
}

export interface RingFinding {
  readonly records: readonly FoundRecord[]
  /** who is responsible for the key: the first that follows it and answers */
  readonly owner: Member | undefined
  /** those that answered about the key */
  readonly replicas: number
  readonly path: readonly Visit[]
  /** members that were asked one after the other until the owner answered, it included: those that answered, */
  readonly hops: number
  /** and those that did not */
  readonly timeouts: number
  readonly unsure: boolean
}

/** Replicas of a name's records that are compared. */
const COMPARED = 3
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
    return this.#pointers.members
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

  /** Finds who follows a place on the circle. @throws NetworkError as `lookUp` */
  lookup(key: RingId, signal: AbortSignal): Promise<RingLookup> {
    return this.#calls.lookUp(key, this.#pointers.step(key), signal)
  }

  /**
   * The records of a name or a content. Of a name several replicas are asked, and of a content where the first has none:
   * one alone may lie, or be new.
   * @throws NetworkError `unavailable`, `reason`: `ring_broken` where who is responsible can't be reached; `alone` where
   *   there is no ring; `cancelled`
   */
  async find(key: RecordKey, of: FileName | ContentId, signal: AbortSignal): Promise<RingFinding> {
    if (this.state === 'alone')
      throw new NetworkError('unavailable', 'this peer knows no other member of the ring', { reason: 'alone' })
    const place = placeOf(key, of)
    const { owners, path: way, unsure } = await this.lookup(place, signal)
    const path = [...way]
    const answers: RingFound[] = []
    let owner: Member | undefined
    let until = 0
    const waiting = [...owners]
    const asked = new Set<RingId>()
    for (let next = waiting.shift(); next && answers.length < COMPARED; next = waiting.shift()) {
      if (asked.has(next.id)) continue
      asked.add(next.id)
      const isSelf = next.id === this.#pointers.id
      const found = isSelf
        ? this.onFind(key, of)
        : await this.#calls.ask(next, (network, to) => network.find(to, key, of, signal), signal)
      if (!isSelf) path.push({ member: next, answered: found !== undefined })
      if (!found) continue
      answers.push(found)
      if (owner === undefined || next.id === place || between(place, next.id, owner.id)) {
        owner = next
        until = path.length
        // One that has joined since is responsible in its place, where it answers.
        const { predecessor } = found
        if (predecessor && (predecessor.id === place || between(place, predecessor.id, next.id)))
          waiting.unshift(predecessor)
      }
      if (key === 'content' && found.records.length > 0) break
    }
    if (answers.length === 0)
      throw new NetworkError(
        'unavailable',
        `the ring is broken: none of the ${asked.size} members that follow the key answers; it is repaired by itself where enough of it is left`,
        { reason: 'ring_broken', path },
      )
    const toOwner = path.slice(0, until)
    const hops = toOwner.filter(({ answered }) => answered).length
    return { records: merged(answers), owner, replicas: answers.length, path, hops, timeouts: until - hops, unsure }
  }

  /** Says goodbye, so that nobody has to find out. */
  async leave(signal: AbortSignal): Promise<void> {
    await this.#maintenance.stop()
    const { successor, predecessor } = this.#pointers
    const told = [successor, predecessor?.id === successor?.id ? undefined : predecessor]
    await Promise.allSettled(told.map((member) => member && this.#deps.network.leave(member, signal)))
  }

  // ---- what others ask ------------------------------------------------------------------------------------------------

  async onStabilize(from: Member): Promise<RingView> {
    this.#answered++
    this.#maintenance.rectify(from)
    return this.view
  }

  onStep(key: RingId): RingStep {
    this.#answered++
    return this.#pointers.step(key)
  }

  onFind(key: RecordKey, of: FileName | ContentId): RingFound {
    this.#answered++
    return { ...this.#deps.records.find(key, of), predecessor: this.#pointers.predecessor }
  }

  onStore(from: Member, records: readonly RingRecord[], withdraw: readonly RingRecord[]): number {
    this.#answered++
    this.#deps.records.withdraw(withdraw, from)
    return this.#deps.records.store(records, from)
  }

  /** A hint: who follows is found out by the next round, and who lied for another is back after it. */
  onLeave(from: Member): void {
    this.#answered++
    this.#pointers.drop(from)
    this.#maintenance.hurry()
  }
}

function placeOf(key: RecordKey, of: FileName | ContentId): RingId {
  return key === 'name' ? placeOfName(of as FileName) : placeOfContent(of as ContentId)
}

/** Each provider's word once, the freshest; those that most replicas hold first. */
function merged(answers: readonly RingFound[]): FoundRecord[] {
  const found = new Map<string, FoundRecord>()
  for (const { records } of answers)
    for (const record of records) {
      const of = `${record.provider.peer} ${record.content} ${record.name}`
      const other = found.get(of)
      const freshest = other && other.ageMs <= record.ageMs ? other : record
      found.set(of, { ...freshest, witnesses: (other?.witnesses ?? 0) + 1 })
    }
  return [...found.values()].sort((a, b) => b.witnesses - a.witnesses || a.ageMs - b.ageMs)
}
