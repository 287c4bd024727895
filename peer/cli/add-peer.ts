import type { Command } from 'commander'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { agentAddress, type Cli } from './cli.ts'
import { showFriends } from './friends.ts'

export function define(command: Command, cli: Cli): void {
  command
    .argument('<url>', 'REST address of the peer')
    .addHelpText(
      'after',
      `
Examples:
  peer add-peer http://192.168.1.21:8000
  peer add-peer lab-pc7`,
    )
    .action(async (text: string) => {
      const url = agentAddress(text)
      const answer = await (await cli.agent()).addFriend(url).catch(async (error: unknown) => {
        throw await refusal(error, url, cli)
      })
      cli.out.document(answer)
      cli.out.line(
        `${url} is a friend of this agent now: it is asked where the Maestro does not answer, or knows nobody.`,
      )
      showFriends(answer.friends, cli)
    })
}

/** Why the agent made no friend of it, as the user should read it. */
async function refusal(error: unknown, url: string, cli: Cli): Promise<NetworkError> {
  const known = asNetworkError(error)
  if (known.code === 'cancelled' || known.details.url === cli.agentUrl) return known
  if (known.code === 'unavailable')
    return new NetworkError(
      'unavailable',
      `${url} does not answer the agent: it is no friend yet; add it once it runs`,
      known.details,
      known,
    )
  if (await cli.isMaestro(url))
    return new NetworkError(
      'invalid',
      `${url} is a Maestro, not an agent: friends are agents; a Maestro is named in an agent's configuration, as maestro_url`,
      {},
      known,
    )
  return known
}
