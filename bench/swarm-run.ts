import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { parseFileName } from '../common/ids.ts'
import { kuroseRoss } from '../common/kurose-ross.ts'
import { MaestroClient } from '../common/maestro-client.ts'
import { pieceCount, pieceSizeFor } from '../common/merkle.ts'
import { isEndState, type TransferBody } from '../common/schemas.ts'
import { AgentClient, failureOf } from './agent-client.ts'
import { makeFile } from './content.ts'
import { type Host, ShapedNetwork } from './hosts.ts'
import { type Running, scratch, startMaestro, startPeer, until } from './process.ts'

/** A file at one seeder, and who takes it at the same moment; every host with a link of its own. */
export interface SwarmPlan {
  /** bytes of the file */
  size: number
  /** Mbit/s both ways */
  seederMbps: number
  /** Mbit/s both ways, of each taker */
  takersMbps: readonly number[]
  /** how many of the takers count, the first ones; the rest takes part but is not waited for (default: all) */
  counted?: number
  /** whether the seeder is killed as soon as one whole copy is out */
  killSeeder?: boolean
  /** all take another, small file first, as agents that have run for a while */
  warm?: boolean
}

export interface TakerResult {
  name: string
  /** from the common start until its file was there, verified; undefined where it never was */
  seconds?: number
  /** why it has no file */
  problem?: string
  /** payload bytes that the network brought, those thrown away too, as the agent counts them */
  received: number
  /** bytes that its link brought */
  linkBytes: number
  peakMB: number
  progress: Sample[]
}

/** [seconds since the start, verified pieces] */
export type Sample = [number, number]

export interface SwarmResult {
  pieces: number
  takers: TakerResult[]
  seederPeakMB: number
  /** seconds, distinct pieces that the seeder had sent */
  sentOnce: Sample[]
  /** seconds from the start until the seeder was killed */
  killed?: number
  /** share of this machine's cores that was in use, by whomever, and that the agents used */
  busy: { all: number; agents: number }
}

/** The least seconds in which those that count can have the file, if they have only the seeder and each other. */
export function boundOf({ size, seederMbps, takersMbps, counted }: SwarmPlan): number {
  const bytes = (mbps: number) => (mbps * 1e6) / 8
  const takers = takersMbps.slice(0, counted).map((mbps) => ({ up: bytes(mbps), down: bytes(mbps) }))
  return kuroseRoss({ size, seederUp: bytes(seederMbps), takers })
}

/** Seconds after which a run is given up. */
export function patienceOf(plan: SwarmPlan): number {
  return Math.max(60, 5 * boundOf(plan))
}

/** Bytes of memory that a run takes: one copy a host, and the agents. */
export function memoryOf({ size, takersMbps }: SwarmPlan): number {
  return (takersMbps.length + 1) * (size + 150e6)
}

const FILE = parseFileName('swarm.bin')
const WARM_FILE = parseFileName('warm.bin')
const WARM_SIZE = 16 * 2 ** 20
const TOKEN = `bench-${process.pid}`
/** agents that start at the same time: each takes a core for some while */
const STARTING_AT_ONCE = 4
const SAMPLE_MS = 250
/** of what the seeder gave, where it has to be killed in time */
const UPLOADS_MS = 50
const PROGRESS_S = 5
/** what has left the seeder's agent may still wait in its link's queue */
const LAST_PIECE_MS = 1000

