import { type Command, InvalidArgumentError } from 'commander'
import type { ChurnResults } from '../simulate/churn.ts'
import type { LookupResults } from '../simulate/lookups.ts'
import type { FloodingResults, KillResults, ScenarioOptions, ScenarioResults, Stage } from '../simulate/scenario.ts'
import type { Distribution } from '../simulate/statistics.ts'
import { pathOfFingers, pathWithSuccessors, timeoutsExpected } from '../simulate/theory.ts'
import type { Cli } from './cli.ts'
import type { Output } from './output.ts'
import { count, duration } from './text.ts'

const MAX_PEERS = 100_000
const MAX_LOOKUPS = 1_000_000
const BAR = 40

interface Given {
  peers: number
  kill: number
  successors: number
  lookups: number
  seed: number
  churn?: number
  join?: boolean
  flood: boolean
  degree: number
}

export function define(command: Command, cli: Cli): void {
  command
    .option('--peers <number>', 'how many peers live in it, 100,000 at most', whole(2, MAX_PEERS), 1000)
    .option('--kill <share>', 'part of them that falls silent at once, such as 50%', share, 0)
    .option(
      '--successors <number>',
      'length of the list of successors that each keeps: 20 as in the paper, agents keep 16',
      whole(1, 64),
      20,
    )
    .option('--lookups <number>', 'lookups in each table', whole(1, MAX_LOOKUPS), 10_000)
    .option('--seed <number>', 'another one is another network; the same one, the same', whole(0, 2 ** 48), 1)
    .option('--churn <time>', 'one peer joins and one leaves so often on average, such as 20s', time)
    .option('--join', 'the peers join one after the other by themselves, in place of a ring that is there')
    .option('--no-flood', 'leave out the searches by flooding')
    .option('--degree <number>', 'links of a peer on average, where it searches by flooding', whole(2, 12), 4)
    .addHelpText(
      'after',
      `
Examples:
  peer simulate --peers 1000 --kill 50%
  peer simulate --peers 200 --kill 50% --successors 4 --no-flood
  peer simulate --peers 500 --churn 5s --lookups 2000
  peer simulate --peers 300 --join
  peer simulate --peers 1000 --kill 30% --json | jq .lookups.killed

The code of the real nodes runs on a network and a clock in memory: nothing is sent, and an hour takes seconds.
1,000 peers take some 10 s, 10,000 a minute. Look at this: twice the peers make the path half a step longer, and after half of all have fallen silent no lookup
fails, as long as the lists of successors are long enough; make them shorter and see when that ends.`,
    )
    .action(async (given: Given) => {
      const { simulate } = await import('../simulate/scenario.ts')
      const { churn: churnMs, join = false, ...rest } = given
      const options: ScenarioOptions = { ...rest, join, churnMs }
      const progress = cli.out.progress('simulating')
      const tell = (phase: string, done?: number, of?: number) =>
        progress.phase(of === undefined ? phase : `${phase}: ${Math.floor((100 * done!) / of)} % `)
      const results = await simulate(options, tell, cli.io.signal).finally(() => progress.stop())
      cli.out.document(results)
      show(results, cli.out)
    })
}

function show(results: ScenarioResults, out: Output): void {
  const { options, kill, flood, churn, joinedAfterMs } = results
  out.line(
    `${count(options.peers, 'peer')} in a Chord ring, each with a list of ${count(options.successors, 'successor')}; virtual time, seed ${options.seed}.`,
  )
  if (joinedAfterMs !== null)
    out.line(`They joined by themselves; ${duration(joinedAfterMs / 1000)} after the last one all pointers were right.`)
  showLookups(results, out)
  if (kill) showKill(kill, out)
  showIdle(results, out)
  if (churn) showChurn(churn, options, out)
  if (flood && flood.plain.queries > 0) showFlood(flood, options, out)
}

