import { Counter, Histogram, type Registry } from 'prom-client'
import type { LookupStep } from '../common/schemas.ts'

/** How lookups go, step by step, as Prometheus asks for it. */
export class LookupMetrics {
  readonly #steps: Counter<'strategy' | 'outcome'>
  readonly #messages: Counter<'strategy'>
  readonly #seconds: Histogram<'strategy'>

  constructor(registry: Registry) {
    const registers = [registry]
    this.#steps = new Counter({
      name: 'p2p_lookup_steps_total',
      help: 'steps of lookups',
      labelNames: ['strategy', 'outcome'],
      registers,
    })
    this.#messages = new Counter({
      name: 'p2p_lookup_messages_total',
      help: 'messages sent for lookups, as far as known',
      labelNames: ['strategy'],
      registers,
    })
    this.#seconds = new Histogram({
      name: 'p2p_lookup_seconds',
      help: 'time of a step of a lookup',
      labelNames: ['strategy'],
      buckets: [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      registers,
    })
  }

  count({ strategy, outcome, messages, ms }: LookupStep): void {
    this.#steps.inc({ strategy, outcome })
    this.#messages.inc({ strategy }, messages)
    if (outcome !== 'skipped') this.#seconds.observe({ strategy }, ms / 1000)
  }
}
