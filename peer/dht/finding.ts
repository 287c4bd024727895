import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { Visit } from './lookup.ts'
import type { Pointers } from './pointers.ts'
import type { RecordKey, RingFound, RingRecord } from './protocol.ts'
import { between, type Member, placeOfContent, placeOfName, type RingId } from './ring.ts'
import type { RingCalls } from './ring-calls.ts'

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

export interface FindingDeps {
  pointers: Pointers
  calls: RingCalls
  /** what this member keeps itself */
  own(): Pick<RingFound, 'records' | 'more'>
}

/**
 * One search for the records of a name or a content: first at the member that is responsible. Of a name several replicas
 * are asked, and of a content where the first has none: one alone may lie, or be new.
 */
export class Finding {
  readonly #deps: FindingDeps
  readonly #key: RecordKey
  readonly #of: FileName | ContentId
  readonly #place: RingId
  readonly #path: Visit[] = []
  readonly #answers: RingFound[] = []
  readonly #asked = new Set<RingId>()
  #waiting: Member[] = []
  #owner: Member | undefined
  /** members on the path until the owner answered */
  #until = 0
  #unsure = false
  readonly #isThorough: boolean

  /** @param isThorough several replicas of a content are asked, too */
  constructor(deps: FindingDeps, key: RecordKey, of: FileName | ContentId, isThorough = false) {
    this.#deps = deps
    this.#key = key
    this.#of = of
    this.#isThorough = isThorough || key === 'name'
    this.#place = key === 'name' ? placeOfName(of as FileName) : placeOfContent(of as ContentId)
  }

  /** @throws NetworkError `unavailable` (`reason`: `ring_broken`), `cancelled`; `path`: who was asked until then */
  async run(signal: AbortSignal): Promise<RingFinding> {
    try {
      return await this.#run(signal)
    } catch (error) {
      const { code, message, details } = asNetworkError(error)
      throw new NetworkError(code, message, { ...details, path: this.#path }, error)
    }
  }

  async #run(signal: AbortSignal): Promise<RingFinding> {
    const { pointers, calls } = this.#deps
    const lookup = calls.lookup(this.#place)
    for (let way = 0; !this.#isEnough; ) {
      const next = this.#waiting.shift()
      if (next) {
        if (!this.#asked.has(next.id)) await this.#ask(next, signal)
        continue
      }
      // Where all members are known, all that follow the key were asked.
      if (this.#asked.size > 0 && pointers.isComplete) break
      // Those named by one that is far from the key may be few, and all of them gone.
      const more = await lookup.next(signal).catch(asNetworkError)
      this.#path.push(...lookup.path.slice(way))
      way = lookup.path.length
      if (more instanceof NetworkError) {
        if (more.code === 'cancelled' || this.#asked.size === 0) throw more
        break
      }
      this.#unsure ||= more.unsure && this.#owner === undefined
      this.#waiting = more.owners.filter(({ id }) => !this.#asked.has(id))
    }
    if (this.#answers.length === 0)
      throw new NetworkError(
        'unavailable',
        `the ring is broken: none of the ${this.#asked.size} members that follow the key answers; it is repaired by itself where enough of it is left`,
        { reason: 'ring_broken' },
      )
    const hops = this.#path.slice(0, this.#until).filter(({ answered }) => answered).length
    return {
      records: merged(this.#answers),
      owner: this.#owner,
      replicas: this.#answers.length,
      path: this.#path,
      hops,
      timeouts: this.#until - hops,
      // Where nobody of all that follow answers, those beyond them may hold what this one does not.
      unsure: this.#unsure || pointers.isLost,
    }
  }

  get #isEnough(): boolean {
    const isFound = this.#answers.some(({ records }) => records.length > 0)
    return this.#answers.length >= COMPARED || (!this.#isThorough && isFound)
  }

  async #ask(member: Member, signal: AbortSignal): Promise<void> {
    const { pointers, calls, own } = this.#deps
    this.#asked.add(member.id)
    const isSelf = member.id === pointers.id
    const found = isSelf
      ? { ...own(), predecessor: pointers.predecessor }
      : await calls.ask(member, (network, to) => network.find(to, this.#key, this.#of, signal), signal)
    if (!isSelf) this.#path.push({ member, answered: found !== undefined })
    if (!found) return
    this.#answers.push(found)
    if (this.#owner && !this.#isNearer(member, this.#owner)) return
    this.#owner = member
    this.#until = this.#path.length
    // One that has joined since is responsible in its place, where it answers.
    const { predecessor } = found
    if (predecessor && this.#isNearer(predecessor, member)) this.#waiting.unshift(predecessor)
  }

  /** Whether one follows the key before the other. */
  #isNearer({ id }: Member, other: Member): boolean {
    return id === this.#place || between(this.#place, id, other.id)
  }
}

/** Each provider's word once, the freshest; those that most replicas hold first. */
function merged(answers: readonly RingFound[]): FoundRecord[] {
  const found = new Map<string, FoundRecord>()
  for (const { records } of answers) {
    // However often one replica repeats it.
    const told = new Set<string>()
    for (const record of records) {
      const { peer, host, grpcPort } = record.provider
      const of = `${peer} ${host} ${grpcPort} ${record.content} ${record.name}`
      const other = found.get(of)
      const freshest = other && other.ageMs <= record.ageMs ? other : record
      const witnesses = (other?.witnesses ?? 0) + (told.has(of) ? 0 : 1)
      told.add(of)
      found.set(of, { ...freshest, witnesses })
    }
  }
  return [...found.values()].sort((a, b) => b.witnesses - a.witnesses || a.ageMs - b.ageMs)
}
