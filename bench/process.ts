import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { projectFile } from '../common/project.ts'

/** Real processes for the benchmarks: started on fixed ports, watched for their memory, ended by their id. */
export interface Running {
  url: string
  /** peak resident memory so far, MB */
  peakMB(): number
  stop(): Promise<void>
}

const READY_MS = 30_000

/** A new folder, in memory where the machine has such a file system and `memory` asks for it. */
export function scratch(memory: boolean): { path: string; remove: () => void } {
  const path = mkdtempSync(join(memory ? '/dev/shm' : tmpdir(), 'bench-'))
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) }
}

export function startMaestro(folder: string, port: number): Promise<Running> {
  const file = join(folder, 'maestro.json')
  writeFileSync(
    file,
    JSON.stringify({
      id: 'bench',
      ip: '127.0.0.1',
      port,
      database: 'maestro.db',
      log_level: 'error',
      lease_ms: 600_000,
    }),
  )
  return start([projectFile('dist/maestro/main.js'), '--config', file], `http://127.0.0.1:${port}`)
}

export function startPeer(
  folder: string,
  id: string,
  port: number,
  extra: Record<string, unknown> = {},
): Promise<Running> {
  const file = join(folder, `${id}.json`)
  mkdirSync(join(folder, id), { recursive: true })
  writeFileSync(
    file,
    JSON.stringify({ id, ip: '127.0.0.1', port, grpc_port: 0, shared_dir: id, log_level: 'error', ...extra }),
  )
  return start([projectFile('dist/peer/main.js'), 'run', '--config', file], `http://127.0.0.1:${port}`)
}

export async function start(args: string[], url: string): Promise<Running> {
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  const pid = child.pid
  if (pid === undefined) throw new Error(`${args[0]} did not start`)
  const deadline = Date.now() + READY_MS
  while (!(await fetch(`${url}/healthz`).catch(() => undefined))?.ok) {
    if (hasEnded(child) || Date.now() > deadline) {
      await stop(child)
      throw new Error(`${args[0]} does not answer at ${url}`)
    }
    await pause(5)
  }
  return { url, peakMB: () => peakMB(pid), stop: () => stop(child) }
}

function peakMB(pid: number): number {
  const kilobytes = /VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kilobytes) / 1000
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null
}

async function stop(child: ChildProcess): Promise<void> {
  if (hasEnded(child)) return
  const ended = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGTERM')
  await ended
}
