import { read, readSync } from 'node:fs'
import { promisify } from 'node:util'

const readLater = promisify(read)

/** A read on this thread that takes longer than this, ms, came from a disk, and not from memory. */
const SLOW_MS = 2
/** Reads on other threads before this one tries again. */
const REST = 64
let resting = 0

/**
 * Fills `into` from `position` on. What is in the system's page cache is read on this thread: the way to another one and
 * back costs several times more. Where the disk has to be waited for, other threads do that.
 * @returns bytes read: fewer than asked for where the file ends
 */
export function readFully(fd: number, into: Uint8Array, position: number): number | Promise<number> {
  if (resting > 0) {
    resting--
    return readElsewhere(fd, into, position)
  }
  const begin = performance.now()
  let filled = 0
  while (filled < into.length) {
    const count = readSync(fd, into, filled, into.length - filled, position + filled)
    if (count === 0) break
    filled += count
  }
  if (performance.now() - begin > SLOW_MS) resting = REST
  return filled
}

async function readElsewhere(fd: number, into: Uint8Array, position: number): Promise<number> {
  let filled = 0
  while (filled < into.length) {
    const { bytesRead } = await readLater(fd, into, filled, into.length - filled, position + filled)
    if (bytesRead === 0) break
    filled += bytesRead
  }
  return filled
}
