import type { FileName } from '../../common/ids.ts'
import { type Manifest, pieceCount, pieceLength } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import type { Landing, PartialFile } from './contents.ts'

export interface PieceStoreDeps {
  landing: Landing
  hasher: Hasher
}

/**
 * The taker's disk side of one content: which pieces are there, and how one more gets there. A piece counts only if its
 * bytes on disk were verified by this process: on resume all of them are read and hashed again, nothing else is trusted.
 */
export class PieceStore {
  readonly manifest: Manifest
  /** bytes that were found right on disk at open */
  readonly resumedBytes: number
  #file: PartialFile
  #hasher: Hasher
  #verified: boolean[]
  #left: number
  #commits = new Set<Promise<unknown>>()

  /**
   * @throws NetworkError as `Landing.openPartial`; `cancelled`
   */
  static async open(deps: PieceStoreDeps, manifest: Manifest, signal: AbortSignal): Promise<PieceStore> {
    const file = await deps.landing.openPartial(manifest)
    try {
      const count = pieceCount(manifest.size, manifest.pieceSize)
      const verified = file.resumed
        ? await deps.hasher.verifyFile(file.fd, manifest, signal)
        : new Array<boolean>(count).fill(false)
      return new PieceStore(deps.hasher, manifest, file, verified)
    } catch (error) {
      await file.close()
      throw error
    }
  }

  private constructor(hasher: Hasher, manifest: Manifest, file: PartialFile, verified: boolean[]) {
    this.manifest = manifest
    this.#hasher = hasher
    this.#file = file
    this.#verified = verified
    this.#left = verified.filter((ok) => !ok).length
    let bytes = 0
    for (const [index, ok] of verified.entries()) if (ok) bytes += pieceLength(manifest, index)
    this.resumedBytes = bytes
  }

  get complete(): boolean {
    return this.#left === 0
  }

  /** Nothing verified is in it. */
  get blank(): boolean {
    return this.#left > 0 && this.#left === this.#verified.length
  }

  missing(): number[] {
    return [...this.#verified.keys()].filter((index) => !this.#verified[index])
  }

  /**
   * Verifies a piece and writes it, both off this thread. The memory of `parts` is given away.
   * @returns whether it was right; only then is it written
   * @throws NetworkError `unavailable` where the disk is full
   */
  async commit(index: number, parts: Uint8Array[]): Promise<boolean> {
    const commit = this.#hasher.commitPiece(this.#file.fd, this.manifest, index, parts)
    this.#commits.add(commit)
    try {
      const right = await commit
      if (right && !this.#verified[index]) {
        this.#verified[index] = true
        this.#left--
      }
      return right
    } finally {
      this.#commits.delete(commit)
    }
  }

  /**
   * Makes the file visible under `name`. Only a complete store can be published.
   * @throws NetworkError as `PartialFile.publish`
   */
  async publish(name: FileName): Promise<void> {
    if (!this.complete) throw new Error(`${this.#left} pieces are missing`)
    await this.#file.publish(name)
  }

  async close(): Promise<void> {
    await this.#settled()
    await this.#file.close()
  }

  async discard(): Promise<void> {
    await this.#settled()
    await this.#file.discard()
  }

  /** A worker must not write to a descriptor that was closed: its number may belong to another file by then. */
  async #settled(): Promise<void> {
    await Promise.allSettled(this.#commits)
  }
}