const STAGES: Readonly<Record<Stage, string>> = {
  whole: 'whole ring',
  killed: 'after the kill',
  'killed, with memory': '… with memory',
  repaired: 'after the repair',
}

function showLookups({ options, lookups, kill }: ScenarioResults, out: Output): void {
  heading('LOOKUPS IN THE RING', out)
  const rows = (Object.entries(STAGES) as [Stage, string][]).flatMap(([stage, name]) => {
    const results = lookups[stage]
    return results ? [lookupRow(name, results)] : []
  })
  const { peers, successors } = options
  const path = pathWithSuccessors(peers, successors)
  rows.push(['paper: whole ring', fixed(path), '', '0', fixed(2 * path, 1), '0', '100 %'])
  if (kill && lookups.killed) {
    const timeouts = timeoutsExpected(lookups.killed.path.mean, (kill.before - kill.after) / kill.before)
    rows.push([
      'theory: if it routes',
      '',
      '',
      fixed(timeouts),
      '',
      '',
      percent(1 - (1 - kill.after / kill.before) ** 6),
    ])
  }
  out.table(LOOKUP_COLUMNS, rows)
  out.line()
  showPath(lookups.whole!.path, 'whole ring', out)
  if (lookups.killed) showPath(lookups.killed.path, 'after the kill', out)
  out.line(
    `The paper expects ½·log₂N = ${fixed(pathOfFingers(peers))} steps with fingers alone, and ½·log₂N − ½·log₂r + 1 with lists of r successors. Fingers at half steps between the paper's make it shorter here.`,
  )
  out.line(
    'PATH: members that answered, one after the other, the one that keeps the records included. TIMEOUTS: silent ones asked on the way. FAILED: no answer, or the wrong member. FOUND: records that were there; a key whose 6 copies all died is lost, whoever is asked.',
  )
  if (kill)
    out.line(
      'Each lookup begins without memory of earlier ones, as in the paper (Stoica et al., 2003), but for the row "with memory".',
    )
}

const right = (title: string) => ({ title, align: 'right' as const })
const LOOKUP_COLUMNS = [{ title: '' }, ...['PATH', '1–99 %', 'TIMEOUTS', 'MESSAGES', 'FAILED', 'FOUND'].map(right)]

function lookupRow(name: string, results: LookupResults) {
  const { path, timeouts, messages, failed, silentlyWrong, found, lookups } = results
  const wrong = silentlyWrong > 0 ? ` (${silentlyWrong} wrong)` : ''
  return [
    name,
    fixed(path.mean),
    `${path.p1}–${path.p99}`,
    fixed(timeouts),
    fixed(messages, 1),
    `${failed} of ${lookups}${wrong}`,
    percent(found / lookups),
  ]
}

/** How many lookups took how many steps, as bars; the few beyond the 99th percentile in one. */
function showPath({ counts, p99 }: Distribution, name: string, out: Output): void {
  const all = counts.reduce((sum, n) => sum + n, 0)
  const shown = counts.slice(0, p99 + 1)
  const rest = all - shown.reduce((sum, n) => sum + n, 0)
  const bars: [string, number][] = shown.map((n, steps) => [String(steps), n])
  if (rest > 0) bars.push([`>${p99}`, rest])
  const most = Math.max(...bars.map(([, n]) => n))
  out.line({ style: 'dim', text: `steps, ${name}` })
  for (const [steps, n] of bars)
    out.line(
      `${steps.padStart(4)} ${'█'.repeat(Math.round((n / most) * BAR)).padEnd(BAR)} ${percent(n / all).padStart(7)}`,
    )
  out.line()
}

function showKill({ before, after, damage, ringAfterMs, listsAfterMs }: KillResults, out: Output): void {
  heading('REPAIR', out)
  const took = (ms: number | null) =>
    ms === null ? 'not in half an hour: the ring is broken for good' : duration(ms / 1000)
  out.fields([
    ['killed at once', `${before - after} of ${before}`],
    ['wrong successors then', `${damage.wrongSuccessors} of ${after}`],
    ['ring closed again after', took(ringAfterMs)],
    ...(listsAfterMs === null ? [] : [['all lists right after', took(listsAfterMs)] as const]),
  ])
}

