import type { Command } from 'commander'
import type { Cli } from './cli.ts'
import { count } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .addHelpText(
      'after',
      `
The agent sees changes by itself; this is for folders whose changes the system does not tell, such as network drives.

Example:
  peer refresh`,
    )
    .action(async () => {
      const answer = await (await cli.agent()).refresh()
      cli.out.document(answer)
      cli.out.line(`The agent shares ${count(answer.files, 'file')} (revision ${answer.revision}).`)
    })
}
