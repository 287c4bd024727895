import { backoff } from '../../common/backoff.ts'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError } from '../../common/errors.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { type Component, Loop } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import { isEndState, type TransferBody, type TransferState } from '../../common/schemas.ts'
import type { Scout } from '../locate/scout.ts'
import type { DownloadRequest } from '../transfer/manager.ts'
import type { Offer, OfferBook, OfferChange } from './offer-book.ts'

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
  scout: Pick<Scout, 'isWorthwhile' | 'foundNobody'>
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
/** Between two tries, however often something new is heard: also of what keeps coming and keeps being in vain. */
const REST_MS = { first: 2000, longest: 60_000 }
/** A transfer that waits so long for a provider leaves its place to other offers; what it has stays. */
const PATIENCE_MS = 60_000
const IDLE_MS = 60_000
/** Until the disk is tried again, where it refused. */
const REFUSED_MS = 5000
/** As long as a receipt may tell of. */
const REASON = 500

interface Fetch {
  readonly offer: Offer
  readonly over: Promise<void>
  transfer: TransferBody | undefined
  waitingSince: number | undefined
  gaveUp: boolean
  /** bytes, as its manifest proves, where it was offered as of another size */
  otherSize: number | undefined
}

/** Fetches what was offered to this peer from whoever has it, a few at a time, until it is here or its time is over. */
export class OfferFetches implements Component {
  readonly #deps: OfferFetchesDeps
  readonly #loop: Loop
  readonly #running = new Set<Fetch>()
  /** what became of offers and could not be recorded yet */
  readonly #unrecorded = new Map<Offer, () => void>()
  /** the senders whose turn comes before any has another one */
  #round: PeerId[] = []
  /** the disk refused lately */
  #refused = false
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
    this.#refused = true
    this.#recordAgain()
    book.expire(clock.now())
    while (this.#free > 0) {
      const offer = this.#next()
      if (!offer) break
      this.#begin(offer)
    }
    this.#refused = false
  }

  /** One that is to be fetched now: each sender has its turn. */
  #next(): Offer | undefined {
    const { book, clock } = this.#deps
    const now = clock.now()
    for (;;) {
      if (this.#round.length === 0) this.#round = book.sendersDue(now)
      const sender = this.#round.shift()
      if (sender === undefined) return undefined
      const offer = book.fetchDue(sender, now)
      if (offer) return offer
    }
  }

  #begin(offer: Offer): void {
    this.#deps.book.change(offer, { fetchDue: null })
    let done = () => {}
    const over = new Promise<void>((resolve) => {
      done = resolve
    })
    const fetch: Fetch = {
      offer,
      over,
      transfer: undefined,
      waitingSince: undefined,
      gaveUp: false,
      otherSize: undefined,
    }
    this.#running.add(fetch)
    void this.#fetch(fetch)
      .catch((error: unknown) => this.#again(offer, asNetworkError(error).message))
      .then(() => {
        this.#running.delete(fetch)
        done()
        this.nudge()
      })
  }

  async #fetch(fetch: Fetch): Promise<void> {
    const { offer } = fetch
    const { transfers, existing, clock, scout } = this.#deps
    const { signal } = this.#stopping
    const { content: id, name } = offer
    if (existing(name) === id) {
      this.#end(offer, 'delivered', null)
      return
    }
    const begun = this.#paused(offer)
    if (!begun && !(await scout.isWorthwhile(id, signal))) {
      if (!signal.aborted) this.#again(offer, 'nobody is known to have it at present')
      return
    }
    if (signal.aborted) return
    const { transfer: number } = begun ?? transfers.start({ id, as: name })
    for await (const transfer of transfers.watch(number, signal)) {
      const before = fetch.transfer?.state
      fetch.transfer = transfer
      this.#checkSize(fetch, transfer)
      fetch.waitingSince = transfer.state === 'waiting' ? (fetch.waitingSince ?? clock.now()) : undefined
      // Its place may be free, or the wait for a provider has begun.
      if (transfer.state !== before) this.nudge()
    }
    const { transfer } = fetch
    // Otherwise this peer is stopping: its next run goes on.
    if (!transfer || !isEndState(transfer.state)) return
    if (transfer.error?.code === 'not_found') scout.foundNobody()
    const { state, problem } = outcomeOf(transfer, fetch, existing(name))
    // What brought some of it is tried again soon: its providers were there a moment ago.
    if (state === 'taken') this.#again(offer, problem, transfer.bytes > transfer.resumed_bytes ? 0 : offer.fetchTries)
    else this.#end(offer, state, problem)
  }

  /** A transfer of just this that its user has paused before: whoever asks again would resume it. */
  #paused({ content, name }: Offer): TransferBody | undefined {
    return this.#deps.transfers
      .list({ state: 'paused' })
      .find(({ id, file, direction }) => direction === 'download' && id === content && file === name)
  }

  /** Its user was told of another size: of so many bytes nobody has asked for. */
  #checkSize(fetch: Fetch, { pieces, size, state }: TransferBody): void {
    if (pieces === null || size === null || size === fetch.offer.size || isEndState(state)) return
    if (fetch.otherSize !== undefined) return
    fetch.otherSize = size
    this.#cancel(fetch)
  }

  #end(offer: Offer, state: 'delivered' | 'refused', problem: string | null): void {
    const { clock, log, onEnded } = this.#deps
    const now = clock.now()
    this.#record(offer, { state, changed: now, problem: problem?.slice(0, REASON) ?? null, mailDue: now, mailTries: 0 })
    log.info({ offer: offer.id, from: offer.peer, file: offer.name, state, problem }, 'an offer has ended')
    onEnded()
  }

  /** @param tries in vain before this one */
  #again(offer: Offer, problem: string, tries = offer.fetchTries): void {
    const { clock } = this.#deps
    const now = clock.now()
    this.#record(offer, {
      problem: problem.slice(0, REASON),
      fetchDue: now + backoff(RETRY_MS, tries),
      fetchTries: tries + 1,
      tried: now,
    })
  }

  /** On a disk that is full, as soon as there is room: until then it is as if it were under way. */
  #record(offer: Offer, change: OfferChange): void {
    const { book, log } = this.#deps
    const record = () => book.change(offer, change)
    try {
      record()
    } catch (error) {
      this.#unrecorded.set(offer, record)
      log.error({ offer: offer.id, err: error }, 'what became of an offer can not be recorded: tried again')
    }
  }

  #recordAgain(): void {
    for (const [offer, record] of this.#unrecorded) {
      record()
      this.#unrecorded.delete(offer)
      this.#deps.onEnded()
    }
  }

  #cancel({ transfer }: Fetch): void {
    const { transfers, log } = this.#deps
    try {
      transfers.cancel(transfer!.transfer)
    } catch (error) {
      log.debug({ transfer: transfer!.transfer, err: error }, 'a transfer ended just before it was left')
    }
  }

  #leaveWaiting(fetch: Fetch): void {
    const { clock } = this.#deps
    const { transfer, waitingSince } = fetch
    if (!transfer || waitingSince === undefined || clock.now() - waitingSince < PATIENCE_MS || fetch.gaveUp) return
    fetch.gaveUp = true
    this.#cancel(fetch)
  }

  #pause(): number {
    const { book, clock } = this.#deps
    if (this.#refused) return REFUSED_MS
    const now = clock.now()
    const waits = [...this.#running].flatMap(({ waitingSince }) => waitingSince ?? [])
    const idle = this.#unrecorded.size > 0 ? REFUSED_MS : IDLE_MS
    const next = Math.min(idle, ...waits.map((since) => since + PATIENCE_MS - now))
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
  { offer: { name, content, size }, gaveUp, otherSize }: Fetch,
  standing: ContentId | 'unknown' | undefined,
): Outcome {
  if (state === 'done') return { state: 'delivered', problem: null }
  if (state === 'simulated') return { state: 'delivered', problem: 'simulated' }
  if (otherSize !== undefined)
    return { state: 'refused', problem: `it has ${otherSize} bytes, and was offered as of ${size}` }
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
