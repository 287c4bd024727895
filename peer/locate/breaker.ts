import type { Clock } from '../../common/clock.ts'
import { asNetworkError } from '../../common/errors.ts'
import type { LocateStrategy } from './strategy.ts'

/** Who is asked, as the breaker knows it. */
export type Party = Pick<LocateStrategy, 'name' | 'asked' | 'probe'>

export interface BreakerOptions {
  /** bound on one probe, ms */
  timeoutMs: number
}

/** Between two probes of one party, ms: doubled from the first to the last. */
const BACKOFF_MS = [1000, 30_000] as const
/** Between two looks at who is due, ms. */
const PAUSE_MS = [50, 1000] as const

/** A party that did not answer. */
interface Silence {
  /** when it last did not answer */
  at: number
  nextProbe: number
  backoffMs: number
}

/**
 * Remembers who did not answer, so that a lookup passes them over until a probe in the background, or the session with
 * the Maestro, finds that they answer again. A dead one costs the first lookup a wait, and the next ones nothing.
 *
 * cockatiel's breaker was considered: half open it spends a user's lookup as the probe, and so a wait every now and then.
 */
export class Breaker {
  readonly #parties: () => readonly Party[]
  readonly #clock: Clock
  readonly #timeoutMs: number
  readonly #silent = new Map<string, Silence>()

  /** `parties`: those that exist now; who is no more among them is forgotten. */
  constructor(deps: { parties: () => readonly Party[]; clock: Clock }, options: BreakerOptions) {
    this.#parties = deps.parties
    this.#clock = deps.clock
    this.#timeoutMs = options.timeoutMs
  }

  /** How long ago it did not answer, ms; undefined where it may be asked. */
  silentMs(party: Party): number | undefined {
    const silence = this.#silent.get(keyOf(party))
    return silence && Math.max(0, this.#clock.now() - silence.at)
  }

  /** Whoever asked it tells how that went. One that can't be probed is asked each time. */
  report(party: Party, answered: boolean): void {
    const key = keyOf(party)
    if (answered) {
      this.#silent.delete(key)
      return
    }
    const now = this.#clock.now()
    const silence = this.#silent.get(key)
    if (silence) silence.at = now
    else if (party.probe) this.#silent.set(key, { at: now, nextProbe: now + BACKOFF_MS[0], backoffMs: BACKOFF_MS[0] })
  }

  /** Until the next look at who is due, ms. */
  get pauseMs(): number {
    const [least, most] = PAUSE_MS
    const next = Math.min(...[...this.#silent.values()].map(({ nextProbe }) => nextProbe))
    return Math.min(Math.max(next - this.#clock.now(), least), most)
  }

  /** Probes whoever is due, all at a time. */
  async tick(signal: AbortSignal): Promise<void> {
    const parties = new Map(this.#parties().map((party) => [keyOf(party), party]))
    for (const key of this.#silent.keys()) if (!parties.get(key)?.probe) this.#silent.delete(key)
    const now = this.#clock.now()
    const due = [...this.#silent].filter(([, { nextProbe }]) => nextProbe <= now)
    await Promise.all(due.map(([key, silence]) => this.#probe(parties.get(key)!, silence, signal)))
  }

  async #probe(party: Party, silence: Silence, signal: AbortSignal): Promise<void> {
    const answered = await this.#answers(party, signal)
    if (signal.aborted) return
    this.report(party, answered)
    silence.backoffMs = Math.min(silence.backoffMs * 2, BACKOFF_MS[1])
    silence.nextProbe = this.#clock.now() + silence.backoffMs
  }

  async #answers(party: Party, signal: AbortSignal): Promise<boolean> {
    const bound = new AbortController()
    const abort = () => bound.abort()
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    const answer = Promise.resolve(party.probe?.(bound.signal)).then(
      () => true,
      // Who refuses answers.
      (error) => !['unavailable', 'cancelled'].includes(asNetworkError(error).code),
    )
    try {
      return await Promise.race([answer, this.#clock.sleep(this.#timeoutMs, bound.signal).then(() => false)])
    } finally {
      bound.abort()
      signal.removeEventListener('abort', abort)
    }
  }
}

function keyOf({ name, asked }: Party): string {
  return `${name} ${asked}`
}
