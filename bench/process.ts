import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { projectFile } from '../common/project.ts'
import { atEnd } from './cleanup.ts'

const READY_MS = 30_000
/** how long a program may take to end when it is asked to */
const STOP_MS = 10_000
/** Linux counts time in these, whatever its own timer's rate */
const TICKS_PER_S = 100
/** of what a program prints, more is forgotten */
const MAX_LINES = 10_000

/**
 * A new folder.
 * @param where on the temporary folder's disk or in memory, there with huge pages where they can be had: giving out
 *   small ones would be a good part of what is measured, of any program. Small files go without: each would take a
 *   huge page of its own.
 */
export function scratch(where: 'disk' | 'memory' | 'memory for small files'): { path: string; remove: () => void } {
  const path = mkdtempSync(join(where === 'disk' ? tmpdir() : '/dev/shm', `p2p-bench-${process.pid}-`))
  const mounted = where === 'memory' && quietly('mount', ['-t', 'tmpfs', '-o', 'huge=always,mode=755', 'tmpfs', path])
  return {
    path,
    remove: atEnd(() => {
      if (mounted) quietly('umount', ['--lazy', path])
      rmSync(path, { recursive: true, force: true })
    }),
  }
}

export function isInstalled(program: string): boolean {
  return quietly('which', [program])
}

/** Whether the command did what it was asked. */
function quietly(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0
}

/** Where a program runs, and is reached: this machine's loopback, or a host of its own. */
export interface Place {
  address: string
  /** the command line that brings a program there, such as `ip netns exec NAME` */
  enter: readonly string[]
}

export const LOOPBACK: Place = { address: '127.0.0.1', enter: [] }

/** A real process: watched for its memory and for what it prints, ended by its id. */
export class Child {
  readonly pid: number
  readonly #process: ChildProcess
  readonly #forget: () => void
  #lines: string[] = []
  #heard = new Set<() => void>()

  constructor(command: string, args: readonly string[], place: Place = LOOPBACK) {
    const [program = command, ...rest] = [...place.enter, command, ...args]
    this.#process = spawn(program, rest, { stdio: 'pipe' })
    this.pid = this.#process.pid ?? -1
    this.#process.stdin!.on('error', () => {})
    for (const input of [this.#process.stdout!, this.#process.stderr!])
      createInterface({ input }).on('line', (line) => {
        if (this.#lines.length < MAX_LINES) this.#lines.push(line)
        this.#wake()
      })
    this.#process.once('error', () => this.#wake())
    this.#process.once('exit', () => this.#wake())
    this.#forget = atEnd(() => this.#process.kill('SIGKILL'))
  }

  get ended(): boolean {
    return this.pid < 0 || this.#process.exitCode !== null || this.#process.signalCode !== null
  }

  /** Peak resident memory so far, MB; undefined once the process has ended. */
  peakMB(): number | undefined {
    try {
      const kibibytes = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))?.[1]
      return kibibytes === undefined ? undefined : (Number(kibibytes) * 1024) / 1e6
    } catch {
      return undefined
    }
  }

  /** Seconds of a core that it has used so far, in all its threads; 0 once it has ended. */
  cpuSeconds(): number {
    try {
      const fields = readFileSync(`/proc/${this.pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ')
      return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_S
    } catch {
      return 0
    }
  }

  /** @throws where it ends, or `ms` pass, before a line that it prints matches */
  async line(pattern: RegExp, ms: number): Promise<string> {
    const deadline = performance.now() + ms
    for (let seen = 0; ; ) {
      for (; seen < this.#lines.length; seen++) if (pattern.test(this.#lines[seen]!)) return this.#lines[seen]!
      const left = deadline - performance.now()
      if (this.ended) throw new Error(`it ended: ${this.lastWords()}`)
      if (left <= 0) throw new Error(`not within ${Math.round(ms / 1000)} s`)
      await this.#more(left)
    }
  }

  /** What it printed last. */
  lastWords(): string {
    return this.#lines.slice(-3).join(' / ') || 'without a word'
  }

  /** To its standard input. */
  send(line: string): void {
    this.#process.stdin!.write(`${line}\n`)
  }

  /** Ends it, by force where it does not do so in time. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (!this.ended) {
      const exit = new Promise((resolve) => this.#process.once('exit', resolve))
      this.#process.kill(signal)
      const force = setTimeout(() => this.#process.kill('SIGKILL'), STOP_MS)
      await exit
      clearTimeout(force)
    }
    this.#forget()
  }

  #more(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#heard.delete(done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#heard.add(done)
    })
  }

  #wake(): void {
    for (const done of this.#heard) done()
  }
}

/** A program of this project, which answers at `url`. */
export interface Running {
  url: string
  child: Child
  /** peak resident memory so far, MB */
  peakMB(): number
  stop(): Promise<void>
}

export function startMaestro(
  folder: string,
  port: number,
  place: Place = LOOPBACK,
  settings: Record<string, unknown> = { lease_ms: 600_000 },
): Promise<Running> {
  const file = join(folder, 'maestro.json')
  writeFileSync(
    file,
    JSON.stringify({ id: 'bench', ip: place.address, port, database: 'maestro.db', log_level: 'error', ...settings }),
  )
  return start([projectFile('dist/maestro/main.js'), '--config', file], `http://${place.address}:${port}`, place)
}

/** An agent that shares `folder`/`id`. */
export function startPeer(
  folder: string,
  id: string,
  port: number,
  settings: Record<string, unknown> = {},
  place: Place = LOOPBACK,
): Promise<Running> {
  const file = join(folder, `${id}.json`)
  mkdirSync(join(folder, id), { recursive: true })
  writeFileSync(
    file,
    JSON.stringify({ id, ip: place.address, port, grpc_port: 0, shared_dir: id, log_level: 'error', ...settings }),
  )
  return start([projectFile('dist/peer/main.js'), 'run', '--config', file], `http://${place.address}:${port}`, place)
}

export async function start(args: string[], url: string, place: Place = LOOPBACK): Promise<Running> {
  const child = new Child(process.execPath, args, place)
  try {
    await untilReady(url, child, async () => (await fetch(`${url}/healthz`)).ok)
  } catch (error) {
    await child.stop()
    throw error
  }
  return { url, child, peakMB: () => child.peakMB() ?? Number.NaN, stop: () => child.stop() }
}

/** Waits until the program serves `url`, whatever the status. */
export function listens(url: string, child: Child): Promise<void> {
  return untilReady(url, child, () => fetch(url).then(() => true))
}

function untilReady(url: string, child: Child, ask: () => Promise<boolean>): Promise<void> {
  return until(`nothing answers at ${url}`, READY_MS, ask, { child, everyMs: 5 })
}

/**
 * Asks until the answer is yes; a question that fails is not answered.
 * @param what the error where it is not within `ms`, or where the child that is asked has ended
 */
export async function until(
  what: string,
  ms: number,
  ask: () => Promise<boolean>,
  { child, everyMs = 50 }: { child?: Child; everyMs?: number } = {},
): Promise<void> {
  const deadline = Date.now() + ms
  const said = () => (child === undefined ? '' : `: ${child.lastWords()}`)
  while (!(await ask().catch(() => false))) {
    if (child?.ended) throw new Error(`${what}: it ended${said()}`)
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms / 1000} s${said()}`)
    await pause(everyMs)
  }
}
