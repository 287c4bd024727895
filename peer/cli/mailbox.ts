import type { Command } from 'commander'
import type { OfferBody } from '../../common/events/rest.ts'
import type { Cli } from './cli.ts'
import { isOver, OFFER_COLOUR } from './offers.ts'
import type { Cell, Column } from './table.ts'
import { localTime, size } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .addHelpText(
      'after',
      `
An offer is sending until it is in the mailbox of its recipient, queued while it waits there, taken once the recipient
knows of it, and delivered once that one has fetched and verified it all; or it is refused, or its time is over: expired.

Examples:
  peer mailbox
  peer mailbox --json | jq '.sent[] | select(.state != "delivered")'`,
    )
    .action(async () => {
      const answer = await (await cli.agent()).mailbox()
      cli.out.document(answer)
      const { sent, received, sent_total, received_total } = answer
      if (sent.length === 0 && received.length === 0) {
        cli.out.line('No offers yet: "peer send FILE PEER" makes one.')
        return
      }
      if (sent.length > 0) cli.out.table(columns('SENT', 'TO'), sent.map(rowOf))
      noteMore(sent, sent_total, 'sent', cli)
      if (sent.length > 0 && received.length > 0) cli.out.line('')
      if (received.length > 0) cli.out.table(columns('RECEIVED', 'FROM'), received.map(rowOf))
      noteMore(received, received_total, 'received', cli)
    })
}

function noteMore(shown: readonly OfferBody[], total: number, side: string, cli: Cli): void {
  if (total > shown.length) cli.out.note(`${shown.length} of ${total} ${side} are shown, those under way first`)
}

function columns(file: string, peer: string): Column[] {
  return [
    { title: file, shrinks: true },
    { title: 'SIZE', align: 'right' },
    { title: peer },
    { title: 'STATE' },
    { title: 'SINCE' },
    { title: 'EXPIRES' },
    { title: '', shrinks: true },
  ]
}

function rowOf(offer: OfferBody): Cell[] {
  const { name, size: bytes, peer, state, changed, expires, problem } = offer
  return [
    name,
    size(bytes),
    peer,
    { style: OFFER_COLOUR[state], text: state },
    localTime(changed),
    isOver(offer) ? '' : localTime(expires),
    problem ?? '',
  ]
}
