import { NetworkError } from '../../common/errors.ts'
import type { FileName } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import { hashPath } from './hash.ts'
import { parseQuery } from './query.ts'
import type { Item, Uploaded } from './uploaded.ts'

/** What the agent shares. */
export type Shared = Pick<Uploaded, 'name' | 'size' | 'id'>

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

/** What the agent shares under that name or content id. @throws NetworkError `not_found` */
export async function sharedBefore(file: string, as: FileName | undefined, cli: Cli): Promise<Shared> {
  const missing = new NetworkError(
    'not_found',
    `there is no file ${file} on this machine, and the agent shares none of this name or content id`,
  )
  const query = asQuery(file)
  if (!query) throw missing
  const [match] = (await (await cli.agent()).search(query)).matches
  if (!match) throw missing
  return { name: as ?? match.name, size: match.size, id: match.id }
}

function asQuery(file: string): ReturnType<typeof parseQuery> | undefined {
  try {
    return parseQuery(file)
  } catch {
    return undefined
  }
}
