import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import type { Clock } from '../common/clock.ts'
import { errnoOf } from '../common/errors.ts'
import { type Component, Loop } from '../common/lifecycle.ts'
import type { Logger } from '../common/log.ts'
import { type LimitsBody, type LimitsChange, LimitsRequest, type RateSettings } from '../common/schemas.ts'
import { type LocalTime, localTime, nextChange, ratesAt } from './rate-schedule.ts'
import { TokenBucket } from './transfer/rate-limit.ts'

export interface LimitsDeps {
  clock: Clock
  log: Logger
  /** default: the time on this machine's wall */
  local?: (ms: number) => LocalTime
}

export interface LimitsOptions {
  /** JSON file that keeps what was set while running */
  file: string
  /** what the configuration says; left out: no limit, no schedule */
  configured: LimitsChange
}

/** Limits in force. */
export interface CurrentLimits {
  /** bytes a second; undefined where there is no limit */
  readonly download: number | undefined
  readonly upload: number | undefined
  /** when the schedule brings others, ms since the epoch */
  readonly until: number | undefined
}

/** The wall clock may be set, and the machine may sleep: no boundary is noticed later than this, ms. */
const LONGEST_WAIT = 60_000

/**
 * How fast this agent may download and upload, by the time of day. What was set while running holds, key by key, over
 * what the configuration says, over restarts too, until `reset()`.
 */
export class Limits implements Component {
  readonly #clock: Clock
  readonly #local: (ms: number) => LocalTime
  readonly #options: LimitsOptions
  readonly #loop: Loop
  readonly #listeners = new Set<() => void>()
  #changes: LimitsChange
  #now: CurrentLimits

  constructor(deps: LimitsDeps, options: LimitsOptions) {
    this.#clock = deps.clock
    this.#local = deps.local ?? localTime
    this.#options = options
    this.#changes = readSaved(options.file, deps.log)
    this.#now = this.#read()
    this.#loop = new Loop('limits', async () => this.#refresh(), deps.log, {
      interval: () => Math.max(0, Math.min(LONGEST_WAIT, (this.#now.until ?? Infinity) - this.#clock.now())),
      jitter: 0,
      clock: this.#clock,
    })
  }

  /** What holds now. Cheap: it may be asked for every frame. */
  now(): CurrentLimits {
    if (this.#now.until !== undefined && this.#clock.now() >= this.#now.until) this.#refresh()
    return this.#now
  }

  /** Everything, as it is shown. */
  status(): LimitsBody {
    const { download = null, upload = null, until } = this.now()
    const { schedule, ...base } = this.#settings()
    return {
      ...base,
      schedule: [...schedule],
      now: { download, upload, until: until === undefined ? null : new Date(until).toISOString() },
      set: (['download', 'upload', 'schedule'] as const).filter((key) => this.#changes[key] !== undefined),
    }
  }

  /** Sets what is given, and keeps the rest. It is on disk when this returns; where that fails nothing has changed. */
  set(change: LimitsChange): void {
    const changes = { ...this.#changes, ...change }
    const { file } = this.#options
    writeFileSync(`${file}.new`, JSON.stringify(changes), { flush: true })
    renameSync(`${file}.new`, file)
    this.#apply(changes)
  }

  /** Goes back to what the configuration says. */
  reset(): void {
    rmSync(this.#options.file, { force: true })
    this.#apply({})
  }

  /** Calls `listener` whenever other limits are in force; @returns what ends that. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** A bucket that lets as much pass as this agent may download or upload in all. */
  bucket(direction: 'download' | 'upload'): TokenBucket {
    const bucket = new TokenBucket(this.#clock, () => this.now()[direction])
    this.onChange(() => bucket.changed())
    return bucket
  }

  /** From now on listeners hear of the schedule's changes when they come. */
  start(): Promise<void> {
    return this.#loop.start()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  #settings(): RateSettings {
    const { configured } = this.#options
    const { download = configured.download ?? null, upload = configured.upload ?? null } = this.#changes
    return { download, upload, schedule: this.#changes.schedule ?? configured.schedule ?? [] }
  }

  #apply(changes: LimitsChange): void {
    this.#changes = changes
    this.#refresh()
    this.#loop.nudge()
  }

  #refresh(): void {
    const before = this.#now
    this.#now = this.#read()
    if (before.download === this.#now.download && before.upload === this.#now.upload) return
    for (const listener of this.#listeners) listener()
  }

  #read(): CurrentLimits {
    const now = this.#clock.now()
    const settings = this.#settings()
    const { download, upload } = ratesAt(settings, this.#local(now))
    return {
      download: download ?? undefined,
      upload: upload ?? undefined,
      until: nextChange(settings, now, this.#local),
    }
  }
}

function readSaved(file: string, log: Logger): LimitsChange {
  try {
    return LimitsRequest.parse(JSON.parse(readFileSync(file, 'utf8')))
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT')
      log.warn({ file, err: error }, 'the limits that were set are unreadable: those of the configuration hold')
    return {}
  }
}
