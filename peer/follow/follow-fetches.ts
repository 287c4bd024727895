import type { Clock } from '../../common/clock.ts'
import { asNetworkError, type ErrorCode, NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, printable } from '../../common/ids.ts'
import { PartyLimits } from '../../common/party-limits.ts'
import { isEndState, type TransferBody, type TransferState } from '../../common/schemas.ts'
import type { Scout } from '../locate/scout.ts'
import type { Landing } from '../transfer/contents.ts'
import type { TransferManager } from '../transfer/manager.ts'
import { Turns } from './turns.ts'

export interface FollowFetchesDeps {
  transfers: Pick<TransferManager, 'start' | 'watch' | 'cancel'>
  catalog: Pick<Landing, 'existing'>
  scout: Pick<Scout, 'isWorthwhile' | 'foundNobody'>
  clock: Clock
  /** what becomes of what was added; each name is told at most one end */
  onEnd: (name: FileName, end: FetchEnd) => void
  /** Its turn has come. @returns whether it is wanted still; what is not ends no more */
  onTurn: (name: FileName) => boolean
  /** It has so many bytes, as is proven now; what is refused is stopped and ends no more. */
  onSize: (name: FileName, bytes: number) => 'wanted' | 'refused'
  /** something may be due earlier than `dueMs` told */
  onChange: () => void
}

export type FetchEnd =
  | { readonly outcome: 'landed' }
  /** the user has cancelled it among the transfers */
  | { readonly outcome: 'declined' }
  | { readonly outcome: 'failed'; readonly why: string }

/** Transfers at the same time that don't just wait for a provider; the user's own have places of their own beside them. */
const PLACES = 4
/** Those that wait for a provider included. */
const MAX_UNDER_WAY = 32
/** Of these, those that wait for a provider and that one peer told of. */
const MAX_WAITING_OF_ONE = 8
/** Contents that one peer told of and nobody has. What it tells beyond is left aside for a while. */
const MISSES = { perSecond: 5, atOnce: 200 }
/** One without any provider for so long is given up, ms: its verified bytes stay for another time. */
const PATIENCE_MS = 120_000
/** Between attempts. Who hears of a file at once may be earlier than its provider's lease, so the first ones come soon. */
const PAUSES_MS = [250, 1000, 5000, 20_000, 60_000]
/** Such a failure is the same in a minute. */
const FINAL: readonly ErrorCode[] = ['conflict', 'forbidden', 'invalid', 'too_large']
const IDLE_MS = 60_000
const WAITING: { readonly [S in TransferState]?: 'provider' | 'user' } = { waiting: 'provider', paused: 'user' }

interface Fetch {
  readonly name: FileName
  readonly id: ContentId
  /** who told of it */
  readonly peer: string
  attempts: number
  /** ms since the epoch, before which it isn't tried */
  due: number
  /** the number of its transfer */
  transfer?: string
  /** bytes, as its manifest proves */
  proven?: number
  /** what it waits for, since when, in ms since the epoch; undefined while it takes a place */
  waits?: { for: 'provider' | 'user'; since: number } | undefined
}

/** Has what follows want fetched by transfers, a few at a time, and tries again what fails. */
export class FollowFetches {
  readonly #deps: FollowFetchesDeps
  readonly #ready = new Turns<Fetch>()
  readonly #later = new Map<FileName, Fetch>()
  readonly #underWay = new Map<FileName, Fetch>()
  readonly #watching = new Set<Promise<void>>()
  readonly #misses: PartyLimits
  readonly #stopping = new AbortController()

  constructor(deps: FollowFetchesDeps) {
    this.#deps = deps
    this.#misses = new PartyLimits(MISSES, () => deps.clock.now())
  }

  /**
   * Whether what is to be fetched under that name gives way to what this peer says now: it was its own word, or was tried
   * in vain. So nobody takes from others what is on its way to them.
   */
  yields(name: FileName, peer: string): boolean {
    const fetch = this.#underWay.get(name) ?? this.#later.get(name) ?? this.#ready.get(name)
    return !fetch || fetch.peer === peer || (fetch.attempts > 0 && fetch.proven === undefined)
  }

  /** In place of another content under that name; `peer` told of it. */
  add(name: FileName, id: ContentId, peer: string): void {
    this.cancel(name)
    this.#ready.add({ name, id, peer, attempts: 0, due: 0 })
    this.#deps.onChange()
  }

  /** Ends it, and tells no end. */
  cancel(name: FileName): void {
    this.#ready.delete(name)
    this.#later.delete(name)
    const fetch = this.#underWay.get(name)
    if (!fetch) return
    this.#underWay.delete(name)
    try {
      if (fetch.transfer !== undefined) this.#deps.transfers.cancel(fetch.transfer)
    } catch {
      // It has ended this moment.
    }
    this.#deps.onChange()
  }

