import type { Command } from 'commander'
import { shortId } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import { count, localTime, size } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .option('--wide', 'whole content ids')
    .addHelpText(
      'after',
      `
Examples:
  peer list
  peer list --wide
  peer list --json | jq -r '.files[].name'`,
    )
    .action(async ({ wide }: { wide?: boolean }) => {
      const agent = await cli.agent()
      const files = []
      for await (const file of agent.files()) files.push(file)
      cli.out.document({ files })
      if (files.length === 0) {
        cli.out.line('The agent shares no file yet: put some into its shared folder, or "peer upload PATH".')
        return
      }
      cli.out.table(
        [
          { title: 'NAME', shrinks: true },
          { title: 'SIZE', align: 'right' },
          { title: 'CONTENT' },
          { title: 'MODIFIED' },
        ],
        files.map((file) => [
          file.name,
          size(file.size),
          { style: 'cyan', text: wide ? file.id : shortId(file.id) },
          localTime(file.modified),
        ]),
      )
      const bytes = files.reduce((sum, file) => sum + file.size, 0)
      cli.out.line({
        style: 'dim',
        text: `${count(files.length, 'file')}, ${size(bytes)}${wide ? '' : '; --wide shows whole content ids'}`,
      })
    })
}
