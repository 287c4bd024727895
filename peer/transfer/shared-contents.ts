import { closeSync } from 'node:fs'
import { NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, shortId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { ContentReader, Contents, Holdings } from './contents.ts'
import { readFully } from './file-reads.ts'
import type { PieceStore } from './piece-store.ts'
import type { Runs } from './runs.ts'

/** What this peer can serve: whole files that it shares, and of those that it still fetches what is verified. */
export class SharedContents implements Contents {
  readonly #shared: Contents
  readonly #fetched = new Map<ContentId, { store: PieceStore; left: Promise<void> }>()

  constructor(shared: Contents) {
    this.#shared = shared
  }

  /**
   * Serves the pieces of a running download too, each from the moment in which it is verified.
   * @returns how to end that: conversations then go on with the whole file, if there is one
   */
  serve(store: PieceStore): () => void {
    const { id } = store.manifest
    let leave = () => {}
    const left = new Promise<void>((resolve) => {
      leave = resolve
    })
    this.#fetched.set(id, { store, left })
    return () => {
      if (this.#fetched.get(id)?.store === store) this.#fetched.delete(id)
      leave()
    }
  }

  manifest(id: ContentId): Manifest | undefined {
    return this.#shared.manifest(id) ?? this.#fetched.get(id)?.store.manifest
  }

  get(name: FileName): { readonly id: ContentId } | undefined {
    return this.#shared.get(name)
  }

  /** What is here of a content that is still being fetched; undefined where none is. */
  partial(id: ContentId): { manifest: Manifest; pieces: Runs } | undefined {
    const store = this.#fetched.get(id)?.store
    return store && { manifest: store.manifest, pieces: store.held() }
  }

  open(id: ContentId): ContentReader {
    const fetched = this.#fetched.get(id)
    if (!fetched || this.#shared.manifest(id)) return this.#shared.open(id)
    return new PartialReader(fetched.store, fetched.left, () => this.#shared.open(id))
  }
}

/** Reads of a file that is not whole yet, by a descriptor of its own; of the whole file, once it is. */
class PartialReader implements ContentReader, Holdings {
  readonly size: number
  readonly holdings = this
  readonly #store: PieceStore
  readonly #left: Promise<void>
  readonly #open: () => ContentReader
  #whole: ContentReader | undefined
  #fd: number
  #reading = 0
  #closed = false

  constructor(store: PieceStore, left: Promise<void>, open: () => ContentReader) {
    this.size = store.manifest.size
    this.#store = store
    this.#left = left
    this.#open = open
    this.#fd = store.openForReading()
    void left.then(() => this.#goOn())
  }

  has(piece: number): boolean {
    return this.#whole !== undefined || this.#store.has(piece)
  }

  held(): Runs {
    return this.#store.held()
  }

  onVerified(listener: (piece: number) => void): () => void {
    return this.#store.onVerified(listener)
  }

  async check(piece: number): Promise<boolean> {
    if (this.#whole) return true
    try {
      return await this.#store.check(piece)
    } catch (error) {
      if (!(error instanceof NetworkError) || error.code !== 'cancelled') throw error
    }
    // The download has just ended: with the file in its place, or without.
    await this.#left
    this.#goOn()
    if (!this.#whole) throw new NetworkError('not_found', `${shortId(this.#store.manifest.id)}… is not shared here now`)
    return true
  }

  async read(into: Uint8Array, position: number): Promise<void> {
    if (this.#whole) return this.#whole.read(into, position)
    if (this.#closed) throw new NetworkError('internal', 'read after close')
    this.#reading++
    try {
      if ((await readFully(this.#fd, into, position)) < into.length)
        throw new NetworkError('conflict', 'the file became shorter while it was served')
    } finally {
      this.#reading--
      this.#release()
    }
  }

  close(): void {
    this.#closed = true
    this.#whole?.close()
    this.#release()
  }

  #goOn(): void {
    if (this.#whole || this.#closed) return
    try {
      this.#whole = this.#open()
    } catch {
      // It was paused, or failed: there is nothing more to serve.
    }
  }

  /** Not while a read is under way: the descriptor's number would soon be another file's. */
  #release(): void {
    if (!this.#closed || this.#reading > 0 || this.#fd < 0) return
    closeSync(this.#fd)
    this.#fd = -1
  }
}
