import { NetworkError } from '../../common/errors.ts'
import type { RingStep } from './protocol.ts'
import { between, type Member, type RingId } from './ring.ts'

export interface Visit {
  readonly member: Member
  readonly answered: boolean
}

export interface RingLookup {
  /** those that follow the key, nearest first, as the last one asked knows them; whether they are alive is not known */
  readonly owners: readonly Member[]
  /** who was asked, in order */
  readonly path: readonly Visit[]
  /** who follows the key is a guess: the ring is being repaired there */
  readonly unsure: boolean
}

export interface LookupDeps {
  /** one step, asked of a member. @throws NetworkError */
  ask(member: Member, key: RingId, signal: AbortSignal): Promise<RingStep>
  /** it did not answer of late: asked last */
  isSuspect(member: Member): boolean
  isPlausible(key: RingId, owner: Member): boolean
  /** nobody else is to be asked any more */
  isLate?(): boolean
}

/** Members asked on one lookup; the longest honest way through 10,000 members, half of them dead, is a third of it. */
const MAX_VISITS = 128

/** So many members that name the same owner are believed, however far it is from the key. */
const AGREEING = 3
/** After so many answers that may be lies, the one nearest to the key is the best guess. */
const MAX_DOUBTFUL = 8

/**
 * Finds who follows a key: asks the nearest member before it that is known, which names nearer ones, until one knows.
 * Whoever is silent is passed over for the next nearest; nobody can lead it away from the key or in circles. Where those
 * that were named are not enough, it goes on, and is told more by members nearer to the key.
 */
export class Lookup {
  readonly #deps: LookupDeps
  readonly #key: RingId
  readonly #path: Visit[] = []
  readonly #candidates: Candidates
  /** what this member knew itself, as long as it was not told */
  #own: RingStep | undefined
  /** answers that may be lies, or guesses */
  readonly #doubtful: RingStep[] = []

  /** @param first what this member knows itself */
  constructor(deps: LookupDeps, self: RingId, key: RingId, first: RingStep) {
    this.#deps = deps
    this.#key = key
    this.#candidates = new Candidates(key, deps.isSuspect)
    this.#candidates.add(first.closer, self)
    this.#own = first.owners.length > 0 ? first : undefined
  }

  /** Who was asked, in order. */
  get path(): readonly Visit[] {
    return this.#path
  }

  /**
   * Those that follow the key, as the next member knows them that does.
   * @throws NetworkError `unavailable` (`reason`: `ring_broken`) where nobody is left to ask; `cancelled`
   */
  async next(signal: AbortSignal): Promise<RingLookup> {
    const own = this.#own
    this.#own = undefined
    if (own) return this.#found(own, own.unsure)
    for (let next = this.#take(); next; next = this.#take()) {
      const answer = await this.#ask(next, signal)
      if (!answer) continue
      this.#candidates.add(answer.closer, next.id)
      const owner = answer.owners[0]
      if (!owner) continue
      if (!answer.unsure && this.#deps.isPlausible(this.#key, owner)) return this.#found(answer, false)
      this.#doubtful.push(answer)
      const alike = this.#doubtful.filter(({ owners, unsure }) => !unsure && owners[0]?.id === owner.id)
      // Once in some thousand times the gap there is as wide as that.
      if (alike.length >= AGREEING) return this.#found(answer, false)
      if (this.#doubtful.length >= MAX_DOUBTFUL) break
    }
    const [nearest] = this.#doubtful.splice(0).sort((a, b) => this.#compare(a.owners[0]!, b.owners[0]!))
    if (nearest) return this.#found(nearest, true)
    throw brokenRing(this.#path)
  }

  /** As `next`, until so many are known to follow the key, or all that can be. */
  async owners(least: number, signal: AbortSignal): Promise<RingLookup> {
    let best = await this.next(signal)
    while (best.owners.length < least) {
      const more = await this.next(signal).catch(() => undefined)
      signal.throwIfAborted()
      if (!more) break
      if (more.owners.length > best.owners.length && !more.unsure) best = more
    }
    return { ...best, path: this.#path }
  }

  /** Who follows the key first comes first. */
  #compare(a: Member, b: Member): number {
    if (a.id === b.id) return 0
    return a.id === this.#key || between(this.#key, a.id, b.id) ? -1 : 1
  }

  #take(): Member | undefined {
    return this.#path.length < MAX_VISITS && !this.#deps.isLate?.() ? this.#candidates.take() : undefined
  }

  #found({ owners }: RingStep, unsure: boolean): RingLookup {
    return { owners, path: this.#path, unsure }
  }

  async #ask(member: Member, signal: AbortSignal): Promise<RingStep | undefined> {
    let answer: RingStep | undefined
    try {
      answer = await this.#deps.ask(member, this.#key, signal)
    } catch (error) {
      if (signal.aborted) throw new NetworkError('cancelled', 'cancelled', {}, error)
    }
    this.#path.push({ member, answered: answer !== undefined })
    return answer
  }
}

function brokenRing(path: readonly Visit[]): NetworkError {
  if (path.length === 0)
    return new NetworkError('unavailable', 'this peer knows no member of the ring that answers', {
      reason: 'alone',
      path,
    })
  const silent = path.filter(({ answered }) => !answered).length
  return new NetworkError(
    'unavailable',
    `the ring is broken on the way: ${silent} of ${path.length} members asked do not answer, and nobody else is known there; it is repaired by itself where enough of it is left`,
    { reason: 'ring_broken', path },
  )
}

/** Members to be asked, those nearest before the key first, each once. */
class Candidates {
  readonly #key: RingId
  readonly #isSuspect: (member: Member) => boolean
  readonly #seen = new Set<RingId>()
  /** the nearest last */
  #waiting: Member[] = []

  constructor(key: RingId, isSuspect: (member: Member) => boolean) {
    this.#key = key
    this.#isSuspect = isSuspect
  }

  /** @param teller only who lies between it and the key is nearer */
  add(members: readonly Member[], teller: RingId): void {
    for (const member of members) {
      if (this.#seen.has(member.id) || !between(teller, member.id, this.#key)) continue
      this.#seen.add(member.id)
      const at = this.#waiting.findIndex(({ id }) => between(member.id, id, this.#key))
      this.#waiting.splice(at === -1 ? this.#waiting.length : at, 0, member)
    }
  }

  take(): Member | undefined {
    const trusted = this.#waiting.findLastIndex((member) => !this.#isSuspect(member))
    const at = trusted === -1 ? this.#waiting.length - 1 : trusted
    return at < 0 ? undefined : this.#waiting.splice(at, 1)[0]
  }
}
