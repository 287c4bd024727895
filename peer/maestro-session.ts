import type { Clock } from '../common/clock.ts'
import { asNetworkError, type NetworkError } from '../common/errors.ts'
import type { FileName, PeerId } from '../common/ids.ts'
import { type Component, Loop } from '../common/lifecycle.ts'
import type { Logger } from '../common/log.ts'
import type { MaestroClient } from '../common/maestro-client.ts'
import type { FileEntry, Lease, PeerInfo } from '../common/schemas.ts'

/** The catalog, as the Maestro is told of it. */
export interface AnnouncedCatalog {
  readonly revision: number
  entries(): FileEntry[]
  onChange(
    listener: (change: { to: number; added: readonly FileEntry[]; removed: readonly FileName[] }) => void,
  ): () => void
}

export interface SessionDeps {
  maestro: Pick<MaestroClient, 'url' | 'register' | 'heartbeat' | 'announceChanges' | 'withdraw'>
  catalog: AnnouncedCatalog
  /** where others reach this peer; asked at each registration, since a machine may change networks */
  address: () => Promise<{ rest: string; grpcPort: number }>
  /** told after each question to it whether the Maestro answered */
  onAnswer?: (answered: boolean) => void
  log: Logger
  clock: Clock
}

const FIRST_RETRY_MS = 250
/** Until a Maestro has told its own. */
const HEARTBEAT_MS = 5000
/** What a Maestro may ask for, ms: never so often that this peer does nothing else, nor more than a timer can wait. */
const HEARTBEAT_RANGE = [25, 3_600_000] as const
const WITHDRAW_MS = 1500
/** Retries come, jitter included, within one heartbeat: a Maestro that is back has everyone again by then. */
const RETRY_SHARE = 0.8

/**
 * Keeps this peer's lease at the Maestro: registers, sends heartbeats, announces what changes. Whatever goes wrong,
 * the way back is one: register again with everything.
 */
export class MaestroSession implements Component {
  readonly #id: PeerId
  readonly #deps: SessionDeps
  readonly #loop: Loop
  #unsubscribe: (() => void) | undefined
  /** the revision that the Maestro holds of us; undefined where it may hold none */
  #announced: number | undefined
  /** what changed since `#announced`, by name; null: removed */
  #pending = new Map<FileName, FileEntry | null>()
  #heartbeatMs = HEARTBEAT_MS
  #retryMs = FIRST_RETRY_MS
  #problem: NetworkError | undefined

  constructor(id: PeerId, deps: SessionDeps) {
    this.#id = id
    this.#deps = deps
    this.#loop = new Loop('maestro-session', (signal) => this.tick(signal), deps.log, {
      interval: () => (this.#problem ? this.#retryMs : this.#heartbeatMs),
      clock: deps.clock,
    })
  }

  get state(): PeerInfo['maestro'] {
    if (this.#problem === undefined) return this.#announced === undefined ? 'unreachable' : 'registered'
    return this.#problem.code === 'unavailable' ? 'unreachable' : 'refused'
  }

  /** What keeps it from being registered, for people; null where nothing does. */
  get problem(): string | null {
    return this.#problem?.message ?? null
  }

  async start(): Promise<void> {
    this.#unsubscribe = this.#deps.catalog.onChange((change) => {
      for (const name of change.removed) this.#pending.set(name, null)
      for (const entry of change.added) this.#pending.set(entry.name, entry)
      this.#loop.nudge()
    })
    await this.#loop.start()
  }

  /** Withdraws, so that nobody is sent to a peer that is gone. */
  async stop(): Promise<void> {
    this.#unsubscribe?.()
    await this.#loop.stop()
    if (this.#announced === undefined) return
    await this.#deps.maestro
      .withdraw(this.#id, AbortSignal.timeout(WITHDRAW_MS))
      .catch((error) => this.#deps.log.debug({ err: error }, 'the lease was not withdrawn and will expire'))
  }

  /** One step: whatever is due of registering, announcing and the heartbeat. */
  async tick(signal?: AbortSignal): Promise<void> {
    try {
      await this.#renew(signal)
      if (this.#problem) this.#deps.log.info({ maestro: this.#deps.maestro.url }, 'the Maestro answers again')
      this.#problem = undefined
      this.#retryMs = FIRST_RETRY_MS
      this.#deps.onAnswer?.(true)
    } catch (error) {
      if (signal?.aborted) return
      const problem = asNetworkError(error)
      if (this.#problem?.message !== problem.message)
        this.#deps.log.warn({ maestro: this.#deps.maestro.url, code: problem.code }, problem.message)
      if (this.#problem) this.#retryMs = Math.min(this.#retryMs * 2, RETRY_SHARE * this.#heartbeatMs)
      this.#problem = problem
      this.#deps.onAnswer?.(problem.code !== 'unavailable')
    }
  }

  async #renew(signal: AbortSignal | undefined): Promise<void> {
    if (this.#announced !== undefined) {
      try {
        if (this.#pending.size > 0) await this.#announce(this.#announced, signal)
        else this.#follow(await this.#deps.maestro.heartbeat(this.#id, this.#announced, signal))
        return
      } catch (error) {
        const fault = asNetworkError(error)
        if (fault.code !== 'not_found' && fault.code !== 'conflict') throw error
        if (this.#caughtUp(fault)) return this.#loop.nudge()
        this.#announced = undefined
        this.#deps.log.info({ code: fault.code }, 'the lease is gone or differs; registering again')
      }
    }
    await this.#register(signal)
  }

  /**
   * Whether the directory has got by itself to a later revision of this catalog: by events that a broker carried. What
   * it has heard of since the last announcement is announced once more, which changes nothing.
   */
  #caughtUp({ code, details }: NetworkError): boolean {
    const { revision } = details
    if (code !== 'conflict' || typeof revision !== 'number' || this.#announced === undefined) return false
    if (revision <= this.#announced || revision > this.#deps.catalog.revision) return false
    this.#announced = revision
    return true
  }

  async #register(signal: AbortSignal | undefined): Promise<void> {
    const { maestro, catalog, address } = this.#deps
    const { rest, grpcPort } = await address()
    // Taken together, without a pause between them: what changes later is pending again.
    const revision = catalog.revision
    const files = catalog.entries()
    this.#pending.clear()
    const lease = await maestro.register({ id: this.#id, rest, grpcPort, revision, files }, signal)
    this.#announced = revision
    this.#follow(lease)
    this.#deps.log.info({ maestro: maestro.url, rest, files: files.length, revision }, 'registered')
  }

  #follow(lease: Lease): void {
    const [least, most] = HEARTBEAT_RANGE
    this.#heartbeatMs = Math.min(Math.max(lease.heartbeat_ms, least), most)
  }

  async #announce(from: number, signal: AbortSignal | undefined): Promise<void> {
    const to = this.#deps.catalog.revision
    const sent = this.#pending
    this.#pending = new Map()
    const add = [...sent.values()].filter((entry) => entry !== null)
    const remove = [...sent].filter(([, entry]) => entry === null).map(([name]) => name)
    try {
      await this.#deps.maestro.announceChanges(this.#id, { from, to, add, remove }, signal)
      this.#announced = to
    } catch (error) {
      for (const [name, entry] of sent) if (!this.#pending.has(name)) this.#pending.set(name, entry)
      throw error
    }
  }
}
