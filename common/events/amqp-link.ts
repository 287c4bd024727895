import { backoff } from '../backoff.ts'
import type { Clock } from '../clock.ts'
import type { NetworkError } from '../errors.ts'
import type { Component } from '../lifecycle.ts'
import type { Logger } from '../log.ts'
import type { BrokerAddress } from './amqp-address.ts'
import { Session } from './amqp-session.ts'

/** Between two attempts to connect. */
const RETRY_MS = { first: 250, longest: 15_000 }

export interface LinkDeps {
  clock: Clock
  logger: Logger
  /** Makes what is needed over a new connection; where it throws, another is tried later. */
  setUp: (session: Session) => Promise<void>
  /** `session`, `problem` or whether it is blocked has changed */
  onChange: () => void
}

export interface LinkOptions {
  address: BrokerAddress
  /** what the broker's own tools call the connection */
  name: string
}

/** Keeps a session with a RabbitMQ: where it ends, begins another, with growing pauses while that fails. */
export class AmqpLink implements Component {
  readonly #deps: LinkDeps
  readonly #options: LinkOptions
  readonly #stopping = new AbortController()
  #current: Session | undefined
  #ready = false
  #problem: NetworkError | undefined
  #running: Promise<void> | undefined

  constructor(deps: LinkDeps, options: LinkOptions) {
    this.#deps = deps
    this.#options = options
  }

  /** The session, once it is set up. */
  get session(): Session | undefined {
    return this.#ready ? this.#current : undefined
  }

  /** Why there is no session; undefined also before the first attempt has ended. */
  get problem(): NetworkError | undefined {
    return this.#problem
  }

  async start(): Promise<void> {
    this.#running ??= this.#run()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#current?.close()
    await this.#running
  }

  async #run(): Promise<void> {
    const { clock, logger, setUp, onChange } = this.#deps
    const { address, name } = this.#options
    const stopping = this.#stopping.signal
    let told = ''
    for (let failures = 0; !stopping.aborted; failures++) {
      const session = new Session(address, name, onChange)
      this.#current = session
      try {
        await session.within(setUp(session))
        failures = 0
        told = ''
        this.#ready = true
        this.#problem = undefined
        logger.info({ broker: address.place, connection: name }, 'connected to the RabbitMQ')
        onChange()
      } catch (error) {
        session.fail(error)
      }
      this.#problem = await session.over
      this.#ready = false
      if (stopping.aborted) return
      if (this.#problem.message !== told)
        logger.warn({ connection: name, problem: this.#problem.message }, 'no connection to the RabbitMQ')
      told = this.#problem.message
      onChange()
      await clock.sleep(backoff(RETRY_MS, failures) * (0.75 + Math.random() / 2), stopping)
    }
  }
}
