import type { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { Manifest } from '../../common/merkle.ts'

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