  /** Starts what is due, as far as there are places. */
  tick(): void {
    const now = this.#deps.clock.now()
    for (const fetch of this.#later.values())
      if (fetch.due <= now) {
        this.#later.delete(fetch.name)
        this.#ready.add(fetch)
      }
    for (const { name, peer, waits } of [...this.#underWay.values()])
      if (waits?.for === 'provider' && now - waits.since >= PATIENCE_MS) {
        this.cancel(name)
        this.#misses.take(peer)
        this.#deps.onEnd(name, failed('none of those who have it answers'))
      }
    while (this.#placesTaken() < PLACES && this.#underWay.size < MAX_UNDER_WAY) {
      const fetch = this.#ready.next((peer) => this.#waitingOf(peer) >= MAX_WAITING_OF_ONE)
      if (!fetch) return
      this.#begin(fetch)
    }
  }

  /** ms until `tick` may have something to do */
  dueMs(): number {
    const now = this.#deps.clock.now()
    let due = now + IDLE_MS
    for (const fetch of this.#later.values()) due = Math.min(due, fetch.due)
    for (const { waits } of this.#underWay.values())
      if (waits?.for === 'provider') due = Math.min(due, waits.since + PATIENCE_MS)
    return Math.max(0, due - now)
  }

  /** The transfers go on, or are taken up again by the next run. */
  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all(this.#watching)
  }

  #placesTaken(): number {
    let taken = 0
    for (const { waits } of this.#underWay.values()) if (!waits) taken++
    return taken
  }

  #waitingOf(peer: string): number {
    let waiting = 0
    for (const fetch of this.#underWay.values()) if (fetch.peer === peer && fetch.waits) waiting++
    return waiting
  }

  #begin(fetch: Fetch): void {
    const { catalog, onEnd, onTurn } = this.#deps
    const { name, id, peer } = fetch
    const existing = catalog.existing(name)
    if (existing === id) {
      onEnd(name, { outcome: 'landed' })
      return
    }
    if (!onTurn(name)) return
    if (this.#misses.left(peer) < 1) {
      onEnd(name, failed(`${printable(peer)} tells of much that nobody has: looked for again later`))
      return
    }
    if (existing === 'unknown') {
      this.#failed(fetch, new NetworkError('unavailable', IN_THE_WAY))
      return
    }
    this.#underWay.set(name, fetch)
    const watching = this.#run(fetch)
      .catch((error: unknown) => {
        if (this.#underWay.get(name) !== fetch) return
        this.#underWay.delete(name)
        this.#failed(fetch, error)
      })
      .finally(() => this.#watching.delete(watching))
    this.#watching.add(watching)
  }

  async #run(fetch: Fetch): Promise<void> {
    const { transfers, scout } = this.#deps
    const { signal } = this.#stopping
    const { name, id } = fetch
    const worthwhile = await scout.isWorthwhile(id, signal)
    if (signal.aborted || this.#underWay.get(name) !== fetch) return
    if (!worthwhile) throw new NetworkError('not_found', 'nobody is known to have it', { asked: 'few' })
    fetch.transfer = transfers.start({ id, as: name }).transfer
    await this.#watch(fetch)
  }

  async #watch(fetch: Fetch): Promise<void> {
    const { transfers, clock, onChange } = this.#deps
    let last: TransferBody | undefined
    for await (const transfer of transfers.watch(fetch.transfer!, this.#stopping.signal)) {
      if (this.#underWay.get(fetch.name) !== fetch) return
      last = transfer
      if (this.#isRefused(fetch, transfer)) return
      const waits = WAITING[transfer.state]
      if (waits === fetch.waits?.for) continue
      fetch.waits = waits && { for: waits, since: clock.now() }
      onChange()
    }
    if (this.#underWay.get(fetch.name) !== fetch || !last || !isEndState(last.state)) return
    this.#underWay.delete(fetch.name)
    this.#ended(fetch, last)
    onChange()
  }

  /** What a provider claims is one thing; with the manifest the size is certain, before much has come. */
  #isRefused(fetch: Fetch, { pieces, size }: TransferBody): boolean {
    if (pieces === null || size === null || size === fetch.proven) return false
    fetch.proven = size
    if (this.#deps.onSize(fetch.name, size) === 'wanted') return false
    this.cancel(fetch.name)
    return true
  }

  #ended(fetch: Fetch, { state, error }: TransferBody): void {
    const { onEnd } = this.#deps
    if (state === 'done') onEnd(fetch.name, { outcome: 'landed' })
    else if (state === 'cancelled') onEnd(fetch.name, { outcome: 'declined' })
    else if (state === 'simulated')
      onEnd(fetch.name, failed('it was only simulated: this agent or its providers are in dummy mode'))
    else this.#failed(fetch, NetworkError.fromBody({ error }) ?? new NetworkError('internal', 'the transfer failed'))
  }

  #failed(fetch: Fetch, error: unknown): void {
    const { code, message, details } = asNetworkError(error)
    if (code === 'not_found') {
      this.#misses.take(fetch.peer)
      if (details.asked !== 'few') this.#deps.scout.foundNobody()
    }
    const pause = PAUSES_MS[fetch.attempts++]
    if (pause === undefined || FINAL.includes(code) || details.reason === 'disk_full') {
      this.#deps.onEnd(fetch.name, failed(message))
      return
    }
    fetch.due = this.#deps.clock.now() + pause
    this.#later.set(fetch.name, fetch)
    this.#deps.onChange()
  }
}

const IN_THE_WAY = 'a file of this name is here, and its content is not known yet'

function failed(why: string): FetchEnd {
  return { outcome: 'failed', why }
}
