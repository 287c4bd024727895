import type { Clock } from '../../common/clock.ts'
import { deadline } from '../../common/deadline.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { LocatedProvider, LookupStep, StrategyName } from '../../common/schemas.ts'
import type { LocateQuery, LocateStrategy } from './strategy.ts'

export interface Located {
  providers: LocatedProvider[]
  /** the strategy that found them; null where none did */
  via: StrategyName | null
  steps: LookupStep[]
}

export interface LocatorOptions {
  /** bound on one strategy, ms */
  timeoutMs: number
}

/** Providers kept from one strategy. */
const MAX_PROVIDERS = 1000

/**
 * Asks one strategy after the other, each for a bounded time, until one finds providers. A dead or slow one is a step
 * of the explanation, not a failure.
 */
export class Locator {
  readonly #strategies: () => readonly LocateStrategy[]
  readonly #clock: Clock
  readonly #timeoutMs: number

  /** `strategies` is asked at each lookup, in order: the friend list changes while the agent runs. */
  constructor(deps: { strategies: () => readonly LocateStrategy[]; clock: Clock }, options: LocatorOptions) {
    this.#strategies = deps.strategies
    this.#clock = deps.clock
    this.#timeoutMs = options.timeoutMs
  }

  /**
   * @param via only this strategy, instead of the whole chain
   * @throws NetworkError `cancelled`; `invalid` where `via` names a strategy that this peer does not have
   */
  async locate(query: LocateQuery, signal?: AbortSignal, via?: StrategyName): Promise<Located> {
    const chain = this.#strategies().filter((strategy) => via === undefined || strategy.name === via)
    if (chain.length === 0)
      throw new NetworkError('invalid', `this peer has no ${via ?? 'lookup'} to ask: see its configuration`)
    const result: Located = { providers: [], via: null, steps: [] }
    for (const strategy of chain) {
      const { step, providers } = await this.#ask(strategy, query, signal)
      signal?.throwIfAborted()
      result.steps.push(step)
      if (providers.length > 0) {
        result.providers.push(...providers)
        result.via = strategy.name
      }
      if (this.#enough(query, strategy.name, step, result)) break
    }
    return result
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
    const begin = this.#clock.now()
    const bound = deadline(this.#timeoutMs, signal)
    const providers: LocatedProvider[] = []
    let failure: NetworkError | undefined
    try {
      for await (const provider of strategy.locate(query, bound.signal)) {
        providers.push({ ...provider, via: strategy.name })
        if (providers.length >= MAX_PROVIDERS) break
      }
    } catch (error) {
      failure = asNetworkError(error)
    } finally {
      bound.clear()
    }
    const step: LookupStep = {
      strategy: strategy.name,
      asked: strategy.asked,
      outcome: providers.length > 0 ? 'found' : failure ? outcomeOf(failure, bound.signal.aborted) : 'nothing',
      found: providers.length,
      ms: Math.max(0, this.#clock.now() - begin),
      detail: failure && providers.length === 0 ? failure.message : null,
    }
    return { step, providers }
  }
}

function outcomeOf(failure: NetworkError, timedOut: boolean): LookupStep['outcome'] {
  if (timedOut || failure.details.reason === 'timeout') return 'timeout'
  return failure.code === 'unavailable' ? 'unreachable' : 'refused'
}
