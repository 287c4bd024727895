import { backoff } from '../../common/backoff.ts'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { type Component, Loop } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import { isEndState, type TransferBody, type TransferState } from '../../common/schemas.ts'
import type { DownloadRequest } from '../transfer/manager.ts'
import type { Offer, OfferBook } from './offer-book.ts'

/** The transfer manager, as far as offers need it. */
export interface OfferTransfers {
  start(request: DownloadRequest): TransferBody
  list(filter: { state?: TransferState | undefined }): TransferBody[]
  watch(number: string, signal: AbortSignal): AsyncIterable<TransferBody>
  cancel(number: string): TransferBody
}

export interface OfferFetchesDeps {
  book: OfferBook
  transfers: OfferTransfers
  /** What stands under the name in the shared folder. */
  existing: (name: FileName) => ContentId | 'unknown' | undefined
  /** an offer has ended here: its sender is to hear of it */
  onEnded: () => void
  clock: Clock
  log: Logger
}

/** Offers fetched at the same time; one that its user has paused is not counted. */
const TOGETHER = 4
/** Between two tries of one offer. */
const RETRY_MS = { first: 5000, longest: 3_600_000 }
/** Between two tries, however often something new is heard. */
const REST_MS = 2000
/** A transfer that waits so long for a provider leaves its place to other offers; what it has stays. */
const PATIENCE_MS = 60_000
const IDLE_MS = 60_000
/** As long as a receipt may tell of. */
const REASON = 500

interface Fetch {
  readonly offer: Offer
  readonly over: Promise<void>
  transfer: TransferBody | undefined
  waitingSince: number | undefined
  gaveUp: boolean
}

/** Fetches what was offered to this peer from whoever has it, a few at a time, until it is here or its time is over. */
export class OfferFetches implements Component {
  readonly #deps: OfferFetchesDeps
  readonly #loop: Loop
  readonly #running = new Set<Fetch>()
  readonly #stopping = new AbortController()

