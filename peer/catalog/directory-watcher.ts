import { type FSWatcher, watch } from 'node:fs'
import { errnoOf } from '../../common/errors.ts'
import type { Logger } from '../../common/log.ts'
import type { OpenDirectory } from './open-directory.ts'

export interface DirectoryWatcherDeps {
  log: Logger
  /** Tells that something happened in the directory of this name. */
  onEvent: (directory: string) => void
  watch?: typeof watch
}

/**
 * One watch a directory, and none a file: a hundred thousand files cost no more than their folders. An event is only a
 * hint to look at the directory; where the system grants no more watches, the periodic scan has to do.
 */
export class DirectoryWatcher {
  #deps: DirectoryWatcherDeps
  #watches = new Map<string, { watcher: FSWatcher; identity: string }>()
  #exhausted = false

  constructor(deps: DirectoryWatcherDeps) {
    this.#deps = deps
  }

  /** Watches an open directory; `identity` tells whether the one that is watched by this name is still the same. */
  add(name: string, directory: OpenDirectory, identity: string): void {
    if (this.#watches.get(name)?.identity === identity) return
    this.remove(name)
    if (this.#exhausted) return
    try {
      // The watch stays with the directory itself, whatever becomes of the path and of the descriptor.
      const watcher = (this.#deps.watch ?? watch)(directory.location, { persistent: false }, (_, file) => {
        // Hidden files are not shared; partial downloads are such, and would raise events by the thousand.
        if (!file?.startsWith('.')) this.#deps.onEvent(name)
      })
      watcher.on('error', (error) => this.#failed(name, error))
      this.#watches.set(name, { watcher, identity })
    } catch (error) {
      this.#failed(name, error)
    }
  }

  remove(name: string): void {
    this.#watches.get(name)?.watcher.close()
    this.#watches.delete(name)
  }

  close(): void {
    for (const name of [...this.#watches.keys()]) this.remove(name)
  }

  #failed(name: string, error: unknown): void {
    this.remove(name)
    const code = errnoOf(error) ?? ''
    if (code === 'ENOENT') return
    if (!this.#exhausted)
      this.#deps.log.warn(
        { directory: name, err: error },
        ['ENOSPC', 'EMFILE', 'ENFILE'].includes(code)
          ? 'the system grants no more watches (fs.inotify.max_user_watches): changes are noticed by the periodic scan'
          : 'a folder can not be watched: changes are noticed by the periodic scan',
      )
    this.#exhausted = true
  }
}
