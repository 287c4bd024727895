import type { BigIntStats } from 'node:fs'

/** What the file system tells of a file without reading it. Times are nanoseconds since the epoch. */
export interface FileStamp {
  /** bytes */
  readonly size: number
  readonly mtimeNs: bigint
  readonly ctimeNs: bigint
  /** when the inode was made, 0 where the file system doesn't say */
  readonly bornNs: bigint
  /** inode and device number, as signed 64-bit integers, which is what SQLite keeps */
  readonly inode: bigint
  readonly dev: bigint
}

export function stampOf(stats: BigIntStats): FileStamp {
  return {
    size: Number(stats.size),
    mtimeNs: stats.mtimeNs,
    ctimeNs: stats.ctimeNs,
    bornNs: stats.birthtimeNs,
    inode: BigInt.asIntN(64, stats.ino),
    dev: BigInt.asIntN(64, stats.dev),
  }
}

/**
 * Whether two stamps are of the same, unmodified file. A new name, another link or other permissions change ctime and
 * no byte, so ctime may differ. Device numbers may differ from one boot to the next, but then ctime has to be the same.
 */
export function sameBytes(a: FileStamp, b: FileStamp): boolean {
  return (
    a.inode === b.inode &&
    a.size === b.size &&
    a.mtimeNs === b.mtimeNs &&
    (a.ctimeNs === b.ctimeNs || (a.dev === b.dev && a.bornNs === b.bornNs))
  )
}

/** Whether nothing at all happened to the file between two stamps. */
export function untouched(a: FileStamp, b: FileStamp): boolean {
  return sameBytes(a, b) && a.ctimeNs === b.ctimeNs
}

/** Equal for the same, unmodified file under whatever name. */
export function stampKey(stamp: FileStamp): string {
  return `${stamp.dev}:${stamp.inode}:${stamp.bornNs}:${stamp.size}:${stamp.mtimeNs}`
}
