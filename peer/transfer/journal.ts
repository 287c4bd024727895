import { fstatSync, ftruncateSync, readSync, writeSync } from 'node:fs'
import { crc32 } from 'node:zlib'
import type { ContentId } from '../../common/ids.ts'
import {
  HASH_SIZE,
  MAX_FILE_SIZE,
  type Manifest,
  pieceCount,
  pieceSizeFor,
  proveManifest,
} from '../../common/merkle.ts'

/**
 * The file that tells which pieces of an unfinished content were verified and written. Integers are little-endian:
 *
 *     0   8 bytes of magic, the last one the version
 *     8  32 bytes: the content id
 *    40  u64: size, bytes
 *    48  u32: piece size, bytes
 *    52  u32: CRC-32 of all that is before it and of the piece hashes
 *    56  32 bytes a piece: the piece hashes
 *     …  8 bytes a verified piece: u32 its index, u32 CRC-32 of that, begun with the CRC-32 before it
 *
 * It is only ever appended to, and the checksums are a chain: a record that was torn, is of another content or stands in
 * another place ends what is believed. A record's bytes lie in one page of memory, so that a process that is killed
 * leaves all of them or none.
 */
const MAGIC = Buffer.from('p2pjrnl\x01', 'latin1')
const HEAD_SIZE = 56
const CHECKSUM_AT = 52
const RECORD_SIZE = 8

/** What is appended to. Not more than one record a piece, however often it is lost and verified again. */
export class Journal {
  /** as found when it was opened, and was right so far */
  readonly found: readonly number[]
  /** It was this content's, and ended where a record ends: nothing says that more had been in it. */
  readonly intact: boolean
  #fd: number
  #recorded: Set<number>
  #end: number
  #chain: number

  /** Opens it for appending; what is not a record of this content is cut off. */
  static open(fd: number, manifest: Manifest): Journal {
    const header = headerOf(manifest)
    const chain = header.readUInt32LE(CHECKSUM_AT)
    const there = Buffer.alloc(header.length)
    if (readFully(fd, there, 0) === header.length && there.equals(header)) {
      const most = pieceCount(manifest.size, manifest.pieceSize)
      const { size } = fstatSync(fd)
      const records = Buffer.alloc(Math.min(Math.max(size - header.length, 0), most * RECORD_SIZE))
      const length = readFully(fd, records, header.length)
      const { pieces, checksum } = recordsOf(records.subarray(0, length), most, chain)
      const end = header.length + pieces.length * RECORD_SIZE
      if (end < size) ftruncateSync(fd, end)
      return new Journal(fd, { found: pieces, intact: end === size, end, chain: checksum })
    }
    ftruncateSync(fd, 0)
    writeFully(fd, header, 0)
    return new Journal(fd, { found: [], intact: false, end: header.length, chain })
  }

  private constructor(fd: number, at: { found: number[]; intact: boolean; end: number; chain: number }) {
    this.#fd = fd
    this.found = at.found
    this.intact = at.intact
    this.#recorded = new Set(at.found)
    this.#end = at.end
    this.#chain = at.chain
  }

  /**
   * Records pieces that are verified and written. They are in the hands of the operating system when this returns.
   * @throws the system's error; then none of them is recorded
   */
  append(pieces: readonly number[]): void {
    const added = [...new Set(pieces)].filter((piece) => !this.#recorded.has(piece))
    if (added.length === 0) return
    const records = Buffer.alloc(added.length * RECORD_SIZE)
    let chain = this.#chain
    for (const [i, piece] of added.entries()) {
      records.writeUInt32LE(piece, i * RECORD_SIZE)
      chain = chained(records, i, chain)
      records.writeUInt32LE(chain, i * RECORD_SIZE + 4)
    }
    try {
      writeFully(this.#fd, records, this.#end)
    } catch (error) {
      this.#cut()
      throw error
    }
    this.#end += records.length
    this.#chain = chain
    for (const piece of added) this.#recorded.add(piece)
  }

  /** What is written of records that did not fit would make the next reader distrust the end of it. */
  #cut(): void {
    try {
      ftruncateSync(this.#fd, this.#end)
    } catch {
      // Then that reader looks at every piece, and finds the same.
    }
  }
}

/** The manifest in a journal, proven against the content id; undefined where it has none. */
export function journaledManifest(fd: number, id: ContentId): Manifest | undefined {
  const head = Buffer.alloc(HEAD_SIZE)
  if (readFully(fd, head, 0) < HEAD_SIZE) return undefined
  const size = Number(head.readBigUInt64LE(40))
  const pieceSize = head.readUInt32LE(48)
  if (size > MAX_FILE_SIZE || pieceSize !== pieceSizeFor(size)) return undefined
  const hashes = Buffer.alloc(pieceCount(size, pieceSize) * HASH_SIZE)
  if (readFully(fd, hashes, HEAD_SIZE) < hashes.length) return undefined
  if (!headerOf({ id, size, pieceSize, hashes }).subarray(0, HEAD_SIZE).equals(head)) return undefined
  try {
    return proveManifest(id, { size, pieceSize, hashes })
  } catch {
    return undefined
  }
}

function headerOf({ id, size, pieceSize, hashes }: Manifest): Buffer {
  const header = Buffer.alloc(HEAD_SIZE + hashes.length)
  MAGIC.copy(header)
  header.write(id, 8, 'hex')
  header.writeBigUInt64LE(BigInt(size), 40)
  header.writeUInt32LE(pieceSize, 48)
  hashes.copy(header, HEAD_SIZE)
  header.writeUInt32LE(crc32(header.subarray(HEAD_SIZE), crc32(header.subarray(0, CHECKSUM_AT))), CHECKSUM_AT)
  return header
}

/** The records up to the first one that isn't right, and the checksum of the last of them. */
function recordsOf(records: Buffer, count: number, chain: number): { pieces: number[]; checksum: number } {
  const pieces: number[] = []
  const seen = new Set<number>()
  let checksum = chain
  for (let i = 0; (i + 1) * RECORD_SIZE <= records.length; i++) {
    const piece = records.readUInt32LE(i * RECORD_SIZE)
    const next = chained(records, i, checksum)
    if (records.readUInt32LE(i * RECORD_SIZE + 4) !== next || piece >= count || seen.has(piece)) break
    pieces.push(piece)
    seen.add(piece)
    checksum = next
  }
  return { pieces, checksum }
}

function chained(records: Buffer, i: number, before: number): number {
  return crc32(records.subarray(i * RECORD_SIZE, i * RECORD_SIZE + 4), before)
}

/** @returns how many bytes there were */
function readFully(fd: number, into: Buffer, position: number): number {
  let filled = 0
  while (filled < into.length) {
    const count = readSync(fd, into, filled, into.length - filled, position + filled)
    if (count === 0) break
    filled += count
  }
  return filled
}

function writeFully(fd: number, data: Buffer, position: number): void {
  for (let written = 0; written < data.length; )
    written += writeSync(fd, data, written, data.length - written, position + written)
}
