import { projectFile } from '../common/project.ts'
import { churn } from '../peer/simulate/churn.ts'
import { exchange, withBooks } from '../peer/simulate/exchanging.ts'
import { type FloodResults, flooding, PLAIN } from '../peer/simulate/flooding.ts'
import { idle } from '../peer/simulate/idle.ts'
import { type LookupResults, lookUpAll, share } from '../peer/simulate/lookups.ts'
import { Population } from '../peer/simulate/population.ts'
import { seededRandom } from '../peer/simulate/seeded.ts'
import { pathOfFingers } from '../peer/simulate/theory.ts'
import { agents } from './lookup-agents.ts'
import { Child } from './process.ts'
import { type Measurement, say } from './report.ts'

export interface LookupBenchOptions {
  /** a tenth of the lookups and queries */
  quick: boolean
  /** only these parts (default: all) */
  only?: readonly string[]
}

const SEED = 1
const LOOKUPS = 10_000
/** What a mean of 10,000 lookups may be above the paper's without being worse. */
const SAMPLING = 1.02

/** Stoica et al., IEEE/ACM ToN 11(1), 2003, table II: N = 1000, r = 20, none failed. */
const PAPER_KILL = [
  { killed: 0, path: 3.84, timeouts: 0.0 },
  { killed: 0.1, path: 4.03, timeouts: 0.6 },
  { killed: 0.2, path: 4.22, timeouts: 1.17 },
  { killed: 0.3, path: 4.44, timeouts: 2.02 },
  { killed: 0.4, path: 4.69, timeouts: 3.23 },
  { killed: 0.5, path: 5.09, timeouts: 5.1 },
] as const

/** The same, table III: joins, and as many that leave, a second; failures of 10,000 lookups. */
const PAPER_CHURN = [
  { rate: 0.05, path: 3.9, timeouts: 0.05, failed: 0 },
  { rate: 0.1, path: 3.83, timeouts: 0.11, failed: 0 },
  { rate: 0.15, path: 3.84, timeouts: 0.16, failed: 2 },
  { rate: 0.2, path: 3.81, timeouts: 0.23, failed: 5 },
  { rate: 0.25, path: 3.83, timeouts: 0.3, failed: 6 },
  { rate: 0.3, path: 3.91, timeouts: 0.34, failed: 8 },
  { rate: 0.35, path: 3.94, timeouts: 0.42, failed: 16 },
  { rate: 0.4, path: 4.06, timeouts: 0.46, failed: 15 },
] as const

/** The ring and floods in simulation beside the literature, and finding files among real agents. */
export async function lookup({ quick, only }: LookupBenchOptions): Promise<Measurement[]> {
  const count = quick ? LOOKUPS / 10 : LOOKUPS
  const parts: Record<string, () => Promise<Measurement[]>> = {
    path: () => paths(count),
    kill: () => kills(count),
    churn: () => churns(count),
    flood: () => floods(quick ? 30 : 300),
    idle: upkeep,
    many: tenThousand,
    agents,
  }
  const rows: Measurement[] = []
  for (const [name, measure] of Object.entries(parts))
    if (only === undefined || only.includes(name)) rows.push(...(await measure()))
  return rows
}

async function paths(count: number): Promise<Measurement[]> {
  say('lookup: the path in whole rings of 8 to 16,384 members …')
  const rows: Measurement[] = []
  for (let k = 3; k <= 14; k++) {
    const members = 2 ** k
    const usual = await pathIn(members, {}, count)
    const single = await pathIn(members, { successors: 1 }, count)
    rows.push({
      what: `mean path, N = ${members}`,
      value: usual.path.mean,
      unit: 'steps',
      target: { atMost: 1.1 * pathOfFingers(members) },
      baseline: { what: '½·log₂N', value: pathOfFingers(members), unit: 'steps' },
      note: `1–99 %: ${usual.path.p1}–${usual.path.p99}; with one successor each ${single.path.mean.toFixed(2)}`,
    })
    say(`  ${members}: ${usual.path.mean.toFixed(2)}`)
  }
  return rows
}

