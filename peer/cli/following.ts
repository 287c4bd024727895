import type { Command } from 'commander'
import type { FollowBody } from '../../common/events/rest.ts'
import type { Cli } from './cli.ts'
import { count, size } from './text.ts'

/** Files left out of one pattern that are shown. */
const SHOWN = 20

export function define(command: Command, cli: Cli): void {
  command
    .addHelpText(
      'after',
      `
Examples:
  peer following
  peer following --json | jq '.follows[].left_out'`,
    )
    .action(async () => {
      const answer = await (await cli.agent()).follows()
      cli.out.document(answer)
      if (answer.follows.length === 0) cli.out.line(`nothing is followed: "peer follow 'lectures/**'" begins`)
      else show(answer.follows, cli)
    })
}

function show(follows: readonly FollowBody[], cli: Cli): void {
  cli.out.table(
    [
      { title: 'PATTERN', shrinks: true },
      { title: 'FILES', align: 'right' },
      { title: 'SIZE', align: 'right' },
      { title: 'QUOTA', align: 'right' },
      { title: 'FETCHING', align: 'right' },
      { title: 'LEFT OUT', align: 'right' },
    ],
    follows.map(({ pattern, files, bytes, quota, fetching, left_out }) => [
      pattern,
      String(files),
      size(bytes),
      size(quota),
      String(fetching),
      String(left_out.length),
    ]),
  )
  for (const { pattern, left_out } of follows) {
    if (left_out.length === 0) continue
    cli.out.line()
    cli.out.line(`Left out of ${pattern}:`)
    for (const { name, why } of left_out.slice(0, SHOWN)) cli.out.line(`  ${name}: ${why}`)
    const more = left_out.length - SHOWN
    if (more > 0) cli.out.line(`  and ${count(more, 'file')} more; --json names them`)
  }
}
