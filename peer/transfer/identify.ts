import { deadline } from '../../common/deadline.ts'
import { asNetworkError } from '../../common/errors.ts'
import type { LocatedProvider } from '../../common/schemas.ts'
import type { NamedSource } from './source.ts'

/** Providers without a content id that are asked for it, at most. */
const MAX_ASKED = 8
const ASK_MS = 5000

/**
 * Where nobody is known to have an id for a name, those who registered it bare are asked what it is. Who does not answer
 * stays without an id, and `onNote` is told why.
 */
export async function identify(
  providers: LocatedProvider[],
  sources: (provider: LocatedProvider) => NamedSource,
  onNote: (note: string) => void,
  signal: AbortSignal,
): Promise<LocatedProvider[]> {
  if (providers.some(({ id }) => id !== null)) return providers
  const bound = deadline(ASK_MS, signal)
  const asked = providers.slice(0, MAX_ASKED).map(async (provider) => {
    try {
      return { ...provider, ...(await sources(provider).resolve(provider.file, bound.signal)) }
    } catch (error) {
      const why = asNetworkError(error).message
      onNote(`${provider.peer} offers "${provider.file}" without a content id, and can't be asked for it: ${why}`)
      return provider
    }
  })
  return Promise.all(asked).finally(bound.clear)
}
