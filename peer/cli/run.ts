import { dirname, resolve } from 'node:path'
import type { Command } from 'commander'
import { systemClock } from '../../common/clock.ts'
import { configFlags, configOptions, loadConfig } from '../../common/config.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { PeerInfo } from '../../common/schemas.ts'
import { PeerConfig } from '../config.ts'
import type { Cli } from './cli.ts'
import { eventsText, maestroText } from './status.ts'
import { count, size, styled } from './text.ts'

/** How long the greeting waits for what it tells. */
const SETTLE_MS = 2000
const POLL_MS = 25

export function define(command: Command, cli: Cli): void {
  command.option('--config <file>', 'configuration file (JSON); the flags below override its keys')
  // The program's own --token serves for this key as well.
  for (const option of configOptions(PeerConfig)) if (option.name() !== 'token') command.addOption(option)
  command
    .addHelpText(
      'after',
      `
Each key may also come from the environment: P2P_PORT for --port, and so on. A flag wins over it, it over the file.

Examples:
  peer run --config config/peer1.json
  peer run --config config/peer1.json --port 8010 --grpc-port 50060
  peer run --id P9 --shared-dir ~/Public --maestro-url http://192.168.1.10:9000
  peer run --id P9 --shared-dir ~/Public         with no Maestro; then: peer discover http://192.168.1.21:8000`,
    )
    .action(async ({ config: file, ...options }: { config?: string } & Record<string, string | undefined>) => {
      const { state_dir, ...config } = loadConfig(PeerConfig, {
        file,
        env: cli.io.env,
        flags: { ...configFlags(PeerConfig, options), token: cli.token },
      })
      const folder = file === undefined ? process.cwd() : dirname(resolve(file))
      await runAgent({ ...config, state_dir: state_dir ?? resolve(folder, '.state', config.id) }, cli)
    })
}

async function runAgent(config: PeerConfig & { state_dir: string }, cli: Cli): Promise<void> {
  const [{ Agent }, { createLogger }] = await Promise.all([import('../agent.ts'), import('../../common/log.ts')])
  const agent = new Agent(config, { log: createLogger(config.id, config.log_level) })
  await agent.start().catch((error) => {
    throw startFailure(error)
  })
  try {
    const { signal } = cli.io
    const info = await settled(() => agent.info(), signal)
    cli.out.document(info)
    greet(info, config, cli)
    if (!signal.aborted) await new Promise((stop) => signal.addEventListener('abort', stop, { once: true }))
    cli.out.note(`${config.id} stops`)
  } finally {
    await agent.stop()
  }
}

/** The agent's state once it has scanned its folder and reached the Maestro, or after a moment as it is. */
async function settled(info: () => PeerInfo, signal: AbortSignal): Promise<PeerInfo> {
  const isOpen = ({ scanning, maestro, maestro_problem, events }: PeerInfo) =>
    scanning ||
    (maestro === 'unreachable' && maestro_problem === null) ||
    (events.state === 'unreachable' && (events.kind === 'rabbitmq' || maestro === 'registered'))
  for (let waited = 0; waited < SETTLE_MS && isOpen(info()) && !signal.aborted; waited += POLL_MS)
    await systemClock.sleep(POLL_MS, signal)
  return info()
}

/** A port that is taken is no unreachable peer: the command failed. */
function startFailure(error: unknown): NetworkError {
  const known = asNetworkError(error)
  return known.code === 'unavailable' ? new NetworkError('forbidden', known.message, known.details, known) : known
}

function greet(info: PeerInfo, config: PeerConfig, cli: Cli): void {
  cli.out.line(styled('bold', info.id), ' is ready; Ctrl-C stops it')
  cli.out.fields([
    ['REST', `${info.rest_url}  (reference at /docs)`],
    ['gRPC', `port ${info.grpc_port}`],
    [
      'Shares',
      config.shared_dir,
      ': ',
      info.scanning ? 'being scanned' : `${count(info.files, 'file')}, ${size(info.bytes)}`,
    ],
    ['Maestro', ...maestroText(info)],
    ['Events', ...eventsText(info.events)],
  ])
}
