import { writeFileSync } from 'node:fs'
import { freemem } from 'node:os'
import { touchMemory } from './content.ts'
import { goodput, ShapedNetwork, shaping } from './hosts.ts'
import { svg } from './plot.ts'
import { type Measurement, median, say } from './report.ts'
import { boundOf, memoryOf, runSwarm, type SwarmPlan, type SwarmResult } from './swarm-run.ts'
import {
  aria2,
  libtorrentTcp,
  libtorrentUtp,
  missingForSwarm,
  runTorrentSwarm,
  type TorrentClient,
} from './torrents.ts'

export interface SwarmOptions {
  /** which of the cases below (default: all) */
  only?: readonly string[]
  /** a quarter of the file and half of the takers, for those who work on it */
  quick?: boolean
  /** runs of each case; the middle one counts (default 1) */
  repeat?: number
  /** where to write the picture of case a */
  plot?: string
}

interface Case {
  title: string
  takers: number
  mbps: number
  /** of the bound */
  atMost: number
  /** Mbit/s of one more taker, which is not waited for */
  stragglerMbps?: number
  killSeeder?: boolean
  /** see SwarmPlan */
  warm?: boolean
}

const MIB = 2 ** 20
const CASES: Record<string, Case> = {
  a: { title: 'the last is done', takers: 8, mbps: 100, atMost: 1.15 },
  b: { title: 'the last is done', takers: 24, mbps: 40, atMost: 1.2 },
  w: {
    title: 'the last is done, of agents that have taken 16 MiB before',
    takers: 24,
    mbps: 40,
    atMost: 1.2,
    warm: true,
  },
  c: {
    title: 'the seeder is killed when one copy is out: the last is done',
    takers: 8,
    mbps: 100,
    atMost: 1.3,
    killSeeder: true,
  },
  d: {
    title: 'one more taker at 10 Mbit/s: the last of the others is done',
    takers: 7,
    mbps: 100,
    atMost: 1.2,
    stragglerMbps: 10,
  },
}
/** Others in case a. */
const OTHERS: Record<string, TorrentClient> = {
  aria2,
  libtorrent: libtorrentTcp,
  utp: libtorrentUtp,
}

/** Real agents, each on a host of its own with a link of bounded rate, and other programs in the same networks. */
export async function swarm(options: SwarmOptions = {}): Promise<Measurement[]> {
  const missing = ShapedNetwork.missing()
  if (missing !== undefined) {
    say(`swarm: skipped, since it needs ${missing}`)
    return [{ what: 'swarms', unit: 's', note: `skipped: needs ${missing}` }]
  }
  const chosen = chosenOf(options.only)
  const cases = Object.entries(CASES).filter(([key]) => chosen.includes(key))
  const others = Object.entries(OTHERS).filter(([key]) => chosen.includes(key))
  const plans = [
    ...cases.map(([, one]) => planOf(one, options.quick)),
    ...(others.length > 0 ? [planOf(CASES.a!, options.quick)] : []),
  ]
  const most = Math.max(...plans.map(memoryOf))
  if (most > freemem())
    throw new Error(
      `swarm needs ${(most / 1e9).toFixed(1)} GB of memory, ${(freemem() / 1e9).toFixed(1)} GB are free: choose smaller cases by --only, or --quick`,
    )
  say(`swarm: ${shaping()}`)
  touchMemory(most)
  const results = await link()
  for (const [key, one] of cases) results.push(...(await measure(key, one, options)))
  for (const [, client] of others) results.push(await measureOther(client, options))
  return results
}

/** What a stream gets of a link: the rest are the headers of Ethernet, IP and TCP, 66 of 1514 bytes. */
async function link(): Promise<Measurement[]> {
  const share = await goodput(CASES.a!.mbps)
  if (share === undefined) return []
  return [
    {
      what: `one TCP stream over a link of ${CASES.a!.mbps} Mbit/s, by iperf3`,
      value: share * CASES.a!.mbps,
      unit: 'Mbit/s',
      baseline: { what: 'less the headers', value: CASES.a!.mbps * (1448 / 1514), unit: 'Mbit/s' },
      note: shaping(),
    },
  ]
}

