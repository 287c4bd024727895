import type { watch } from 'node:fs'
import { LRUCache } from 'lru-cache'
import type { Clock } from '../../common/clock.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import { type Component, Loop } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import type { CatalogFile, CatalogStore } from './catalog-store.ts'
import type { ChangeFeed } from './change-feed.ts'
import { DirectoryWatcher } from './directory-watcher.ts'
import { sameBytes, stampKey, untouched } from './file-stamp.ts'
import { HashQueue } from './hash-queue.ts'
import { Pace } from './pace.ts'
import { type FoundFile, Scanner } from './scanner.ts'
import { type SharedFolder, split } from './shared-folder.ts'

export interface FolderTrackerDeps {
  folder: SharedFolder
  store: CatalogStore
  feed: ChangeFeed
  hasher: Hasher
  clock: Clock
  log: Logger
  /** How a directory is watched (default: fs.watch). */
  watch?: typeof watch
}

export interface FolderTrackerOptions {
  /** how long a file must have been left alone before it is hashed, and events are gathered, ms */
  settleMs: number
  /** seconds between whole scans */
  rescanS: number
}

/** Hashed files are announced this often at the latest, or this many at a time, ms. */
const FLUSH_MS = 250
const FLUSH_FILES = 1000
/** Between two lines in the log, and two tries at what failed, ms. */
const PATIENCE_MS = 10_000
/** Files whose content is still known some time after they vanished, since a move shows as two events. */
const REMEMBERED_VANISHED = 10_000

/**
 * Keeps the store equal to the shared folder. The folder is the truth: a scan compares it with what is known, and
 * watching only tells where to look. What is new or changed is hashed; what was moved keeps its content id.
 */
export class FolderTracker implements Component {
  #deps: FolderTrackerDeps
  #options: FolderTrackerOptions
  #watcher: DirectoryWatcher
  #scanner: Scanner
  #queue: HashQueue
  #loop: Loop
  #vanished = new LRUCache<string, ContentId>({ max: REMEMBERED_VANISHED })
  /** Hashed, and about to be committed. */
  #results = new Map<FileName, { file: FoundFile; manifest: Manifest }>()
  #hashed = 0
  #rescanAt = 0
  #flushAt = Number.POSITIVE_INFINITY
  #progressAt = Number.POSITIVE_INFINITY
  #ticking: Promise<void> = Promise.resolve()
  #stopping = new AbortController()
  #scanning = true
  #ready: Promise<void>
  #isReady: () => void = () => {}

