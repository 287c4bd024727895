import type { Command } from 'commander'
import { shortId } from '../../common/ids.ts'
import type { TransferBody } from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import { rate, type Styled, size } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .addHelpText(
      'after',
      `
Examples:
  peer transfers
  peer transfers cancel 3
  peer transfers --json | jq '.transfers[] | select(.state == "running")'`,
    )
    .action(async () => {
      const answer = await (await cli.agent()).transfers()
      cli.out.document(answer)
      showTransfers(answer.transfers, cli)
    })
  command
    .command('cancel')
    .summary('stop one; what it has is kept for the next time')
    .description('Stops a transfer; what it has is kept for the next time.')
    .argument('<transfer>', 'as "peer transfers" shows it')
    .addHelpText(
      'after',
      `
Example:
  peer transfers cancel 3`,
    )
    .action(async (transfer: string) => {
      const answer = await (await cli.agent()).cancelTransfer(transfer)
      cli.out.document(answer)
      cli.out.line(`Transfer ${answer.transfer} of ${nameOf(answer)} is ${answer.state}.`)
    })
}

const COLOUR: Record<TransferBody['state'], Styled['style']> = {
  locating: 'cyan',
  running: 'cyan',
  verifying: 'cyan',
  done: 'green',
  simulated: 'yellow',
  failed: 'red',
  cancelled: 'dim',
}

function showTransfers(transfers: readonly TransferBody[], cli: Cli): void {
  if (transfers.length === 0) {
    cli.out.line('No transfer yet: "peer download FILE" begins one.')
    return
  }
  cli.out.table(
    [
      { title: 'TRANSFER' },
      { title: 'FILE', shrinks: true },
      { title: 'STATE' },
      { title: 'DONE', align: 'right' },
      { title: 'RATE', align: 'right' },
      { title: 'FROM', shrinks: true },
    ],
    transfers.map((transfer) => [
      transfer.transfer,
      nameOf(transfer),
      { style: COLOUR[transfer.state], text: transfer.state },
      transfer.size === null ? '' : `${size(transfer.bytes)} of ${size(transfer.size)}`,
      transfer.state === 'running' ? rate(transfer.rate) : '',
      transfer.error?.message ?? transfer.providers.map(({ peer }) => peer).join(', '),
    ]),
  )
}

function nameOf({ file, id }: TransferBody): string {
  return file ?? (id === null ? '?' : shortId(id))
}
