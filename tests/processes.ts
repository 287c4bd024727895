import { type ChildProcess, spawn } from 'node:child_process'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { projectFile } from '../common/project.ts'

/** The built programs as real processes, ended by their id. `npm test` builds them first. */
export interface Ended {
  code: number | null
  stdout: string
  stderr: string
}

export function runPeer(args: string[], env: Record<string, string> = {}): Promise<Ended> {
  return run('dist/peer/main.js', args, env)
}

export function runMaestro(args: string[], env: Record<string, string> = {}): Promise<Ended> {
  return run('dist/maestro/main.js', args, env)
}

/** As `runPeer`, but bound by file permissions like anybody, even where the tests run as root. */
export function runPeerAsAnybody(args: string[]): Promise<Ended> {
  const root = process.getuid?.() === 0
  return run('dist/peer/main.js', args, {}, root ? ['setpriv', '--bounding-set=-dac_override,-dac_read_search'] : [])
}

/** Runs a program to its end, for at most 30 s. */
async function run(
  program: string,
  args: string[],
  env: Record<string, string>,
  launcher: string[] = [],
): Promise<Ended> {
  const daemon = new Daemon(program, args, env, launcher)
  daemon.start()
  const giveUp = setTimeout(() => daemon.kill('SIGKILL'), 30_000)
  const ended = await daemon.ended()
  clearTimeout(giveUp)
  return ended
}

/** A long-running program that a test may kill and start again. */
export class Daemon {
  readonly #program: string
  readonly #args: string[]
  readonly #env: Record<string, string>
  readonly #launcher: string[]
  #child: ChildProcess | undefined
  #ended: Promise<Ended> | undefined

  constructor(program: string, args: string[], env: Record<string, string> = {}, launcher: string[] = []) {
    this.#program = program
    this.#args = args
    this.#env = env
    this.#launcher = launcher
  }

  static maestro(config: string): Daemon {
    return new Daemon('dist/maestro/main.js', ['--config', config])
  }

  static peer(config: string): Daemon {
    return new Daemon('dist/peer/main.js', ['run', '--config', config])
  }

  get pid(): number {
    return this.#child?.pid ?? -1
  }

  start(): void {
    const [command = '', ...args] = [...this.#launcher, process.execPath, projectFile(this.#program), ...this.#args]
    const child = spawn(command, args, {
      env: { ...process.env, NO_COLOR: '1', ...this.#env },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (data) => (stdout += data))
    child.stderr.on('data', (data) => (stderr += data))
    this.#ended = new Promise((resolve) => child.once('close', (code) => resolve({ code, stdout, stderr })))
  }

  ended(): Promise<Ended> {
    return this.#ended ?? Promise.reject(new Error('it was not started'))
  }

  kill(signal: NodeJS.Signals): void {
    this.#child?.kill(signal)
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.kill(signal)
    return this.ended()
  }
}

/** Waits until `url` answers, for at most `ms`. */
export async function answers(url: string, ms = 20_000): Promise<void> {
  const deadline = Date.now() + ms
  while (!(await fetch(`${url}/healthz`).catch(() => undefined))?.ok) {
    if (Date.now() > deadline) throw new Error(`nothing answers at ${url}`)
    await pause(20)
  }
}

/** Ports that are free now, for programs that must come back on the same one. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer()
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      return server
    }),
  )
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}
