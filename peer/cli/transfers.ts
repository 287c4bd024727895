import type { Command } from 'commander'
import { NetworkError } from '../../common/errors.ts'
import { parseRate } from '../../common/rate.ts'
import type { TransferBody } from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import { rate } from './text.ts'
import { COLUMNS, nameOf, rowOf } from './transfer-rows.ts'

export function define(command: Command, cli: Cli): void {
  command
    .option('--follow', 'stay, and show every change until Ctrl-C')
    .addHelpText(
      'after',
      `
Examples:
  peer transfers
  peer transfers --follow
  peer transfers pause 3
  peer transfers resume 3
  peer transfers limit 3 5MB/s
  peer transfers cancel 3
  peer transfers --json | jq '.transfers[] | select(.state == "running")'`,
    )
    .hook('preSubcommand', (_transfers, called) => {
      if (command.opts<{ follow?: boolean }>().follow)
        throw new NetworkError(
          'invalid',
          `there is no option --follow of "transfers ${called.name()}"; see "peer transfers ${called.name()} --help"`,
        )
    })
    .action(async ({ follow }: { follow?: boolean }) => {
      const agent = await cli.agent()
      if (follow) return (await import('./follow-all.ts')).followAll(agent, cli)
      const answer = await agent.transfers()
      cli.out.document(answer)
      showTransfers(answer.transfers, cli)
    })
  changing('pause', 'stop one until it is resumed, and keep what it has', (agent, number) =>
    agent.pauseTransfer(number),
  )
  changing('resume', 'go on with a paused one', (agent, number) => agent.resumeTransfer(number))
  changing('cancel', 'stop one; what it has is kept for the next time', (agent, number) => agent.cancelTransfer(number))
  command
    .command('limit')
    .summary('how fast one may be, from now on')
    .description('Sets how fast a transfer may be, from now on.')
    .argument('<transfer>', 'as "peer transfers" shows it')
    .argument('<rate>', 'bytes a second at most: 5MB/s, 500KB, 40Mbit, or none')
    .addHelpText(
      'after',
      `
Examples:
  peer transfers limit 3 5MB/s
  peer transfers limit 3 none`,
    )
    .action(async (transfer: string, text: string) => {
      const limit = parseRate(text)
      const answer = await (await cli.agent()).limitTransfer(transfer, limit)
      cli.out.document(answer)
      const bound = answer.limit === null ? 'no limit of its own' : `a limit of ${rate(answer.limit)}`
      cli.out.line(`Transfer ${answer.transfer} of ${nameOf(answer)} has ${bound}.`)
    })

  function changing(
    name: string,
    summary: string,
    change: (agent: Agent, number: string) => Promise<TransferBody>,
  ): void {
    command
      .command(name)
      .summary(summary)
      .description(`${summary.charAt(0).toUpperCase()}${summary.slice(1)}.`)
      .argument('<transfer>', 'as "peer transfers" shows it')
      .addHelpText(
        'after',
        `
Example:
  peer transfers ${name} 3`,
      )
      .action(async (transfer: string) => {
        const answer = await change(await cli.agent(), transfer)
        cli.out.document(answer)
        cli.out.line(`Transfer ${answer.transfer} of ${nameOf(answer)} is ${answer.state}.`)
      })
  }
}

type Agent = Awaited<ReturnType<Cli['agent']>>

function showTransfers(transfers: readonly TransferBody[], cli: Cli): void {
  if (transfers.length === 0) {
    cli.out.line('No transfer yet: "peer download FILE" begins one.')
    return
  }
  cli.out.table(COLUMNS, transfers.map(rowOf))
}
