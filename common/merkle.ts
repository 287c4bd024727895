import { hash } from 'node:crypto'
import { NetworkError } from './errors.ts'
import { type ContentId, shortId } from './ids.ts'

/**
 * Content identity: the pieces root of BEP 52 (https://www.bittorrent.org/beps/bep_0052.html).
 * SHA-256 over 16 KiB leaves, a binary tree padded with zero hashes; the last leaf covers just the bytes there are.
 */
export const LEAF_SIZE = 16 * 1024
export const HASH_SIZE = 32
export const MIN_PIECE_SIZE = 256 * 1024
export const MAX_PIECE_SIZE = 4 * 1024 * 1024
/** The largest file that has a manifest: 1 TiB, whose 262,144 piece hashes take 8 MiB. */
export const MAX_FILE_SIZE = 2 ** 40
const AIMED_PIECES = 1024

/** SHA-256 of nothing: the content id of an empty file, which has no piece. */
export const EMPTY_ID = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855' as ContentId

/** Size, piece size and piece hashes of one content id. `hashes` holds 32 bytes a piece, in order. */
export interface Manifest {
  readonly id: ContentId
  /** bytes */
  readonly size: number
  /** bytes; the last piece may be shorter */
  readonly pieceSize: number
  readonly hashes: Buffer
}

/** Bytes a piece for a file of `size` bytes: a power of two that aims at 1,024 pieces, from 256 KiB to 4 MiB. */
export function pieceSizeFor(size: number): number {
  let pieceSize = MIN_PIECE_SIZE
  while (pieceSize < MAX_PIECE_SIZE && pieceSize * AIMED_PIECES < size) pieceSize *= 2
  return pieceSize
}

export function pieceCount(size: number, pieceSize: number): number {
  return Math.ceil(size / pieceSize)
}

/** Bytes of piece `index`. */
export function pieceLength(manifest: Pick<Manifest, 'size' | 'pieceSize'>, index: number): number {
  return Math.min(manifest.pieceSize, manifest.size - index * manifest.pieceSize)
}

export function sha256(data: Uint8Array): Buffer {
  return hash('sha256', data, 'buffer')
}

/** PAD[k] is the root of a tree of 2^k zero leaves. */
const PAD: Buffer[] = [Buffer.alloc(HASH_SIZE)]
function pad(height: number): Buffer {
  for (let k = PAD.length; k <= height; k++) PAD.push(sha256(Buffer.concat([PAD[k - 1]!, PAD[k - 1]!])))
  return PAD[height]!
}

/** Hashes of one step: two milliseconds. */
const STEP = 4096

/**
 * Root over `hashes` (32 bytes each, overwritten), each the root of a subtree of `height`, padded to 2^`levels` of them.
 * In steps, since those of the largest content take a seventh of a second.
 */
function* folding(hashes: Buffer, height: number, levels: number): Generator<undefined, Buffer> {
  let count = hashes.length / HASH_SIZE
  let hashed = 0
  for (let level = 0; level < levels; level++) {
    const next = Math.ceil(count / 2)
    for (let i = 0; i < next; i++) {
      const left = hashes.subarray(2 * i * HASH_SIZE, (2 * i + 1) * HASH_SIZE)
      const parent =
        2 * i + 1 < count
          ? hash('sha256', hashes.subarray(2 * i * HASH_SIZE, (2 * i + 2) * HASH_SIZE), 'hex')
          : hash('sha256', Buffer.concat([left, pad(height + level)]), 'hex')
      hashes.write(parent, i * HASH_SIZE, 'hex')
      if (++hashed % STEP === 0) yield
    }
    count = next
  }
  return Buffer.from(hashes.subarray(0, HASH_SIZE))
}

function fold(hashes: Buffer, height: number, levels: number): Buffer {
  return atOnce(folding(hashes, height, levels))
}

function atOnce<T>(steps: Generator<undefined, T>): T {
  let step = steps.next()
  while (!step.done) step = steps.next()
  return step.value
}

