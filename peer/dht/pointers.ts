import type { PeerContact } from '../contact.ts'
import type { RingStep, RingView } from './protocol.ts'
import { between, isSameMember, type Member, memberOf, plus, type RingId, share, within } from './ring.ts'

/** The first member that follows the place 2^power further; for half a step more see `plus`. */
export interface Finger {
  readonly power: number
  readonly member: Member
}

/** Members told of as nearer to a key: where half of all are gone, one in 250 times none of these is left. */
const MAX_CLOSER = 8

/** With fewer successors nothing is said of how close members are. */
const ENOUGH_FOR_ESTIMATE = 4

/**
 * What a member of the ring points at: its predecessor, its successors in order, and fingers. Synchronous; the rules keep
 * the successors in order and without the member itself, whatever others tell.
 */
export class Pointers {
  readonly id: RingId
  readonly #self: () => PeerContact
  /** the length of the list of successors, at most */
  readonly #most: number
  #predecessor: Member | undefined
  #successors: readonly Member[] = []
  #isComplete = false
  #isLost = false
  /** by power: the first member that follows the place 2^power further */
  readonly #fingers = new Map<number, Member>()
  /** successors and fingers in order, each once: made when it is asked for after a change */
  #clockwise: readonly Member[] | undefined

  /** @param self how this peer is reached at present; its id stays */
  constructor(self: () => PeerContact, most: number) {
    this.id = memberOf(self()).id
    this.#self = self
    this.#most = most
  }