  constructor(deps: FolderTrackerDeps, options: FolderTrackerOptions) {
    this.#deps = deps
    this.#options = options
    const { clock, log } = deps
    this.#watcher = new DirectoryWatcher({ ...deps, onEvent: (directory) => this.#suspect(directory, false) })
    this.#scanner = new Scanner({ ...deps, watcher: this.#watcher }, { debounceMs: options.settleMs })
    this.#queue = new HashQueue(
      {
        ...deps,
        onHashed: (file, manifest) => this.#gather(file, manifest),
        onChanged: (name) => this.#suspect(split(name).parent, true),
        onRefused: (name) => this.#attempt(() => deps.feed.commit([name], [], [])),
        onDrained: () => this.#flush(),
      },
      { settleMs: options.settleMs },
    )
    this.#loop = new Loop('catalog', () => this.tick(), log, { interval: () => this.#pause(), jitter: 0, clock })
    this.#ready = new Promise((resolve) => {
      this.#isReady = resolve
    })
  }

  async start(): Promise<void> {
    for (const file of this.#deps.store.files()) this.#scanner.add(file.name, file.path)
    await this.#loop.start()
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await this.#loop.stop()
    await this.#ticking
    await this.#queue.close()
    this.#flush()
    this.#watcher.close()
    this.#isReady()
  }

  /** Whether the first scan is still under way. */
  get scanning(): boolean {
    return this.#scanning
  }

  /** Files hashed since the start. */
  get hashed(): number {
    return this.#hashed
  }

  /** Files whose content id is not known yet. */
  get unhashed(): number {
    return this.#queue.size
  }

  /** Resolves when the first scan is done; files may still be waiting to be hashed. */
  ready(): Promise<void> {
    return this.#ready
  }

  /** Scans everything now; resolves when all that was seen is hashed, but for files that keep changing. */
  async refresh(): Promise<void> {
    this.#rescanAt = 0
    await this.tick()
    this.#loop.nudge()
    await this.#queue.settled()
    this.#flush()
  }

  /** Where a file of this name is, or would be, on disk. */
  pathOf(name: FileName): string {
    return this.#scanner.pathOf(name)
  }

  /**
   * A file that can't be served as what it was: nobody is told to come for it any more.
   * @param moved whether its bytes may still be somewhere, under another name
   */
  withdraw(file: CatalogFile, moved: boolean): void {
    const { store, feed } = this.#deps
    if (store.get(file.name) === file) {
      if (moved) this.#vanished.set(stampKey(file), file.id)
      this.#attempt(() => feed.commit([file.name], [], []))
    }
    this.#suspect(split(file.name).parent, true)
  }

  /** Downloads of known contents are in their places: one batch of changes. */
  adopt(files: readonly CatalogFile[], manifests: readonly Manifest[]): void {
    for (const { name } of files) {
      this.#queue.drop(name)
      this.#results.delete(name)
    }
    this.#attempt(() => {
      this.#deps.feed.commit([], files, manifests)
      for (const { name, path } of files) this.#scanner.add(name, path)
    })
  }

  /** Scans what is due, starts on files that have settled, and commits what was hashed. */
  tick(): Promise<void> {
    const ticked = this.#ticking.then(() => this.#tick())
    this.#ticking = ticked.catch(() => {})
    return ticked
  }

  async #tick(): Promise<void> {
    const { clock, store, log } = this.#deps
    const began = clock.now()
    this.#report()
    if (began >= this.#rescanAt) {
      this.#rescanAt = began + this.#options.rescanS * 1000
      this.#scanner.markAll()
      this.#queue.retryRefused()
      store.prune(new Set(this.#vanished.values()))
    }
    if (this.#scanner.due <= began) await this.#scan()
    this.#queue.start()
    if (clock.now() >= this.#flushAt) this.#flush()
    if (this.#scanning && !this.#stopping.signal.aborted) {
      this.#scanning = false
      log.info(
        { files: store.size, to_hash: this.unhashed, ms: clock.now() - began },
        'the shared folder has been scanned',
      )
      this.#isReady()
    }
  }

  #pause(): number {
    const due = Math.min(this.#scanner.due, this.#queue.due, this.#flushAt, this.#rescanAt, this.#progressAt)
    return Math.max(0, due - this.#deps.clock.now())
  }

  async #scan(): Promise<void> {
    const { store, feed } = this.#deps
    const removed = new Map<FileName, CatalogFile>()
    const fresh = new Map<FileName, FoundFile>()
    const moved = new Map<CatalogFile, CatalogFile>()
    const withdraw = (name: FileName) => {
      const known = store.get(name)
      if (known) removed.set(name, known)
      this.#queue.drop(name)
      this.#results.delete(name)
    }
    await this.#scanner.scan(
      {
        found: (file) => {
          if (this.#isKnown(file)) return
          const known = store.get(file.name)
          if (!known) fresh.set(file.name, file)
          else if (!sameBytes(known, file)) {
            withdraw(file.name)
            fresh.set(file.name, file)
          }
          // Bytes can be changed under a forged mtime, but not without a new ctime: so these are hashed once more.
          else if (known.ctimeNs !== file.ctimeNs) fresh.set(file.name, file)
          else moved.set(known, { ...file, id: known.id })
        },
        gone: (name) => {
          fresh.delete(name)
          withdraw(name)
        },
      },
      this.#stopping.signal,
    )
    for (const file of removed.values()) {
      // Bytes that were changed in place are nowhere else, whatever its times may be set to afterwards.
      const stays = fresh.get(file.name)?.inode === file.inode
      if (!stays) this.#vanished.set(stampKey(file), file.id)
    }
    const { renamed, unknown } = await this.#sort(fresh, removed)
    // Since a file was looked at, a download may have taken its name, or a reader withdrawn it.
    const stands = (file: CatalogFile) => store.get(file.name) === file
    try {
      store.touch([...moved].filter(([file]) => stands(file)).map(([, next]) => next))
      feed.commit(
        [...removed.values()].filter(stands).map(({ name }) => name),
        renamed,
        [],
      )
    } catch (error) {
      // Nothing is forgotten: the next whole scan finds all of it again.
      for (const file of removed.values()) this.#scanner.add(file.name, file.path)
      this.#rescanAt = Math.min(this.#rescanAt, this.#deps.clock.now() + PATIENCE_MS)
      throw error
    }
    for (const { name } of renamed) this.#queue.drop(name)
    for (const file of unknown) if (!this.#isKnown(file)) this.#queue.offer(file)
  }

  #isKnown(file: FoundFile): boolean {
    const known = this.#results.get(file.name)?.file ?? this.#deps.store.get(file.name)
    return known !== undefined && known.path === file.path && known.dev === file.dev && untouched(known, file)
  }

  /** Tells the files whose content is known under another name from those that have to be hashed. */
  async #sort(
    fresh: ReadonlyMap<FileName, FoundFile>,
    removed: ReadonlyMap<FileName, CatalogFile>,
  ): Promise<{ renamed: CatalogFile[]; unknown: FoundFile[] }> {
    const { store } = this.#deps
    const renamed: CatalogFile[] = []
    const unknown: FoundFile[] = []
    const pace = new Pace()
    for (const file of fresh.values()) {
      await pace.step()
      // One that stands under its own name would only meet itself.
      const stands = store.get(file.name) && !removed.has(file.name)
      const id = stands ? undefined : (this.#vanished.get(stampKey(file)) ?? store.contentOfFile(file))
      if (id && store.hasContent(id)) renamed.push({ ...file, id })
      else unknown.push(file)
    }
    return { renamed, unknown }
  }

  /** Something in this directory isn't as it was. */
  #suspect(directory: string, atOnce: boolean): void {
    this.#scanner.mark(directory, atOnce)
    this.#loop.nudge()
  }

  /** A file was hashed: announced with others, soon. */
  #gather(file: FoundFile, manifest: Manifest): void {
    this.#hashed++
    this.#results.set(file.name, { file, manifest })
    if (this.#results.size >= FLUSH_FILES) this.#flush()
    else if (this.#results.size === 1) {
      this.#flushAt = this.#deps.clock.now() + FLUSH_MS
      this.#loop.nudge()
    }
  }

  #flush(): void {
    this.#flushAt = Number.POSITIVE_INFINITY
    if (this.#results.size === 0) return
    const { store, feed, clock } = this.#deps
    const stays: CatalogFile[] = []
    const put: CatalogFile[] = []
    const manifests: Manifest[] = []
    for (const { file, manifest } of this.#results.values()) {
      manifests.push(manifest)
      ;(store.get(file.name)?.id === manifest.id ? stays : put).push({ ...file, id: manifest.id })
    }
    this.#attempt(() => {
      store.touch(stays)
      feed.commit([], put, manifests)
      this.#results.clear()
    })
    if (this.#results.size > 0) this.#flushAt = clock.now() + PATIENCE_MS
  }

  /** What fails here is tried again later, or found by a scan. */
  #attempt(run: () => void): void {
    try {
      run()
    } catch (error) {
      this.#deps.log.warn({ err: error }, 'the catalog could not be changed now')
    }
  }

  #report(): void {
    const { clock, log, store } = this.#deps
    const now = clock.now()
    if (this.unhashed === 0) this.#progressAt = Number.POSITIVE_INFINITY
    else if (this.#progressAt === Number.POSITIVE_INFINITY) this.#progressAt = now + PATIENCE_MS
    else if (now >= this.#progressAt) {
      this.#progressAt = now + PATIENCE_MS
      log.info({ hashed: this.#hashed, to_hash: this.unhashed, shared: store.size }, 'files are being hashed')
    }
  }
}
