import type { Command } from 'commander'
import { NetworkError } from '../../common/errors.ts'
import { parseBytes } from './bytes.ts'
import type { Cli } from './cli.ts'
import { size, styled } from './text.ts'

/** What makes a pattern stand for more than one name. */
const WILD = /(?<!\\)[*?{]/

/** `peer follow`: not to be confused with staying with a transfer (`follow.ts`). */
export function define(command: Command, cli: Cli): void {
  command
    .argument('<pattern...>', 'of names, in quotes: * within a folder, ** across folders, ?, {a,b}')
    .option(
      '--quota <size>',
      'bytes that may be fetched for it: 500MB, 10GB, 1TiB (default: 10GB, or as it was)',
      parseBytes,
    )
    .addHelpText(
      'after',
      `
The agent fetches what anyone shares under such a name, what there is now and what will be, into its shared folder.
Files that are there already are never replaced. Put the pattern in quotes, or the shell replaces it by files of the
folder that it is in.

Examples:
  peer follow 'lectures/**'
  peer follow 'lectures/*.{pdf,mkv}' --quota 50GB
  peer follow '**'
  peer following
  peer unfollow 'lectures/**'`,
    )
    .action(async (patterns: string[], { quota }: { quota?: number }) => {
      const pattern = onePattern(patterns)
      const now = await (await cli.agent()).follow({ pattern, quota })
      cli.out.document(now)
      cli.out.line(
        styled('bold', now.pattern),
        ` is followed, up to ${size(now.quota)}; "peer following" shows what comes of it`,
      )
      if (!WILD.test(pattern))
        cli.out.note(
          `it stands for a file of just this name: if it was typed with a *, put it in quotes; all of a folder is 'lectures/**'`,
        )
    })
}

/** @throws NetworkError `invalid` where the shell has made several words of it */
export function onePattern(patterns: readonly string[]): string {
  const [pattern = '', ...others] = patterns
  if (others.length > 0)
    throw new NetworkError(
      'invalid',
      `one pattern at a time, and in quotes, as in 'lectures/**': without them the shell replaces it by the files here, such as ${pattern}`,
    )
  if (pattern === '') throw new NetworkError('invalid', "the pattern is empty: for all files it is '**'")
  return pattern
}