/** @throws where there is no such case */
function chosenOf(only: readonly string[] | undefined): readonly string[] {
  const all = [...Object.keys(CASES), ...Object.keys(OTHERS)]
  const unknown = only?.find((key) => !all.includes(key))
  if (unknown !== undefined) throw new Error(`swarm has no case "${unknown}"; there are: ${all.join(', ')}`)
  return only ?? all
}

function planOf({ takers, mbps, stragglerMbps, killSeeder = false, warm = false }: Case, quick = false): SwarmPlan {
  const counted = quick ? Math.ceil(takers / 2) : takers
  return {
    size: (quick ? 64 : 256) * MIB,
    seederMbps: mbps,
    takersMbps: [...Array<number>(counted).fill(mbps), ...(stragglerMbps === undefined ? [] : [stragglerMbps])],
    counted,
    killSeeder,
    warm,
  }
}

function titleOf(plan: SwarmPlan): string {
  return `${plan.size / MIB} MiB, one seeder, ${plan.counted} takers, ${plan.seederMbps} Mbit/s both ways`
}

async function measure(key: string, one: Case, { quick, repeat = 1, plot }: SwarmOptions): Promise<Measurement[]> {
  const plan = planOf(one, quick)
  const bound = boundOf(plan)
  const runs: SwarmResult[] = []
  for (let i = 0; i < repeat; i++) {
    say(`swarm ${key}: ${titleOf(plan)}; ${one.title} …`)
    const run = await runSwarm(plan, (line) => say(`  ${line}`))
    runs.push(run)
    say(`  ${outcome(run, plan)}`)
  }
  const ends = runs.map((run) => lastEnd(run, plan))
  const ended = ends.filter((end) => end !== undefined)
  const typical = runs[ends.indexOf(median(ended))] ?? runs[0]!
  const results: Measurement[] = [
    {
      what: `${titleOf(plan)}: ${one.title}`,
      // A run in which somebody failed is not made good by others.
      ...(ended.length === runs.length ? { value: median(ended) } : {}),
      unit: 's',
      target: { atMost: one.atMost * bound },
      baseline: { what: 'Kurose-Ross bound', value: bound, unit: 's' },
      note: [
        `at most ${one.atMost} of the bound`,
        ...(repeat > 1 ? [`median of ${repeat}: ${ends.map((end) => end?.toFixed(1) ?? 'not done').join(', ')}`] : []),
        outcome(typical, plan),
      ].join('; '),
    },
  ]
  if (key !== 'a') return results
  if (plot !== undefined) {
    writeFileSync(plot, picture(typical, plan))
    say(`the pieces over time are drawn in ${plot}`)
  }
  return [...results, beyondTheFile(typical, plan), ...memory(typical)]
}

function counted({ takers }: SwarmResult, plan: SwarmPlan) {
  return takers.slice(0, plan.counted)
}

/** When the last was done; undefined where somebody never was, or the seeder did not leave as planned. */
function lastEnd(run: SwarmResult, plan: SwarmPlan): number | undefined {
  if (plan.killSeeder && run.killed === undefined) return undefined
  const ends = counted(run, plan).map(({ seconds }) => seconds)
  return ends.every((end) => end !== undefined) ? Math.max(...ends) : undefined
}

function outcome(run: SwarmResult, plan: SwarmPlan): string {
  const takers = counted(run, plan)
  const ends = takers.flatMap(({ seconds }) => seconds ?? []).sort((a, b) => a - b)
  const link = takers.reduce((sum, { linkBytes }) => sum + linkBytes, 0) / takers.length / plan.size
  const parts = [
    ends.length === 0 ? 'nobody was done' : `done after ${ends[0]!.toFixed(1)} to ${ends.at(-1)!.toFixed(1)} s`,
    `each link brought ${link.toFixed(3)} of the file`,
    `cores ${percent(run.busy.all)} busy, ${percent(run.busy.agents)} by the agents`,
  ]
  if (ends.length < takers.length) {
    const { name, problem } = takers.find(({ seconds }) => seconds === undefined)!
    parts.push(`${takers.length - ends.length} of ${takers.length} not: ${name}: ${problem}`)
  }
  if (run.killed !== undefined) parts.push(`the seeder was killed at ${run.killed.toFixed(1)} s`)
  else if (plan.killSeeder) parts.push('but the seeder stayed: one copy was not out in time')
  if (run.takers.length > takers.length) {
    const [, pieces] = run.takers.at(-1)!.progress.at(-1)!
    parts.push(
      `the bound is that of the ${takers.length} among themselves; the slow one had ${Math.round((pieces / run.pieces) * 100)} % then`,
    )
  }
  return parts.join(', ')
}

