import { readSync, writevSync } from 'node:fs'
import { MessageChannel, parentPort } from 'node:worker_threads'
import { asNetworkError } from '../../common/errors.ts'
import { HASH_SIZE, hashLeaves, LEAF_SIZE, MAX_PIECE_SIZE, pieceHash } from '../../common/merkle.ts'
import type { CommitRequest, HashReply, HashRequest, PieceRange, RangeResult } from './jobs.ts'

/** The thread that reads, hashes and writes. All its work is synchronous: a thread has nothing else to do. */

const chunk = Buffer.allocUnsafeSlow(1024 * 1024)
const leaves = Buffer.allocUnsafeSlow((MAX_PIECE_SIZE / LEAF_SIZE) * HASH_SIZE)

/** A closed port: what is sent there is freed at once, while the garbage collector would let tens of MB gather. */
const { port1: drain } = new MessageChannel()
drain.close()

const port = parentPort!
port.on('message', (request: HashRequest) => {
  if (request.kind === 'commit') {
    let result: Extract<HashReply, { kind: 'commit' }>['result']
    try {
      result = commit(request)
    } catch (error) {
      result = asNetworkError(error).toBody()
    }
    drain.postMessage(null, [...new Set(request.parts.map((part) => part.buffer as ArrayBuffer))])
    port.postMessage({ job: request.job, kind: 'commit', result } satisfies HashReply)
  } else {
    const results = request.ranges.map((range): RangeResult => {
      try {
        return hashPieces(range, request.cancelled)
      } catch (error) {
        return asNetworkError(error).toBody()
      }
    })
    port.postMessage({ job: request.job, kind: 'read', results } satisfies HashReply)
  }
})

function hashPieces(range: PieceRange, cancelled: Int32Array | undefined): Uint8Array {
  const hashes = new Uint8Array(Math.ceil(range.length / range.pieceSize) * HASH_SIZE)
  let done = 0
  for (let offset = 0; offset < range.length; offset += range.pieceSize) {
    const length = Math.min(range.pieceSize, range.length - offset)
    let leaf = 0
    for (let at = 0; at < length; at += chunk.length) {
      if (cancelled && Atomics.load(cancelled, 0) !== 0) return hashes.slice(0, done)
      const wanted = Math.min(chunk.length, length - at)
      if (!readFully(range.fd, wanted, range.position + offset + at)) return hashes.slice(0, done)
      leaf = hashLeaves(chunk.subarray(0, wanted), leaves, leaf)
    }
    hashes.set(pieceHash(leaves.subarray(0, leaf * HASH_SIZE), range.pieceSize, range.onlyPiece), done)
    done += HASH_SIZE
  }
  return hashes
}

/** Fills `chunk` with `length` bytes; false where the file ends before. */
function readFully(fd: number, length: number, position: number): boolean {
  for (let filled = 0; filled < length; ) {
    const count = readSync(fd, chunk, filled, length - filled, position + filled)
    if (count === 0) return false
    filled += count
  }
  return true
}

/** Verifies, and only then writes: no wrong byte ever reaches the file. */
function commit({ fd, position, pieceSize, onlyPiece, expected, parts }: CommitRequest): boolean {
  const aligned = parts.every((part, i) => i === parts.length - 1 || part.length % LEAF_SIZE === 0)
  let rest = aligned ? parts : [Buffer.concat(parts)]
  let leaf = 0
  for (const part of rest) leaf = hashLeaves(part, leaves, leaf)
  if (!pieceHash(leaves.subarray(0, leaf * HASH_SIZE), pieceSize, onlyPiece).equals(expected)) return false
  let at = position
  while (rest.length > 0) {
    const written = writevSync(fd, rest, at)
    at += written
    rest = withoutFirst(rest, written)
  }
  return true
}

/** What is left of `parts` after its first `count` bytes. */
function withoutFirst(parts: Uint8Array[], count: number): Uint8Array[] {
  const rest: Uint8Array[] = []
  for (const part of parts) {
    if (count >= part.length) count -= part.length
    else {
      rest.push(part.subarray(count))
      count = 0
    }
  }
  return rest
}