/** Runs it with real agents, in memory, and ends everything again. */
export async function runSwarm(plan: SwarmPlan, say: (line: string) => void): Promise<SwarmResult> {
  const folder = scratch('memory')
  const network = new ShapedNetwork()
  const running: Running[] = []
  try {
    mkdirSync(join(folder.path, 'seeder'))
    makeFile(join(folder.path, 'seeder', FILE), plan.size)
    if (plan.warm) makeFile(join(folder.path, 'seeder', WARM_FILE), WARM_SIZE)
    const maestro = await startMaestro(folder.path, 9000, network.addHost(), {})
    running.push(maestro)
    const agent = async (name: string, mbps: number): Promise<Member> => {
      const host = network.addHost(mbps)
      const settings = { grpc_port: 50_051, maestro_url: maestro.url, token: TOKEN }
      const process = await startPeer(folder.path, name, 8000, settings, host)
      running.push(process)
      return { name, host, process, client: new AgentClient(process.url, TOKEN) }
    }
    const seeder = await agent('seeder', plan.seederMbps)
    say(`starting ${plan.takersMbps.length + 1} agents`)
    const takers: Member[] = []
    for (let i = 0; i < plan.takersMbps.length; i += STARTING_AT_ONCE) {
      const some = plan.takersMbps.slice(i, i + STARTING_AT_ONCE)
      takers.push(...(await Promise.all(some.map((mbps, k) => agent(`taker-${i + k + 1}`, mbps)))))
    }
    await until('the seeder did not hash its file', 60_000, () => seeder.client.hasScanned(plan.warm ? 2 : 1))
    const directory = new MaestroClient(maestro.url)
    await until('the seeder is not in the directory', 10_000, async () => {
      const { peers } = await directory.locate({ file: FILE })
      return peers.some(({ id }) => id !== null)
    })
    for (const { name, client } of takers) await until(`${name} did not register`, 10_000, () => client.isRegistered())
    if (plan.warm) {
      say('all take a small file first')
      await Promise.all(
        takers.map(async ({ client }) => client.finished(await client.download({ file: WARM_FILE }), 120_000)),
      )
    }
    const result = await new Run(plan, seeder, takers, say).measure()
    for (const [i, { name, seconds }] of result.takers.entries())
      if (i < (plan.counted ?? Number.POSITIVE_INFINITY) && seconds !== undefined)
        execFileSync('cmp', [join(folder.path, 'seeder', FILE), join(folder.path, name, FILE)])
    return result
  } finally {
    await Promise.all(running.map((process) => process.stop()))
    network.close()
    folder.remove()
  }
}

interface Member {
  name: string
  host: Host
  process: Running
  client: AgentClient
}

/** A member while it takes the file. */
interface Taker {
  member: Member
  transfer: string
  /** what its link had brought before */
  linkBytes: number
  result: TakerResult
}

/** One distribution, from the common start until all that count have ended. */
class Run {
  readonly #plan: SwarmPlan
  readonly #seeder: Member
  readonly #members: readonly Member[]
  readonly #say: (line: string) => void
  readonly #pieces: number
  #takers: readonly Taker[] = []
  #begin = 0
  #beginEpoch = 0
  #seederPeakMB = 0
  readonly #sentOnce: Sample[] = []
  #killed: number | undefined
  #over = false

  constructor(plan: SwarmPlan, seeder: Member, members: readonly Member[], say: (line: string) => void) {
    this.#plan = plan
    this.#seeder = seeder
    this.#members = members
    this.#say = say
    this.#pieces = pieceCount(plan.size, pieceSizeFor(plan.size))
  }

