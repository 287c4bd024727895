import type { ContentId, FileName } from '../../common/ids.ts'
import type { LocatedProvider, LookupStep, StrategyName } from '../../common/schemas.ts'
import { noneAnswered } from '../locate/outcome.ts'
import type { RpcClients } from '../rpc/client.ts'
import { type Choice, choose } from '../transfer/choose.ts'
import { identify } from '../transfer/identify.ts'
import { pick } from './choices.ts'
import type { Cli } from './cli.ts'
import type { ExactQuery } from './query.ts'
import { noteDegradation } from './steps.ts'

export interface DownloadOptions {
  output?: string
  as?: FileName
  /** the first digits of the content id that is meant */
  id?: string
  via?: StrategyName
  dummy?: boolean
  maestro?: string
  peer?: string
  /** bytes a second; null: no limit */
  limit?: number | null
  /** how long there may be no provider, s */
  wait?: number
  detach?: boolean
  explain?: boolean
}

interface Lookup {
  providers: LocatedProvider[]
  /** null where the provider was named by the user */
  via: string | null
  steps: LookupStep[]
}

/**
 * Who has the file: asked of a peer or a Maestro that the user names, else of the agent.
 * @throws NetworkError `not_found`, `unavailable`; `conflict` with the choices where the name stands for several contents
 */
export async function findProviders(
  query: ExactQuery,
  options: DownloadOptions,
  clients: RpcClients,
  cli: Cli,
): Promise<Choice & Pick<Lookup, 'via' | 'steps'>> {
  const { providers, via, steps } = await lookUp(query, options, cli)
  // Where nobody answered, the error says so.
  if (!noneAnswered(steps)) noteDegradation(steps, providers, cli.out)
  const source = (provider: LocatedProvider) => clients.source(provider)
  const known = await identify(providers, source, (note) => cli.out.note(note), cli.io.signal)
  const id = options.id !== undefined && known.length > 0 ? pick(options.id, known) : query.id
  const choice = choose({ ...query, id, as: options.as }, known, steps)
  return { ...choice, via, steps }
}

/** Who has it now, where a download goes on: as `findProviders`, but says nothing. */
export async function findAgain(id: ContentId, options: DownloadOptions, cli: Cli): Promise<LocatedProvider[]> {
  const { providers } = await lookUp({ id }, options, cli)
  return providers.filter((provider) => provider.id === id)
}

async function lookUp(query: ExactQuery, options: DownloadOptions, cli: Cli): Promise<Lookup> {
  if (options.peer !== undefined) {
    const peer = await cli.peer(options.peer)
    const { peer: id, grpc_port, matches } = await peer.search(query)
    const here = { peer: id, rest: peer.url, grpc_port, via: 'friends' as const }
    const providers = matches.map((match) => ({ ...here, file: match.name, id: match.id, size: match.size }))
    return { providers, via: null, steps: [] }
  }
  if (options.maestro !== undefined) {
    const maestro = await cli.maestro(options.maestro)
    const { peers } = await maestro.locate(query, { signal: cli.io.signal })
    const providers = peers.flatMap((peer) => {
      const file = query.file ?? peer.file
      return file === undefined ? [] : [{ ...peer, file, via: 'maestro' as const }]
    })
    return { providers, via: 'maestro', steps: [] }
  }
  const { peers, via, steps } = await (await cli.agent()).locate(query, options.via)
  return { providers: peers, via, steps }
}
