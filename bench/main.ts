import { parseArgs } from 'node:util'
import { projectFile } from '../common/project.ts'
import { restart, single } from './agent.ts'
import { hashing } from './content.ts'
import { directory } from './directory.ts'
import { type Measurement, machine, met, say, table, writeJson } from './report.ts'

/** `npm run bench`, or `npm run bench -- directory single`: prints a table on stdout and writes JSON. */
const GROUPS: Record<string, () => Promise<Measurement[]>> = { hashing, single, restart, directory }

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'string' }, strict: { type: 'boolean' } },
})
const unknown = positionals.filter((name) => !(name in GROUPS))
if (unknown.length > 0) {
  say(`bench: no such group "${unknown[0]}"; there are: ${Object.keys(GROUPS).join(', ')}`)
  process.exit(2)
}

const results: Measurement[] = []
for (const [name, run] of Object.entries(GROUPS))
  if (positionals.length === 0 || positionals.includes(name)) results.push(...(await run()))

const file = values.json ?? projectFile('bench', 'results', 'latest.json')
writeJson(file, results)
process.stdout.write(`${machine()}\n${table(results)}\n`)
say(`also as JSON in ${file}`)
// A missed target is a finding, not a failure of the benchmark, unless the caller wants it to be one.
process.exit(values.strict && results.some((m) => met(m) === false) ? 1 : 0)
