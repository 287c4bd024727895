import { hostPort } from '../../common/address.ts'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { pieceCount, pieceLength } from '../../common/merkle.ts'
import { CreditLimit } from './credit-limit.ts'
import type { DownloadObserver, ProviderReport } from './download.ts'
import type { Known, KnownProviders } from './known-providers.ts'
import { lengthOf } from './runs.ts'
import {
  type Contact,
  LocalFailure,
  type PieceSink,
  type PieceSource,
  type PieceStream,
  type ProviderEvent,
  Simulates,
} from './source.ts'
import type { SwarmState } from './swarm-state.ts'

export interface SwarmDeps {
  clock: Clock
  state: SwarmState
  /** who is asked; those found on the way are added */
  providers: KnownProviders
  sink: PieceSink
  /** The piece is verified and written. May throw where this peer's disk refuses to remember it. */
  keep(piece: number): void
  /** Who else has the content: see Download.discover. */
  discover?: ((signal: AbortSignal) => Promise<readonly PieceSource[]>) | undefined
  /** How to reach a taker that the provider at `from` named; undefined where it is nobody to call. */
  sourceAt?: ((contact: Contact, from: string) => PieceSource | undefined) | undefined
  /** bytes a second that may be fetched; undefined: no limit */
  rate?: (() => number | undefined) | undefined
  observer: DownloadObserver | undefined
}

export interface SwarmOptions {
  /** where no provider is left: wait until one is back, unless all that are known lied or simulate (default false) */
  patient?: boolean
  /** one that sends nothing of a piece that it has begun for this long is dropped, ms (default 15,000) */
  stallMs?: number
}

/** Providers talked to at the same time. */
const MAX_PROVIDERS = 50
/** Where there are more, who has given nothing for this long makes room, ms. */
const MAY_BE_USELESS_MS = 10_000
/** A single provider this fast is talked to over a second conversation too, bytes a second… */
const LANE_RATE = 150_000_000
/** …while so many pieces are left. */
const LANE_PIECES = 32
/** Addresses that only others named, tried at once, and after that a second: nobody is to be flooded by hearsay. */
const HINTS_AT_ONCE = 32
const HINTS_A_SECOND = 4
/** The largest frame over a conversation that was told a rate, bytes: it counts as silence until it is whole. */
const LIMITED_FRAME = 128 * 1024
/** How often slow providers, limits and silence are looked after, ms. */
const TICK_MS = 250
/** What is not urgent is told together, this late at most, ms: a message to each provider for each piece costs too much. */
const TELL_MS = 10
/** Who else has it is asked this often while there are providers, ms… */
const DISCOVER_MS = 30_000
/** …and otherwise after this long, doubled each time. */
const DISCOVER_SOON_MS = 1000
const MAX_PAUSE_MS = 60_000
/** Something is said this often at least, so that the provider knows of the taker, ms. */
const KEEP_ALIVE_MS = 20_000

/** A conversation under way. */
interface Live {
  /** of the state's provider: its address, and `#2` where it is the second one with it */
  readonly key: string
  readonly known: Known
  readonly stream: PieceStream
  readonly since: number
  saidAt: number
  /** Silence before this says nothing of the provider: it was not asked for anything, or this peer was busy. */
  askedAt: number
  /** bytes that are still to come of the piece under way */
  coming: number
  /** pieces that it told of, counting those that it told of twice */
  told: number
  /** credit that the limit holds back, pieces */
  owed: number
  /** credit that was given, and not used yet, pieces */
  unused: number
  /** what the provider was told last, bytes a second */
  rate: number
  ended: Promise<void>
}

/**
 * One content from many providers: talks to all of them at once, tells the state what comes and them what the state
 * wants, and finds more where somebody may know them.
 */
export class Swarm {
  readonly #deps: SwarmDeps
  readonly #options: Required<SwarmOptions>
  readonly #live = new Map<string, Live>()
  /** what ends by itself, and is awaited at the end */
  readonly #closing = new Set<Promise<void>>()
  readonly #stopping = new AbortController()
  readonly #limit: CreditLimit
  #wakening = new AbortController()
  #fatal: NetworkError | undefined
  #discovering = false
  #discoverAt: number
  #discoveries = 0
  #waiting = false
  #hints = HINTS_AT_ONCE
  #hintsAt: number
  #flushing = false

  constructor(deps: SwarmDeps, options: SwarmOptions = {}) {
    const { clock, sink, rate } = deps
    this.#deps = deps
    this.#options = { patient: false, stallMs: 15_000, ...options }
    this.#limit = new CreditLimit(clock, sink.manifest.pieceSize, rate)
    // Others are looked for at once, beside the first conversations.
    this.#discoverAt = clock.now()
    this.#hintsAt = clock.now()
  }

