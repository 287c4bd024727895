import { type Clock, systemClock } from './clock.ts'
import type { Logger } from './log.ts'

/** Something that runs between `start` and `stop`; `stop` returns when nothing of it is left running. */
export interface Component {
  start(): Promise<void>
  stop(): Promise<void>
}

export interface LoopOptions {
  /** Milliseconds between two ticks; asked anew after each. */
  interval: () => number
  /** Share of the interval by which it varies at random, 0 to 1 (default 0.1), so that many peers do not beat as one. */
  jitter?: number
  clock?: Clock
  random?: () => number
}

/**
 * Runs `tick` now and then on a jittered timer. A tick that throws is logged, and the loop goes on. `nudge()` runs the
 * next tick at once. Whoever starts a loop awaits its `stop()`.
 */
export class Loop implements Component {
  #name: string
  #tick: (signal: AbortSignal) => Promise<void>
  #log: Logger
  #options: Required<LoopOptions>
  #stopping = new AbortController()
  #nudged = new AbortController()
  #running: Promise<void> | undefined

  constructor(name: string, tick: (signal: AbortSignal) => Promise<void>, log: Logger, options: LoopOptions) {
    this.#name = name
    this.#tick = tick
    this.#log = log
    this.#options = { jitter: 0.1, clock: systemClock, random: Math.random, ...options }
  }

  async start(): Promise<void> {
    this.#running ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#nudged.abort()
    await this.#running
  }

  nudge(): void {
    this.#nudged.abort()
  }

  async #run(): Promise<void> {
    const { interval, jitter, clock, random } = this.#options
    const stopping = this.#stopping.signal
    while (!stopping.aborted) {
      this.#nudged = new AbortController()
      try {
        await this.#tick(stopping)
      } catch (error) {
        if (!stopping.aborted) this.#log.warn({ loop: this.#name, err: error }, 'a tick failed')
      }
      if (stopping.aborted) return
      await clock.sleep(interval() * (1 + jitter * (2 * random() - 1)), this.#nudged.signal)
    }
  }
}

const IMPATIENT_MS = 1000

/**
 * Aborts at SIGINT or SIGTERM. A second signal a second later or more ends the process at once; before that it is the
 * same wish twice, as where a terminal's Ctrl-C reaches a parent and its children.
 */
export function interruption(): AbortSignal {
  const interrupted = new AbortController()
  let since = 0
  const onSignal = () => {
    if (!interrupted.signal.aborted) {
      since = Date.now()
      interrupted.abort()
    } else if (Date.now() - since >= IMPATIENT_MS) process.exit(130)
  }
  process.on('SIGINT', onSignal)
  process.on('SIGTERM', onSignal)
  return interrupted.signal
}

/** Calls `stop` once, at the first interruption, and ends the process with it. */
export function stopOnSignals(stop: () => Promise<void>): void {
  const onInterruption = () =>
    stop().then(
      () => process.exit(0),
      () => process.exit(1),
    )
  interruption().addEventListener('abort', onInterruption, { once: true })
}
