import type { Clock } from '../../common/clock.ts'
import type { EventOf, NetworkEvent } from '../../common/events/event.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import type { FileEntry } from '../../common/schemas.ts'
import type { Change, DirectoryStore } from '../directory/store.ts'

type FileEvent = EventOf<'file.added'> | EventOf<'file.removed'> | EventOf<'file.renamed'>

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
  /** the last part that was applied of a change whose end has not come */
  readonly #begun = new Map<PeerId, { from: number; part: number }>()

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
    const change = lease && this.#changeOf(id, lease.revision, events)
    if (!change) return
    const outcome = await this.#store.hint(id, change, this.#clock.now(), this.#maxFilesPerPeer)
    if (outcome.kind !== 'done') this.#begun.delete(id)
  }

  /** Undefined where none of them goes on from `revision`. */
  #changeOf(id: PeerId, revision: number, events: readonly FileEvent[]): Change | undefined {
    const add = new Map<FileName, FileEntry>()
    const remove = new Set<FileName>()
    let at = revision
    let known = false
    for (const event of events) {
      const { from, to, part = 1 } = event.data.revision
      if (from !== at || !this.#follows(id, from, part)) continue
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
      this.#remember(id, from === to ? { from, part } : undefined)
      at = to
    }
    return known ? { from: revision, to: at, add: [...add.values()], remove: [...remove] } : undefined
  }

  /** Whether a part is the first one, or all before it were applied. */
  #follows(id: PeerId, from: number, part: number): boolean {
    if (part === 1) return true
    const begun = this.#begun.get(id)
    return begun !== undefined && begun.from === from && begun.part === part - 1
  }

  #remember(id: PeerId, begun: { from: number; part: number } | undefined): void {
    this.#begun.delete(id)
    if (!begun) return
    if (this.#begun.size >= MAX_BEGUN) this.#begun.clear()
    this.#begun.set(id, begun)
  }
}

function isFileEvent(event: NetworkEvent): event is FileEvent {
  return event.type === 'file.added' || event.type === 'file.removed' || event.type === 'file.renamed'
}
