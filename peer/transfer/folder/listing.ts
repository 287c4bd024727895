import { asNetworkError, NetworkError } from '../../../common/errors.ts'
import { type ContentId, type FileName, isFileName, type PeerId, printable, shortId } from '../../../common/ids.ts'
import { folderRange, pagesOf } from '../../../common/paging.ts'
import { LIMITS, type PeerFile, type ProviderBody } from '../../../common/schemas.ts'

/** Which files a folder has, and who offers them. */

/** Who offers a file, and where. */
export type FolderProvider = Pick<ProviderBody, 'peer' | 'rest' | 'grpc_port'>

/** One name, as one who lists it told of it; nothing of it is checked yet. */
export interface FolderRow {
  readonly name: string
  readonly offers: readonly (FolderProvider & Pick<ProviderBody, 'id' | 'size'>)[]
}

export interface FolderLister {
  /** what it is called in a note: a URL */
  readonly asked: string
  /**
   * What is in a folder; undefined: everything.
   * @throws NetworkError where it can't be asked
   */
  list(folder: FileName | undefined, signal: AbortSignal): AsyncIterable<readonly FolderRow[]>
}

/** One content that a name stands for. */
export interface ListedFile {
  readonly name: FileName
  readonly id: ContentId
  /** bytes, as was told: proven only when it is fetched */
  readonly size: number
  /** without this peer itself */
  readonly providers: readonly FolderProvider[]
}

export interface FolderListing {
  /** by name, each with at least one content; of those with several, which one is meant is not known */
  readonly files: ReadonlyMap<FileName, readonly [ListedFile, ...ListedFile[]]>
  /** names offered without a content id */
  readonly bare: number
  /** what was listed and can't be a file of this folder */
  readonly unfit: number
  /** why there may be more files than were listed: someone failed in the middle */
  readonly cut: string | undefined
}

/** The Maestro, as a lister asks it. */
interface DirectoryPages {
  readonly url: string
  directory(
    page: { under: FileName | undefined; limit: number; after: string | undefined },
    options: { signal: AbortSignal },
  ): Promise<{ directory: Record<string, ProviderBody[]>; next: string | null }>
}

/** One friend, as a lister asks it: for what it has itself. */
export interface FriendPages {
  readonly url: string
  files(
    page: { under: FileName | undefined; limit: number; after: string | undefined },
    signal: AbortSignal,
  ): Promise<{ peer: PeerId; grpc_port: number; files: readonly PeerFile[]; next: string | null }>
}

export function maestroLister(maestro: DirectoryPages): FolderLister {
  return {
    asked: maestro.url,
    async *list(under, signal) {
      const pages = pagesOf((after) => maestro.directory({ under, limit: LIMITS.pageSize, after }, { signal }))
      for await (const { directory } of pages)
        yield Object.entries(directory).map(([name, offers]) => ({ name, offers }))
    },
  }
}

/** The address of what a friend offers is the one it was asked at, not one that it names. */
export function friendLister(friend: FriendPages): FolderLister {
  return {
    asked: friend.url,
    async *list(under, signal) {
      const pages = pagesOf((after) => friend.files({ under, limit: LIMITS.pageSize, after }, signal))
      for await (const { peer, grpc_port, files } of pages)
        yield files.map(({ name, id, size }) => ({ name, offers: [{ peer, rest: friend.url, grpc_port, id, size }] }))
    },
  }
}

export interface ListFolderOptions {
  /** this peer: what it offers itself is no source */
  readonly self: PeerId
  /** files of one folder; more are refused */
  readonly maxFiles: number
}

/**
 * Asks the Maestro; where it has nothing or can't be asked, all friends.
 * @throws NetworkError `not_found` where nobody offers such a folder; `unavailable` where nobody answered; `too_large`;
 *   `cancelled`
 */