function showIdle({ idle, options }: ScenarioResults, out: Output): void {
  heading('UPKEEP OF THE IDLE RING', out)
  out.fields([
    [
      'messages a second a peer',
      `${fixed(idle.perSecond)}${idle.peers < options.peers ? `, in a ring of ${idle.peers}` : ''}`,
    ],
    ...Object.entries(idle.calls).map(([verb, rate]): [string, string] => [`  calls: ${verb}`, fixed(rate, 3)]),
  ])
}

function showChurn(churn: ChurnResults, { churnMs }: ScenarioOptions, out: Output): void {
  heading('WHILE PEERS COME AND GO', out)
  out.line(
    `${churn.joined} joined and ${churn.gone} left in ${duration(churn.seconds)}, one of each every ${duration(churnMs! / 1000)} on average.`,
  )
  out.table(LOOKUP_COLUMNS.slice(0, -1), [lookupRow('lookups of any key', churn).slice(0, -1)])
  const { members, wrongSuccessors, wrongPredecessors } = churn.health
  out.line(`At the end ${wrongSuccessors} of ${members} successors were wrong, and ${wrongPredecessors} predecessors.`)
}

function showFlood({ peers, plain, ring }: FloodingResults, { degree }: ScenarioOptions, out: Output): void {
  heading('FLOODING', out)
  out.line(
    `${count(plain.queries, 'query')} for names that 1, 10 or 30 peers share, among ${peers} with ${degree} links on average.`.replace(
      'querys',
      'queries',
    ),
  )
  out.table(
    [{ title: '' }, ...['FOUND', 'MESSAGES', 'LINKS TO THE NEAREST', 'PROVIDERS'].map(right)],
    [['plain, 7 links far', plain] as const, ['widening, by the tree', ring] as const].map(
      ([name, { found, queries, messages, hops, providers }]) => [
        name,
        percent(found / queries),
        fixed(messages, 0),
        fixed(hops, 1),
        fixed(providers, 1),
      ],
    ),
  )
  out.line(
    `Widening searches take ${percent(ring.messages / plain.messages)} of the messages. They end once somebody is found, so they name fewer PROVIDERS; along the tree the way is longer than over all links.`,
  )
}

function heading(text: string, out: Output): void {
  out.line()
  out.line({ style: 'bold', text })
}

function fixed(number: number, digits = 2): string {
  return number.toFixed(digits)
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1).replace(/\.0$/, '')} %`
}

function whole(least: number, most: number): (text: string) => number {
  return (text) => {
    const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
    if (number >= least && number <= most) return number
    throw new InvalidArgumentError(`it must be a whole number from ${least} to ${most.toLocaleString('en-US')}`)
  }
}

/** `50%`, `0.5` */
function share(text: string): number {
  const [, digits, sign] = /^(\d+(?:\.\d+)?)\s?(%?)$/.exec(text) ?? []
  const number = digits === undefined ? Number.NaN : Number(digits) / (sign ? 100 : 1)
  if (number >= 0 && number < 1) return number
  const hint = number >= 1 && number < 100 ? `; is ${number}% meant?` : ''
  throw new InvalidArgumentError(`it must be a share below 100 %, such as 50% or 0.5${hint}`)
}

/** `20s`, `500ms`, `2min`, `1h`, in ms */
function time(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)\s?(ms|s|min|h)$/.exec(text) ?? []
  const number = Number(digits) * ({ ms: 1, s: 1000, min: 60_000, h: 3_600_000 }[unit ?? ''] ?? Number.NaN)
  if (number >= 10) return number
  throw new InvalidArgumentError('it must be a time of 10ms or more, such as 500ms, 20s, 2min or 1h')
}