  get self(): Member {
    return { ...this.#self(), id: this.id }
  }

  get predecessor(): Member | undefined {
    return this.#predecessor
  }

  set predecessor(member: Member | undefined) {
    this.#predecessor = member?.id === this.id ? undefined : member
  }

  /** Clockwise. */
  get successors(): readonly Member[] {
    return this.#successors
  }

  /** Of a converged ring, as a simulation begins with it. */
  resume(view: RingView, fingers: readonly Finger[]): void {
    const [first, ...next] = view.successors
    if (first) this.adopt(first, next)
    this.predecessor = view.predecessor
    this.#fingers.clear()
    this.#clockwise = undefined
    for (const { power, member } of fingers) this.setFinger(power, member)
    this.#isLost = false
  }

  get successor(): Member | undefined {
    return this.#successors[0]
  }

  /** Nearest first, each member once. */
  get fingers(): readonly Finger[] {
    const seen = new Set(this.#successors.map(({ id }) => id))
    return [...this.#fingers]
      .sort(([a], [b]) => a - b)
      .filter(([, { id }]) => !seen.has(id) && Boolean(seen.add(id)))
      .map(([power, member]) => ({ power, member }))
  }

  /** The list went once round the circle: all members are in it. */
  get isComplete(): boolean {
    return this.#isComplete
  }

  /** It had successors, and none of them answers: who follows it is a guess until one confirms it. */
  get isLost(): boolean {
    return this.#isLost
  }

  /** Who follows is known again, or that nobody does. */
  found(): void {
    this.#isLost = false
  }

  /** Fingers that lie among the members of a list, and are not in it; the nearest first. */
  missingIn(first: Member, next: readonly Member[]): Member[] {
    const listed = new Set([first, ...next].map(({ id }) => id))
    const last = next.at(-1) ?? first
    const isAmong = ({ id }: Member) => !listed.has(id) && between(first.id, id, last.id)
    const missing = new Map([...this.#fingers.values()].filter(isAmong).map((member) => [member.id, member]))
    return [...missing.values()].sort((a, b) => (between(this.id, a.id, b.id) ? -1 : 1))
  }

  /**
   * Takes `first` as the successor, and behind it what it says comes next, as far as that is in order.
   * @param missing members that the list passes over: it ends before them
   */
  adopt(first: Member, next: readonly Member[], missing: readonly Member[] = []): void {
    const list: Member[] = []
    let last = this.id
    this.#isComplete = false
    for (const member of [first, ...next]) {
      if (missing.some(({ id }) => between(last, id, member.id)) && list.length > 0) {
        this.#isComplete = false
        break
      }
      this.#isComplete = member.id === this.id
      // Who is out of order was put there by a mistake or a lie.
      if (this.#isComplete || list.length === this.#most || !between(last, member.id, this.id)) break
      list.push(member)
      last = member.id
    }
    const isSame = list.length === this.#successors.length && list.every((member, i) => member === this.#successors[i])
    if (!isSame) this.#clockwise = undefined
    this.#successors = list
  }

  /** Forgets a member that does not answer, or has left. Another one that is at its place by now stays. */
  drop(member: Member): void {
    const isIt = (other: Member) => isSameMember(other, member)
    this.#clockwise = undefined
    if (this.#successors.some(isIt)) {
      this.#successors = this.#successors.filter((other) => !isIt(other))
      this.#isLost ||= this.#successors.length === 0
    }
    if (this.#predecessor && isIt(this.#predecessor)) this.#predecessor = undefined
    for (const [power, finger] of this.#fingers) if (isIt(finger)) this.#fingers.delete(power)
  }

  setFinger(power: number, member: Member): void {
    this.#clockwise = undefined
    if (member.id === this.id) this.#fingers.delete(power)
    else this.#fingers.set(power, member)
  }

  /** Those for which fingers are worth having; none where all members are known. */
  fingerPowers(): number[] {
    const last = this.#successors.at(-1)
    return !last || this.#isComplete ? [] : powersBeyond(this.id, last.id)
  }

  /** Forgets the fingers that the successors make needless. */
  trimFingers(): void {
    this.#clockwise = undefined
    const wanted = new Set(this.fingerPowers())
    for (const power of this.#fingers.keys()) if (!wanted.has(power)) this.#fingers.delete(power)
  }

  /** What this member knows of the way to a key. @param most members named as closer, the nearest ones */
  step(key: RingId, most = MAX_CLOSER): RingStep {
    const list = this.#successors
    const unsure = this.#isLost
    if (list.length === 0 && !unsure) return { owners: [this.self], closer: [], unsure }
    const isOwn = this.#predecessor !== undefined && within(this.#predecessor.id, key, this.id)
    if (isOwn && !unsure) return { owners: [this.self, ...list], closer: [], unsure }
    let previous = this.id
    for (const [i, member] of list.entries()) {
      if (within(previous, key, member.id))
        return { owners: this.#from(i, unsure), closer: this.#closer(key, most), unsure }
      previous = member.id
    }
    // Behind the last of all members comes the first: this one.
    if (this.#isComplete && !unsure) return { owners: [this.self, ...list], closer: [], unsure }
    return { owners: [], closer: this.#closer(key, most), unsure }
  }

  /** The members from this successor on: where all are known, once round the circle. */
  #from(at: number, unsure: boolean): Member[] {
    const next = this.#successors.slice(at)
    return this.#isComplete && !unsure ? [...next, this.self, ...this.#successors.slice(0, at)] : next
  }

  /** How many members there seem to be, from how close the successors are; exact in a small ring. */
  get members(): number {
    const last = this.#successors.at(-1)
    if (!last || this.#isComplete || this.#successors.length < ENOUGH_FOR_ESTIMATE) return this.#successors.length + 1
    return this.#successors.length / share(this.id, last.id)
  }

  /**
   * Whether `owner` may follow the key without anyone between, as close as members are here: a gap of eight times the
   * mean comes once in three thousand. Who claims keys far from its place is found out by it (Castro et al., "Secure
   * routing for structured peer-to-peer overlay networks", OSDI 2002).
   */
  isPlausible(key: RingId, owner: Member): boolean {
    if (this.#successors.length < ENOUGH_FOR_ESTIMATE) return true
    return owner.id === key || share(key, owner.id) * this.members <= 8
  }

  #closer(key: RingId, most: number): Member[] {
    this.#clockwise ??= this.#sorted()
    const known = this.#clockwise
    let low = 0
    let high = known.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (between(this.id, known[middle]!.id, key)) low = middle + 1
      else high = middle
    }
    return known.slice(Math.max(0, low - most), low).reverse()
  }

  #sorted(): Member[] {
    const known = new Map<RingId, Member>()
    for (const member of this.#fingers.values()) known.set(member.id, member)
    for (const member of this.#successors) known.set(member.id, member)
    return [...known.values()].sort((a, b) => (between(this.id, a.id, b.id) ? -1 : 1))
  }
}

/**
 * The powers whose places lie beyond the last successor, the farthest first. With half steps between them each question
 * comes nearer than with powers alone: they cost room, and no message, since fingers are looked at one at a time.
 */
export function powersBeyond(id: RingId, last: RingId): number[] {
  const powers: number[] = []
  for (let power = 255.5; power >= 1 && !within(id, plus(id, power), last); power -= 0.5) powers.push(power)
  return powers
}
