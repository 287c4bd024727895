import type { Command } from 'commander'
import { parseRestUrl } from '../../common/address.ts'
import type { Cli } from './cli.ts'
import { showFriends } from './friends.ts'

export function define(command: Command, cli: Cli): void {
  command
    .argument('<url>', 'REST address of the peer')
    .addHelpText(
      'after',
      `
Examples:
  peer add-peer http://192.168.1.21:8000
  peer add-peer lab-pc7:8000`,
    )
    .action(async (text: string) => {
      const { url } = parseRestUrl(text)
      const answer = await (await cli.agent()).addFriend(url)
      cli.out.document(answer)
      cli.out.line(
        `${url} is a friend of this agent now: it is asked where the Maestro does not answer, or knows nobody.`,
      )
      showFriends(answer.friends, cli)
    })
}
