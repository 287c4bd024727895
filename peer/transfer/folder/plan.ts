import { setImmediate } from 'node:timers/promises'
import type { ContentId, FileName } from '../../../common/ids.ts'
import { isFileName, printable } from '../../../common/ids.ts'
import type { Shelf } from '../contents.ts'
import { MAX_SMALL } from '../small-source.ts'
import { ambiguous, type FolderListing, type FolderProvider, type ListedFile } from './listing.ts'

/** One content to be fetched, and the names under which it is to stand here. */
export interface Wanted {
  readonly id: ContentId
  /** bytes, as was told */
  readonly size: number
  readonly names: readonly FileName[]
  readonly providers: readonly FolderProvider[]
}

export interface Amount {
  files: number
  bytes: number
}

export interface FolderPlan {
  /** all there is in the folder, but for what `faults` tells of */
  readonly total: Readonly<Amount>
  /** of these, here already */
  readonly here: Readonly<Amount>
  /** of at most MAX_SMALL bytes */
  readonly small: readonly Wanted[]
  readonly large: readonly Wanted[]
  /** files that can't be fetched, and why */
  readonly faults: readonly string[]
}

/** Files between two pauses, in which the process does other work. */
const STEPS_A_SLICE = 256

/** What of a listed folder has to be fetched, and what can't be. */
export async function planFolder(
  listing: FolderListing,
  { folder, as }: { folder: FileName; as: FileName },
  shelf: Pick<Shelf, 'get' | 'existing'>,
): Promise<FolderPlan> {
  const [total, here] = [amount(), amount()]
  const faults: string[] = []
  const wanted = new Map<ContentId, Wanted & { names: FileName[] }>()
  let steps = 0
  for (const [name, files] of listing.files) {
    if (++steps % STEPS_A_SLICE === 0) await setImmediate()
    const target = as + name.slice(folder.length)
    if (!isFileName(target)) {
      faults.push(`"${printable(target)}" is too long for a name`)
      continue
    }
    const known = shelf.get(target)
    // Asked of the disk only where something is known, and for large files: others find out when they land.
    const existing = known || files[0].size > MAX_SMALL ? shelf.existing(target) : undefined
    const same = files.find(({ id }) => id === existing)
    if (same) {
      count(total, same)
      count(here, same)
      continue
    }
    const offered = files.filter(({ providers }) => providers.length > 0)
    const [file, other] = offered
    // Nobody but this peer is told to have it, and it has it no more.
    if (!file) continue
    if (other) {
      faults.push(ambiguous(name, offered))
      continue
    }
    if (existing !== undefined) {
      faults.push(`"${printable(target)}" is here with other content`)
      continue
    }
    count(total, file)
    const { id, size, providers } = file
    const before = wanted.get(id)
    if (before) before.names.push(target)
    else wanted.set(id, { id, size, names: [target], providers })
  }
  const contents = [...wanted.values()]
  const small = contents.filter(({ size }) => size <= MAX_SMALL)
  const large = contents.filter(({ size }) => size > MAX_SMALL)
  if (listing.cut !== undefined) faults.push(`the list of files is not whole: ${listing.cut}`)
  return { total, here, small, large, faults }
}

function amount(): Amount {
  return { files: 0, bytes: 0 }
}

function count(into: Amount, { size }: Pick<ListedFile, 'size'>): void {
  into.files++
  into.bytes += size
}