/** Levels of the smallest binary tree that holds `n` leaves. */
function levelsOf(n: number): number {
  return n <= 1 ? 0 : Math.ceil(Math.log2(n))
}

/** Appends the leaf hashes of `data`, which begins at a leaf's start, to `leaves` from leaf number `at`. */
export function hashLeaves(data: Uint8Array, leaves: Buffer, at: number): number {
  for (let offset = 0; offset < data.length; offset += LEAF_SIZE)
    // By way of hex here and above, because that allocates no memory outside the heap: a Buffer a leaf is a fifth slower.
    leaves.write(hash('sha256', data.subarray(offset, offset + LEAF_SIZE), 'hex'), at++ * HASH_SIZE, 'hex')
  return at
}

/**
 * The hash of one piece from its leaf hashes (`leaves` is overwritten). A file of one piece has no taller tree than
 * its leaves need; a piece among several is padded to the full piece.
 */
export function pieceHash(leaves: Buffer, pieceSize: number, onlyPiece: boolean): Buffer {
  const count = leaves.length / HASH_SIZE
  return fold(leaves, 0, onlyPiece ? levelsOf(count) : Math.log2(pieceSize / LEAF_SIZE))
}

/** The content id over piece hashes (32 bytes each). */
export function rootOf(hashes: Buffer, pieceSize: number): ContentId {
  return atOnce(findingRoot(hashes, pieceSize))
}

function* findingRoot(hashes: Buffer, pieceSize: number): Generator<undefined, ContentId> {
  const count = hashes.length / HASH_SIZE
  if (count === 0) return EMPTY_ID
  const height = Math.log2(pieceSize / LEAF_SIZE)
  const root = yield* folding(Buffer.from(hashes), height, levelsOf(count))
  return root.toString('hex') as ContentId
}

type Claim = { readonly size: number; readonly pieceSize: number; readonly hashes: Uint8Array }

/**
 * A manifest from a stranger, proven against the content id.
 * @throws NetworkError `corrupt` where it does not lead to `id`, or its numbers can't be
 */
export function proveManifest(id: ContentId, claim: Claim): Manifest {
  return atOnce(provingManifest(id, claim))
}

/** The same in steps of two milliseconds. */
export function* provingManifest(id: ContentId, claim: Claim): Generator<undefined, Manifest> {
  const { size, pieceSize } = claim
  const corrupt = (what: string) => new NetworkError('corrupt', `a false manifest for ${shortId(id)}…: ${what}`)
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_FILE_SIZE) throw corrupt('impossible size')
  if (pieceSize !== pieceSizeFor(size)) throw corrupt('wrong piece size')
  if (claim.hashes.length !== pieceCount(size, pieceSize) * HASH_SIZE) throw corrupt('wrong number of piece hashes')
  const hashes = Buffer.from(claim.hashes)
  if ((yield* findingRoot(hashes, pieceSize)) !== id) throw corrupt('its hashes are not of this content')
  return { id, size, pieceSize, hashes }
}

/** The content id of bytes in memory; files are hashed off the event loop, by a Hasher. */
export function contentIdOf(data: Uint8Array): ContentId {
  return manifestOf(data).id
}

/** The manifest of bytes in memory. */
export function manifestOf(data: Uint8Array): Manifest {
  const pieceSize = pieceSizeFor(data.length)
  const count = pieceCount(data.length, pieceSize)
  const hashes = Buffer.alloc(count * HASH_SIZE)
  for (let i = 0; i < count; i++) {
    const piece = data.subarray(i * pieceSize, (i + 1) * pieceSize)
    const leaves = Buffer.alloc(Math.ceil(piece.length / LEAF_SIZE) * HASH_SIZE)
    hashLeaves(piece, leaves, 0)
    pieceHash(leaves, pieceSize, count === 1).copy(hashes, i * HASH_SIZE)
  }
  return { id: rootOf(hashes, pieceSize), size: data.length, pieceSize, hashes }
}
