import type { Clock } from '../../common/clock.ts'
import { deadline } from '../../common/deadline.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import { type LocatedProvider, type LookupStep, STRATEGIES, type StrategyName } from '../../common/schemas.ts'
import type { Breaker } from './breaker.ts'
import { isDown } from './outcome.ts'
import { type LocateQuery, type LocateStrategy, MAX_PATH, newTrace, type Provider } from './strategy.ts'

export interface Located {
  providers: LocatedProvider[]
  /** the strategy that found them; null where none did */
  via: StrategyName | null
  steps: LookupStep[]
}

export interface LocatorDeps {
  /** asked at each lookup: the friend list changes while the agent runs */
  strategies: () => readonly LocateStrategy[]
  clock: Clock
  /** who did not answer lately; without one everybody is asked each time */
  breaker?: Breaker
  /** told of every step, for metrics */
  onStep?: (step: LookupStep) => void
}

export interface LocatorOptions {
  /** bound on one strategy that has none of its own, ms */
  timeoutMs: number
  /** in which order strategies are asked; one that is not named is not asked (default: all) */
  order?: readonly StrategyName[]
}

/** Providers kept from one strategy. */
const MAX_PROVIDERS = 1000

/**
 * Asks one strategy after the other, each for a bounded time, until one finds providers. A dead or slow one is a step
 * of the explanation, not a failure; who did not answer lately is passed over, unless it is asked for by name.
 */
export class Locator {
  readonly #deps: LocatorDeps
  readonly #timeoutMs: number
  readonly #order: readonly StrategyName[]

  constructor(deps: LocatorDeps, options: LocatorOptions) {
    this.#deps = deps
    this.#timeoutMs = options.timeoutMs
    this.#order = options.order ?? STRATEGIES
  }

  /**
   * @param via only this strategy, instead of the whole chain
   * @throws NetworkError `cancelled`; `invalid` where `via` names a strategy that this peer does not have, or that
   *   can't look for this
   */
  async locate(query: LocateQuery, signal?: AbortSignal, via?: StrategyName): Promise<Located> {
    const result: Located = { providers: [], via: null, steps: [] }
    for (const strategy of this.#chain(query, via)) {
      const { step, providers } = await this.#step(strategy, query, signal, via !== undefined)
      result.steps.push(step)
      const found = withoutDoubles([...result.providers, ...providers])
      if (found.length > result.providers.length) result.via = strategy.name
      result.providers = found
      if (this.#enough(query, strategy.name, step, result)) break
    }
    return result
  }

  /**
   * All who have a content, for one that fetches it: everybody else is asked at once. A flood costs others much, so it is
   * for where nobody else knows of any.
   */
  async locateAll(id: ContentId, signal: AbortSignal): Promise<LocatedProvider[]> {
    const query = { kind: 'id', id } as const
    const others = this.#chain(query, undefined).filter(({ name }) => name !== 'local')
    const ask = async (strategies: readonly LocateStrategy[]) => {
      const answers = await Promise.all(strategies.map((strategy) => this.#step(strategy, query, signal, false)))
      return withoutDoubles(answers.flatMap(({ providers }) => providers))
    }
    const found = await ask(others.filter(({ name }) => name !== 'flood'))
    return found.length > 0 ? found : ask(others.filter(({ name }) => name === 'flood'))
  }

  /** @param anyhow also where it did not answer lately @throws NetworkError `cancelled` */
  async #step(
    strategy: LocateStrategy,
    query: LocateQuery,
    signal: AbortSignal | undefined,
    anyhow: boolean,
  ): Promise<{ step: LookupStep; providers: LocatedProvider[] }> {
    const { breaker, onStep } = this.#deps
    const silentMs = anyhow ? undefined : breaker?.silentMs(strategy)
    const asked =
      silentMs === undefined
        ? await this.#ask(strategy, query, signal)
        : { step: skipped(strategy, silentMs), providers: [] }
    signal?.throwIfAborted()
    if (asked.step.outcome !== 'skipped') breaker?.report(strategy, !isDown(asked.step))
    onStep?.(asked.step)
    return asked
  }

  /** Whom to ask, in order. */
  #chain(query: LocateQuery, via: StrategyName | undefined): readonly LocateStrategy[] {
    const all = this.#deps.strategies()
    const named = (via === undefined ? this.#order : this.#order.filter((name) => name === via)).flatMap((name) =>
      all.filter((strategy) => strategy.name === name),
    )
    if (named.length === 0)
      throw new NetworkError('invalid', `this peer has no ${via ?? 'lookup'} to ask: see its configuration`)
    const able = named.filter(({ kinds }) => kinds?.includes(query.kind) ?? true)
    if (able.length === 0)
      throw new NetworkError('invalid', `${named[0]!.asked} finds exact names and content ids, not parts of names`)
    return able
  }

  /** A name or content is found once someone has it. Part of a name may match more elsewhere: the directory knows all. */
  #enough(query: LocateQuery, asked: StrategyName, step: LookupStep, result: Located): boolean {
    if (query.kind !== 'text') return result.providers.length > 0
    return asked === 'maestro' && (step.outcome === 'found' || step.outcome === 'nothing')
  }

