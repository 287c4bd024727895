import type { Clock } from '../../common/clock.ts'
import { PartyLimits } from '../../common/party-limits.ts'
import { type Random, sample } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import { askedBy } from '../overlay/party-limits.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import { sameHost } from '../overlay/reachable.ts'
import { Fingers, type FingersOptions, LOOKUP_MS } from './fingers.ts'
import type { Pointers } from './pointers.ts'
import type { RingView } from './protocol.ts'
import { between, isSameMember, type Member, memberOf, type RingId } from './ring.ts'
import type { RingCalls } from './ring-calls.ts'

export interface MaintenanceDeps {
  pointers: Pointers
  calls: RingCalls
  known: KnownPeers
  clock: Clock
  random: Random
}

export interface MaintenanceOptions extends FingersOptions {
  /** between rounds: the first while something changes, up to the second while nothing does, ms */
  stabilizeMs: readonly [least: number, most: number]
  /** between two looks whether others have a ring of their own, ms */
  mergeMs: number
}

/** Steps towards a nearer successor in one round: a merge brings many. */
const MAX_APPROACH = 8
/** Members that want to precede this one, looked at together. */
const MAX_RECTIFIES = 16
/** Of one caller, such looks: each is a call to the address that it tells. */
const LOOKS = { perSecond: 5, atOnce: 100 }
/** At one machine that others tell, which may be nobody's: nobody is made to call it often. */
const LOOKS_ELSEWHERE = { perSecond: 0.1, atOnce: 5 }
/** A list that passes over so many members that answer is not believed; of those that it may pass over, so many are asked. */
const PASSED_OVER = 2
const MAX_PASSED_OVER = 6
/** A successor that refuses to answer for so long is none, ms. */
const REFUSED_MS = 60_000
/** Others that a member without successors asks in a round. */
const MAX_JOIN = 4
/** Nothing more is begun in a round after this: whether the successor is there is looked at first, in the next one, ms. */
const ROUND_MS = 10_000

/**
 * Keeps the pointers of a member right, in the form whose correctness Pamela Zave proved ("Reasoning about identifier
 * spaces: how to make Chord correct", IEEE Transactions on Software Engineering 43(12), 2017): lists of successors are
 * taken over whole, `stabilize` and `rectify` change one pointer after a look at who is alive. See docs/adr/0015, also for
 * where it differs.
 */
export class Maintenance {
  readonly #deps: MaintenanceDeps
  readonly #options: MaintenanceOptions
  readonly #rectifying = new Map<RingId, Promise<void>>()
  readonly #stopping = new AbortController()
  readonly #looks: PartyLimits
  readonly #looksElsewhere: PartyLimits
  #pauseMs: number
  #predecessorSeen = 0
  #successorSeen: number | undefined
  /** a successor that answers nothing but that it has too much to do */
  #refusing: { readonly id: RingId; readonly since: number } | undefined
  readonly #fingers: Fingers
  #mergeDue: number

  constructor(deps: MaintenanceDeps, options: MaintenanceOptions) {
    this.#deps = deps
    this.#options = options
    this.#pauseMs = options.stabilizeMs[0]
    const now = () => deps.clock.now()
    this.#looks = new PartyLimits(LOOKS, now)
    this.#looksElsewhere = new PartyLimits(LOOKS_ELSEWHERE, now)
    this.#fingers = new Fingers(deps, options)
    this.#mergeDue = deps.clock.now() + options.mergeMs * deps.random()
  }

  /** ms until the next round is due */
  get pauseMs(): number {
    return this.#pauseMs
  }

  /** When the successor answered last, by the clock; undefined where there was none. */
  get checkedAt(): number | undefined {
    return this.#successorSeen
  }

  /** The pointers were set from outside, and are right. */
  resumed(): void {
    this.#predecessorSeen = this.#deps.clock.now()
    this.#fingers.resumed()
  }

  /** Something has changed: the next round is soon. */
  hurry(): void {
    this.#pauseMs = this.#options.stabilizeMs[0]
  }

  /** One round. Who does not answer is forgotten; the next round is soon where anything changed. */
  async tick(signal: AbortSignal): Promise<void> {
    const { pointers } = this.#deps
    const before = shapeOf(pointers)
    if (!pointers.successor) await this.#join(signal)
    await this.#stabilize(signal)
    await this.#checkPredecessor(signal)
    await this.#fingers.tick(signal)
    await this.#merge(signal)
    const [least, most] = this.#options.stabilizeMs
    const isQuiet = shapeOf(pointers) === before && !pointers.isLost
    this.#pauseMs = isQuiet ? Math.min(this.#pauseMs * 2, most) : least
  }

