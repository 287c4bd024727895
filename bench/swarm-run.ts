import { execFileSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { kuroseRoss } from '../common/kurose-ross.ts'
import { pieceCount, pieceSizeFor } from '../common/merkle.ts'
import { AgentClient, hasEnded, Refusal, type TransferNow, until } from './agent-client.ts'
import { makeFile } from './content.ts'
import { type Host, ShapedNetwork } from './hosts.ts'
import { type Running, scratch, startMaestro, startPeer } from './process.ts'

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
}

export interface TakerResult {
  name: string
  /** from the common start until its file was there, verified; undefined where it never was */
  seconds?: number
  /** why it has no file */
  problem?: string
  /** payload bytes that the network brought, as the agent counts them */
  received?: number
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
  /** seconds, distinct pieces that the seeder had sent; empty where it does not tell */
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

/** Bytes of memory that a run takes: one copy a host, and the agents. */
export function memoryOf({ size, takersMbps }: SwarmPlan): number {
  return (takersMbps.length + 1) * (size + 150e6)
}

const FILE = 'swarm.bin'
const TOKEN = `bench-${process.pid}`
/** agents that start at the same time: each takes a core for some while */
const STARTING = 4
const SAMPLE_MS = 250
const UPLOADS_MS = 50
const TELL_S = 5
/** what has left the seeder's agent may still wait in its link's queue */
const LAST_PIECE_MS = 1000
/** a run is given up after so many times its bound, and at least a minute */
const PATIENCE = 5

/** Runs it with real agents, in memory, and ends everything again. */
export async function runSwarm(plan: SwarmPlan, progress: (line: string) => void): Promise<SwarmResult> {
  const folder = scratch('memory')
  const network = new ShapedNetwork()
  const running: Running[] = []
  try {
    mkdirSync(join(folder.path, 'seeder'))
    makeFile(join(folder.path, 'seeder', FILE), plan.size)
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
    progress(`starting ${plan.takersMbps.length + 1} agents`)
    const takers: Member[] = []
    for (let i = 0; i < plan.takersMbps.length; i += STARTING) {
      const some = plan.takersMbps.slice(i, i + STARTING)
      takers.push(...(await Promise.all(some.map((mbps, k) => agent(`taker-${i + k + 1}`, mbps)))))
    }
    await until('the seeder did not hash its file', 60_000, () => seeder.client.hasScanned(1))
    await until('the seeder is not in the directory', 10_000, async () => {
      const found = (await (await fetch(`${maestro.url}/locate?file=${FILE}`)).json()) as { peers: { id: unknown }[] }
      return found.peers.some(({ id }) => id !== null)
    })
    for (const { name, client } of takers) await until(`${name} did not register`, 10_000, () => client.isRegistered())

    const result = await new Run(plan, seeder, takers, progress).measure()
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

interface Taking {
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
  readonly #takers: Taking[] = []
  readonly #members: readonly Member[]
  readonly #say: (line: string) => void
  readonly #pieceSize: number
  readonly #pieces: number
  readonly #sentOnce: Sample[] = []
  #begin = 0
  #beginEpoch = 0
  #killed: number | undefined
  #over = false

  constructor(plan: SwarmPlan, seeder: Member, members: readonly Member[], say: (line: string) => void) {
    this.#plan = plan
    this.#seeder = seeder
    this.#members = members
    this.#say = say
    this.#pieceSize = pieceSizeFor(plan.size)
    this.#pieces = pieceCount(plan.size, this.#pieceSize)
  }

  async measure(): Promise<SwarmResult> {
    this.#begin = performance.now()
    this.#beginEpoch = Date.now()
    await Promise.all(this.#members.map((member) => this.#start(member)))
    const watching = this.#watchSeeder()
    const [idle, used] = [idleSeconds(), this.#cpuSeconds()]
    let seederPeakMB = 0
    try {
      const limit = Math.max(60, PATIENCE * boundOf(this.#plan))
      for (let told = 0; ; ) {
        const begin = performance.now()
        await Promise.all(this.#takers.map((taker) => this.#sample(taker)))
        seederPeakMB = this.#seeder.process.child.peakMB() ?? seederPeakMB
        if (this.#counted().every(({ result }) => result.seconds !== undefined || result.problem !== undefined)) break
        if (this.#elapsed() > limit) {
          for (const { result } of this.#counted())
            if (result.seconds === undefined) result.problem ??= `not done after ${Math.round(limit)} s`
          break
        }
        if (this.#elapsed() - told >= TELL_S) {
          told = this.#elapsed()
          this.#tell()
        }
        await pause(Math.max(0, begin + SAMPLE_MS - performance.now()))
      }
    } finally {
      this.#over = true
      await watching
    }
    const cores = this.#elapsed() * cpus().length
    return {
      busy: { all: 1 - (idleSeconds() - idle) / cores, agents: (this.#cpuSeconds() - used) / cores },
      pieces: this.#pieces,
      takers: this.#takers.map(({ result }) => result),
      seederPeakMB,
      sentOnce: this.#sentOnce,
      ...(this.#killed === undefined ? {} : { killed: this.#killed }),
    }
  }

  async #start(member: Member): Promise<void> {
    const { name, host, client } = member
    const linkBytes = host.receivedBytes()
    const transfer = await client.download({ file: FILE })
    this.#takers.push({ member, transfer, linkBytes, result: { name, linkBytes: 0, peakMB: 0, progress: [[0, 0]] } })
    this.#takers.sort((a, b) => this.#members.indexOf(a.member) - this.#members.indexOf(b.member))
  }

  async #sample({ member, transfer, linkBytes, result }: Taking): Promise<void> {
    result.peakMB = member.process.child.peakMB() ?? result.peakMB
    if (result.seconds !== undefined || result.problem !== undefined) return
    result.linkBytes = member.host.receivedBytes() - linkBytes
    let now: TransferNow
    try {
      now = await member.client.transfer(transfer)
    } catch {
      // An agent that is busy misses a sample; one that has died ended its transfer.
      if (member.process.child.ended) result.problem = `its agent ended: ${member.process.child.lastWords()}`
      return
    }
    if (now.received !== undefined) result.received = now.received
    // The agent knows its end to the millisecond; it is asked only every so often.
    const at = hasEnded(now) ? (Date.parse(now.started) - this.#beginEpoch) / 1000 + now.seconds : this.#elapsed()
    result.progress.push([at, now.pieces?.verified ?? Math.floor(now.bytes / this.#pieceSize)])
    if (now.state === 'done') {
      result.seconds = at
      result.progress[result.progress.length - 1] = [at, this.#pieces]
    } else if (hasEnded(now)) result.problem = `${now.state}: ${now.error?.message ?? 'no reason given'}`
  }

  /** Follows what the seeder has given, and kills it in time where the plan says so. */
  async #watchSeeder(): Promise<void> {
    while (!this.#over) {
      try {
        const [upload] = await this.#seeder.client.uploads()
        if (upload !== undefined) {
          this.#sentOnce.push([this.#elapsed(), upload.sent_once])
          if (this.#plan.killSeeder === true && upload.sent_once === upload.pieces) {
            await pause(LAST_PIECE_MS)
            this.#killed = this.#elapsed()
            this.#say(`one copy is out after ${this.#killed.toFixed(1)} s: the seeder is killed`)
            await this.#seeder.process.child.stop('SIGKILL')
            return
          }
        }
      } catch (error) {
        if (error instanceof Refusal) {
          if (this.#plan.killSeeder === true)
            this.#say('the seeder has no GET /uploads: nobody knows when one copy is out, so it stays')
          return
        }
      }
      await pause(this.#plan.killSeeder === true ? UPLOADS_MS : SAMPLE_MS)
    }
  }

  #cpuSeconds(): number {
    return [this.#seeder, ...this.#members].reduce((sum, { process }) => sum + process.child.cpuSeconds(), 0)
  }

  #counted() {
    return this.#takers.slice(0, this.#plan.counted)
  }

  #tell(): void {
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

/** Seconds that this machine's cores had nothing to do, since it started. */
function idleSeconds(): number {
  return cpus().reduce((sum, { times }) => sum + times.idle, 0) / 1000
}
