import type { Command } from 'commander'
import type { RingBody } from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import { duration, type Styled, styled, width } from './text.ts'

/** Successors and fingers shown, unless all are asked for. */
const SHOWN = 5
const WIDEST = 100
const USUAL = 80

type Member = RingBody['self']

export function define(command: Command, cli: Cli): void {
  command
    .option('--all', 'every successor and finger')
    .addHelpText(
      'after',
      `
Peers form a ring: each has a place from 0 to 1 on a circle, made of its id, and keeps the records of the names and
contents whose places come before its own. So a file is found with no Maestro, in few steps.

Examples:
  peer ring
  peer ring --all
  peer locate film.mkv --via chord --explain     a lookup through the ring
  peer ring --json | jq '{state, members}'`,
    )
    .action(async ({ all }: { all?: boolean }) => {
      const ring = await (await cli.agent()).ring()
      cli.out.document(ring)
      const shown = all ? Number.POSITIVE_INFINITY : SHOWN
      const { self, predecessor, successors, records, messages } = ring
      cli.out.line(styled(ringStyle(ring.state), ring.text))
      cli.out.line()
      for (const line of picture(ring, Math.min(cli.io.stdout.columns ?? USUAL, WIDEST))) cli.out.line(line)
      cli.out.line()
      cli.out.fields([
        ['Place', `${memberText(self)}, responsible for ${percent(ring.share)} of the circle`],
        ['Members', `about ${Math.round(ring.members)}`],
        ['Predecessor', predecessor ? memberText(predecessor) : 'none'],
        ...listed('Successors', successors, shown),
        ...listed('Fingers', ring.fingers, shown),
        [
          'Records',
          `${records.held} kept, ${records.own} of them as the member that is responsible; ${records.published} about its own files are kept in the ring${records.unpublished > 0 ? `, ${records.unpublished} wait` : ''}`,
        ],
        ['Checked', ring.checked_ms === null ? 'not yet' : `${duration(ring.checked_ms / 1000)} ago`],
        ['Messages', `${messages.sent} sent, ${messages.answered} answered`],
      ])
      const hidden = Math.max(successors.length, ring.fingers.length) - shown
      if (hidden > 0) cli.out.line({ style: 'dim', text: '--all shows all of them' })
    })
}

export function ringStyle(state: RingBody['state']): Styled['style'] {
  switch (state) {
    case 'whole':
    case 'small':
      return 'green'
    case 'alone':
    case 'off':
      return 'yellow'
    case 'repairing':
      return 'red'
  }
}

function listed(title: string, members: readonly Member[], shown: number): [string, string][] {
  if (members.length === 0) return [[title, 'none']]
  const more = members.length - shown
  const lines: [string, string][] = members
    .slice(0, shown)
    .map((member, i) => [i === 0 ? title : '', memberText(member)])
  return more > 0 ? [...lines, ['', `… ${more} more`]] : lines
}

/** `P7 at 0.2731  http://10.0.0.7:8000` */
function memberText({ peer, rest, place }: Member): string {
  return `${peer} at ${turn(place).toFixed(4)}  ${rest}`
}

function percent(share: number): string {
  const percents = share * 100
  return `${percents >= 10 || percents === 0 ? Math.round(percents) : percents.toPrecision(2)} %`
}

/** How far round the circle a place is: 0 up to, but not, 1. */
function turn(place: string): number {
  return Number.parseInt(place.slice(0, 12), 16) / 16 ** 12
}

/** The circle, cut open at 0: a line with a mark for each member that this one knows, and the legend. */
export function picture(ring: RingBody, columns: number): string[] {
  const room = Math.max(columns - 4, 10)
  const line = Array<string>(room).fill('─')
  const marks: [string, readonly Member[]][] = [
    ['f', ring.fingers],
    ['s', ring.successors],
    ['p', ring.predecessor ? [ring.predecessor] : []],
    ['●', [ring.self]],
  ]
  // What matters more is drawn over the rest.
  for (const [mark, members] of marks)
    for (const { place } of members) line[Math.min(Math.floor(turn(place) * room), room - 1)] = mark
  const legend = '  ● this agent  p predecessor  s successors  f fingers'
  return [`0 ${line.join('')} 1`, ...(width(legend) <= columns ? [legend] : [])]
}
