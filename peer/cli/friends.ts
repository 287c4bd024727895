import type { Command } from 'commander'
import type { Friend } from '../../common/schemas.ts'
import type { Cli } from './cli.ts'
import type { Styled } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .addHelpText(
      'after',
      `
Examples:
  peer friends
  peer add-peer http://192.168.1.21:8000
  peer friends --json | jq -r '.friends[].url'`,
    )
    .action(async () => {
      const answer = await (await cli.agent()).friends()
      cli.out.document(answer)
      showFriends(answer.friends, cli)
    })
}

/** The friend list, in the order in which friends are asked. */
export function showFriends(friends: readonly Friend[], cli: Cli): void {
  if (friends.length === 0) {
    cli.out.line('The agent has no friends yet: "peer add-peer URL" makes one.')
    return
  }
  cli.out.table(
    [{ title: 'ROLE' }, { title: 'ADDRESS', shrinks: true }, { title: 'PEER' }, { title: 'STATUS' }],
    friends.map(({ role, url, id, alive }) => [role, url, id ?? '', statusOf(alive)]),
  )
}

function statusOf(alive: boolean | null): Styled {
  if (alive === null) return { style: 'dim', text: 'not asked yet' }
  return alive ? { style: 'green', text: 'answers' } : { style: 'red', text: 'does not answer' }
}
