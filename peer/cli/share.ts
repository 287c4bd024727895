import { NetworkError } from '../../common/errors.ts'
import type { FileName } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import { hashPath } from './hash.ts'
import { beginningHint, parseQuery } from './query.ts'
import type { Item, Uploaded } from './uploaded.ts'

/** What the agent shares. */
export type Shared = Pick<Uploaded, 'name' | 'size' | 'id'>

/** Shares files by the agent; a content that it shares already is not copied again, and answered with its name there. */
export async function sharing(cli: Cli): Promise<(item: Item) => Promise<Uploaded>> {
  const { agentUpload } = await import('./agent-upload.ts')
  const agent = await cli.agent()
  const upload = await agentUpload(false, cli)
  return async (item) => {
    const { id, size } = await hashPath(item.path, cli)
    const { matches, peer } = await agent.search({ id })
    const match = matches.find(({ name }) => name === item.name) ?? matches[0]
    if (!match) return upload(item)
    return { name: match.name, size, id, outcome: 'there already', to: peer, bytes: 0, seconds: 0 }
  }
}

/** What the agent shares under that name or content id. @throws NetworkError `not_found` */
export async function sharedBefore(file: string, as: FileName | undefined, cli: Cli): Promise<Shared> {
  const query = asQuery(file)
  const missing = new NetworkError(
    'not_found',
    `there is no file ${file} on this machine, and the agent shares none of this name or content id${query && beginningHint(query) ? ': of a content id all 64 digits, as "peer list --wide" shows them' : ''}`,
  )
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
