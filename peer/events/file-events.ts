import type { Clock } from '../../common/clock.ts'
import type { EventDraft } from '../../common/events/event.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { FileEntry } from '../../common/schemas.ts'
import type { CatalogEvent } from '../catalog/change-feed.ts'

/** A content that comes back under another name within this was renamed: it had to be found and hashed again. */
const RENAME_MS = 10_000
/** Removed contents that are remembered for it. */
const MAX_REMEMBERED = 10_000

/**
 * Says what changed in the catalog as events. Where a renamed file is seen as a removal first, it is called renamed once
 * its content is there again: nobody waits for what may not come.
 */
export class FileEvents {
  readonly #clock: Clock
  /** contents that were removed lately, oldest first, and under which name; each name once */
  readonly #removed = new Map<ContentId, { name: FileName; at: number }>()
  readonly #removedAs = new Map<FileName, ContentId>()

  constructor(deps: { clock: Clock }) {
    this.#clock = deps.clock
  }

  /** All but the last go from a revision to itself, as in an announcement in several parts. */
  draftsOf({ from, to, added, removed, before }: CatalogEvent): EventDraft[] {
    const now = this.#clock.now()
    const moved = movesOf(added, before)
    // A name that stands for something again was not left by a rename.
    for (const { name, id } of added) if (this.#removedAs.get(name) !== id) this.#forget(this.#removedAs.get(name))
    const gone = removed.filter((name) => !moved.has(name))
    for (const name of gone) {
      const id = before.get(name)
      if (id !== undefined) this.#remember(id, name, now)
    }
    const left = gone.length + added.length
    const drafts: EventDraft[] = []
    const revision = () => ({ from, to: drafts.length === left - 1 ? to : from, part: drafts.length + 1 })
    for (const name of gone) drafts.push({ type: 'file.removed', data: { name, revision: revision() } })
    const origins = new Map([...moved].map(([was, is]) => [is, was]))
    for (const { name, id, size } of added) {
      // The catalog knows the content of whatever it shares.
      const data = { name, id: id!, size: size!, revision: revision() }
      const was = origins.get(name) ?? this.#recent(data.id, name, now)
      drafts.push(
        was === undefined ? { type: 'file.added', data } : { type: 'file.renamed', data: { ...data, from: was } },
      )
    }
    return drafts
  }

  /** The name under which a content stood until a moment ago, where that was another. */
  #recent(id: ContentId, name: FileName, now: number): FileName | undefined {
    const was = this.#removed.get(id)
    this.#forget(id)
    return was && was.name !== name && now - was.at <= RENAME_MS ? was.name : undefined
  }

  #remember(id: ContentId, name: FileName, now: number): void {
    this.#forget(id)
    this.#forget(this.#removedAs.get(name))
    this.#removed.set(id, { name, at: now })
    this.#removedAs.set(name, id)
    for (const [oldest, { at }] of this.#removed) {
      if (this.#removed.size <= MAX_REMEMBERED && now - at <= RENAME_MS) return
      this.#forget(oldest)
    }
  }

  #forget(id: ContentId | undefined): void {
    const was = id === undefined ? undefined : this.#removed.get(id)
    if (id === undefined || !was) return
    this.#removed.delete(id)
    if (this.#removedAs.get(was.name) === id) this.#removedAs.delete(was.name)
  }
}

/** Which removed name became which added one, in one batch: each content once. */
function movesOf(added: readonly FileEntry[], before: CatalogEvent['before']): Map<FileName, FileName> {
  const nameOf = new Map([...before].map(([name, id]) => [id, name]))
  const moved = new Map<FileName, FileName>()
  for (const { name, id } of added) {
    const was = id === null ? undefined : nameOf.get(id)
    if (was === undefined) continue
    moved.set(was, name)
    nameOf.delete(id!)
  }
  return moved
}
