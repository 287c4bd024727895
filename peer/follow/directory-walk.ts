import { asNetworkError, NetworkError } from '../../common/errors.ts'
import { type FileName, isFileName } from '../../common/ids.ts'
import type { FolderLister, FolderProvider, FolderRow, ListedFile } from '../transfer/folder/listing.ts'

export interface Listers {
  maestro: FolderLister | undefined
  friends: readonly FolderLister[]
}

/** A page may come short, so the number of pages has a bound of its own. */
const MAX_PAGES = 100_000

/**
 * All that is offered, in a folder or anywhere, page by page: the Maestro's directory, or what each friend has where it
 * can't be asked. One name may come several times then.
 * @throws NetworkError `unavailable` where nobody could be asked to the end; `cancelled`
 */
export async function* walkDirectory(
  folder: FileName | undefined,
  { maestro, friends }: Listers,
  signal: AbortSignal,
): AsyncGenerator<readonly FolderRow[]> {
  let fault: NetworkError | undefined
  if (maestro)
    try {
      yield* pages(maestro, folder, signal)
      return
    } catch (error) {
      fault = faultOf(error, signal)
    }
  let answered = false
  for (const friend of friends)
    try {
      yield* pages(friend, folder, signal)
      answered = true
    } catch (error) {
      fault = faultOf(error, signal)
    }
  if (!answered && fault) throw fault
}

async function* pages(lister: FolderLister, folder: FileName | undefined, signal: AbortSignal) {
  let left = MAX_PAGES
  for await (const rows of lister.list(folder, signal)) {
    yield rows
    if (--left === 0) throw new NetworkError('corrupt', `${lister.asked} lists without end`)
  }
}

function faultOf(error: unknown, signal: AbortSignal): NetworkError {
  return signal.aborted ? new NetworkError('cancelled', 'cancelled', {}, error) : asNetworkError(error)
}

/** The contents that a name stands for at others; none where it can't be shared, or where nobody tells of a content. */
export function contentsOf({ name, offers }: FolderRow, self: string): ListedFile[] {
  if (!isFileName(name)) return []
  const contents = new Map<string, ListedFile & { providers: FolderProvider[] }>()
  for (const { id, size, ...provider } of offers) {
    if (id === null || size === null || provider.peer === self) continue
    const known = contents.get(id) ?? { name, id, size, providers: [] }
    known.providers.push(provider)
    contents.set(id, known)
  }
  return [...contents.values()]
}
