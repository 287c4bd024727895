import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import type { NetworkEvent } from '../../common/events/event.ts'
import type { FollowBody } from '../../common/events/rest.ts'
import { type FileName, type PeerId, printable } from '../../common/ids.ts'
import { type Component, Loop } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import type { Random } from '../../common/random.ts'
import type { Catalog } from '../catalog/catalog.ts'
import type { CatalogEvent } from '../catalog/change-feed.ts'
import { ambiguous, type FolderRow, type ListedFile } from '../transfer/folder/listing.ts'
import { contentsOf, type Listers, walkDirectory } from './directory-walk.ts'
import { type FetchEnd, FollowFetches, type FollowFetchesDeps } from './follow-fetches.ts'
import type { FollowStore, Rule, SavedFile } from './follow-store.ts'
import { Followed } from './followed.ts'
import { type FollowedFile, Ledger } from './ledger.ts'
import { parsePattern } from './pattern.ts'

export interface FollowsDeps {
  store: FollowStore
  transfers: FollowFetchesDeps['transfers']
  scout: FollowFetchesDeps['scout']
  catalog: Pick<Catalog, 'get' | 'existing' | 'onChange'>
  /** whom to ask what there is: asked each time, since the friend list changes */
  listers: () => Listers
  clock: Clock
  log: Logger
  /** spreads the looks of many peers */
  random?: Random
}

export interface FollowsOptions {
  /** this peer: what it offers itself it has */
  self: PeerId
}

const DEFAULT_QUOTA = 10e9
const MAX_RULES = 100
/** Files that are under way or wait, of all rules; what is beyond is found again when there is room. */
const MAX_WANTED = 10_000
/** Files that one rule may bring, however small they are. */
const MAX_FILES = 100_000
/** Between two looks at all there is, at most. */
const LOOK_MS = 600_000
/** After one that failed. */
const LOOK_AGAIN_MS = 30_000
/** Since there is room again. */
const ROOM_MS = 1000

type Wanted = Pick<ListedFile, 'name' | 'id' | 'size'>

/**
 * Fetches what anyone offers under the patterns that the user follows, each within its quota: at once where an event
 * tells of it, and by a look at all that is offered, now and then, for what no event told of. Both lead to the same,
 * so each may be repeated. Nothing of the user's own is ever replaced or removed.
 */
export class Follows implements Component {
  readonly #deps: FollowsDeps
  readonly #self: PeerId
  readonly #followed = new Map<string, Followed>()
  readonly #ledger = new Ledger()
  readonly #fetches: FollowFetches
  readonly #looking: Loop
  readonly #fetching: Loop
  #unlisten = () => {}
  /** when to look at all there is, ms since the epoch */
  #lookDue = 0
  /** something was left out because too many wait */
  #overflowed = false

