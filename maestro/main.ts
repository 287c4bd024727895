#!/usr/bin/env node
import { Command } from 'commander'
import { configFlags, configOptions, envName, loadConfig } from '../common/config.ts'
import { asNetworkError } from '../common/errors.ts'
import { stopOnSignals } from '../common/lifecycle.ts'
import { createLogger } from '../common/log.ts'
import { VERSION } from '../common/project.ts'
import { MaestroConfig } from './config.ts'
import { Maestro } from './maestro.ts'

const WRONG_USAGE = 2
const FAILED = 1

const command = new Command('maestro')
  .description('The directory of a private peer-to-peer network: it knows which peer offers what, and holds no file.')
  .version(VERSION)
  .option('--config <file>', 'configuration file (JSON)')
  .addHelpText(
    'after',
    `
Every key may also be given as an environment variable (${envName('port')}, …); a flag wins over it, and it over the file.

Example:
  maestro --config config/maestro.json --port 9100 --database second.db`,
  )
  .allowExcessArguments(false)
  .exitOverride()
  .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'maestro: ')) })
  .action(run)

for (const option of configOptions(MaestroConfig)) command.addOption(option)

try {
  await command.parseAsync()
} catch (error) {
  process.exitCode = exitCode(error)
}

async function run(options: Record<string, string>): Promise<void> {
  const flags = configFlags(MaestroConfig, options)
  const config = loadConfig(MaestroConfig, { file: options.config, env: process.env, flags })
  const maestro = new Maestro(config, { log: createLogger('maestro', config.log_level) })
  await maestro.start()
  stopOnSignals(() => maestro.stop())
  process.stdout.write(`The Maestro answers at ${maestro.url} (try ${maestro.url}/docs); Ctrl-C stops it.\n`)
}

/** Says what went wrong in one line, unless commander has; @returns the exit code for it. */
function exitCode(error: unknown): number {
  const commander = error as { code?: string; exitCode?: number }
  if (commander.code?.startsWith('commander.')) return commander.exitCode === 0 ? 0 : WRONG_USAGE
  const known = asNetworkError(error)
  process.stderr.write(`maestro: ${known.message}\n`)
  return known.code === 'invalid' ? WRONG_USAGE : FAILED
}
