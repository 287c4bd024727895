import { hostPort } from '../../common/address.ts'
import type { Clock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { pieceLength } from '../../common/merkle.ts'
import type { DownloadObserver, ProviderReport } from './download.ts'
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
  /** of 0 to 1 (default Math.random) */
  random?: () => number
}

export interface SwarmOptions {
  /** where no provider is left: wait until one is back, unless all that are known lied or simulate (default false) */
  patient?: boolean
  /** providers talked to at the same time (default 50) */
  maxProviders?: number
  /** providers remembered, also those that were dropped (default 500) */
  maxKnown?: number
  /** one that sends nothing of a piece that it has begun for this long is dropped, ms (default 15,000) */
  stallMs?: number
  /** a single provider this fast is talked to over a second conversation too, bytes a second (default 150,000,000) */
  laneRate?: number
}

/** How often slow providers, limits and silence are looked after, ms. */
const TICK_MS = 250
/** What is not urgent is told together, this late at most, ms: a message to each provider for each piece costs too much. */
const TELL_MS = 10
/** A provider that may be asked again is so after this long, doubled with each failure, ms. */
const COOL_MS = 1000
const MAX_COOL_MS = 60_000
/** Who else has it is asked this often while there are providers, ms. */
const DISCOVER_MS = 30_000
/** Something is said this often at least, so that the provider knows of the taker, ms. */
const KEEP_ALIVE_MS = 20_000
/** Times that a provider which only another one named may fail before it is forgotten. */
const HINT_FAILURES = 3

/** A provider that was heard of. */
interface Known {
  readonly source: PieceSource
  /** only another provider named it */
  readonly hint: boolean
  /** `idle`: not asked since it was found, or since it cooled down */
  state: 'idle' | 'connected' | 'cooling' | 'banned' | 'simulates'
  coolUntil: number
  failures: number
  fault: NetworkError | undefined
  received: number
  verified: number
  /** pieces that it told of */
  pieces: number
}

/** A conversation under way. */
interface Live {
  readonly known: Known
  readonly stream: PieceStream
  saidAt: number
  /** credit that the limit holds back, pieces */
  owed: number
  /** what the provider was told last, bytes a second */
  rate: number
  ended: Promise<void>
}

/**
 * One content from many providers: talks to all of them at once, tells the state what comes and them what the state
 * wants, drops who fails, bans who lies, and finds more.
 */
export class Swarm {
  readonly #deps: SwarmDeps
  readonly #options: Required<SwarmOptions>
  readonly #known = new Map<string, Known>()
  readonly #live = new Map<string, Live>()
  /** what ends by itself, and is awaited at the end */
  readonly #closing = new Set<Promise<void>>()
  readonly #stopping = new AbortController()
  readonly #random: () => number
  #wakening = new AbortController()
  #fatal: NetworkError | undefined
  #discovering = false
  #discoverAt = 0
  #discoveries = 0
  #waiting = false
  #flushing = false
  #tokens = 0
  #tokensAt: number
  /** payload bytes that came, also those of no use */
  received = 0