  constructor(deps: OfferFetchesDeps) {
    this.#deps = deps
    this.#loop = new Loop('offers', () => this.tick(), deps.log, {
      interval: () => this.#pause(),
      clock: deps.clock,
    })
  }

  start(): Promise<void> {
    return this.#loop.start()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop.stop()
    await Promise.all([...this.#running].map(({ over }) => over))
  }

  /** There is something to fetch. */
  nudge(): void {
    this.#loop.nudge()
  }

  /** There may be a provider now of this content, or of what this peer offered, or of anything. */
  hasten(which: { content?: ContentId; peer?: PeerId }): void {
    if (this.#deps.book.hasten(which, this.#deps.clock.now(), REST_MS)) this.nudge()
  }

  async tick(): Promise<void> {
    const { book, clock } = this.#deps
    for (const fetch of this.#running) this.#leaveWaiting(fetch)
    if (this.#stopping.signal.aborted) return
    book.expire(clock.now())
    for (const offer of book.fetchDue(clock.now(), this.#free)) this.#begin(offer)
  }

  #begin(offer: Offer): void {
    this.#deps.book.change(offer, { fetchDue: null })
    let done = () => {}
    const over = new Promise<void>((resolve) => {
      done = resolve
    })
    const fetch: Fetch = { offer, over, transfer: undefined, waitingSince: undefined, gaveUp: false }
    this.#running.add(fetch)
    void this.#fetch(fetch)
      .catch((error: unknown) => this.#again(offer, asNetworkError(error).message))
      .catch((error: unknown) => this.#deps.log.error({ offer: offer.id, err: error }, 'an offer was left as it is'))
      .then(() => {
        this.#running.delete(fetch)
        done()
        this.nudge()
      })
  }

  async #fetch(fetch: Fetch): Promise<void> {
    const { offer } = fetch
    const { transfers, existing, clock } = this.#deps
    const { content: id, name } = offer
    if (existing(name) === id) {
      this.#end(offer, 'delivered', null)
      return
    }
    const { transfer: number } = this.#paused(offer) ?? transfers.start({ id, as: name })
    for await (const transfer of transfers.watch(number, this.#stopping.signal)) {
      const before = fetch.transfer?.state
      fetch.transfer = transfer
      fetch.waitingSince = transfer.state === 'waiting' ? (fetch.waitingSince ?? clock.now()) : undefined
      // Its place may be free, or the wait for a provider has begun.
      if (transfer.state !== before) this.nudge()
    }
    const { transfer } = fetch
    // Otherwise this peer is stopping: its next run goes on.
    if (!transfer || !isEndState(transfer.state)) return
    const { state, problem } = outcomeOf(transfer, offer, existing(name), fetch.gaveUp)
    if (state === 'taken') this.#again(offer, problem)
    else this.#end(offer, state, problem)
  }

  /** A transfer of just this that its user has paused before: whoever asks again would resume it. */
  #paused({ content, name }: Offer): TransferBody | undefined {
    return this.#deps.transfers
      .list({ state: 'paused' })
      .find(({ id, file, direction }) => direction === 'download' && id === content && file === name)
  }

  #end(offer: Offer, state: 'delivered' | 'refused', problem: string | null): void {
    const { book, clock, log, onEnded } = this.#deps
    const now = clock.now()
    book.change(offer, { state, changed: now, problem: problem?.slice(0, REASON) ?? null, mailDue: now, mailTries: 0 })
    log.info({ offer: offer.id, from: offer.peer, file: offer.name, state, problem }, 'an offer has ended')
    onEnded()
  }

  #again(offer: Offer, problem: string): void {
    const { book, clock } = this.#deps
    const now = clock.now()
    const tries = book.find(offer)?.fetchTries ?? 0
    book.change(offer, {
      problem: problem.slice(0, REASON),
      fetchDue: now + backoff(RETRY_MS, tries),
      fetchTries: tries + 1,
      tried: now,
    })
  }

  #leaveWaiting(fetch: Fetch): void {
    const { clock, transfers, log } = this.#deps
    const { transfer, waitingSince } = fetch
    if (!transfer || waitingSince === undefined || clock.now() - waitingSince < PATIENCE_MS || fetch.gaveUp) return
    fetch.gaveUp = true
    try {
      transfers.cancel(transfer.transfer)
    } catch (error) {
      log.debug({ transfer: transfer.transfer, err: error }, 'a transfer ended just before it was left')
    }
  }

  #pause(): number {
    const { book, clock } = this.#deps
    const now = clock.now()
    const waits = [...this.#running].flatMap(({ waitingSince }) => waitingSince ?? [])
    const next = Math.min(IDLE_MS, ...waits.map((since) => since + PATIENCE_MS - now))
    const due = this.#free > 0 ? (book.nextDue('fetch') ?? Number.POSITIVE_INFINITY) - now : next
    return Math.max(0, Math.min(next, due))
  }

  get #free(): number {
    const busy = [...this.#running].filter(({ transfer }) => transfer?.state !== 'paused').length
    return Math.max(0, TOGETHER - busy)
  }
}

type Outcome = { state: 'delivered' | 'refused'; problem: string | null } | { state: 'taken'; problem: string }

/** What a transfer that has ended means for its offer; `taken`: it is to be tried again. */
function outcomeOf(
  { state, error }: TransferBody,
  { name, content }: Offer,
  standing: ContentId | 'unknown' | undefined,
  gaveUp: boolean,
): Outcome {
  if (state === 'done') return { state: 'delivered', problem: null }
  if (state === 'simulated') return { state: 'delivered', problem: 'simulated' }
  if (gaveUp) return { state: 'taken', problem: 'nobody who has the rest of it is there' }
  if (state === 'cancelled') return { state: 'refused', problem: 'its user has cancelled it' }
  if (standing !== undefined && standing !== 'unknown' && standing !== content)
    return {
      state: 'refused',
      problem: `it shares another content as "${name}", which stays as it is: send yours under another name`,
    }
  if (error?.code === 'invalid') return { state: 'refused', problem: error.message }
  return { state: 'taken', problem: error?.message ?? 'the transfer failed' }
}
