import { closeSync, fstatSync } from 'node:fs'
import { NetworkError } from '../../common/errors.ts'
import type { ContentReader } from '../transfer/contents.ts'
import { readFully } from '../transfer/file-reads.ts'
import type { CatalogFile } from './catalog-store.ts'
import { sameBytes, stampOf } from './file-stamp.ts'

/** Reads of one shared file; every read is followed by a check that the file is still the one that was hashed. */
export class FileReader implements ContentReader {
  readonly size: number
  #file: CatalogFile
  #fd: number
  #onChanged: () => void
  #reading = 0
  #closed = false

  /** Takes `fd` over. */
  constructor(file: CatalogFile, fd: number, onChanged: () => void) {
    this.size = file.size
    this.#file = file
    this.#fd = fd
    this.#onChanged = onChanged
  }

  async read(into: Uint8Array, position: number): Promise<void> {
    if (this.#closed) throw new NetworkError('internal', 'read after close')
    if (position < 0 || position + into.length > this.size)
      throw new NetworkError('invalid', `${this.#file.name} has only ${this.size} bytes`)
    this.#reading++
    try {
      const filled = await readFully(this.#fd, into, position)
      if (filled < into.length || !sameBytes(stampOf(fstatSync(this.#fd, { bigint: true })), this.#file)) {
        this.#onChanged()
        throw new NetworkError('conflict', `${this.#file.name} has changed since it was hashed: ask again later`)
      }
    } finally {
      this.#reading--
      this.#release()
    }
  }

  close(): void {
    this.#closed = true
    this.#release()
  }

  /** Not while a read is under way: the descriptor's number would soon be another file's. */
  #release(): void {
    if (!this.#closed || this.#reading > 0 || this.#fd < 0) return
    closeSync(this.#fd)
    this.#fd = -1
  }
}