function percent(share: number): string {
  return `${Math.round(share * 100)} %`
}

function beyondTheFile(run: SwarmResult, plan: SwarmPlan): Measurement {
  const what = '… bytes fetched beyond the file'
  const done = counted(run, plan).filter(({ seconds }) => seconds !== undefined)
  if (done.length === 0) return { what, unit: '%', note: 'nobody was done' }
  const received = done.reduce((sum, taker) => sum + taker.received, 0)
  return { what, value: (received / (done.length * plan.size) - 1) * 100, unit: '%', target: { atMost: 2 } }
}

function memory({ takers, seederPeakMB }: SwarmResult): Measurement[] {
  return [
    { what: '… seeder, peak resident memory', value: seederPeakMB, unit: 'MB', target: { atMost: 200 } },
    {
      what: '… takers, peak resident memory, the most',
      value: Math.max(...takers.map(({ peakMB }) => peakMB)),
      unit: 'MB',
      target: { atMost: 200 },
    },
  ]
}

async function measureOther(client: TorrentClient, { quick, repeat = 1 }: SwarmOptions): Promise<Measurement> {
  const plan = planOf(CASES.a!, quick)
  const bound = boundOf(plan)
  const what = `… by ${client.name}`
  const missing = missingForSwarm(client)
  if (missing !== undefined) {
    say(`swarm: ${client.name} is left out: this machine has no ${missing}`)
    return { what, unit: 's', note: `left out: needs the package ${missing}` }
  }
  const ends: (number | undefined)[] = []
  let note = ''
  for (let i = 0; i < repeat; i++) {
    say(`swarm: ${titleOf(plan)}, by ${client.name} …`)
    const { seconds, linkBytes } = await runTorrentSwarm(client, plan)
    const done = seconds.flatMap((at) => at ?? []).sort((a, b) => a - b)
    const link = linkBytes.reduce((sum, bytes) => sum + bytes, 0) / linkBytes.length / plan.size
    note = `${done.length === seconds.length ? '' : `${seconds.length - done.length} of ${seconds.length} not done, `}done after ${done[0]?.toFixed(1)} to ${done.at(-1)?.toFixed(1)} s, each link brought ${link.toFixed(3)} of the file`
    say(`  ${note}`)
    ends.push(done.length === seconds.length ? done.at(-1) : undefined)
  }
  const ended = ends.filter((end) => end !== undefined)
  return {
    what: `${titleOf(plan)}, ${client.name}: the last is done`,
    ...(ended.length === ends.length ? { value: median(ended) } : {}),
    unit: 's',
    baseline: { what: 'Kurose-Ross bound', value: bound, unit: 's' },
    note: `${note}; ${client.settings}`,
  }
}

function picture(run: SwarmResult, plan: SwarmPlan): string {
  const bound = boundOf(plan)
  const end = Math.max(bound, ...run.takers.map(({ progress }) => progress.at(-1)![0]))
  const max = Math.ceil(end * 1.05)
  const last = lastEnd(run, plan)
  return svg({
    title: `${plan.size / MIB} MiB from one seeder to ${run.takers.length} takers, ${plan.seederMbps} Mbit/s each way`,
    subtitle:
      last === undefined
        ? 'not all were done'
        : `all done after ${last.toFixed(1)} s, ${(last / bound).toFixed(2)} times the Kurose-Ross bound of ${bound.toFixed(1)} s`,
    x: { label: 'seconds since all asked for it', max },
    y: { label: `verified pieces of ${plan.size / run.pieces / 1024} KiB`, max: run.pieces },
    lines: [
      { name: 'seeder: sent', points: [[0, 0], ...run.sentOnce], reference: true },
      ...run.takers.map(({ name, progress }) => ({ name: name.replace('-', ' '), points: progress })),
    ],
    marks: [{ at: bound, label: `bound ${bound.toFixed(1)} s` }],
  })
}
