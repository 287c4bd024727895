import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { RestClient } from '../common/rest-client.ts'
import { PeerLocateResponse, RingResponse } from '../common/schemas.ts'
import { AgentClient } from './agent-client.ts'
import { type Running, scratch, startMaestro, startPeer, until } from './process.ts'
import { type Measurement, median, say } from './report.ts'

const AGENTS = 20
const KILLED = 10
const FILES = 5
const MAESTRO_PORT = 19_099
const FIRST_PORT = 19_100
const SETTLE_MS = 120_000
const AFTER_KILL_MS = 30_000
/** Started at a time: each takes a core for a moment. */
const AT_A_TIME = 4

interface Agent {
  readonly running: Running
  readonly rest: RestClient
  readonly files: readonly string[]
}

interface Located {
  readonly sought: number
  readonly found: number
  readonly medianMs: number
  readonly worstMs: number
  readonly via: string
}

/** Real agents whose Maestro is killed, and then half of themselves. */
export async function agents(): Promise<Measurement[]> {
  say(`lookup: ${AGENTS} agents, the Maestro killed …`)
  const folder = scratch('disk')
  const maestro = await startMaestro(folder.path, MAESTRO_PORT, undefined, { lease_ms: 30_000 })
  const all: Agent[] = []
  try {
    for (let i = 0; i < AGENTS; i += AT_A_TIME)
      all.push(...(await Promise.all(Array.from({ length: AT_A_TIME }, (_, j) => startAgent(folder.path, i + j)))))
    await settled(all)
    await maestro.child.stop('SIGKILL')
    const first = await locateAll(all)
    const killed = all.splice(0, KILLED)
    await Promise.all(killed.map(({ running }) => running.child.stop('SIGKILL')))
    say(`lookup: ${KILLED} of the agents killed …`)
    await pause(AFTER_KILL_MS)
    const second = await locateAll(all)
    return [
      ...measured(`${AGENTS} agents, Maestro killed`, first),
      ...measured(`… 30 s after ${KILLED} of them were killed, files still held`, second),
    ]
  } finally {
    await Promise.all([maestro, ...all.map(({ running }) => running)].map((program) => program.stop()))
    folder.remove()
  }
}

async function startAgent(folder: string, i: number): Promise<Agent> {
  const id = `P${i}`
  const running = await startPeer(folder, id, FIRST_PORT + i, { maestro_url: `http://127.0.0.1:${MAESTRO_PORT}` })
  const files = Array.from({ length: FILES }, (_, j) => `shared-by-${id}-${j}.txt`)
  for (const file of files) writeFileSync(join(folder, id, file), `${file}\n`)
  return { running, files, rest: new RestClient({ name: id, baseUrl: running.url }) }
}

/** Every agent knows as many that follow it as it keeps, and its files are in the ring. */
async function settled(all: readonly Agent[]): Promise<void> {
  for (const { running, rest } of all) {
    const client = new AgentClient(running.url)
    const options = { child: running.child }
    await until('an agent did not find its files', SETTLE_MS, () => client.hasScanned(FILES), options)
    await until('an agent did not register', SETTLE_MS, () => client.isRegistered(), options)
    const isWhole = async () => {
      const ring = await rest.call('GET', '/ring', RingResponse)
      const { published, unpublished } = ring.records
      return (
        ring.state === 'whole' && ring.successors.length === ring.successor_list && published > 0 && unpublished === 0
      )
    }
    await until('the ring did not settle', SETTLE_MS, isWhole, options)
  }
}

/** Each file of each of these, by its name, from one of the others by turns. */
async function locateAll(all: readonly Agent[]): Promise<Located> {
  const times: number[] = []
  const via = new Map<string, number>()
  let found = 0
  for (const [i, { files, rest }] of all.entries())
    for (const [j, file] of files.entries()) {
      const asker = all[(i + 1 + j) % all.length]!
      if (asker.rest === rest) continue
      const begin = performance.now()
      const answer = await asker.rest.call('GET', `/locate?file=${encodeURIComponent(file)}`, PeerLocateResponse)
      times.push(performance.now() - begin)
      if (answer.peers.length > 0) found++
      else say(`  not found: ${file}: ${JSON.stringify(answer.steps)}`)
      via.set(answer.via ?? 'nobody', (via.get(answer.via ?? 'nobody') ?? 0) + 1)
    }
  return {
    sought: times.length,
    found,
    medianMs: median(times),
    worstMs: Math.max(...times),
    via: [...via].map(([name, n]) => `${name} ${n}`).join(', '),
  }
}

function measured(what: string, { sought, found, medianMs, worstMs, via }: Located): Measurement[] {
  return [
    {
      what: `${what}: found`,
      value: (100 * found) / sought,
      unit: '%',
      target: { atLeast: 100 },
      note: `${found} of ${sought}, via ${via}`,
    },
    {
      what: `${what}: median lookup`,
      value: medianMs,
      unit: 'ms',
      target: { atMost: 50 },
      note: `the longest ${worstMs.toFixed(0)} ms`,
    },
  ]
}