  /** Ends with what is under way. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.allSettled(this.#rectifying.values())
  }

  /**
   * Zave's stabilize: take over the list of the first successor that answers; where that has a predecessor between, which
   * answers, that one is the successor.
   */
  async #stabilize(signal: AbortSignal): Promise<void> {
    let tries = 0
    for (let successor = this.#deps.pointers.successor; successor; successor = this.#deps.pointers.successor) {
      const view = await this.#stabilizeWith(successor, signal)
      if (!view) {
        tries = successor === this.#deps.pointers.successor ? tries + 1 : 0
        if (tries === 2) return this.#refused(successor)
        continue
      }
      this.#refusing = undefined
      // Found by a guess, it is right once it says so itself.
      if (view.predecessor?.id === this.#deps.pointers.id) this.#deps.pointers.found()
      return this.#approach(view.predecessor, signal)
    }
  }

  /** Adopts `member` where it answers; where it does not, it is forgotten, the second time at the latest. */
  async #stabilizeWith(member: Member, signal: AbortSignal): Promise<RingView | undefined> {
    const { pointers, calls, clock } = this.#deps
    const view = await calls.ask(member, (network, to) => network.stabilize(to, signal), signal)
    if (!view) return undefined
    this.#successorSeen = clock.now()
    const missing = await this.#passedOver(member, view.successors, signal)
    const { successor } = pointers
    // Meanwhile a nearer one may have been found; and one that has begun anew knows of nobody yet: its word would be the end
    // of a good list.
    const isWanted = successor?.id === member.id || this.#isNearer(member)
    if (!successor || (isWanted && view.successors.length > 0)) pointers.adopt(member, view.successors, missing)
    return view
  }

  /**
   * Members that answer, and that a list passes over. One may have joined since. Who passes over more would have this
   * member know nobody but those that it names: its list ends before them, and the way to others is over them.
   */
  async #passedOver(first: Member, next: readonly Member[], signal: AbortSignal): Promise<Member[]> {
    const { pointers, calls } = this.#deps
    const missing = pointers.missingIn(first, next).slice(0, MAX_PASSED_OVER)
    if (missing.length < PASSED_OVER) return []
    const answers = await Promise.all(missing.map((member) => calls.isAlive(member, signal)))
    const alive = missing.filter((_, i) => answers[i])
    return alive.length < PASSED_OVER ? [] : alive
  }

  /** A successor that refuses to answer is there. One that does for long keeps others from being known. */
  #refused(successor: Member): void {
    const { pointers, clock } = this.#deps
    const now = clock.now()
    if (this.#refusing?.id !== successor.id) this.#refusing = { id: successor.id, since: now }
    else if (now - this.#refusing.since >= REFUSED_MS) pointers.drop(successor)
  }

  /** From one that lies nearer to the next, as long as they answer. */
  async #approach(candidate: Member | undefined, signal: AbortSignal): Promise<void> {
    let next = candidate
    for (let i = 0; i < MAX_APPROACH && next && this.#isNearer(next); i++)
      next = (await this.#stabilizeWith(next, signal))?.predecessor
  }

  #isNearer(member: Member): boolean {
    const { id, successor } = this.#deps.pointers
    return member.id !== id && (!successor || between(id, member.id, successor.id))
  }

  /**
   * Zave's rectify, on the word of `from` that it precedes this member: it does where it is nearer, or the one before is
   * gone. Where too many say so, it is left to their next word.
   * @param seen the host that its call came from
   */
  rectify(from: Member, seen: string): void {
    const { id, predecessor } = this.#deps.pointers
    if (from.id === id || this.#stopping.signal.aborted) return
    if (predecessor && isSameMember(predecessor, from)) {
      this.#predecessorSeen = this.#deps.clock.now()
      return
    }
    if (this.#rectifying.has(from.id) || this.#rectifying.size >= MAX_RECTIFIES) return
    if (!this.#looks.take(askedBy(seen, from.peer))) return
    if (!sameHost(from.host, seen) && !this.#looksElsewhere.take(askedBy(from.host, from.peer))) return
    const done = this.#adoptPredecessor(from)
      .catch(() => {})
      .finally(() => this.#rectifying.delete(from.id))
    this.#rectifying.set(from.id, done)
  }

  /** Once it has answered at the address that it told, and only then. */
  async #adoptPredecessor(from: Member): Promise<void> {
    const { pointers, calls } = this.#deps
    const { signal } = this.#stopping
    const { predecessor } = pointers
    // One that bears its name elsewhere takes its place only where it is gone.
    const isIts = predecessor && (predecessor.id === from.id || !this.#mayPrecede(from))
    if (isIts && (await calls.isAlive(predecessor, signal))) return
    if (!(await calls.isAlive(from, signal))) return
    const isAlone = () => !pointers.successor && !pointers.isLost
    // It may be one of many, and not the one that follows.
    if (isAlone()) await this.#meet(from, signal)
    if (isAlone()) await this.#approach(from, signal)
    // It tells again.
    if (isAlone()) return
    if (!this.#mayPrecede(from)) return
    pointers.predecessor = from
    this.#predecessorSeen = this.#deps.clock.now()
    this.hurry()
  }

  #mayPrecede({ id }: Member): boolean {
    const { predecessor } = this.#deps.pointers
    return !predecessor || predecessor.id === id || between(predecessor.id, id, this.#deps.pointers.id)
  }

  /** A predecessor that is silent for long is asked, and forgotten where it does not answer: the next one to tell takes its place. */
  async #checkPredecessor(signal: AbortSignal): Promise<void> {
    const { pointers, calls, clock } = this.#deps
    const { predecessor } = pointers
    if (!predecessor || clock.now() - this.#predecessorSeen < 2 * this.#options.stabilizeMs[1]) return
    if (await calls.isAlive(predecessor, signal)) this.#predecessorSeen = clock.now()
  }

  /** With no successor: asks whoever is known where this member belongs. One that lost its successors begins with a guess. */
  async #join(signal: AbortSignal): Promise<void> {
    const { pointers, known, clock } = this.#deps
    const begin = clock.now()
    const others = [...known.alive(MAX_JOIN), ...known.lost(MAX_JOIN)].map(memberOf)
    if (pointers.predecessor) others.unshift(pointers.predecessor)
    if (pointers.isLost) {
      const pointed = pointers.fingers.map(({ member }) => member)
      for (const member of clockwise(pointers.id, [...pointed, ...others])) {
        await this.#approach(member, signal)
        if (pointers.successor || clock.now() - begin >= ROUND_MS) return
      }
    }
    for (const through of others) {
      await this.#meet(through, signal)
      if (pointers.successor || clock.now() - begin >= ROUND_MS) return
    }
    // Nobody is left of those that were known: this member is a ring by itself.
    if (!pointers.predecessor) pointers.found()
  }

  /**
   * Two rings that don't know of each other, after a partition or because they began apart, become one: now and then
   * each member asks one that it knows from elsewhere who follows it there (Shafaat, Ghodsi, Haridi, "Handling network
   * partitions and mergers in structured overlay networks", IEEE P2P 2007).
   */
  async #merge(signal: AbortSignal): Promise<void> {
    const { pointers, clock, known, random } = this.#deps
    const isDue = clock.now() >= this.#mergeDue
    if (!pointers.successor || !(isDue || pointers.isComplete)) return
    const near = new Set([...pointers.successors, pointers.predecessor].map((member) => member?.id))
    const outside = (peers: readonly PeerContact[]) => peers.map(memberOf).filter(({ id }) => !near.has(id))
    // Where all members are known, one that is alive and none of them has another ring: that need not wait.
    const apart = pointers.isComplete ? outside(known.alive(8)) : []
    if (!isDue && apart.length === 0) return
    if (isDue) this.#mergeDue = clock.now() + this.#options.mergeMs * (0.5 + random())
    const others = apart.length > 0 ? apart : outside([...known.lost(2), ...known.alive(8)])
    const [through] = sample(others, 1, random)
    if (through) await this.#meet(through, signal)
  }

  /** Asks `through` who follows this member, and follows that where it is nearer; it hears of this member by it. */
  async #meet(through: Member, signal: AbortSignal): Promise<void> {
    const { pointers, calls } = this.#deps
    const { id } = pointers
    if (through.id === id) return
    const there = { owners: [], closer: [through], unsure: false }
    const found = await calls
      .lookup(id, LOOKUP_MS, there)
      .next(signal)
      .catch(() => undefined)
    signal.throwIfAborted()
    const owners = (found?.owners ?? []).filter((member) => member.id !== id && !calls.isSuspect(member))
    const [owner] = owners
    if (!owner || owner.id === pointers.successor?.id) return
    // Some of those that it told of may be gone; one that answers has a list of its own.
    for (const next of owners.slice(0, MAX_APPROACH)) {
      if (!this.#isNearer(next)) break
      await this.#approach(next, signal)
      if (pointers.successor) return
    }
    // It lies behind the successor: its ring lacks this member, and learns of it.
    if (!this.#isNearer(owner) && found?.owners[0]?.id !== id)
      await calls.ask(owner, (network, to) => network.stabilize(to, signal), signal)
  }
}

/** Changes where a pointer other than a finger does. */
function shapeOf({ predecessor, successors }: Pointers): string {
  return [predecessor, ...successors].map((member) => member?.id ?? '').join()
}

/** Each once, those that come next after `id` first. */
function clockwise(id: RingId, members: readonly Member[]): Member[] {
  const once = [...new Map(members.map((member) => [member.id, member])).values()]
  return once.filter((member) => member.id !== id).sort((a, b) => (between(id, a.id, b.id) ? -1 : 1))
}
