import type { Command } from 'commander'
import type { EventsState, NetworkLevel, PeerInfo } from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import { ringStyle } from './ring.ts'
import { count, duration, type Styled, size, styled, type Text } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .addHelpText(
      'after',
      `
Examples:
  peer status
  peer status --agent http://192.168.1.20:8000
  peer status --json | jq '{maestro, network, ring}'`,
    )
    .action(async () => {
      const agent = await cli.agent()
      const [info, ring] = await Promise.all([agent.info(), agent.ring()])
      cli.out.document({ ...info, ring: { state: ring.state, text: ring.text } })
      cli.out.line(styled('bold', info.id), ` is up for ${duration(info.uptime_s)} (version ${info.version})`)
      cli.out.fields([
        ['REST', info.rest_url],
        ['gRPC', `port ${info.grpc_port}`],
        [
          'Shares',
          `${count(info.files, 'file')}, ${size(info.bytes)} (revision ${info.revision})`,
          ...(info.scanning ? [styled('yellow', '  the first scan is still going on')] : []),
        ],
        ['Maestro', ...maestroText(info)],
        ['Events', ...eventsText(info.events)],
        ['Network', styled(levelStyle(info.network), info.network.text)],
        ['Ring', styled(ringStyle(ring.state), ring.text)],
        ...(info.transfer === 'dummy'
          ? [['Transfers', styled('yellow', 'dummy: simulated, no byte moves')] as const]
          : []),
      ])
    })
}

function levelStyle({ level }: NetworkLevel): Styled['style'] {
  return level === 'maestro' || level === 'ring' ? 'green' : level === 'alone' ? 'red' : 'yellow'
}

/** How a peer stands with the Maestro, and what is wrong where something is. */
export function maestroText({ maestro, maestro_url, maestro_problem }: PeerInfo): Text[] {
  switch (maestro) {
    case 'registered':
      return [`${maestro_url} `, styled('green', 'registered')]
    case 'unreachable':
      return [`${maestro_url} `, styled('red', 'does not answer'), '; others are asked until it is back']
    case 'refused':
      return [`${maestro_url} `, styled('red', 'refused the registration'), `: ${maestro_problem ?? 'no reason given'}`]
    case 'none':
      return ['none configured']
  }
}

/** What carries events and mail, and what is wrong where something is. */
export function eventsText({ kind, state, problem, unsent }: EventsState): Text[] {
  if (kind === 'none') return ['stay here: neither a Maestro nor a RabbitMQ is configured to carry them']
  const by = kind === 'embedded' ? 'by the Maestro: ' : 'by RabbitMQ: '
  const why = problem === null ? '' : ` (${problem})`
  const waiting = unsent === 0 ? '' : `; ${unsent} not sent yet`
  return [by, styled(state === 'connected' ? 'green' : 'red', state), `${why}${waiting}`]
}
