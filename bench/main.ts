import { Argument, Command, InvalidArgumentError } from 'commander'
import { asNetworkError } from '../common/errors.ts'
import { projectFile } from '../common/project.ts'
import { removeStaleFolders } from './cleanup.ts'
import { directory } from './directory.ts'
import { events } from './events.ts'
import { hashing } from './hashing.ts'
import { lookup } from './lookup.ts'
import { type Measurement, machine, met, say, table, writeJson } from './report.ts'
import { restart } from './restart.ts'
import { single } from './single.ts'
import { swarm } from './swarm.ts'

interface Options {
  json: string
  strict: boolean
  only?: string
  quick: boolean
  repeat: number
  plot?: string
  big: boolean
}

const GROUPS: Record<string, (options: Options) => Promise<Measurement[]>> = {
  hashing: () => hashing(),
  single: ({ big }) => single({ big }),
  swarm: ({ only, quick, repeat, plot }) =>
    swarm({ quick, repeat, ...(only ? { only: only.split(',') } : {}), ...(plot ? { plot } : {}) }),
  restart: () => restart(),
  directory: () => directory(),
  events: ({ only }) => events(only?.split(',')),
  lookup: ({ quick, only }) => lookup({ quick, ...(only ? { only: only.split(',') } : {}) }),
}

const program = new Command('bench')
  .description('Measures, prints a table beside the targets, and writes it as JSON.')
  .addArgument(new Argument('[groups...]', 'what to measure (default: all)').choices(Object.keys(GROUPS)))
  .option('--json <file>', 'where the JSON goes', projectFile('bench', 'results', 'latest.json'))
  .option('--strict', 'exit code 1 where a target is missed', false)
  .option(
    '--only <cases>',
    'swarm, events, lookup: only these cases, such as a,b,aria2 or restarts,rate,readers,latency,barrier or path,kill',
  )
  .option('--quick', 'swarm: small ones; lookup: a tenth of the lookups', false)
  .option('--repeat <times>', 'swarm: runs of each case', times, 1)
  .option('--plot <file>', 'swarm: draws the pieces over time of case a into this SVG file')
  .option('--big', 'single: also 20 GiB, on the disk of the temporary folder', false)
  .addHelpText('after', '\nExample:\n  npm run bench -- swarm --only a,aria2 --plot docs/swarm.svg')
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
  .parse()
const chosen = program.args
const options = program.opts<Options>()

removeStaleFolders()
const results: Measurement[] = []
let failed = false
for (const [name, run] of Object.entries(GROUPS)) {
  if (chosen.length > 0 && !chosen.includes(name)) continue
  try {
    results.push(...(await run(options)))
  } catch (error) {
    failed = true
    say(`bench: ${name} failed: ${asNetworkError(error).message}`)
  }
  writeJson(options.json, results)
}

process.stdout.write(`${machine()}\n${table(results)}\n`)
say(`also as JSON in ${options.json}`)
// A missed target is a finding, not a failure of the benchmark, unless the caller wants it to be one.
process.exit(failed || (options.strict && results.some((m) => met(m) === false)) ? 1 : 0)

function times(text: string): number {
  const number = Number(text)
  if (!Number.isInteger(number) || number < 1) throw new InvalidArgumentError('A whole number, 1 or more.')
  return number
}
