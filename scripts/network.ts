import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as pause } from 'node:timers/promises'
import { stopOnSignals } from '../common/lifecycle.ts'
import { projectFile } from '../common/project.ts'

/** `npm start`: the sample network in one terminal, a Maestro and three peers. */

const PARTS = ['maestro', 'peer1', 'peer2', 'peer3'] as const
const READY_MS = 20_000
const children = new Map<string, ChildProcess>()
let stopping = false
let isUp = false

function say(line: string): void {
  process.stdout.write(`${line}\n`)
}

function address(part: string): string {
  const { port } = JSON.parse(readFileSync(projectFile('config', `${part}.json`), 'utf8')) as { port: number }
  return `http://127.0.0.1:${port}`
}

function launch(part: string): void {
  const config = projectFile('config', `${part}.json`)
  const args =
    part === 'maestro'
      ? [projectFile('dist/maestro/main.js'), '--config', config]
      : [projectFile('dist/peer/main.js'), 'run', '--config', config]
  const child = spawn(process.execPath, args, {
    env: { P2P_LOG_LEVEL: 'error', ...process.env },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  children.set(part, child)
  createInterface({ input: child.stderr! }).on('line', (line) => say(`${part.padEnd(8)} ${line}`))
  child.on('exit', (code, signal) => {
    children.delete(part)
    if (stopping) return
    const how = signal === null ? `ended with exit code ${code}` : `was ended by ${signal}`
    if (children.size === 0 && isUp) say(`${part} ${how}. Everything has stopped.`)
    else
      say(`${part} ${how}. The others go on; scripts/start_component.sh ${part} starts it again in another terminal.`)
  })
}

async function answers(part: string): Promise<boolean> {
  return (await fetch(`${address(part)}/healthz`).catch(() => undefined))?.ok ?? false
}

async function ready(part: string): Promise<void> {
  const deadline = Date.now() + READY_MS
  while (!stopping && !(await answers(part))) {
    if (!children.has(part)) throw new Error(`${part} ended`)
    if (Date.now() > deadline) throw new Error(`${part} does not answer at ${address(part)}`)
    await pause(50)
  }
}

async function stop(): Promise<void> {
  stopping = true
  const ends = [...children.values()].map((child) => new Promise((resolve) => child.once('exit', resolve)))
  for (const child of children.values()) child.kill('SIGTERM')
  await Promise.all(ends)
  if (ends.length > 0) say('Everything has stopped.')
}

stopOnSignals(stop)
try {
  for (const part of PARTS)
    if (await answers(part)) throw new Error(`something answers at ${address(part)} already: stop that network first`)
  for (const part of PARTS) {
    launch(part)
    await ready(part)
  }
  isUp = true
  if (!stopping)
    say(`
The network is up:
  Maestro  ${address('maestro')}  the directory; its REST reference is at ${address('maestro')}/docs
  P1       ${address('peer1')}  shares config/peer1/shared
  P2       ${address('peer2')}  shares config/peer2/shared
  P3       ${address('peer3')}  shares config/peer3/shared

Three things to try, in another terminal in this folder:
  npx peer network
  npx peer locate archivo2.txt --explain
  kill ${children.get('maestro')?.pid}      (the Maestro; then: npx peer download archivo3.txt)

Ctrl-C stops everything.`)
} catch (error) {
  if (!stopping) {
    say(`The network did not start: ${(error as Error).message}`)
    await stop()
    process.exit(1)
  }
}
