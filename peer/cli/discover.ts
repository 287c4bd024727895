import type { Command } from 'commander'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { DiscoverBody } from '../../common/schemas.ts'
import { agentAddress, type Cli } from './cli.ts'
import { knownColumns, knownRow } from './known.ts'
import { count, type Styled } from './text.ts'

export function define(command: Command, cli: Cli): void {
  command
    .argument('[url]', 'REST address of the peer to ask; without one, the peers that the agent knows are listed')
    .addHelpText(
      'after',
      `
Peers that are found so are kept, tried now and then, and asked where the Maestro does not answer. They are no friends:
"peer add-peer URL" makes one.

Examples:
  peer discover http://192.168.1.21:8000     one address is enough to join a network with no Maestro
  peer discover lab-pc7 --json
  peer discover                              whom the agent knows`,
    )
    .action(async (text: string | undefined) => {
      if (text === undefined) return listKnown(cli)
      const url = agentAddress(text)
      const agent = await cli.agent()
      const answer = await agent.discover(url).catch(async (error: unknown) => {
        throw await refusal(error, url, cli)
      })
      cli.out.document(answer)
      show(answer, cli)
    })
}

/** Why nothing was learnt there, as the user should read it. */
async function refusal(error: unknown, url: string, cli: Cli): Promise<NetworkError> {
  const known = asNetworkError(error)
  if (['cancelled', 'unauthorized'].includes(known.code) || known.details.url === cli.agentUrl) return known
  if (!(await cli.isMaestro(url))) return known
  return new NetworkError(
    'invalid',
    `${url} is a Maestro, not an agent: it is named in an agent's configuration, as maestro_url`,
    {},
    known,
  )
}

async function listKnown(cli: Cli): Promise<void> {
  const answer = await (await cli.agent()).knownPeers()
  cli.out.document(answer)
  const others = answer.peers.filter(({ status }) => status !== 'self')
  if (others.length === 0) {
    cli.out.line('The agent knows no peer yet: "peer discover URL" asks one for those that it knows.')
    return
  }
  cli.out.table(knownColumns, others.map(knownRow))
  const alive = others.filter(({ status }) => status === 'alive').length
  cli.out.line({ style: 'dim', text: `${count(others.length, 'peer')} known, ${alive} alive` })
}

const OUTCOME: Record<DiscoverBody['peers'][number]['outcome'], Styled> = {
  kept: { style: 'green', text: 'kept' },
  known: { style: 'dim', text: 'known already' },
  self: { style: 'dim', text: 'this agent itself' },
  refused: { style: 'red', text: 'not kept' },
}

function show({ asked, peers }: DiscoverBody, cli: Cli): void {
  if (peers.length === 0) {
    cli.out.line(`${asked} knows no peer.`)
    return
  }
  cli.out.table(
    [{ title: 'PEER' }, { title: 'ADDRESS', shrinks: true }, { title: 'OUTCOME' }, { title: '', shrinks: true }],
    peers.map(({ id, rest, outcome, detail }) => [id ?? '?', rest, OUTCOME[outcome], detail ?? '']),
  )
  const kept = peers.filter(({ outcome }) => outcome === 'kept').length
  cli.out.line({ style: 'dim', text: `${asked} told of ${count(peers.length, 'peer')}; ${kept} kept` })
}