  constructor(deps: FollowsDeps, { self }: FollowsOptions) {
    const { store, clock, log, transfers, catalog, scout } = deps
    this.#deps = deps
    this.#self = self
    this.#fetches = new FollowFetches({
      transfers,
      catalog,
      scout,
      clock,
      onTurn: (name) => this.#isTurn(name),
      onEnd: (name, end) => this.#ended(name, end),
      onSize: (name, bytes) => this.#sized(name, bytes),
      onChange: () => this.#fetching.nudge(),
    })
    this.#looking = new Loop('follow', (signal) => this.#look(signal), log, {
      interval: () => Math.max(0, this.#lookDue - clock.now()),
      jitter: 0,
      clock,
    })
    this.#fetching = new Loop('follow fetches', async () => this.#fetches.tick(), log, {
      interval: () => this.#fetches.dueMs(),
      jitter: 0,
      clock,
    })
    for (const rule of store.rules()) this.#followed.set(rule.pattern, new Followed(rule))
  }

  /** The catalog has started: what it knows is known. */
  async start(): Promise<void> {
    const { store, catalog } = this.#deps
    for (const { landed, ...file } of store.files()) {
      const here = catalog.get(file.name)?.id
      if (!this.#followed.has(file.pattern) || (landed && here !== undefined && here !== file.id)) {
        store.dropFile(file.name)
        continue
      }
      const state = here === file.id ? 'here' : landed ? 'gone' : 'wanted'
      this.#ledger.put({ ...file, state })
      if (state === 'wanted') this.#fetches.add(file.name, file.id, '')
    }
    this.#unlisten = catalog.onChange((change) => this.#changed(change))
    await this.#looking.start()
    await this.#fetching.start()
  }

  async stop(): Promise<void> {
    this.#unlisten()
    await Promise.all([this.#looking.stop(), this.#fetching.stop()])
    await this.#fetches.stop()
  }

  /**
   * Fetches what matches, what there is and what will be; of a pattern that is followed already, changes the quota where
   * one is given.
   * @param quota bytes (default 10 GB, or as it was)
   * @throws NetworkError `invalid`, `limited`; `unavailable` where it can't be kept
   */
  follow(given: string, quota?: number): FollowBody {
    const { store, clock } = this.#deps
    const pattern = parsePattern(given)
    const before = this.#followed.get(pattern.text)
    if (!before && this.#followed.size >= MAX_RULES)
      throw new NetworkError('limited', `${MAX_RULES} patterns are followed already: "peer unfollow" ends one`)
    const rule: Rule = {
      pattern: pattern.text,
      quota: quota ?? before?.rule.quota ?? DEFAULT_QUOTA,
      since: before?.rule.since ?? clock.now(),
    }
    store.putRule(rule)
    const now = before ?? new Followed(rule)
    now.rule = rule
    this.#followed.set(rule.pattern, now)
    this.lookAgain()
    return this.#body(now)
  }

  /**
   * Stops fetching for it. Its files stay, and what another rule wants as well counts for that one from now on.
   * @throws NetworkError `not_found`
   */
  unfollow(given: string): void {
    const text = given.normalize('NFC')
    if (!this.#followed.has(text))
      throw new NetworkError('not_found', `"${printable(given)}" is not followed: "peer following" lists what is`)
    const { store } = this.#deps
    const files = this.#ledger.of(text)
    const others = [...this.#followed.values()].filter(({ rule }) => rule.pattern !== text)
    const next = files.map((file) => ({ file, other: others.find(({ pattern }) => pattern.matches(file.name)) }))
    store.together(() => {
      store.dropRule(text)
      for (const { file, other } of next)
        if (other) store.putFile(saved({ ...file, pattern: other.rule.pattern }))
        else store.dropFile(file.name)
    })
    this.#followed.delete(text)
    for (const { file, other } of next)
      if (other) this.#ledger.put({ ...file, pattern: other.rule.pattern })
      else {
        this.#ledger.drop(file.name)
        this.#fetches.cancel(file.name)
      }
  }

  /** In the order in which they were made. */
  list(): FollowBody[] {
    return [...this.#followed.values()].map((one) => this.#body(one))
  }

  /** What is heard, in its order; anything but news of files is passed over, and what can't be kept is found later. */
  hear(events: readonly NetworkEvent[]): void {
    if (this.#followed.size === 0) return
    const hear = () => {
      for (const { origin, type, data } of events) {
        if (origin === this.#self || (type !== 'file.added' && type !== 'file.renamed')) continue
        const { name, id, size } = data
        this.#want({ name, id, size }, origin, true)
      }
    }
    this.#keep(() => this.#deps.store.together(hear))
  }

  /** Looks at all that is offered now: events may have passed unheard, or more is wanted. */
  lookAgain(): void {
    this.#lookDue = 0
    this.#looking.nudge()
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { clock, listers, log, store, random = Math.random } = this.#deps
    if (clock.now() < this.#lookDue) return
    this.#lookDue = clock.now() + LOOK_MS * (0.9 + 0.2 * random())
    this.#overflowed = false
    for (const one of this.#followed.values()) one.short = false
    try {
      for (const folder of this.#folders())
        for await (const rows of walkDirectory(folder, listers(), signal))
          store.together(() => {
            for (const row of rows) this.#see(row)
          })
    } catch (error) {
      if (signal.aborted) return
      log.debug({ err: error }, 'what is followed could not all be listed')
      this.#lookAgainIn(LOOK_AGAIN_MS)
    }
  }

  #lookAgainIn(ms: number): void {
    const due = this.#deps.clock.now() + ms
    if (due >= this.#lookDue) return
    this.#lookDue = due
    this.#looking.nudge()
  }

  /** Those that all rules together are about; none of them is within another. */
  #folders(): (FileName | undefined)[] {
    const folders = new Set([...this.#followed.values()].map(({ pattern }) => pattern.folder))
    if (folders.has(undefined)) return [undefined]
    return [...folders].filter((inner) => ![...folders].some((outer) => inner!.startsWith(`${outer}/`)))
  }

  /** A name as the directory has it. */
  #see(row: FolderRow): void {
    const one = this.#ruleFor(row.name)
    if (!one) return
    const contents = contentsOf(row, this.#self)
    const [first] = contents
    if (!first) return
    const here = this.#deps.catalog.get(first.name)?.id
    const others = contents.filter(({ id }) => id !== here)
    if (others.length === 0) one.let(first.name)
    // Which of several is meant nobody says, but an event would.
    else if (others.length > 1 && here === undefined) one.leaveOut(first.name, ambiguous(first.name, contents))
    else this.#want(others[0]!, others[0]!.providers[0]!.peer, false)
  }

  /** `news`: it is what its provider has just said, and so in place of another content that is on its way */
  #want({ name, id, size }: Wanted, peer: string, news: boolean): void {
    const one = this.#ruleFor(name)
    if (!one) return
    const known = this.#ledger.get(name)
    const here = this.#deps.catalog.get(name)?.id ?? this.#deps.catalog.existing(name)
    if (here === id) one.let(name)
    else if (here !== undefined && here !== 'unknown') one.leaveOut(name, versionText(peer, known?.id === here))
    else if (known?.id === id) {
      if (known.state === 'gone' && here === undefined) one.leaveOut(name, DECLINED)
    } else if (known?.state !== 'wanted') this.#admit(one, { name, id, size, peer }, known)
    else if (news)
      if (this.#fetches.yields(name, peer)) this.#admit(one, { name, id, size, peer }, known)
      else one.leaveOut(name, `${printable(peer)} has another version than the one that is on its way`)
  }

  /** @param before another content under that name, which is not here */
  #admit(one: Followed, wanted: Wanted & { peer: string }, before: FollowedFile | undefined): void {
    const { peer, ...file } = wanted
    const { name, id, size } = file
    if (before) {
      this.#fetches.cancel(name)
      this.#forget(before)
    }
    const why = this.#noRoom(one, size) ?? this.#refusal(one)
    if (why === undefined) {
      this.#put({ ...file, pattern: one.rule.pattern, state: 'wanted' })
      one.let(name)
      this.#fetches.add(name, id, peer)
    } else one.leaveOut(name, why)
  }

  /** Why so many bytes more can't be fetched for a rule. */
  #noRoom(one: Followed, size: number): string | undefined {
    const { pattern, quota } = one.rule
    if (this.#ledger.used(pattern) + size <= quota) return undefined
    one.short = true
    return quotaText(size, quota)
  }

  #refusal({ rule: { pattern } }: Followed): string | undefined {
    if (this.#ledger.known(pattern) >= MAX_FILES) return `${MAX_FILES} files have come of this pattern already`
    if (this.#ledger.wanted < MAX_WANTED) return undefined
    this.#overflowed = true
    return 'many others wait to be fetched first'
  }

  /** Others of its rule may have come meanwhile. */
  #isTurn(name: FileName): boolean {
    const file = this.#ledger.get(name)
    const one = file && this.#followed.get(file.pattern)
    if (!one) return false
    const why = file.proven ? undefined : this.#noRoom(one, file.size)
    if (why !== undefined) this.#giveUp(file, why)
    return why === undefined
  }

  #sized(name: FileName, size: number): 'wanted' | 'refused' {
    const file = this.#ledger.get(name)
    const one = file && this.#followed.get(file.pattern)
    if (!one) return 'refused'
    // It landed before anybody told of its size.
    if (file.state !== 'wanted') return 'wanted'
    const before = file.proven ? file.size : 0
    if (this.#ledger.used(file.pattern) - before + size > one.rule.quota) {
      one.short = true
      this.#giveUp(
        file,
        size === file.size
          ? quotaText(size, one.rule.quota)
          : `${quotaText(size, one.rule.quota)}, though ${file.size} ${file.size === 1 ? 'was' : 'were'} told`,
      )
      return 'refused'
    }
    this.#ledger.put({ ...file, size, proven: true })
    if (size !== file.size) this.#keep(() => this.#put({ ...file, size, proven: true }))
    return 'wanted'
  }

  #ended(name: FileName, end: FetchEnd): void {
    const file = this.#ledger.get(name)
    if (!file) return
    const here = this.#deps.catalog.get(name)?.id === file.id
    if (end.outcome === 'failed') this.#giveUp(file, end.why)
    else {
      this.#keep(() => this.#put({ ...file, state: here ? 'here' : 'gone' }))
      const one = this.#followed.get(file.pattern)
      if (here) one?.let(name)
      else if (one) one.leaveOut(name, DECLINED)
    }
    // As soon as the queue is half empty, but no sooner: a look costs the Maestro more than a file does.
    if (this.#overflowed && this.#ledger.wanted <= MAX_WANTED / 2) this.#lookAgainIn(LOOK_AGAIN_MS)
  }

  /** What the user does with the files in the shared folder. */
  #changed({ added, removed }: CatalogEvent): void {
    for (const name of removed) {
      const file = this.#ledger.get(name)
      if (file?.state !== 'here') continue
      this.#ledger.put({ ...file, state: 'gone' })
      const one = this.#followed.get(file.pattern)
      // Some of what was left out may have its turn now.
      if (one?.short) this.#lookAgainIn(ROOM_MS)
    }
    for (const { name, id } of added) {
      const file = this.#ledger.get(name)
      if (!file) continue
      if (file.id === id) {
        this.#keep(() => this.#put({ ...file, state: 'here' }))
        this.#followed.get(file.pattern)?.let(name)
      } else {
        // The user's own from now on.
        this.#fetches.cancel(name)
        this.#keep(() => this.#forget(file))
      }
    }
  }

  #giveUp(file: FollowedFile, why: string): void {
    this.#keep(() => this.#forget(file))
    const one = this.#followed.get(file.pattern)
    if (!one) return
    one.leaveOut(file.name, why)
    // It took room, for which some were left out.
    if (file.proven && one.short) this.#lookAgainIn(LOOK_AGAIN_MS)
  }

  #put(file: FollowedFile): void {
    this.#deps.store.putFile(saved(file))
    this.#ledger.put(file)
  }

  #forget({ name }: FollowedFile): void {
    this.#deps.store.dropFile(name)
    this.#ledger.drop(name)
  }

  /** Nobody waits for it: where the disk refuses, it is found out again. */
  #keep(change: () => void): void {
    try {
      change()
    } catch (error) {
      this.#deps.log.warn({ err: error }, 'what was followed could not be kept')
      this.#lookAgainIn(LOOK_AGAIN_MS)
    }
  }

  #ruleFor(name: string): Followed | undefined {
    for (const one of this.#followed.values()) if (one.pattern.matches(name)) return one
    return undefined
  }

  #body(one: Followed): FollowBody {
    return one.body(this.#ledger.account(one.rule.pattern))
  }
}

const DECLINED = 'it was removed or cancelled here: "peer download" fetches it'

function saved({ name, id, size, pattern, state }: FollowedFile): SavedFile {
  return { name, id, size, pattern, landed: state !== 'wanted' }
}

function versionText(peer: string, fetched: boolean): string {
  const yours = fetched ? 'remove yours to get it' : 'yours stays, since it did not come of this'
  return `${printable(peer)} has another version: ${yours}`
}

function quotaText(size: number, quota: number): string {
  return `its ${size} bytes are more than is left of the quota of ${quota}`
}