export async function listFolder(
  folder: FileName,
  listers: { maestro: FolderLister | undefined; friends: readonly FolderLister[] },
  { self, maxFiles }: ListFolderOptions,
  onNote: (note: string) => void,
  signal: AbortSignal,
): Promise<FolderListing> {
  const gathered = new Gathering(folder, self, maxFiles)
  const faults: NetworkError[] = []
  let answered = false
  const ask = async (lister: FolderLister, instead = '') => {
    // A page may come short, so the number of pages has a bound of its own.
    let pages = Math.max(LEAST_PAGES, 2 * Math.ceil(maxFiles / LIMITS.pageSize))
    const before = gathered.size
    try {
      for await (const rows of lister.list(folder, signal)) {
        gathered.add(rows)
        if (pages-- === 0) throw new NetworkError('corrupt', `${lister.asked} lists without end`)
      }
      answered = true
    } catch (error) {
      if (signal.aborted) throw new NetworkError('cancelled', 'cancelled', {}, error)
      const fault = asNetworkError(error)
      if (fault.code === 'too_large') throw fault
      faults.push(fault)
      onNote(`${fault.message}${instead}`)
      if (gathered.size > before) gathered.cut = fault.message
    }
  }
  const friends = listers.friends.length > 0 ? '; asked the friends instead' : ''
  if (listers.maestro) await ask(listers.maestro, friends)
  if (gathered.size === 0 || faults.length > 0) await Promise.all(listers.friends.map((friend) => ask(friend)))
  if (gathered.size > 0) return gathered
  if (answered || faults.length === 0)
    throw new NetworkError('not_found', `nobody offers a folder "${folder}": "peer search" finds names`)
  throw new NetworkError('unavailable', `nobody could be asked for the folder "${folder}": ${faults[0]!.message}`)
}

const LEAST_PAGES = 1000
/** Providers that are kept of one file. */
const MAX_PROVIDERS = 16

/** What was told so far. A provider, and a set of them, is kept once however many files it has. */
class Gathering implements FolderListing {
  readonly files = new Map<FileName, [ListedFile, ...ListedFile[]]>()
  bare = 0
  unfit = 0
  cut: string | undefined
  readonly #holds: (name: string) => boolean
  readonly #folder: FileName
  readonly #self: PeerId
  readonly #maxFiles: number
  readonly #sets = new ProviderSets()

  constructor(folder: FileName, self: PeerId, maxFiles: number) {
    this.#folder = folder
    this.#holds = folderRange(folder).holds
    this.#self = self
    this.#maxFiles = maxFiles
  }

  get size(): number {
    return this.files.size
  }

  add(rows: readonly FolderRow[]): void {
    for (const { name, offers } of rows) {
      if (!(isFileName(name) && this.#holds(name))) this.unfit++
      else if (!this.#add(name, offers)) this.bare++
    }
    if (this.files.size + this.unfit + this.bare > this.#maxFiles)
      throw new NetworkError(
        'too_large',
        `"${this.#folder}" has more than ${this.#maxFiles} files: fetch the folders in it one by one`,
      )
  }

  /** @returns whether any offer tells of a content */
  #add(name: FileName, offers: FolderRow['offers']): boolean {
    const known = new Map(this.files.get(name)?.map((file) => [file.id, file]))
    for (const { id, size, ...provider } of offers) {
      if (id === null || size === null) continue
      const before = known.get(id)
      const providers = before?.providers ?? this.#sets.none
      const next = provider.peer === this.#self ? providers : this.#sets.with(providers, provider)
      if (!before || next !== providers) known.set(id, { name, id, size: before?.size ?? size, providers: next })
    }
    const [first, ...others] = known.values()
    if (!first) return false
    this.files.set(name, [first, ...others])
    return true
  }
}

class ProviderSets {
  readonly none: readonly FolderProvider[] = []
  readonly #providers = new Map<string, FolderProvider>()
  /** the set that one more provider makes of a set */
  readonly #next = new Map<readonly FolderProvider[], Map<FolderProvider, readonly FolderProvider[]>>()

  with(set: readonly FolderProvider[], { peer, rest, grpc_port }: FolderProvider): readonly FolderProvider[] {
    // Two of one address are one provider, whatever they call themselves.
    const address = `${rest} ${grpc_port}`
    let provider = this.#providers.get(address)
    if (!provider) {
      provider = { peer, rest, grpc_port }
      this.#providers.set(address, provider)
    }
    if (set.length >= MAX_PROVIDERS || set.includes(provider)) return set
    const nexts = this.#next.get(set) ?? new Map<FolderProvider, readonly FolderProvider[]>()
    this.#next.set(set, nexts)
    const next = nexts.get(provider) ?? [...set, provider]
    nexts.set(provider, next)
    return next
  }
}

/** What is not fetched because nobody says which content is meant. */
export function ambiguous(name: FileName, files: readonly ListedFile[]): string {
  const choices = files.map(({ id, providers }) => `${shortId(id)}… at ${providers.map(({ peer }) => peer).join(', ')}`)
  return `"${printable(name)}" stands for ${files.length} contents: ${choices.slice(0, 4).join('; ')}; fetch the one that you want by its id`
}