  constructor(deps: SwarmDeps, options: SwarmOptions = {}) {
    this.#deps = deps
    this.#options = {
      patient: false,
      maxProviders: 50,
      maxKnown: 500,
      stallMs: 15_000,
      laneRate: 150_000_000,
      ...options,
    }
    this.#random = deps.random ?? Math.random
    this.#tokensAt = deps.clock.now()
  }

  /** Why providers were dropped or banned, the latest of each. */
  get faults(): NetworkError[] {
    return [...this.#known.values()].flatMap(({ fault }) => fault ?? [])
  }

  /** Those that only simulate. */
  get simulators(): PieceSource[] {
    return [...this.#known.values()].flatMap(({ state, source }) => (state === 'simulates' ? source : []))
  }

  /** A provider to be asked; one that is known already is not added again. */
  add(source: PieceSource, fault?: NetworkError): void {
    this.#add(source, false)
    const known = this.#known.get(source.address)
    if (!fault || !known) return
    known.fault = fault
    this.#dismiss(known, fault)
  }

  /**
   * Runs until every piece is here, or nobody is left to ask.
   * @throws NetworkError `cancelled`; this peer's own failure, such as a full disk
   */
  async run(signal: AbortSignal): Promise<void> {
    const { state, clock } = this.#deps
    const abort = () => {
      this.#stopping.abort()
      this.#wake()
    }
    signal.addEventListener('abort', abort, { once: true })
    try {
      if (signal.aborted) abort()
      // Others are looked for at once, beside the first conversations.
      this.#discoverAt = clock.now()
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
    this.#relieve(now)
    this.#connect(now)
    this.#deps.state.tick(now)
    this.#flush()
    this.#report()
    if (this.#live.size > 0) {
      this.#discover(now)
      return TICK_MS
    }
    if (this.#nobodyToAsk && (!this.#options.patient || this.#nobodyToWaitFor)) return undefined
    this.#discover(now)
    return this.#wait(now)
  }

  get #nobodyToAsk(): boolean {
    return !this.#discovering && (!this.#deps.discover || this.#discoveries > 0)
  }

  /** Who lied or simulates will not do better later. */
  get #nobodyToWaitFor(): boolean {
    const known = [...this.#known.values()]
    return known.length > 0 && known.every(({ state }) => state === 'banned' || state === 'simulates')
  }

  /** Nobody is there: until when, ms. */
  #wait(now: number): number {
    let next = this.#deps.discover && !this.#discovering ? this.#discoverAt : now + MAX_COOL_MS
    for (const { state, coolUntil } of this.#known.values()) if (state === 'cooling') next = Math.min(next, coolUntil)
    const pause = Math.max(TICK_MS, next - now)
    if (this.#options.patient && !this.#discovering) {
      this.#waiting = true
      this.#deps.observer?.onWaiting?.(pause)
    }
    return pause
  }

  #add(source: PieceSource, hint: boolean): void {
    const { maxKnown } = this.#options
    if (this.#known.has(source.address)) return
    // Nobody is talked to twice under two addresses; what a stranger names stands behind what was located.
    for (const other of this.#known.values())
      if (other.source.peer === source.peer && other.state !== 'cooling' && (hint || !other.hint)) return
    if (this.#known.size >= maxKnown) return
    this.#known.set(source.address, {
      source,
      hint,
      state: 'idle',
      coolUntil: 0,
      failures: 0,
      fault: undefined,
      received: 0,
      verified: 0,
      pieces: 0,
    })
    this.#wake()
  }

  #connect(now: number): void {
    for (const known of this.#inTurn()) {
      if (known.state === 'cooling' && known.coolUntil <= now) known.state = 'idle'
      const room = this.#live.size < this.#options.maxProviders
      if (known.state === 'idle' && (room || (!known.hint && this.#sendAway(now))))
        this.#open(known, known.source.address)
      else if (known.state === 'connected' && room) this.#openLane(known, now)
    }
  }

  /** What was located first; then what others named, at random, so that takers don't all talk to the same few. */
  #inTurn(): Known[] {
    const all = [...this.#known.values()]
    const named = all.filter(({ hint, state }) => hint && state !== 'connected')
    for (let i = named.length - 1; i > 0; i--) {
      const j = Math.floor(this.#random() * (i + 1))
      ;[named[i], named[j]] = [named[j]!, named[i]!]
    }
    return [...all.filter(({ hint, state }) => !hint || state === 'connected'), ...named]
  }

  /** Makes room at the cost of one that a stranger named, and that gives nothing. */
  #sendAway(now: number): boolean {
    for (const [key, { known, stream }] of this.#live) {
      if (!known.hint || known.verified > 0 || this.#deps.state.report(key, now).underWay > 0) continue
      this.#end(key, new NetworkError('unavailable', 'has nothing to give'))
      void stream.close()
      return true
    }
    return false
  }

  /** One connection is the work of one core: where a single provider could give more, it gets a second one. */
  #openLane(known: Known, now: number): void {
    const { state, sink } = this.#deps
    const { address } = known.source
    const lane = `${address}#2`
    if (this.#live.size !== 1 || sink.dummy || this.#live.has(lane)) return
    if (state.report(address, now).rate < this.#options.laneRate || state.left < 32) return
    this.#open(known, lane)
  }

  #open(known: Known, key: string): void {
    const { state, sink, clock } = this.#deps
    let stream: PieceStream
    try {
      stream = known.source.open(sink, this.#stopping.signal)
    } catch (error) {
      this.#failed(known, asNetworkError(error))
      return
    }
    known.state = 'connected'
    state.add(key, clock.now())
    const live: Live = { known, stream, saidAt: clock.now(), owed: 0, rate: 0, ended: Promise.resolve() }
    this.#live.set(key, live)
    live.ended = this.#converse(key, live)
  }

  async #converse(key: string, { known, stream }: Live): Promise<void> {
    let fault: unknown = new NetworkError('unavailable', 'ended the conversation early')
    const abort = () => void stream.close()
    this.#stopping.signal.addEventListener('abort', abort, { once: true })
    try {
      for await (const event of stream.events()) {
        this.#apply(key, known, event)
        this.#flushSoon()
        if (this.#stopping.signal.aborted) break
      }
    } catch (error) {
      fault = error
    }
    this.#stopping.signal.removeEventListener('abort', abort)
    // What went wrong counts before what closing makes of it.
    const live = this.#live.get(key)
    if (live) this.#end(key, fault)
    await stream.close().catch(() => {})
    this.#wake()
  }

  #apply(key: string, known: Known, event: ProviderEvent): void {
    const { state, clock, observer, sink } = this.#deps
    const now = clock.now()
    switch (event.kind) {
      case 'have':
        state.has(key, event.pieces, now)
        known.pieces = state.report(key, now).holds
        return
      case 'takers':
        for (const contact of event.contacts) {
          if (this.#known.has(hostPort(contact.host, contact.grpcPort))) continue
          const source = this.#deps.sourceAt?.(contact, known.source.address)
          if (source) this.#add(source, true)
        }
        return
      case 'begun':
        state.begun(key, event.piece, now)
        return
      case 'bytes':
        known.received += event.bytes
        this.received += event.bytes
        state.bytes(key, event.bytes, now)
        return
      case 'abandoned':
        state.failed(key, event.piece, now)
        return
      case 'piece': {
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
        known.failures = 0
        if (!fresh) return
        const bytes = pieceLength(sink.manifest, event.piece)
        known.verified += bytes
        this.#openLane(known, now)
        observer?.onVerified?.(known.source.peer, bytes, event.piece)
        if (state.complete) this.#wake()
      }
    }
  }

  #flushSoon(): void {
    if (this.#deps.state.urgent) {
      this.#flush()
      return
    }
    if (this.#flushing) return
    this.#flushing = true
    const flush = this.#deps.clock.sleep(TELL_MS, this.#stopping.signal).then(() => {
      this.#flushing = false
      if (!this.#stopping.signal.aborted) this.#flush()
    })
    this.#closing.add(flush)
    flush.finally(() => this.#closing.delete(flush))
  }

  /** Tells providers what the state wants of them, as far as the limit lets it. */
  #flush(): void {
    const { state, clock, sink } = this.#deps
    const now = clock.now()
    const limit = this.#deps.rate?.()
    this.#fillTokens(limit, now)
    const told = new Set<string>()
    for (const [key, change] of state.changes()) {
      const live = this.#live.get(key)
      if (!live) continue
      live.owed += change.credit ?? 0
      const credit = this.#granted(live, limit, sink.manifest.pieceSize)
      live.stream.want({ ...change, credit, ...this.#newRate(live, limit) })
      live.saidAt = now
      told.add(key)
    }
    for (const [key, live] of this.#live) {
      if (told.has(key)) continue
      const credit = live.owed > 0 ? this.#granted(live, limit, sink.manifest.pieceSize) : 0
      const rate = this.#newRate(live, limit)
      if (credit === 0 && rate.rate === undefined && now - live.saidAt < KEEP_ALIVE_MS) continue
      live.stream.want({ credit, ...rate })
      live.saidAt = now
    }
  }

  /** Bytes that may be asked for: what a limit gives in a second, or one piece. */
  #fillTokens(limit: number | undefined, now: number): void {
    if (limit !== undefined) {
      const most = Math.max(limit, this.#deps.sink.manifest.pieceSize)
      this.#tokens = Math.min(most, this.#tokens + (limit * Math.max(0, now - this.#tokensAt)) / 1000)
    }
    this.#tokensAt = now
  }

  #granted(live: Live, limit: number | undefined, pieceSize: number): number {
    let credit = live.owed
    if (limit !== undefined) {
      credit = Math.min(credit, Math.floor(this.#tokens / pieceSize))
      this.#tokens -= credit * pieceSize
    }
    live.owed -= credit
    return credit
  }

  /** Each provider is told its share of the limit, so that bytes come evenly and not in bursts of pieces. */
  #newRate(live: Live, limit: number | undefined): { rate?: number } {
    const rate = limit === undefined ? 0 : Math.max(1, Math.round(limit / this.#live.size))
    if (rate === live.rate || (rate > 0 && Math.abs(rate - live.rate) < 0.1 * rate)) return {}
    live.rate = rate
    return { rate }
  }

  /** Drops who has gone silent. */
  #relieve(now: number): void {
    const { stallMs } = this.#options
    for (const [key, live] of this.#live) {
      const { silentMs, begun } = this.#deps.state.report(key, now)
      // One that has begun nothing may have others in line before this peer.
      const patience = live.owed > 0 ? Number.POSITIVE_INFINITY : begun > 0 ? stallMs : 4 * stallMs
      if (silentMs < patience) continue
      const fault = new NetworkError('unavailable', `sent nothing for ${Math.round(silentMs / 1000)} s`, {
        reason: 'timeout',
      })
      this.#end(key, fault)
      void live.stream.close()
    }
  }

  /** The conversation is over, and counts no more, whatever may still come of it. */
  #end(key: string, error: unknown): void {
    const { state, clock } = this.#deps
    const live = this.#live.get(key)
    if (!live) return
    this.#live.delete(key)
    this.#closing.add(live.ended)
    live.ended.finally(() => this.#closing.delete(live.ended))
    state.drop(key, clock.now())
    if (state.complete || this.#stopping.signal.aborted) return
    if (error instanceof LocalFailure) this.#fatal ??= asNetworkError(error.cause)
    else if (error instanceof Simulates) {
      live.known.state = 'simulates'
      this.#deps.observer?.onNote?.(`${live.known.source.peer} is in dummy mode and only simulates`)
    } else this.#failed(live.known, asNetworkError(error))
    this.#flush()
    this.#wake()
  }

  #failed(known: Known, error: NetworkError): void {
    const { peer, address } = known.source
    if (error.code !== 'corrupt' && [...this.#live.values()].some((live) => live.known === known)) return
    const told = error.message.includes(peer) ? error.message : `${peer}: ${error.message}`
    known.fault = new NetworkError(error.code, told, error.details, error)
    this.#dismiss(known, known.fault)
    if (known.hint && known.verified === 0) {
      if (known.failures >= HINT_FAILURES && known.state !== 'banned') this.#known.delete(address)
      if (known.state !== 'banned') return
    }
    this.#deps.observer?.onNote?.(`${known.state === 'banned' ? 'banned' : 'dropped'} ${told}`)
  }

  #dismiss(known: Known, { code }: NetworkError): void {
    const now = this.#deps.clock.now()
    known.failures++
    known.state = code === 'corrupt' ? 'banned' : 'cooling'
    known.coolUntil = now + Math.min(MAX_COOL_MS, COOL_MS * 2 ** (known.failures - 1))
    this.#discoveries = 0
    this.#discoverAt = Math.min(this.#discoverAt, now + COOL_MS)
    if (known.state !== 'banned') return
    for (const [key, live] of this.#live)
      if (live.known === known) {
        this.#live.delete(key)
        this.#closing.add(live.ended)
        this.#deps.state.drop(key, now)
        void live.stream.close()
      }
  }

  #discover(now: number): void {
    const { discover, clock } = this.#deps
    if (!discover || this.#discovering || now < this.#discoverAt) return
    this.#discovering = true
    const found = discover(this.#stopping.signal).then(
      (sources) => {
        for (const source of sources) this.#add(source, false)
      },
      () => {},
    )
    const settled = found.finally(() => {
      this.#discovering = false
      this.#discoveries++
      const pause =
        this.#live.size > 0 ? DISCOVER_MS : Math.min(MAX_COOL_MS, COOL_MS * 2 ** Math.min(this.#discoveries - 1, 6))
      this.#discoverAt = clock.now() + pause
      this.#wake()
    })
    this.#closing.add(settled)
    settled.finally(() => this.#closing.delete(settled))
  }

  #report(): void {
    const { observer, state, clock } = this.#deps
    if (!observer?.onProviders) return
    const now = clock.now()
    observer.onProviders([...this.#known.values()].map((known) => this.#reportOf(known, state, now)))
  }

  #reportOf(known: Known, state: SwarmState, now: number): ProviderReport {
    const { peer, address } = known.source
    const lanes = [state.report(address, now), state.report(`${address}#2`, now)]
    const { received, verified, fault } = known
    return {
      peer,
      address,
      state: known.state === 'connected' ? 'connected' : known.state === 'banned' ? 'banned' : 'dropped',
      reason: known.state === 'connected' ? undefined : fault?.message,
      pieces: known.pieces,
      received,
      verified,
      rate: lanes.reduce((sum, { rate }) => sum + rate, 0),
    }
  }

  #wake(): void {
    this.#wakening.abort()
  }
}
