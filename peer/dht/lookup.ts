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
}

/** Members asked on one lookup; the longest honest way through 10,000 members, half of them dead, is a third of it. */
const MAX_VISITS = 128

/**
 * Finds who follows a key: asks the nearest member before it that is known, which names nearer ones, until one knows.
 * Whoever is silent is passed over for the next nearest; nobody can lead it away from the key or in circles.
 * @param first what this member knows itself
 * @throws NetworkError `unavailable` (`reason`: `ring_broken`) where nobody is left to ask; `cancelled`
 */
export async function lookUp(
  deps: LookupDeps,
  self: RingId,
  key: RingId,
  first: RingStep,
  signal: AbortSignal,
): Promise<RingLookup> {
  if (first.owners.length > 0) return { owners: first.owners, path: [], unsure: first.unsure }
  const path: Visit[] = []
  const candidates = new Candidates(key, deps.isSuspect)
  candidates.add(first.closer, self)
  let doubtful: RingStep | undefined
  for (let next = candidates.take(); next && path.length < MAX_VISITS; next = candidates.take()) {
    const answer = await asked(deps, next, key, signal)
    path.push({ member: next, answered: answer !== undefined })
    if (!answer) continue
    candidates.add(answer.closer, next.id)
    const owner = answer.owners[0]
    if (!owner) continue
    if (!answer.unsure && deps.isPlausible(key, owner)) return { owners: answer.owners, path, unsure: false }
    doubtful ??= answer
  }
  if (doubtful) return { owners: doubtful.owners, path, unsure: true }
  const silent = path.filter(({ answered }) => !answered).length
  throw new NetworkError(
    'unavailable',
    `the ring is broken on the way: ${silent} of ${path.length} members asked do not answer, and nobody else is known there; it is repaired by itself where enough of it is left`,
    { reason: 'ring_broken', path },
  )
}

async function asked(
  deps: LookupDeps,
  member: Member,
  key: RingId,
  signal: AbortSignal,
): Promise<RingStep | undefined> {
  try {
    return await deps.ask(member, key, signal)
  } catch (error) {
    if (signal.aborted) throw new NetworkError('cancelled', 'cancelled', {}, error)
    return undefined
  }
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
