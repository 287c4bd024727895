import type { FolderProvider } from './listing.ts'
import type { Wanted } from './plan.ts'

/** Contents of one set of providers that nobody was asked for yet. */
interface Group {
  readonly providers: readonly FolderProvider[]
  readonly waiting: Wanted[]
}

/**
 * Which provider is asked for which contents: whoever has room takes more, so the fast ones fetch most. What few
 * providers have goes first to them. No I/O.
 */
export class WorkQueue {
  readonly #groups = new Map<readonly FolderProvider[], Group>()
  /** the rarest last; empty groups are dropped when they are met, and come back with what is given back */
  readonly #groupsOf = new Map<FolderProvider, Group[]>()

  constructor(wanted: Iterable<Wanted>) {
    for (const content of wanted) {
      this.#group(content.providers).waiting.push(content)
      for (const provider of content.providers) if (!this.#groupsOf.has(provider)) this.#groupsOf.set(provider, [])
    }
    // A stack: what is listed first is taken first.
    for (const group of this.#groups.values()) group.waiting.reverse()
    const byRarity = [...this.#groups.values()].sort((a, b) => b.providers.length - a.providers.length)
    for (const group of byRarity) this.#offer(group)
  }

  get providers(): FolderProvider[] {
    return [...this.#groupsOf.keys()]
  }

  /** Contents that this provider is to be asked for now: at most `count`, and `bytes` together, but for a first one. */
  take(provider: FolderProvider, { bytes, count }: { bytes: number; count: number }): Wanted[] {
    const taken: Wanted[] = []
    const groups = this.#groupsOf.get(provider) ?? []
    for (let left = bytes; groups.length > 0 && taken.length < count; ) {
      const next = groups.at(-1)!.waiting.at(-1)
      if (!next) groups.pop()
      else if (next.size > left && taken.length > 0) break
      else {
        taken.push(next)
        left -= next.size
        groups.at(-1)!.waiting.pop()
      }
    }
    return taken
  }

  has(provider: FolderProvider): boolean {
    return this.#groupsOf.get(provider)?.some(({ waiting }) => waiting.length > 0) ?? false
  }

  /** What a provider was asked for and did not answer. */
  giveBack(contents: readonly Wanted[]): void {
    for (const content of contents) {
      const group = this.#group(content.providers)
      if (group.waiting.push(content) === 1) this.#offer(group)
    }
  }

  /** This provider can't give this content; @returns whether others may. */
  refused(content: Wanted, provider: FolderProvider): boolean {
    const providers = content.providers.filter((other) => other !== provider)
    if (!providers.some((other) => this.#groupsOf.has(other))) return false
    this.giveBack([{ ...content, providers }])
    return true
  }

  /** This provider is asked for nothing any more. */
  drop(provider: FolderProvider): void {
    this.#groupsOf.delete(provider)
  }

  /** What nobody was asked for, or nobody answered. */
  left(): Wanted[] {
    return [...this.#groups.values()].flatMap(({ waiting }) => waiting)
  }

  #group(providers: readonly FolderProvider[]): Group {
    let group = this.#groups.get(providers)
    if (!group) {
      group = { providers, waiting: [] }
      this.#groups.set(providers, group)
    }
    return group
  }

  #offer(group: Group): void {
    for (const provider of group.providers) this.#groupsOf.get(provider)?.push(group)
  }
}
