import type { Clock } from '../../common/clock.ts'
import type { EventOf, NetworkEvent } from '../../common/events/event.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import type { FileEntry } from '../../common/schemas.ts'
import type { Change, DirectoryStore } from '../directory/store.ts'

type FileEvent = EventOf<'file.added'> | EventOf<'file.removed'> | EventOf<'file.renamed'>

/** The last part that was applied of a change whose end has not come. */
interface Begun {
  readonly from: number
  readonly part: number
}

/** Changes of which some parts are here: more peers than this are not in the middle of one. */
const MAX_BEGUN = 10_000

/**
 * Applies to the directory what the broker tells of files: what a peer told while this Maestro was away, and what comes
 * sooner than the peer's own announcement. That one stays the truth: a hint goes on from just the revision that the
 * directory holds, of a live lease, or it is passed over, and never taken for half of itself.
 */
export class IndexHints {
  readonly #store: Pick<DirectoryStore, 'peer' | 'hint'>
  readonly #clock: Clock
  readonly #maxFilesPerPeer: number
  readonly #begun = new Map<PeerId, Begun>()

  constructor(
    deps: { store: Pick<DirectoryStore, 'peer' | 'hint'>; clock: Clock },
    options: { maxFilesPerPeer: number },
  ) {
    this.#store = deps.store
    this.#clock = deps.clock
    this.#maxFilesPerPeer = options.maxFilesPerPeer
  }

  /** @throws NetworkError where the store fails: the same events may come again */
  async apply(events: readonly NetworkEvent[]): Promise<void> {
    const ofPeers = new Map<PeerId, FileEvent[]>()
    for (const event of events) {
      if (!isFileEvent(event)) continue
      const peer = event.origin as PeerId
      const told = ofPeers.get(peer)
      if (told) told.push(event)
      else ofPeers.set(peer, [event])
    }
    for (const [peer, told] of ofPeers) await this.#applyOf(peer, told)
  }

  /** All that one peer told, as one change. */
  async #applyOf(id: PeerId, events: readonly FileEvent[]): Promise<void> {
    const lease = await this.#store.peer(id, this.#clock.now())
    // At revision 0 a peer has no files, or is in the middle of registering them, and says the rest itself.
    if (!lease || lease.revision === 0) return
    const goesOn = changeOf(events, lease.revision, this.#begun.get(id))
    if (!goesOn) return
    const outcome = await this.#store.hint(id, goesOn.change, this.#clock.now(), this.#maxFilesPerPeer)
    // Not before: where the store fails, the same events come again, and go on from where they did.
    this.#remember(id, outcome.kind === 'done' ? goesOn.begun : undefined)
  }

  #remember(id: PeerId, begun: Begun | undefined): void {
    this.#begun.delete(id)
    if (!begun) return
    if (this.#begun.size >= MAX_BEGUN) this.#begun.clear()
    this.#begun.set(id, begun)
  }
}

/**
 * What the events do to a directory that is at `revision`, with a change begun or not; undefined where none of them goes
 * on from there.
 */
function changeOf(
  events: readonly FileEvent[],
  revision: number,
  before: Begun | undefined,
): { change: Change; begun: Begun | undefined } | undefined {
  const add = new Map<FileName, FileEntry>()
  const remove = new Set<FileName>()
  let at = revision
  let begun = before
  let known = false
  for (const event of events) {
    const { from, to, part = 1 } = event.data.revision
    const follows = part === 1 || (begun?.from === from && begun.part === part - 1)
    if (from !== at || !follows) continue
    known = true
    if (event.type !== 'file.added') {
      const gone = event.type === 'file.renamed' ? event.data.from : event.data.name
      add.delete(gone)
      remove.add(gone)
    }
    if (event.type !== 'file.removed') {
      const { name, id: content, size } = event.data
      add.set(name, { name, id: content, size })
    }
    begun = from === to ? { from, part } : undefined
    at = to
  }
  return known ? { change: { from: revision, to: at, add: [...add.values()], remove: [...remove] }, begun } : undefined
}

function isFileEvent(event: NetworkEvent): event is FileEvent {
  return event.type === 'file.added' || event.type === 'file.removed' || event.type === 'file.renamed'
}
