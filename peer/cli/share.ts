import type { Cli } from './cli.ts'
import { hashPath } from './hash.ts'
import type { Item, Uploaded } from './uploaded.ts'

/** Shares files by the agent; a content that it shares already, under whatever name, is not copied again. */
export async function sharing(cli: Cli): Promise<(item: Item) => Promise<Uploaded>> {
  const { agentUpload } = await import('./agent-upload.ts')
  const agent = await cli.agent()
  const upload = await agentUpload(false, cli)
  return async (item) => {
    const { id, size } = await hashPath(item.path, cli)
    const { matches, peer } = await agent.search({ id })
    if (matches.length === 0) return upload(item)
    return { name: item.name, size, id, outcome: 'there already', to: peer, bytes: 0, seconds: 0 }
  }
}