  /**
   * Runs until every piece is here, or nobody is left to ask.
   * @throws NetworkError `cancelled`; this peer's own failure, such as a full disk
   */
  async run(signal: AbortSignal): Promise<void> {
    const { state, clock, providers } = this.#deps
    const abort = () => {
      this.#stopping.abort()
      this.#wake()
    }
    signal.addEventListener('abort', abort, { once: true })
    try {
      if (signal.aborted) abort()
      providers.parted()
      while (!state.complete && !this.#fatal && !this.#stopping.signal.aborted) {
        this.#wakening = new AbortController()
        const pause = this.#tick()
        if (pause === undefined) return
        await clock.sleep(pause, this.#wakening.signal)
      }
    } finally {
      signal.removeEventListener('abort', abort)
      this.#stopping.abort()
      await Promise.all([...this.#closing, ...[...this.#live.values()].map(({ ended }) => ended)])
      this.#report()
    }
    if (signal.aborted) throw new NetworkError('cancelled', 'cancelled')
    if (this.#fatal) throw this.#fatal
  }

  /** One look at everything: ms until the next, undefined where nobody is left. */
  #tick(): number | undefined {
    const now = this.#deps.clock.now()
    this.#dropSilent(now)
    this.#connect(now)
    this.#deps.state.tick(now)
    this.#flush()
    this.#report()
    if (this.#live.size > 0) {
      this.#discover(now)
      return TICK_MS
    }
    if (this.#nobodyToAsk && (!this.#options.patient || this.#deps.providers.hopeless)) return undefined
    this.#discover(now)
    return this.#wait(now)
  }

  get #nobodyToAsk(): boolean {
    return !this.#discovering && (!this.#deps.discover || this.#discoveries > 0)
  }

  /** Nobody is there: until when, ms. */
  #wait(now: number): number {
    const asksAt = this.#deps.discover && !this.#discovering ? this.#discoverAt : now + MAX_PAUSE_MS
    const pause = Math.max(TICK_MS, Math.min(asksAt, this.#deps.providers.nextDue) - now)
    if (this.#options.patient && !this.#discovering) {
      this.#waiting = true
      this.#deps.observer?.onWaiting?.(pause)
    }
    return pause
  }

  #connect(now: number): void {
    this.#hints = Math.min(HINTS_AT_ONCE, this.#hints + (HINTS_A_SECOND * Math.max(0, now - this.#hintsAt)) / 1000)
    this.#hintsAt = now
    for (const known of this.#deps.providers.due(now)) {
      const { hint, address } = known.source
      if (hint && this.#hints < 1) continue
      if (this.#live.size >= MAX_PROVIDERS && !this.#makeRoom(known, now)) continue
      if (hint) this.#hints--
      this.#open(known, address)
    }
    this.#openLane(now)
  }

  /** At the cost of one that has given nothing: a hint at once for who was located, otherwise only after some time. */
  #makeRoom({ source }: Known, now: number): boolean {
    for (const live of this.#live.values()) {
      const atOnce = live.known.source.hint && !source.hint
      if (live.known.verified > 0 || this.#deps.state.report(live.key, now).underWay > 0) continue
      if (!atOnce && now - live.since < MAY_BE_USELESS_MS) continue
      this.#end(live, new NetworkError('unavailable', 'has given nothing, and others wait'))
      return true
    }
    return false
  }

  /** One connection is the work of one core: where a single provider could give more, it gets a second one. */
  #openLane(now: number): void {
    const { state, sink } = this.#deps
    const [only] = this.#live.values()
    if (!only || this.#live.size > 1 || sink.dummy || only.known.source.single) return
    if (only.key === laneOf(only.known)) return
    if (state.report(only.key, now).rate < LANE_RATE || state.left < LANE_PIECES) return
    this.#open(only.known, laneOf(only.known))
  }

  #open(known: Known, key: string): void {
    const { state, sink, clock, providers } = this.#deps
    const now = clock.now()
    let stream: PieceStream
    try {
      stream = known.source.open(sink, this.#stopping.signal)
    } catch (error) {
      this.#failed(known, asNetworkError(error))
      return
    }
    providers.connected(known)
    state.add(key, now)
    const times = { since: now, saidAt: now, askedAt: now }
    const live: Live = {
      key,
      known,
      stream,
      ...times,
      coming: 0,
      told: 0,
      owed: 0,
      unused: 0,
      rate: 0,
      ended: Promise.resolve(),
    }
    this.#live.set(key, live)
    live.ended = this.#converse(live)
  }

  async #converse(live: Live): Promise<void> {
    const { stream } = live
    let fault: unknown = new NetworkError('unavailable', 'ended the conversation early')
    const abort = () => void stream.close()
    this.#stopping.signal.addEventListener('abort', abort, { once: true })
    try {
      for await (const event of stream.events()) {
        this.#apply(live, event)
        this.#flushSoon()
        if (this.#stopping.signal.aborted) break
      }
    } catch (error) {
      fault = error
    }
    this.#stopping.signal.removeEventListener('abort', abort)
    // What went wrong counts before what closing makes of it.
    this.#end(live, fault)
    await stream.close().catch(() => {})
    this.#wake()
  }

  #apply(live: Live, event: ProviderEvent): void {
    const { key, known } = live
    const { state, clock, observer, sink, providers } = this.#deps
    const now = clock.now()
    switch (event.kind) {
      case 'have':
        live.told += lengthOf(event.pieces)
        if (live.told > 2 * pieceCount(sink.manifest.size, sink.manifest.pieceSize) + 1000)
          throw new NetworkError('corrupt', 'tells of the same pieces again and again')
        state.has(key, event.pieces, now)
        known.pieces = state.report(key, now).holds
        return
      case 'takers':
        // Who pushes may be anybody, and can give everything itself.
        if (known.source.single) return
        for (const contact of event.contacts) {
          if (providers.has(hostPort(contact.host, contact.grpcPort))) continue
          const source = this.#deps.sourceAt?.(contact, known.source.address)
          if (source) this.#add(source)
        }
        return
      case 'begun':
        live.coming = pieceLength(sink.manifest, event.piece)
        live.unused--
        state.begun(key, event.piece, now)
        return
      case 'bytes':
        live.coming -= event.bytes
        if (!sink.dummy) observer?.onReceived?.(event.bytes)
        state.bytes(key, event.bytes, now)
        return
      case 'abandoned':
        state.failed(key, event.piece, now)
        return
      case 'piece': {
        live.askedAt = now
        if (!event.right) throw new NetworkError('corrupt', `sent wrong bytes in piece ${event.piece}`)
        try {
          this.#deps.keep(event.piece)
        } catch (error) {
          throw new LocalFailure('this peer could not keep a piece', { cause: error })
        }
        if (this.#waiting) {
          this.#waiting = false
          observer?.onResumed?.()
        }
        const fresh = state.verified(key, event.piece, now)
        providers.proved(known)
        if (!fresh) return
        const bytes = pieceLength(sink.manifest, event.piece)
        known.verified += bytes
        this.#openLane(now)
        observer?.onVerified?.(known.source.peer, bytes, event.piece)
        if (state.complete) this.#wake()
      }
    }
  }

  #add(source: PieceSource): void {
    if (this.#deps.providers.add(source)) this.#wake()
  }

  #flushSoon(): void {
    if (this.#deps.state.urgent) this.#flush()
    else if (!this.#flushing) {
      this.#flushing = true
      this.#awaitAtEnd(
        this.#deps.clock.sleep(TELL_MS, this.#stopping.signal).then(() => {
          this.#flushing = false
          if (!this.#stopping.signal.aborted) this.#flush()
        }),
      )
    }
  }

  /** Tells providers what the state wants of them, as far as the limit lets it. */
  #flush(): void {
    const { state, clock } = this.#deps
    const now = clock.now()
    const changes = new Map(state.changes())
    const grants = new Map<Live, number>()
    // Who was told something longest ago comes first, so that what a limit gives goes round.
    for (const live of [...this.#live.values()].sort((a, b) => a.saidAt - b.saidAt)) {
      live.owed += changes.get(live.key)?.credit ?? 0
      const usable = Math.min(live.owed, state.report(live.key, now).next - live.unused)
      const credit = usable > 0 ? this.#limit.take(usable) : 0
      if (credit === 0) continue
      if (this.#isIdle(live, now)) live.askedAt = now
      live.owed -= credit
      live.unused += credit
      grants.set(live, credit)
    }
    const sending = [...this.#live.values()].filter((live) => !this.#isIdle(live, now)).length
    for (const live of this.#live.values()) {
      const change = changes.get(live.key)
      const credit = grants.get(live) ?? 0
      const rate = this.#isIdle(live, now) ? undefined : this.#limit.share(live.rate, sending)
      if (!change && credit === 0 && rate === undefined && now - live.saidAt < KEEP_ALIVE_MS) continue
      live.rate = rate ?? live.rate
      live.saidAt = now
      live.stream.want({ ...change, credit, ...(rate === undefined ? {} : { rate }) })
    }
  }

  /** It may send nothing at present. */
  #isIdle({ key, unused }: Live, now: number): boolean {
    const { begun, next } = this.#deps.state.report(key, now)
    return begun === 0 && Math.min(next, unused) <= 0
  }

  #dropSilent(now: number): void {
    const { stallMs } = this.#options
    for (const live of this.#live.values()) {
      const { silentMs, begun, holds } = this.#deps.state.report(live.key, now)
      if (!this.#options.patient && holds === 0 && now - live.since > 4 * stallMs)
        this.#end(live, new NetworkError('unavailable', 'has told of no piece', { reason: 'timeout' }))
      // What came whole may wait for this peer's disk.
      if (this.#isIdle(live, now) || (begun > 0 && live.coming <= 0)) continue
      // One that has begun nothing may have others in line before this peer.
      const patience = (begun > 0 ? 1 : 4) * stallMs + (live.rate > 0 ? (2 * LIMITED_FRAME * 1000) / live.rate : 0)
      const silence = Math.min(silentMs, now - live.askedAt)
      if (silence < patience) continue
      const message = `sent nothing for ${Math.round(silence / 1000)} s`
      this.#end(live, new NetworkError('unavailable', message, { reason: 'timeout' }))
    }
  }

  /** The conversation is over, and counts no more, whatever may still come of it. */
  #end(live: Live, error: unknown): void {
    if (!this.#hangUp(live)) return
    if (this.#deps.state.complete || this.#stopping.signal.aborted) return
    if (error instanceof LocalFailure) this.#fatal ??= asNetworkError(error.cause)
    else if (error instanceof Simulates) this.#deps.providers.simulates(live.known)
    else this.#failed(live.known, asNetworkError(error))
    this.#flush()
    this.#wake()
  }

  /** @returns whether it was under way still */
  #hangUp(live: Live): boolean {
    const { key, ended, stream } = live
    if (this.#live.get(key) !== live) return false
    this.#live.delete(key)
    this.#deps.state.drop(key, this.#deps.clock.now())
    this.#awaitAtEnd(ended)
    void stream.close().catch(() => {})
    return true
  }

  #failed(known: Known, error: NetworkError): void {
    const others = [...this.#live.values()].filter((live) => live.known === known)
    if (error.code !== 'corrupt' && others.length > 0) return
    for (const other of others) this.#hangUp(other)
    const now = this.#deps.clock.now()
    this.#deps.providers.failed(known, error, now)
    this.#discoveries = 0
    this.#discoverAt = Math.min(this.#discoverAt, now + DISCOVER_SOON_MS)
  }

  #discover(now: number): void {
    const { discover, clock } = this.#deps
    if (!discover || this.#discovering || now < this.#discoverAt) return
    this.#discovering = true
    const found = discover(this.#stopping.signal).then(
      (sources) => {
        for (const source of sources) this.#add(source)
      },
      () => {},
    )
    this.#awaitAtEnd(
      found.finally(() => {
        this.#discovering = false
        const alone = Math.min(MAX_PAUSE_MS, DISCOVER_SOON_MS * 2 ** Math.min(this.#discoveries++, 6))
        this.#discoverAt = clock.now() + (this.#live.size > 0 ? DISCOVER_MS : alone)
        this.#wake()
      }),
    )
  }

  #awaitAtEnd(ending: Promise<void>): void {
    this.#closing.add(ending)
    void ending.finally(() => this.#closing.delete(ending))
  }

  #report(): void {
    const { observer, state, clock, providers } = this.#deps
    if (!observer?.onProviders) return
    const now = clock.now()
    observer.onProviders([...providers.all].map((known) => reportOf(known, state, now)))
  }

  #wake(): void {
    this.#wakening.abort()
  }
}

function laneOf({ source }: Known): string {
  return `${source.address}#2`
}

function reportOf(known: Known, state: SwarmState, now: number): ProviderReport {
  const { fault, pieces, source } = known
  const { peer, address } = source
  const lanes = [state.report(address, now), state.report(laneOf(known), now)]
  return {
    peer,
    address,
    state: known.state === 'connected' ? 'connected' : known.state === 'banned' ? 'banned' : 'dropped',
    reason: known.state === 'connected' ? undefined : known.state === 'simulates' ? 'only simulates' : fault?.message,
    pieces,
    rate: lanes.reduce((sum, { rate }) => sum + rate, 0),
  }
}
