import { NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, shortId } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'
import type { Runs } from './runs.ts'

/** What the transfer machinery needs of the disk. The catalog implements both ends over the shared folder. */

/** The provider's side: contents that can be served. */
export interface Contents {
  manifest(id: ContentId): Manifest | undefined
  /** What this peer shares under the name. */
  get(name: FileName): { readonly id: ContentId } | undefined
  /**
   * @throws NetworkError `not_found`; `conflict` where the file on disk is no longer what was hashed
   */
  open(id: ContentId): ContentReader
}

/**
 * What this peer shares under a name, or of a content id.
 * @throws NetworkError `not_found`
 */
export function sharedManifest(contents: Contents, wanted: { name: FileName } | { id: ContentId }): Manifest {
  const id = 'id' in wanted ? wanted.id : contents.get(wanted.name)?.id
  const manifest = id === undefined ? undefined : contents.manifest(id)
  if (manifest) return manifest
  const what = 'id' in wanted ? `the content ${shortId(wanted.id)}…` : `"${wanted.name}"`
  throw new NetworkError('not_found', `this peer does not share ${what}`)
}

export interface ContentReader {
  /** bytes */
  readonly size: number
  /**
   * Fills `into` from `position` on, then checks that the file is still the one that was hashed.
   * @throws NetworkError `conflict` where it changed meanwhile: nothing of `into` may be used
   */
  read(into: Uint8Array, position: number): Promise<void>
  /** which pieces there are; absent: all */
  readonly holdings?: Holdings
  close(): void
}

/** What a peer has of a content that it still fetches. */
export interface Holdings {
  has(piece: number): boolean
  held(): Runs
  /** @returns how to stop listening */
  onVerified(listener: (piece: number) => void): () => void
  /**
   * Whether the piece still is on disk as it was verified: asked before it is sent.
   * @throws NetworkError where it can't be read
   */
  check(piece: number): Promise<boolean>
}

/** The taker's side: where a download lands. */
export interface Landing {
  /** What stands under `name` already; undefined where the name is free. */
  existing(name: FileName): ContentId | 'unknown' | undefined
  /**
   * Opens the hidden partial file of this content, keeping the bytes of an earlier attempt; one opener at a time.
   * @throws NetworkError `conflict` where another transfer has it open; `forbidden` in a read-only folder;
   *   `unavailable` where the disk has no room for `size` bytes
   */
  openPartial(manifest: Manifest): Promise<PartialFile>
  /** Contents of which there is a part here, with a journal: an earlier attempt was interrupted, or one is under way. */
  unfinished(): readonly ContentId[]
  /** The manifest of such a content, proven against its id; undefined where its journal has none that can be used. */
  unfinishedManifest(id: ContentId): Manifest | undefined
}

export interface PartialFile {
  /** open for reading and writing; of `manifest.size` bytes, sparse where nothing was written */
  readonly fd: number
  /** whether it was there already: bytes of an earlier attempt, which may or may not be right */
  readonly resumed: boolean
  /**
   * The journal beside it, open for reading and writing; made where it is missing. It closes and vanishes with this.
   * @throws NetworkError as `Landing.openPartial`
   */
  openJournal(): number
  /**
   * What the disk tells of it now, bytes. `held`: the room it takes; without holes at least what was written, but a file
   * system that compresses may tell less.
   * @throws NetworkError `conflict` where somebody removed it
   */
  look(): { size: number; held: number }
  /**
   * Another descriptor of the same file, only for reading. It stays valid after this is closed, published or discarded;
   * the caller closes it.
   * @throws NetworkError `conflict` where somebody removed or exchanged the file
   */
  openForReading(): number
  /**
   * Makes the whole, verified file durable and visible under `name`; never replaces another content. Then it is closed.
   * @throws NetworkError `conflict` where `name` has other content by now, or somebody removed the partial file; what is
   *   there of it stays
   */
  publish(name: FileName): Promise<void>
  /**
   * Makes a copy of the whole, verified file visible under `name`: a file of its own, which shares the room on disk where
   * the file system can do that.
   * @throws NetworkError as `publish`; `unavailable` where the disk has no room for it
   */
  copyTo(name: FileName): Promise<void>
  /** Closes it and keeps the bytes for a later attempt; after `publish`, does nothing. */
  close(): Promise<void>
  /** Closes and deletes it. */
  discard(): Promise<void>
}

/** A small file whose bytes are proven: `manifest` was made of them. */
export interface SmallFile {
  readonly name: FileName
  readonly manifest: Manifest
  readonly data: Uint8Array
}

/** What became of it: under its name now; there before, with just this content; or why it could not be put there. */
export type Shelved = 'landed' | 'here' | NetworkError

/** The taker's disk, as a folder download needs it. The catalog implements it over the shared folder. */
export interface Shelf {
  /** What is shared here under the name. */
  get(name: FileName): { readonly id: ContentId } | undefined
  /** What stands under the name on disk; undefined where the name is free. */
  existing(name: FileName): ContentId | 'unknown' | undefined
  /** @throws NetworkError `unavailable` where the disk lacks these bytes */
  reserve(bytes: number): void
  /**
   * Makes whole files durable, then visible under their names, and so shared; never replaces another content.
   * @returns what became of each, in order
   * @throws NetworkError where the disk takes no more: `unavailable`, `forbidden`. Files may have landed before.
   */
  landAll(files: readonly SmallFile[]): Promise<Shelved[]>
}
