import { randomUUID } from 'node:crypto'
import { closeSync, write } from 'node:fs'
import { promisify } from 'node:util'
import type { FileName } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import { BATCH_PREFIX } from './batch-landing.ts'
import type { FolderLanding } from './folder-landing.ts'
import type { SharedFolder } from './shared-folder.ts'

const writeAt = promisify(write)
const PREFIX = '.p2p-upload-'
/** Bytes written between two looks at the free disk space. */
const CHECK_BYTES = 16 * 1024 * 1024

export interface ReceptionDeps {
  folder: SharedFolder
  hasher: Hasher
  landing: FolderLanding
}

/** Bodies whose content is not known before they are whole: written to a hidden file, hashed, then put under a name. */
export class Reception {
  readonly #deps: ReceptionDeps

  constructor(deps: ReceptionDeps) {
    this.#deps = deps
  }

  /** Removes what was cut by the end of a process: uploads, batches. In a read-only folder nothing can be left. */
  clean(): void {
    const { folder } = this.#deps
    folder.within('', (root) => {
      for (const entry of root.entries())
        if ((entry.name.startsWith(PREFIX) || entry.name.startsWith(BATCH_PREFIX)) && entry.isFile()) {
          try {
            root.unlink(entry.name)
          } catch {
            return
          }
        }
    })
  }

  /**
   * @throws NetworkError `conflict` where the name has other content; `forbidden` in a read-only folder; `unavailable`
   *   where the disk has no room; whatever the body throws. Nothing is left behind then.
   */
  async receive(name: FileName, body: AsyncIterable<Uint8Array>): Promise<Manifest> {
    const { folder, hasher, landing } = this.#deps
    const hidden = `${PREFIX}${randomUUID()}.part`
    const fd = this.#open(hidden)
    let adopted = false
    try {
      const size = await this.#write(fd, body)
      const manifest = await hasher.hashFile(fd, size)
      const partial = landing.adopt(hidden, fd, manifest)
      adopted = true
      try {
        await partial.publish(name)
      } catch (error) {
        await partial.discard()
        throw error
      }
      return manifest
    } catch (error) {
      if (!adopted) {
        closeSync(fd)
        folder.within('', (root) => root.unlink(hidden))
      }
      throw landing.fault(error)
    }
  }

  #open(hidden: string): number {
    try {
      return this.#deps.folder.openOrCreate(hidden, true)
    } catch (error) {
      throw this.#deps.landing.fault(error)
    }
  }

  async #write(fd: number, body: AsyncIterable<Uint8Array>): Promise<number> {
    const { landing } = this.#deps
    let position = 0
    let checkAt = 0
    for await (const chunk of body) {
      if (position + chunk.length > checkAt) {
        landing.reserve(CHECK_BYTES)
        checkAt = position + chunk.length + CHECK_BYTES
      }
      for (let offset = 0; offset < chunk.length; ) {
        const { bytesWritten } = await writeAt(fd, chunk, offset, chunk.length - offset, position)
        offset += bytesWritten
        position += bytesWritten
      }
    }
    return position
  }
}
