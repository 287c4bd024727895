import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { type PeerContact, restOf } from '../contact.ts'
import type { RecordKey, RingRecord } from '../dht/protocol.ts'
import type { FloodHit } from '../flood/protocol.ts'
import { type LocateQuery, type LocateStrategy, type Provider, type Trace, visit } from './strategy.ts'

/** What the ring knows under a key. */
export interface RingAnswer {
  /** `witnesses`: of the replicas that answered, those that hold it */
  readonly records: readonly (RingRecord & { readonly witnesses: number })[]
  /** those that answered about the key */
  readonly replicas: number
  /** who was asked, in order */
  readonly path: readonly RingVisit[]
  /** members that answered one after the other */
  readonly hops: number
  /** who keeps the key's records is a guess: the ring is being repaired there */
  readonly unsure: boolean
}

interface RingVisit {
  readonly member: PeerContact
  readonly answered: boolean
}

/** The ring, as lookups see it. */
export interface RingRecords {
  /**
   * @param isThorough several replicas of a content are asked, as they are of a name
   * @throws NetworkError `unavailable` where no member can be asked (`alone`, `ring_broken`, with the `path` so far)
   */
  find(key: RecordKey, of: FileName | ContentId, signal: AbortSignal, isThorough?: boolean): Promise<RingAnswer>
}

/** Asks a peer, at its address, what it has itself. */
export type Confirm = (contact: PeerContact, what: LocateQuery, signal: AbortSignal) => AsyncIterable<FloodHit>

export interface ChordDeps {
  ring: RingRecords
  confirm: Confirm
  self: PeerId
}

/** A way through the ring with many dead members on it, each waited for, ms. */
const LOOKUP_MS = 5000
/** Providers asked whether they have it, and how many at a time. */
const MAX_PROVIDERS = 16
const AT_A_TIME = 8

type Exact = Exclude<LocateQuery, { kind: 'text' }>
type Found = RingAnswer['records'][number]

/**
 * Asks the ring for the records under a name or a content. A record is a provider's word that others keep: whoever is
 * named in one is asked itself, and only then told to the user. No probe: who is silent in the ring is known there.
 */
export class ChordStrategy implements LocateStrategy {
  readonly name = 'chord'
  readonly asked = 'the ring'
  readonly timeoutMs = LOOKUP_MS
  readonly kinds = ['name', 'id'] as const
  readonly #deps: ChordDeps

  constructor(deps: ChordDeps) {
    this.#deps = deps
  }

  async *locate(query: LocateQuery, trace: Trace, signal: AbortSignal): AsyncIterable<Provider> {
    if (query.kind === 'text') return
    const answer = await this.#find(query, trace, signal, false)
    trace.hops = answer.hops
    const first = candidatesIn(answer.records, query, this.#deps.self)
    yield* this.#told(answer, first, query, trace, signal)
    // Of a content one replica was asked. It may have lied, so that nothing is found.
    if (query.kind !== 'id' || first.length === 0 || first.some(({ confirmed }) => confirmed)) return
    const more = await this.#find(query, trace, signal, true).catch(() => signal.throwIfAborted())
    if (!more) return
    const known = new Set(first.map(({ contact }) => keyOf(contact)))
    const others = candidatesIn(more.records, query, this.#deps.self).filter(
      ({ contact }) => !known.has(keyOf(contact)),
    )
    if (others.length > 0) yield* this.#told(more, others, query, trace, signal)
  }

  /** Those of the providers that confirm, those first whose content most replicas name. */
  async *#told(
    { replicas, unsure }: RingAnswer,
    candidates: readonly Candidate[],
    query: Exact,
    trace: Trace,
    signal: AbortSignal,
  ): AsyncIterable<Provider> {
    const asked = candidates.slice(0, MAX_PROVIDERS)
    const kept = candidates.flatMap(({ records }) => records)
    const support = supportOf(kept)
    const supportFor = ({ id }: Provider) => (id === null ? 0 : (support.get(id) ?? 0))
    const most = Math.max(...support.values())
    const later: Provider[] = []
    for await (const { records: used, provider } of this.#confirmed(asked, query, trace, signal)) {
      for (const { content, ageMs } of used)
        if (content === provider.id) trace.ageMs = Math.max(trace.ageMs ?? 0, ageMs)
      if (supportFor(provider) === most) yield provider
      else later.push(provider)
    }
    yield* later.sort((a, b) => supportFor(b) - supportFor(a))
    const silent = asked.filter(({ confirmed }) => !confirmed).length
    const notes = [
      ...(query.kind === 'name' ? dissent(kept, replicas) : []),
      ...(silent > 0 ? [`${silent} of ${asked.length} provider${asked.length === 1 ? '' : 's'} did not confirm`] : []),
    ]
    trace.detail = [...(trace.detail === null ? [] : [trace.detail]), ...notes].join('; ') || null
    // Who did answer may not be the one that keeps the records.
    if (unsure && silent === asked.length)
      throw new NetworkError(
        'unavailable',
        'the ring is being repaired: who keeps the records of this is a guess at present; ask again in some seconds',
        { reason: 'ring_repairing' },
      )
  }

