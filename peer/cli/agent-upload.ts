import { Readable } from 'node:stream'
import { NetworkError } from '../../common/errors.ts'
import type { Cli } from './cli.ts'
import type { PeerClient } from './client.ts'
import { hashPath, openRegular } from './hash.ts'
import type { Progress } from './progress.ts'
import type { Item, Uploaded } from './uploaded.ts'

const CHUNK = 1024 * 1024

/** Copies files into the agent's shared folder, over its REST. */
export async function agentUpload(dummy: boolean, cli: Cli): Promise<(item: Item) => Promise<Uploaded>> {
  const agent = await cli.agent()
  const { id: peer } = await agent.info()
  return async (item) => {
    const there = await existing(agent, item, cli)
    if (there) return { ...there, name: item.name, outcome: 'there already', to: peer, bytes: 0, seconds: 0 }
    if (!dummy) return send(agent, item, peer, cli)
    const { id, size } = await hashPath(item.path, cli)
    return { name: item.name, size, id, outcome: 'simulated', to: peer, bytes: size, seconds: 0 }
  }
}

/**
 * The same content where the agent has it under this name, so that it need not be sent.
 * @throws NetworkError `conflict` where it has another content, before anything is sent in vain
 */
async function existing(
  agent: PeerClient,
  item: Item,
  cli: Cli,
): Promise<{ id: Uploaded['id']; size: number } | undefined> {
  const { matches } = await agent.search({ file: item.name })
  const [match] = matches
  if (!match) return undefined
  const local = await hashPath(item.path, cli)
  if (local.id === match.id) return local
  throw new NetworkError(
    'conflict',
    `the agent shares another content as "${item.name}", which stays as it is: give yours another name with --as`,
  )
}

async function send(agent: PeerClient, item: Item, peer: string, cli: Cli): Promise<Uploaded> {
  const file = await openRegular(item.path)
  const progress = cli.out.progress(item.name)
  const begin = performance.now()
  try {
    const { size } = await file.stat()
    const body = Readable.from(
      counted(file.createReadStream({ highWaterMark: CHUNK, autoClose: false }), size, progress),
    )
    const { file: shared, created } = await agent.put(item.name, body, size)
    const seconds = (performance.now() - begin) / 1000
    const outcome = created ? 'shared' : 'there already'
    return { name: shared.name, size: shared.size, id: shared.id, outcome, to: peer, bytes: size, seconds }
  } finally {
    progress.stop()
    await file.close()
  }
}

/** Just `size` bytes, as the request has promised. */
async function* counted(chunks: AsyncIterable<Buffer>, size: number, progress: Progress): AsyncGenerator<Buffer> {
  let bytes = 0
  for await (const chunk of chunks) {
    bytes += chunk.length
    if (bytes > size) break
    yield chunk
    progress.update(bytes, size)
  }
  if (bytes !== size)
    throw new NetworkError('conflict', 'the file changed while it was read: try again once it is left alone')
}
