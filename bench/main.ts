import { parseArgs } from 'node:util'
import { projectFile } from '../common/project.ts'
import { removeStaleFolders } from './cleanup.ts'
import { directory } from './directory.ts'
import { hashing } from './hashing.ts'
import { type Measurement, machine, met, say, table, writeJson } from './report.ts'
import { restart } from './restart.ts'
import { single } from './single.ts'
import { swarm } from './swarm.ts'

/** `npm run bench`, or `npm run bench -- directory single`: prints a table on stdout and writes JSON. */
const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'string' },
    /** exit code 1 where a target is missed */
    strict: { type: 'boolean' },
    /** swarm: these cases, such as a,b,aria2 */
    only: { type: 'string' },
    /** swarm: small ones */
    quick: { type: 'boolean', default: false },
    /** swarm: runs of each case */
    repeat: { type: 'string', default: '1' },
    /** swarm: draws case a into this file */
    plot: { type: 'string' },
    /** single: also 20 GiB, on the disk of the temporary folder */
    big: { type: 'boolean', default: false },
  },
})
const GROUPS: Record<string, () => Promise<Measurement[]>> = {
  hashing,
  single: () => single({ big: values.big }),
  swarm: () =>
    swarm({
      ...(values.only === undefined ? {} : { only: values.only.split(',') }),
      quick: values.quick,
      repeat: Math.max(1, Number.parseInt(values.repeat, 10) || 1),
      ...(values.plot === undefined ? {} : { plot: values.plot }),
    }),
  restart,
  directory,
}

const unknown = positionals.filter((name) => !(name in GROUPS))
if (unknown.length > 0) {
  say(`bench: no such group "${unknown[0]}"; there are: ${Object.keys(GROUPS).join(', ')}`)
  process.exit(2)
}

removeStaleFolders()
const results: Measurement[] = []
for (const [name, run] of Object.entries(GROUPS))
  if (positionals.length === 0 || positionals.includes(name)) results.push(...(await run()))

const file = values.json ?? projectFile('bench', 'results', 'latest.json')
writeJson(file, results)
process.stdout.write(`${machine()}\n${table(results)}\n`)
say(`also as JSON in ${file}`)
// A missed target is a finding, not a failure of the benchmark, unless the caller wants it to be one.
process.exit(values.strict && results.some((m) => met(m) === false) ? 1 : 0)