  async #find(query: Exact, trace: Trace, signal: AbortSignal, isThorough: boolean): Promise<RingAnswer> {
    const told = (path: readonly RingVisit[]) => {
      trace.messages += path.length
      for (const { member, answered } of path) visit(trace, member, answered)
    }
    try {
      const answer = await (query.kind === 'name'
        ? this.#deps.ring.find('name', query.name, signal)
        : this.#deps.ring.find('content', query.id, signal, isThorough))
      told(answer.path)
      return answer
    } catch (error) {
      if (error instanceof NetworkError && Array.isArray(error.details.path)) told(error.details.path)
      throw error
    }
  }

  /** What the providers themselves say that they have, as they answer. */
  async *#confirmed(
    asked: readonly Candidate[],
    query: Exact,
    trace: Trace,
    signal: AbortSignal,
  ): AsyncIterable<{ records: readonly Found[]; provider: Provider }> {
    const waiting = [...asked]
    const running = new Map<Candidate, Promise<{ candidate: Candidate; providers: Provider[] }>>()
    while (waiting.length > 0 || running.size > 0) {
      while (waiting.length > 0 && running.size < AT_A_TIME) {
        const candidate = waiting.shift()!
        trace.messages++
        running.set(
          candidate,
          this.#confirm(candidate, query, trace, signal).then((providers) => ({ candidate, providers })),
        )
      }
      const { candidate, providers } = await Promise.race(running.values())
      running.delete(candidate)
      candidate.confirmed = providers.length > 0
      for (const provider of providers) yield { records: candidate.records, provider }
    }
  }

  async #confirm(
    { contact, records }: Candidate,
    query: Exact,
    trace: Trace,
    signal: AbortSignal,
  ): Promise<Provider[]> {
    const providers: Provider[] = []
    try {
      for await (const hit of this.#deps.confirm(contact, query, signal)) {
        const provider = providerOf(hit, query, contact)
        if (provider) providers.push(provider)
        if (providers.length >= MAX_PROVIDERS) break
      }
    } catch (error) {
      // One that does not answer is no provider now; that it was cut short is the caller's to see.
      if (signal.aborted) throw error
      const youngest = Math.min(...records.map(({ ageMs }) => ageMs))
      if (trace.silent.length < MAX_PROVIDERS) trace.silent.push({ peer: contact.peer, age_ms: youngest })
    }
    return providers
  }
}

/** A peer at a host that records name, asked at the address of the youngest of them. */
interface Candidate {
  readonly contact: PeerContact
  readonly records: Found[]
  confirmed: boolean
}

/**
 * A provider's own answer, as lookups tell it; undefined where it was not asked for that. Its host is the one that it
 * was asked at.
 */
export function providerOf(
  hit: FloodHit,
  query: LocateQuery,
  asked: Pick<PeerContact, 'peer' | 'host' | 'grpcPort'>,
): Provider | undefined {
  if (hit.provider.peer !== asked.peer || !fits(hit, query)) return undefined
  const { peer, host, grpcPort: grpc_port } = asked
  const rest = restOf({ ...hit.provider, host })
  return { peer, rest, grpc_port, file: hit.name, id: hit.content, size: hit.size }
}

/** Whether this is what was asked for. Of part of a name, the one that finds it is the judge: folding is its business. */
function fits({ name, content }: Pick<FloodHit, 'name' | 'content'>, query: LocateQuery): boolean {
  if (query.kind === 'text') return true
  return query.kind === 'name' ? name === query.name : content === query.id
}

/** How many replicas name each content. */
function supportOf(records: readonly Found[]): Map<ContentId, number> {
  const support = new Map<ContentId, number>()
  for (const { content, witnesses } of records) support.set(content, Math.max(support.get(content) ?? 0, witnesses))
  return support
}

/** Records of contents that most replicas name first; of these, the young ones. */
function ranked(records: readonly Found[]): Found[] {
  const support = supportOf(records)
  return [...records].sort(
    (a, b) => support.get(b.content)! - support.get(a.content)! || b.witnesses - a.witnesses || a.ageMs - b.ageMs,
  )
}

function candidatesIn(records: readonly Found[], query: Exact, self: PeerId): Candidate[] {
  const candidates = new Map<string, Candidate & { ageMs: number }>()
  for (const record of ranked(records.filter((one) => fits(one, query) && one.provider.peer !== self))) {
    const { provider: contact, ageMs } = record
    const known = candidates.get(keyOf(contact))
    const all = [...(known?.records ?? []), record]
    if (known && known.ageMs <= ageMs) known.records.push(record)
    else candidates.set(keyOf(contact), { contact, ageMs, records: all, confirmed: false })
  }
  return [...candidates.values()]
}

/** Another one that bears its name elsewhere is another one. */
function keyOf({ peer, host }: PeerContact): string {
  return `${peer} ${host}`
}

/** That replicas name different contents: one may have lied, or missed something. */
function dissent(records: readonly Found[], replicas: number): string[] {
  const support = [...supportOf(records).values()].sort((a, b) => b - a)
  const others = support.filter((witnesses) => witnesses < support[0]!)
  return others.length === 0 ? [] : [`${others[0]} of ${replicas} replicas named another content`]
}
