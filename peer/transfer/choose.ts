import { NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, shortId } from '../../common/ids.ts'
import type { LocatedProvider, LookupStep } from '../../common/schemas.ts'
import { isLocal, noneAnswered, silentProviders } from '../locate/outcome.ts'

/** What exactly to fetch, and from whom, of all that was located. */
export interface Choice {
  id: ContentId
  name: FileName
  providers: LocatedProvider[]
}

/**
 * One content of those located, its providers once each in the order they were found. Providers that do not know their
 * content's id are left out.
 * @throws NetworkError `not_found` where nothing is left; `unavailable` where nobody told what they know; `conflict` where a name
 *   stands for several contents, with `choices: [{id, size, peers: ids}]`
 */
export function choose(
  request: { file?: FileName | undefined; id?: ContentId | undefined; as?: FileName | undefined },
  providers: readonly LocatedProvider[],
  steps: readonly LookupStep[],
): Choice {
  const contents = new Map<ContentId, Map<string, LocatedProvider>>()
  for (const provider of providers) {
    if (provider.id === null || (request.id !== undefined && provider.id !== request.id)) continue
    const peers = contents.get(provider.id) ?? new Map<string, LocatedProvider>()
    if (!peers.has(provider.peer)) peers.set(provider.peer, provider)
    contents.set(provider.id, peers)
  }
  const what = request.file === undefined ? `the content ${request.id && shortId(request.id)}…` : `"${request.file}"`
  const [first, ...others] = contents
  if (!first) throw nothing(what, steps)
  if (others.length > 0) {
    const choices = [...contents].map(([id, peers]) => ({
      id,
      size: [...peers.values()][0]!.size,
      peers: [...peers.keys()],
    }))
    throw new NetworkError(
      'conflict',
      `${what} stands for ${contents.size} different contents: choose one and ask for it by its content id`,
      { choices },
    )
  }
  const [id, peers] = first
  const list = [...peers.values()]
  return { id, name: request.as ?? request.file ?? list[0]!.file, providers: list }
}

function nothing(what: string, steps: readonly LookupStep[]): NetworkError {
  if (noneAnswered(steps)) {
    const asked = steps.filter((step) => !isLocal(step)).map((step) => `${step.asked} (${step.outcome})`)
    return new NetworkError('unavailable', `nobody who could know ${what} answers: asked ${asked.join(', ')}`)
  }
  const silent = silentProviders(steps, what)
  if (silent) return silent
  return new NetworkError(
    'not_found',
    `nobody offers ${what}: "peer search TEXT" finds parts of names, "peer network" shows who is up`,
  )
}
