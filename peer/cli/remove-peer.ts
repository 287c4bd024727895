import type { Command } from 'commander'
import { agentAddress, type Cli } from './cli.ts'
import { showFriends } from './friends.ts'

export function define(command: Command, cli: Cli): void {
  command
    .argument('<url>', 'REST address of the friend, as "peer friends" shows it')
    .addHelpText(
      'after',
      `
Example:
  peer remove-peer http://192.168.1.21:8000`,
    )
    .action(async (text: string) => {
      const url = agentAddress(text)
      const answer = await (await cli.agent()).removeFriend(url)
      cli.out.document(answer)
      cli.out.line(`${url} is no friend of this agent any more.`)
      showFriends(answer.friends, cli)
    })
}
