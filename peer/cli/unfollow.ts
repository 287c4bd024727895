import type { Command } from 'commander'
import type { Cli } from './cli.ts'
import { onePattern } from './follow-pattern.ts'
import { styled } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .argument('<pattern...>', 'as "peer following" shows it, in quotes')
    .addHelpText(
      'after',
      `
What is under way for it is stopped. What was fetched stays, and is shared.

Example:
  peer unfollow 'lectures/**'`,
    )
    .action(async (patterns: string[]) => {
      const pattern = onePattern(patterns)
      cli.out.document(await (await cli.agent()).unfollow(pattern))
      cli.out.line(styled('bold', pattern), ' is followed no more; its files stay')
    })
}
