import { createHash, randomFillSync } from 'node:crypto'
import { closeSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { pieceSizeFor } from '../common/merkle.ts'
import { scratch } from './process.ts'
import { say } from './report.ts'

/** Fills a file with bytes that do not repeat within a piece. */
export function makeFile(path: string, size: number): void {
  const block = Buffer.alloc(8 * 1024 * 1024 + 13)
  randomFillSync(block)
  const fd = openSync(path, 'w')
  for (let at = 0; at < size; at += block.length) writeSync(fd, block, 0, Math.min(block.length, size - at), at)
  closeSync(fd)
}

/** A file that is mostly a hole, so that it takes no room; each piece has bytes of its own, so that none is right by being empty. */
export function makeSparseFile(path: string, size: number): void {
  const fd = openSync(path, 'w')
  const piece = pieceSizeFor(size)
  for (let at = 0; at < size; at += piece) writeSync(fd, createHash('sha256').update(`${at}`).digest(), 0, 32, at)
  writeSync(fd, Buffer.alloc(1), 0, 1, size - 1)
  closeSync(fd)
}

/** A virtual machine may get its memory only when it is first written to, which would be measured as ours. */
export function touchMemory(bytes: number): void {
  const folder = scratch('memory')
  try {
    say(`touching ${(bytes / 1e9).toFixed(1)} GB of memory …`)
    makeFile(join(folder.path, 'touched'), bytes)
  } finally {
    folder.remove()
  }
}
