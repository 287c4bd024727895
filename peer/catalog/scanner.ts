import type { BigIntStats, Dirent } from 'node:fs'
import type { Clock } from '../../common/clock.ts'
import { errnoOf } from '../../common/errors.ts'
import { type FileName, isFileName, printable } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import type { DirectoryWatcher } from './directory-watcher.ts'
import { type FileStamp, stampOf } from './file-stamp.ts'
import { isAbsent, type OpenDirectory } from './open-directory.ts'
import { Pace } from './pace.ts'
import { join, type SharedFolder, split } from './shared-folder.ts'

/** A regular file with a name that can be shared, as the scan saw it. */
export interface FoundFile extends FileStamp {
  readonly name: FileName
  readonly path: string
}

/** Told while the scan runs; what it says is true at that moment. */
export interface ScanListener {
  found(file: FoundFile): void
  gone(name: FileName): void
}

export interface ScannerDeps {
  folder: SharedFolder
  watcher: DirectoryWatcher
  clock: Clock
  log: Logger
}

export interface ScannerOptions {
  /** how long after the first event a directory is looked at, so that many events make one scan, ms */
  debounceMs: number
}

/** What is known of one directory. `''` is the name of the shared folder itself. */
interface Node {
  readonly name: string
  /** as on disk */
  path: string
  /** device and inode; undefined until it was scanned */
  identity: string | undefined
  readonly files: Set<FileName>
  readonly children: Set<string>
  /** how long its last scan took and when that ended, ms */
  lastScan: { took: number; ended: number }
}

interface Dirty {
  /** not to be scanned before this time, ms */
  due: number
  /** with everything below it */
  deep: boolean
}

/** A directory is scanned at most a tenth of the time, however fast it changes and however large it is. */
const REST_AFTER_SCAN = 9
/** A time that is past for every tick, the running one too. */
const AT_ONCE = 0
const MAX_WARNINGS = 1000

/**
 * Compares the shared folder with what was found before, one dirty directory at a time. A directory is watched before
 * it is read, so that no change falls between.
 */
export class Scanner {
  #deps: ScannerDeps
  #options: ScannerOptions
  #nodes = new Map<string, Node>()
  #dirty = new Map<string, Dirty>()
  #warned = new Set<string>()

  constructor(deps: ScannerDeps, options: ScannerOptions) {
    this.#deps = deps
    this.#options = options
    this.#node('', '')
  }