async function pathIn(members: number, chord: { successors?: number }, count: number): Promise<LookupResults> {
  const population = new Population({ seed: SEED, chord })
  population.found(members)
  return lookUpAll(population, share(population, Math.min(members, 1000)), count)
}

async function kills(count: number): Promise<Measurement[]> {
  say('lookup: a part of 1,000 members killed at once …')
  const rows: Measurement[] = []
  const table: string[][] = []
  for (const paper of PAPER_KILL) {
    const population = new Population({ seed: SEED, chord: { successors: 20 } })
    population.found(1000)
    const files = share(population, 1000)
    population.kill(population.some(1000 * paper.killed))
    const results = await lookUpAll(population, files, count)
    const memory = await lookUpAll(population, files, count, { memory: 'own' })
    const what = `N = 1000, r = 20, ${100 * paper.killed} % killed`
    rows.push(
      beside(`${what}: mean path`, results.path.mean, 'steps', paper.path),
      beside(`${what}: mean timeouts`, results.timeouts, 'timeouts', paper.timeouts),
      {
        what: `${what}: failed of ${count}`,
        value: results.failed,
        unit: 'lookups',
        target: { atMost: 0 },
        note: `records found by ${percent(results.found / count)}; with memory ${memory.timeouts.toFixed(2)} timeouts, ${memory.failed} failed`,
      },
    )
    table.push([
      percent(paper.killed),
      paper.path.toFixed(2),
      `${results.path.mean.toFixed(2)} (${results.path.p1}–${results.path.p99})`,
      paper.timeouts.toFixed(2),
      results.timeouts.toFixed(2),
      memory.timeouts.toFixed(2),
      '0',
      String(results.failed),
    ])
    say(
      `  ${percent(paper.killed)}: ${results.path.mean.toFixed(2)}, ${results.timeouts.toFixed(2)}, ${results.failed}`,
    )
  }
  markdown(
    ['killed', 'path: paper', 'here (1–99 %)', 'timeouts: paper', 'here', 'with memory', 'failed: paper', 'here'],
    table,
  )
  return rows
}

async function churns(count: number): Promise<Measurement[]> {
  say('lookup: 1,000 members come and go …')
  const rows: Measurement[] = []
  const table: string[][] = []
  for (const paper of PAPER_CHURN) {
    const [polite, silent] = [await churnAt(paper.rate, count, true), await churnAt(paper.rate, count, false)]
    const what = `N = 1000, ${paper.rate} joins and leaves a second`
    rows.push({
      what: `${what}: failed of ${count}`,
      value: polite.failed,
      unit: 'lookups',
      target: { atMost: Math.ceil((paper.failed * count) / LOOKUPS) },
      baseline: { what: 'paper', value: (paper.failed * count) / LOOKUPS, unit: 'lookups' },
      note: `path ${polite.path.mean.toFixed(2)} (${paper.path}), timeouts ${polite.timeouts.toFixed(2)} (${paper.timeouts}); where they go without a word ${silent.failed} fail`,
    })
    table.push([
      String(paper.rate),
      paper.path.toFixed(2),
      polite.path.mean.toFixed(2),
      paper.timeouts.toFixed(2),
      polite.timeouts.toFixed(2),
      String(paper.failed),
      String(polite.failed),
      `${silent.path.mean.toFixed(2)}, ${silent.timeouts.toFixed(2)}, ${silent.failed}`,
    ])
    say(`  ${paper.rate}: ${polite.failed} failed, ${silent.failed} where they go without a word`)
  }
  markdown(
    ['a second', 'path: paper', 'here', 'timeouts: paper', 'here', 'failed: paper', 'here', 'without a word'],
    table,
  )
  return rows
}

/** As in the paper: rounds of maintenance at random every 15 to 45 s, one lookup a second. */
function churnAt(rate: number, lookups: number, polite: boolean) {
  const population = new Population({
    seed: SEED,
    jitter: 0.5,
    chord: { successors: 20, stabilizeMs: [30_000, 30_000] },
  })
  population.found(1000)
  return churn(population, { everyMs: 1000 / rate, lookups, polite })
}

