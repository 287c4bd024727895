import type { Command } from 'commander'
import { parseRestUrl } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import type { WorkerHasher } from '../hashing/worker-hasher.ts'
import { EXIT, type ExitCode } from './exit.ts'
import type { Io } from './io.ts'
import type { Output } from './output.ts'

/** A command's module: its arguments, options, help and action. It is loaded once the command is asked for. */
export interface CommandModule {
  define(command: Command, cli: Cli): void
}

export interface CliOptions {
  /** the agent's REST URL, normalised */
  agentUrl: string
  token: string | undefined
}

/** How long the last question of a command that failed may take, ms. */
const PATIENCE_MS = 1000

/** Where agents and Maestros listen unless they are told otherwise. */
const AGENT_PORT = 8000
const MAESTRO_PORT = 9000
const DEFAULT_AGENT = '127.0.0.1'

/** What commands share: where to ask, how to answer. */
export class Cli {
  readonly io: Io
  readonly out: Output
  /** what the process ends with, unless the command throws */
  exitCode: ExitCode = EXIT.done
  /** every command with its options, for what needs them all */
  readonly wholeProgram: (cli: Cli) => Promise<Command>
  readonly #options: CliOptions
  readonly #closing: (() => Promise<void>)[] = []
  #askedAgent = false
  #hasher: Promise<WorkerHasher> | undefined

  constructor(deps: { io: Io; out: Output; wholeProgram: (cli: Cli) => Promise<Command> }, options: CliOptions) {
    this.io = deps.io
    this.out = deps.out
    this.wholeProgram = deps.wholeProgram
    this.#options = options
  }

  get agentUrl(): string {
    return this.#options.agentUrl
  }

  get token(): string | undefined {
    return this.#options.token
  }

  /** The user's own agent. */
  async agent() {
    const { PeerClient } = await import('./client.ts')
    this.#askedAgent = true
    const client = new PeerClient(
      { signal: this.io.signal },
      { name: 'the agent', url: this.agentUrl, token: this.#options.token },
    )
    this.onClose(() => client.close())
    return client
  }

  /** Another peer; the user's token is no business of its. `timeoutMs`: for one answer. */
  async peer(url: string, timeoutMs?: number) {
    const { PeerClient } = await import('./client.ts')
    const client = new PeerClient({ signal: this.io.signal }, { name: 'the peer', url: agentAddress(url), timeoutMs })
    this.onClose(() => client.close())
    return client
  }

  async maestro(url: string) {
    const { MaestroClient } = await import('../../common/maestro-client.ts')
    const client = new MaestroClient(address(url, MAESTRO_PORT))
    this.onClose(() => client.close())
    return client
  }

  /** The threads for all that a command hashes: starting them takes longer than a small file does. */
  hasher(): Promise<WorkerHasher> {
    this.#hasher ??= import('../hashing/worker-hasher.ts').then(({ WorkerHasher }) => {
      const hasher = new WorkerHasher()
      this.onClose(() => hasher.close())
      return hasher
    })
    return this.#hasher
  }

  /** Whatever a command opens is closed when it ends, latest first. */
  onClose(close: () => Promise<void>): void {
    this.#closing.push(close)
  }

  async close(): Promise<void> {
    for (let close = this.#closing.pop(); close; close = this.#closing.pop()) await close()
  }

  /** The error as the user should read it. */
  async explain(error: NetworkError): Promise<NetworkError> {
    const { code } = error
    const { reason, url } = error.details
    if (code === 'unavailable' && reason === 'unreachable' && url === this.agentUrl)
      return new NetworkError(
        'unavailable',
        `no agent answers at ${this.agentUrl}: start one with "peer run --config config/peer1.json", or name another with --agent URL`,
        error.details,
        error,
      )
    const isOdd = code === 'not_found' || code === 'invalid' || reason === 'unknown_answer'
    if (isOdd && this.#askedAgent && (await this.isMaestro(this.agentUrl)))
      return new NetworkError(
        'invalid',
        `${this.agentUrl} is a Maestro, not an agent: give it as --maestro (peer download), and an agent as --agent`,
        { url: this.agentUrl },
        error,
      )
    return error
  }

  /** Whether a Maestro answers there, and soon. */
  async isMaestro(url: string): Promise<boolean> {
    const maestro = await this.maestro(url)
    return maestro.info({ timeoutMs: PATIENCE_MS, signal: this.io.signal }).then(
      () => true,
      () => false,
    )
  }
}

/**
 * The URL of an agent as people type it: of a bare host, where agents usually listen.
 * @throws NetworkError `invalid`
 */
export function agentAddress(text: string): string {
  return address(text, AGENT_PORT)
}

function address(text: string, usualPort: number): string {
  const isBare = !/:\/\/|:\d*\/?$/.test(text)
  return parseRestUrl(isBare ? `${text.replace(/\/$/, '')}:${usualPort}` : text).url
}

/** @throws NetworkError `invalid` where the agent's address is none */
export function optionsFrom(given: { agent?: string; token?: string }, env: Io['env']): CliOptions {
  const agent = given.agent ?? (env.P2P_AGENT || DEFAULT_AGENT)
  return { agentUrl: agentAddress(agent), token: given.token ?? (env.P2P_TOKEN || undefined) }
}