  async measure(): Promise<SwarmResult> {
    this.#begin = performance.now()
    this.#beginEpoch = Date.now()
    this.#takers = await Promise.all(this.#members.map(startTaking))
    const watching = this.#watchSeeder()
    const [idle, used] = [idleSeconds(), this.#cpuSeconds()]
    try {
      await this.#followTakers()
    } finally {
      this.#over = true
      await watching
    }
    const cores = this.#elapsed() * cpus().length
    return {
      busy: { all: 1 - (idleSeconds() - idle) / cores, agents: (this.#cpuSeconds() - used) / cores },
      pieces: this.#pieces,
      takers: this.#takers.map(({ result }) => result),
      seederPeakMB: this.#seederPeakMB,
      sentOnce: this.#sentOnce,
      ...(this.#killed === undefined ? {} : { killed: this.#killed }),
    }
  }

  /** Samples all takers until those that count have ended, or are given up. */
  async #followTakers(): Promise<void> {
    const limit = patienceOf(this.#plan)
    const counted = this.#takers.slice(0, this.#plan.counted).map(({ result }) => result)
    for (let said = 0; ; ) {
      const begin = performance.now()
      await Promise.all(this.#takers.map((taker) => this.#sample(taker)))
      this.#seederPeakMB = this.#seeder.process.child.peakMB() ?? this.#seederPeakMB
      if (counted.every(hasEnded)) return
      if (this.#elapsed() > limit) {
        for (const result of counted) if (!hasEnded(result)) result.problem = `not done after ${Math.round(limit)} s`
        return
      }
      if (this.#elapsed() - said >= PROGRESS_S) {
        said = this.#elapsed()
        this.#sayProgress()
      }
      await pause(Math.max(0, begin + SAMPLE_MS - performance.now()))
    }
  }

  async #sample({ member, transfer, linkBytes, result }: Taker): Promise<void> {
    result.peakMB = member.process.child.peakMB() ?? result.peakMB
    if (hasEnded(result)) return
    result.linkBytes = member.host.receivedBytes() - linkBytes
    let now: TransferBody
    try {
      now = await member.client.transfer(transfer)
    } catch {
      // An agent that is busy misses a sample; one that has died ended its transfer.
      if (member.process.child.ended) result.problem = `its agent ended: ${member.process.child.lastWords()}`
      return
    }
    const ended = isEndState(now.state)
    result.received = now.received
    // The agent knows its end to the millisecond; it is asked only every so often.
    const at = ended ? (Date.parse(now.started) - this.#beginEpoch) / 1000 + now.seconds : this.#elapsed()
    result.progress.push([at, now.pieces?.verified ?? 0])
    if (now.state === 'done') result.seconds = at
    else if (ended) result.problem = failureOf(now)
  }

  /** Follows what the seeder has given, and kills it as soon as that is one copy where the plan says so. */
  async #watchSeeder(): Promise<void> {
    const { killSeeder = false } = this.#plan
    while (!this.#over) {
      // An agent that is busy misses a sample.
      const uploads = await this.#seeder.client.uploads().catch(() => [])
      const upload = uploads.find(({ pieces }) => pieces === this.#pieces)
      if (upload !== undefined) this.#sentOnce.push([this.#elapsed(), upload.sent_once])
      if (killSeeder && upload !== undefined && upload.sent_once === upload.pieces) return this.#killSeeder()
      await pause(killSeeder ? UPLOADS_MS : SAMPLE_MS)
    }
  }

  async #killSeeder(): Promise<void> {
    await pause(LAST_PIECE_MS)
    this.#killed = this.#elapsed()
    this.#say(`one copy is out after ${this.#killed.toFixed(1)} s: the seeder is killed`)
    await this.#seeder.process.child.stop('SIGKILL')
  }

  #cpuSeconds(): number {
    return [this.#seeder, ...this.#members].reduce((sum, { process }) => sum + process.child.cpuSeconds(), 0)
  }

  #sayProgress(): void {
    const shares = this.#takers.map(({ result }) => ((result.progress.at(-1)?.[1] ?? 0) / this.#pieces) * 100)
    const done = this.#takers.filter(({ result }) => result.seconds !== undefined).length
    this.#say(
      `${Math.round(this.#elapsed())} s: ${done} of ${shares.length} done, the slowest has ${Math.floor(Math.min(...shares))} %, the fastest ${Math.floor(Math.max(...shares))} %`,
    )
  }

  #elapsed(): number {
    return (performance.now() - this.#begin) / 1000
  }
}

async function startTaking(member: Member): Promise<Taker> {
  const linkBytes = member.host.receivedBytes()
  const transfer = await member.client.download({ file: FILE })
  const result: TakerResult = { name: member.name, received: 0, linkBytes: 0, peakMB: 0, progress: [[0, 0]] }
  return { member, transfer, linkBytes, result }
}

/** Whether it has its file, or never will. */
function hasEnded({ seconds, problem }: TakerResult): boolean {
  return seconds !== undefined || problem !== undefined
}

/** Seconds that this machine's cores had nothing to do, since it started. */
function idleSeconds(): number {
  return cpus().reduce((sum, { times }) => sum + times.idle, 0) / 1000
}