async function floods(queries: number): Promise<Measurement[]> {
  say('lookup: floods among 1,000 peers …')
  const rows: Measurement[] = []
  const table: string[][] = []
  for (const [what, copies] of [
    ['1 copy', [1]],
    ['10 copies', [10]],
    ['1, 10 and 30 copies in turn', [1, 10, 30]],
  ] as const) {
    const [plain, rings] = [await flood(copies, queries, PLAIN), await flood(copies, queries, {})]
    rows.push(
      {
        what: `flooding, 1,000 peers of degree 4, ${what}: messages a query`,
        value: rings.messages,
        unit: 'messages',
        target: { atMost: plain.messages / 3 },
        baseline: { what: 'plain, TTL 7', value: plain.messages, unit: 'messages' },
        note: `${queries} queries from a cold start, each to its end`,
      },
      {
        what: `flooding, ${what}: found`,
        value: (100 * rings.found) / queries,
        unit: '%',
        target: { atLeast: (100 * plain.found) / queries },
      },
    )
    for (const [name, results] of [
      ['plain, TTL 7', plain],
      ['in rings', rings],
    ] as const)
      table.push([
        what,
        name,
        percent(results.found / queries),
        results.messages.toFixed(0),
        results.hops.toFixed(1),
        results.providers.toFixed(1),
      ])
    say(`  ${what}: ${(rings.messages / plain.messages).toFixed(2)} of the messages`)
  }
  markdown(['shared by', 'flood', 'found', 'messages a query', 'links to the nearest', 'providers'], table)
  return rows
}

function flood(copies: readonly number[], queries: number, options: typeof PLAIN): Promise<FloodResults> {
  const population = new Population({ seed: SEED })
  population.found(1000)
  return flooding(population, population.members, seededRandom(SEED), { degree: 4, queries, copies, flood: options })
}

async function upkeep(): Promise<Measurement[]> {
  say('lookup: an idle ring …')
  const population = new Population({ seed: SEED, ...withBooks })
  population.found(1000)
  exchange(population)
  const { perSecond, calls } = await idle(population, { warmMs: 120_000, ms: 120_000 })
  const verbs = Object.entries(calls).map(([verb, rate]) => `${verb} ${rate.toFixed(3)}`)
  return [
    {
      what: 'idle ring of 1,000, with the exchange of known peers: messages a second a peer',
      value: perSecond,
      unit: 'messages/s',
      target: { atMost: 1 },
      note: `calls a second: ${verbs.join(', ')}`,
    },
  ]
}

async function tenThousand(): Promise<Measurement[]> {
  say('lookup: 10,000 peers in a process …')
  const begin = performance.now()
  const child = new Child(process.execPath, [
    projectFile('dist/peer/main.js'),
    ...'simulate --peers 10000 --kill 50% --json'.split(' '),
  ])
  let peakMB = 0
  const watch = setInterval(() => {
    peakMB = Math.max(peakMB, child.peakMB() ?? 0)
  }, 50)
  try {
    // The document's last line.
    await child.line(/^}$/, 600_000)
    const seconds = (performance.now() - begin) / 1000
    return [
      { what: 'simulating 10,000 peers', value: seconds, unit: 's', target: { atMost: 60 } },
      { what: '… peak memory', value: peakMB, unit: 'MB', target: { atMost: 2000 } },
    ]
  } finally {
    clearInterval(watch)
    await child.stop()
  }
}

function beside(what: string, value: number, unit: string, paper: number): Measurement {
  const target = { atMost: paper * SAMPLING }
  return { what, value, unit, target, baseline: { what: 'paper', value: paper, unit } }
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1).replace(/\.0$/, '')} %`
}

/** A table as the documentation has it. */
function markdown(head: readonly string[], rows: readonly (readonly string[])[]): void {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  process.stdout.write(`\n${[line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n')}\n\n`)
}