  /** Something may have changed in this directory. */
  mark(directory: string, atOnce = false): void {
    const node = this.#nodes.get(directory)
    if (!node) return
    const now = this.#deps.clock.now()
    const rested = node.lastScan.ended + REST_AFTER_SCAN * node.lastScan.took
    const due = atOnce ? AT_ONCE : Math.max(now + this.#options.debounceMs, rested)
    const dirty = this.#dirty.get(directory)
    this.#dirty.set(directory, { due: Math.min(due, dirty?.due ?? due), deep: dirty?.deep ?? false })
  }

  /** Something may have changed anywhere. */
  markAll(): void {
    this.#dirty.set('', { due: AT_ONCE, deep: true })
  }

  /** When the next directory wants to be scanned, ms; Infinity where none does. */
  get due(): number {
    let due = Number.POSITIVE_INFINITY
    for (const dirty of this.#dirty.values()) due = Math.min(due, dirty.due)
    return due
  }

  /** Takes a file as found: one remembered from the last run, or just downloaded. */
  add(name: FileName, path: string): void {
    this.#node(split(name).parent, split(path).parent).files.add(name)
  }

  /** Where a file of this name is, or would be, on disk: in the directory that is shared under its parent's name. */
  pathOf(name: FileName): string {
    let { parent } = split(name)
    while (!this.#nodes.has(parent)) parent = split(parent).parent
    return join(this.#nodes.get(parent)!.path, parent === '' ? name : name.slice(parent.length + 1))
  }

  /** Scans every directory that is due, and new ones below. */
  async scan(listener: ScanListener, signal: AbortSignal): Promise<void> {
    const now = this.#deps.clock.now()
    const queue = [...this.#dirty].filter(([, dirty]) => dirty.due <= now)
    const pace = new Pace()
    for (let next = queue.pop(); next && !signal.aborted; next = queue.pop()) {
      const [name, { deep }] = next
      this.#dirty.delete(name)
      const node = this.#nodes.get(name)
      if (!node) continue
      const began = this.#deps.clock.now()
      for (const child of await this.#scanDirectory(node, deep, listener, pace))
        queue.push([child, { due: AT_ONCE, deep: true }])
      const ended = this.#deps.clock.now()
      node.lastScan = { took: ended - began, ended }
    }
    for (const [name, dirty] of queue) this.#dirty.set(name, dirty)
  }

  /** @returns the directories below that are to be scanned too */
  async #scanDirectory(node: Node, deep: boolean, listener: ScanListener, pace: Pace): Promise<string[]> {
    const { folder, watcher, log } = this.#deps
    try {
      const directory = folder.directory(node.path)
      try {
        node.identity = identityOf(directory.stat())
        watcher.add(node.name, directory, node.identity)
        return await this.#compare(node, directory, deep, listener, pace)
      } finally {
        directory.close()
      }
    } catch (error) {
      if (isUnreachable(error)) {
        if (node.name === '') this.#warn(folder.path, 'the shared folder is gone: nothing is shared until it is back')
        else if (errnoOf(error) === 'EACCES') this.#warn(node.path, 'a folder may not be read: not shared')
        this.#drop(node, listener)
      } else log.warn({ directory: node.path, err: error }, 'a folder can not be read now: its files stay as they were')
      return []
    }
  }

  async #compare(
    node: Node,
    directory: OpenDirectory,
    deep: boolean,
    listener: ScanListener,
    pace: Pace,
  ): Promise<string[]> {
    const files = new Set<string>()
    const children = new Set<string>()
    const below: string[] = []
    for (const entry of composedFirst(directory.entries())) {
      await pace.step()
      if (!(entry.isFile() || entry.isDirectory())) continue
      const name = this.#shareable(node, entry.name)
      if (name === undefined) continue
      const path = join(node.path, entry.name)
      if (files.has(name) || children.has(name)) {
        this.#warn(path, 'two names differ only in their Unicode form: one of them is ignored')
        continue
      }
      const stats = lstat(directory, entry.name)
      if (stats?.isFile()) {
        files.add(name)
        node.files.add(name)
        listener.found({ name, path, ...stampOf(stats) })
      } else if (stats?.isDirectory()) {
        children.add(name)
        const child = this.#node(name, path)
        if (deep || child.identity !== identityOf(stats)) below.push(name)
      }
    }
    // What was added after the names were read is not gone: so ask once more.
    for (const name of node.files)
      if (!files.has(name) && !lstat(directory, split(name).name)?.isFile()) {
        node.files.delete(name)
        listener.gone(name)
      }
    for (const name of node.children)
      if (!children.has(name) && !lstat(directory, split(name).name)?.isDirectory())
        this.#drop(this.#nodes.get(name)!, listener)
    return below
  }

  /** The name under which an entry is shared; undefined where it isn't. */
  #shareable(node: Node, entry: string): FileName | undefined {
    if (entry.startsWith('.')) return undefined
    const name = join(node.name, entry.normalize('NFC'))
    if (isFileName(name)) return name
    this.#warn(join(node.path, entry), 'a name that can not be shared: ignored; rename it to share it')
    return undefined
  }

  /** Forgets a directory and all below it. */
  #drop(node: Node, listener: ScanListener): void {
    this.#deps.watcher.remove(node.name)
    this.#dirty.delete(node.name)
    node.identity = undefined
    for (const child of node.children) this.#drop(this.#nodes.get(child)!, listener)
    for (const name of node.files) listener.gone(name)
    node.files.clear()
    if (node.name === '') return
    this.#nodes.delete(node.name)
    this.#nodes.get(split(node.name).parent)?.children.delete(node.name)
  }

  /** The node of a directory, made with those above it where it is new. */
  #node(name: string, path: string): Node {
    let node = this.#nodes.get(name)
    if (!node) {
      node = {
        name,
        path,
        identity: undefined,
        files: new Set(),
        children: new Set(),
        lastScan: { took: 0, ended: 0 },
      }
      this.#nodes.set(name, node)
      if (name !== '') this.#node(split(name).parent, split(path).parent).children.add(name)
    }
    node.path = path
    return node
  }

  /** Says it once for each path. */
  #warn(path: string, sentence: string): void {
    if (this.#warned.has(path) || this.#warned.size >= MAX_WARNINGS) return
    this.#warned.add(path)
    this.#deps.log.warn({ path: printable(path) }, sentence)
  }
}

/** Names in composed form first: where two entries differ in nothing else, that one is shared. */
function composedFirst(entries: Dirent[]): Dirent[] {
  const decomposed = entries.filter(({ name }) => name.normalize('NFC') !== name)
  if (decomposed.length === 0) return entries
  const composed = entries.filter(({ name }) => name.normalize('NFC') === name)
  return [...composed, ...decomposed.sort((a, b) => (a.name < b.name ? -1 : 1))]
}

function lstat(directory: OpenDirectory, component: string): BigIntStats | undefined {
  try {
    return directory.lstat(component)
  } catch (error) {
    if (isUnreachable(error)) return undefined
    throw error
  }
}

/** Whether nobody could be served from there. Other errors may pass, so they are no reason to withdraw anything. */
function isUnreachable(error: unknown): boolean {
  return isAbsent(error) || errnoOf(error) === 'EACCES'
}

function identityOf(stats: BigIntStats): string {
  return `${stats.dev}:${stats.ino}:${stats.birthtimeNs}`
}
