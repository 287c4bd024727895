import { NetworkError } from '../../common/errors.ts'
import { parsePeerId } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import { noteUnknown } from './offers.ts'
import { sharing } from './share.ts'
import type { Item, Uploaded } from './uploaded.ts'

/** Shares files by the agent, and leaves an offer of each for a peer that is away. */
export async function offerUpload(to: string, cli: Cli): Promise<(item: Item) => Promise<Uploaded>> {
  const peer = parsePeerId(to)
  const agent = await cli.agent()
  const share = await sharing(cli)
  const unknown = (await noteUnknown([peer], cli)).length > 0
  return async (item) => {
    const shared = { ...(await share(item)), name: item.name }
    const { offers } = await agent.offer({ to: [peer], id: shared.id, name: shared.name })
    const [offer] = offers
    if (!offer) throw new NetworkError('internal', 'the agent has left no offer')
    return { ...shared, outcome: 'offered', to: peer, unknown, offer }
  }
}
