import { NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import type { FloodHit, FloodQuery } from '../flood/protocol.ts'
import { UnansweredLimit } from '../overlay/party-limits.ts'
import { type Confirm, providerOf } from './chord.ts'
import type { LocateQuery, LocateStrategy, Provider, Trace } from './strategy.ts'

/** One ring of a search: how far it went, and what it took. */
interface Round {
  readonly ttl: number
  readonly scope: FloodQuery['scope']
  readonly messages: number
  /** that looked */
  readonly peers: number
}

/** Hits as they come back; to leave them takes the query back. */
export interface Search extends AsyncIterable<FloodHit> {
  readonly trace: { readonly messages: number; readonly peers: number; readonly rounds: readonly Round[] }
}

/** Queries to the neighbours, as lookups see them. */
export interface Searches {
  search(what: LocateQuery, signal: AbortSignal): Search
  confirm: Confirm
}

/** All rounds of an expanding ring, ms. */
const LOOKUP_MS = 6000
/** Hits that are asked about at a time, beside the search. */
const AT_A_TIME = 8

/**
 * Passes the query to the neighbours, and they to theirs. A hit of a neighbour is its own answer; one that came further
 * is others' word, so its provider is asked itself. No probe: another neighbour may answer each time.
 */
export class FloodStrategy implements LocateStrategy {
  readonly name = 'flood'
  readonly asked = 'the neighbours'
  readonly timeoutMs = LOOKUP_MS
  readonly #flood: Searches
  readonly #self: PeerId

  constructor(deps: { flood: Searches; self: PeerId }) {
    this.#flood = deps.flood
    this.#self = deps.self
  }

  async *locate(query: LocateQuery, trace: Trace, signal: AbortSignal): AsyncIterable<Provider> {
    const left = new AbortController()
    const search = this.#flood.search(query, AbortSignal.any([signal, left.signal]))
    const hits = search[Symbol.asyncIterator]()
    let heard = false
    const asked = new Set<string>()
    const unanswered = new UnansweredLimit()
    let unconfirmed = 0
    const confirming = new Set<Promise<Answer>>()
    let next: Promise<Answer> | undefined
    let over = false
    try {
      while (!over || confirming.size > 0) {
        // Where enough are asked about, the search waits: it is bounded by whoever reads it.
        if (!over && confirming.size < AT_A_TIME)
          next ??= hits.next().then(({ done, value }) => ({ hit: done ? undefined : value, from: 'search' }) as const)
        const answer = await Promise.race([...confirming, ...(next ? [next] : [])])
        if (answer.from === 'search') {
          next = undefined
          if (!answer.hit) over = true
          else {
            heard = true
            const checked = this.#check(answer.hit, asked, unanswered, query, trace, signal)
            if (checked) {
              const confirmed: Promise<Answer> = checked.then((providers) => ({
                from: 'provider',
                providers,
                confirmed,
              }))
              confirming.add(confirmed)
            }
          }
          continue
        }
        confirming.delete(answer.confirmed)
        if (answer.providers.length === 0) unconfirmed++
        yield* answer.providers
      }
      if (!heard && search.trace.peers === 0) throw silent(search)
    } finally {
      trace.messages += search.trace.messages
      trace.detail = [...roundsText(search), ...unconfirmedText(unconfirmed)].join('; ') || null
      for (const confirmed of confirming) confirmed.catch(() => {})
      // The search is taken back, and may wait for a neighbour yet.
      left.abort()
      hits.return?.().catch(() => {})
    }
  }

  /** What is confirmed of a hit; undefined where there is nothing to ask. */
  #check(
    hit: FloodHit,
    asked: Set<string>,
    unanswered: UnansweredLimit,
    query: LocateQuery,
    trace: Trace,
    signal: AbortSignal,
  ): Promise<Provider[]> | undefined {
    const { provider: contact, hops } = hit
    if (contact.peer === this.#self) return undefined
    const found = (providers: Provider[]) => {
      if (providers.length > 0) trace.hops = Math.min(trace.hops ?? hops, hops)
      return providers
    }
    const key = `${contact.peer} ${contact.host} ${contact.grpcPort}`
    if (hops <= 1) {
      const provider = providerOf(hit, query, contact)
      const name = `${key} ${hit.content} ${hit.name}`
      if (!provider || asked.has(name)) return undefined
      asked.add(name)
      return Promise.resolve(found([provider]))
    }
    if (asked.has(key) || !unanswered.begin(contact)) return undefined
    asked.add(key)
    trace.messages++
    return this.#confirm(hit, unanswered, query, signal).then(found)
  }

  async #confirm(
    { provider: contact }: FloodHit,
    unanswered: UnansweredLimit,
    query: LocateQuery,
    signal: AbortSignal,
  ): Promise<Provider[]> {
    const providers: Provider[] = []
    try {
      for await (const hit of this.#flood.confirm(contact, query, signal)) {
        const provider = providerOf(hit, query, contact)
        if (provider) providers.push(provider)
      }
      unanswered.answered(contact)
    } catch (error) {
      if (signal.aborted) throw error
    }
    return providers
  }
}

function silent({ trace: { messages } }: Search): NetworkError {
  const what = messages === 0 ? 'this peer has no neighbours' : 'none of the neighbours answers'
  return new NetworkError('unavailable', what, { reason: 'no_neighbours' })
}

/** `2 rounds: TTL 2 (7 peers, 12 messages), TTL 32 over the tree (212 peers, 260 messages)` */
function roundsText({ trace: { rounds } }: Search): string[] {
  if (rounds.length === 0) return []
  const each = rounds.map(
    ({ ttl, scope, peers, messages }) =>
      `TTL ${ttl}${scope === 'tree' ? ' over the tree' : ''} (${peers} peer${peers === 1 ? '' : 's'}, ${messages} message${messages === 1 ? '' : 's'})`,
  )
  return [`${rounds.length} round${rounds.length === 1 ? '' : 's'}: ${each.join(', ')}`]
}

function unconfirmedText(providers: number): string[] {
  return providers === 0 ? [] : [`${providers} provider${providers === 1 ? '' : 's'} that others named did not confirm`]
}

type Answer =
  | { readonly from: 'search'; readonly hit: FloodHit | undefined }
  | { readonly from: 'provider'; readonly providers: Provider[]; readonly confirmed: Promise<Answer> }
