import type { Command } from 'commander'
import { NetworkError } from '../../common/errors.ts'
import { shortId } from '../../common/ids.ts'
import type { LocatedProvider } from '../../common/schemas.ts'
import { noneAnswered } from '../locate/outcome.ts'
import type { Cli } from './cli.ts'
import { EXIT } from './exit.ts'
import { noteDegradation, showLevel, showSteps, whoIsDown } from './steps.ts'
import { count, size } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .argument('<text...>', 'words, or parts of words, of a name')
    .option('--explain', 'every step of the search: whom, how long, with what outcome')
    .option('--wide', 'whole content ids')
    .addHelpText(
      'after',
      `
Examples:
  peer search archivo
  peer search lecture week 1
  peer search film --json | jq -r '.peers[].file'`,
    )
    .action(async (words: string[], options: { explain?: boolean; wide?: boolean }) => {
      const text = words.join(' ')
      const found = await (await cli.agent()).locate({ q: text })
      cli.out.document(found)
      if (options.explain) {
        showSteps(found.steps, cli.out)
        showLevel(found.network, cli.out)
      }
      if (found.peers.length === 0) {
        const alone = noneAnswered(found.steps)
        cli.exitCode = alone ? EXIT.unreachable : EXIT.notFound
        if (cli.out.json) return
        const why = alone ? ` on this peer, and no answer from ${whoIsDown(found.steps)}` : ''
        cli.out.error(new NetworkError('not_found', `no name with "${text}"${why}`))
        return
      }
      noteDegradation(found.steps, found.peers, cli.out)
      if (options.explain) cli.out.line()
      const files = byNameAndContent(found.peers)
      cli.out.table(
        [
          { title: 'NAME', shrinks: true },
          { title: 'SIZE', align: 'right' },
          { title: 'CONTENT' },
          { title: 'PEERS', shrinks: true },
        ],
        files.map(([first, ...others]) => [
          first.file,
          first.size === null ? '?' : size(first.size),
          { style: 'cyan', text: first.id === null ? 'unknown' : options.wide ? first.id : shortId(first.id) },
          [first, ...others].map(({ peer }) => peer).join(', '),
        ]),
      )
      cli.out.line({
        style: 'dim',
        text: `${count(files.length, 'file')}, via ${found.via ?? 'nobody'}${options.wide ? '' : '; --wide shows whole content ids'}`,
      })
    })
}

type Group = [LocatedProvider, ...LocatedProvider[]]

/** One group a file, in the order in which they were found: the best match first. */
function byNameAndContent(providers: readonly LocatedProvider[]): Group[] {
  const groups = new Map<string, Group>()
  for (const provider of providers) {
    const key = `${provider.file}\n${provider.id}`
    const group = groups.get(key)
    if (!group) groups.set(key, [provider])
    else if (!group.some(({ peer }) => peer === provider.peer)) group.push(provider)
  }
  return [...groups.values()]
}