  async #ask(
    strategy: LocateStrategy,
    query: LocateQuery,
    signal: AbortSignal | undefined,
  ): Promise<{ step: LookupStep; providers: LocatedProvider[] }> {
    const begin = this.#deps.clock.now()
    const timeoutMs = strategy.timeoutMs ?? this.#timeoutMs
    const bound = deadline(timeoutMs, signal)
    const trace = newTrace()
    const providers: LocatedProvider[] = []
    let failure: NetworkError | undefined
    const late = () => new NetworkError('unavailable', `no answer from ${strategy.asked} within ${timeoutMs} ms`)
    try {
      for await (const provider of untilAborted(strategy.locate(query, trace, bound.signal), bound.signal)) {
        providers.push({ ...provider, via: strategy.name })
        if (providers.length >= MAX_PROVIDERS) break
      }
    } catch (error) {
      failure = bound.signal.aborted ? late() : asNetworkError(error)
    } finally {
      bound.clear()
    }
    // One that was cut short may end as if it had looked everywhere.
    if (bound.signal.aborted) failure ??= late()
    const step: LookupStep = {
      strategy: strategy.name,
      asked: strategy.asked,
      outcome: providers.length > 0 ? 'found' : failure ? outcomeOf(failure, bound.signal.aborted) : 'nothing',
      found: providers.length,
      ms: Math.max(0, this.#deps.clock.now() - begin),
      detail: failure && providers.length === 0 ? failure.message : trace.detail,
      messages: trace.messages,
      hops: trace.hops,
      path: trace.path.slice(0, MAX_PATH),
      age_ms: trace.ageMs,
      silent: trace.silent,
    }
    return { step, providers }
  }
}

function skipped({ name: strategy, asked }: LocateStrategy, silentMs: number): LookupStep {
  const detail = `did not answer ${Math.round(silentMs / 1000)} s ago; asked again in the background`
  const nothing = { found: 0, ms: 0, messages: 0, hops: null, path: [], age_ms: null, silent: [] }
  return { strategy, asked, outcome: 'skipped', detail, ...nothing }
}

function outcomeOf(failure: NetworkError, timedOut: boolean): LookupStep['outcome'] {
  if (timedOut || failure.details.reason === 'timeout') return 'timeout'
  return failure.code === 'unavailable' ? 'unreachable' : 'refused'
}

/** Parts of a name are asked of several who may know the same. */
function withoutDoubles(providers: readonly LocatedProvider[]): LocatedProvider[] {
  const seen = new Map<string, LocatedProvider>()
  for (const provider of providers) {
    const key = `${provider.peer}\n${provider.id}\n${provider.file}`
    if (!seen.has(key)) seen.set(key, provider)
  }
  return [...seen.values()]
}

/** How long a strategy may take to end by itself once its time is over, so that it tells what it did, ms. */
const GRACE_MS = 50

/** The same, but it ends with the signal, whether or not who gives them minds it. */
async function* untilAborted(providers: AsyncIterable<Provider>, signal: AbortSignal): AsyncIterable<Provider> {
  const iterator = providers[Symbol.asyncIterator]()
  let abort = () => {}
  let grace: NodeJS.Timeout | undefined
  const aborted = new Promise<never>((_, reject) => {
    abort = () => {
      grace = setTimeout(() => reject(signal.reason), GRACE_MS)
    }
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
  aborted.catch(() => {})
  try {
    for (;;) {
      const { done, value } = await Promise.race([iterator.next(), aborted])
      if (done) return
      yield value
    }
  } finally {
    signal.removeEventListener('abort', abort)
    clearTimeout(grace)
    // Not awaited: it may hang where it was aborted.
    iterator.return?.().catch(() => {})
  }
}
