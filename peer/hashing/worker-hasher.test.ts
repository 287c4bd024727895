import { setMaxListeners } from 'node:events'
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Worker } from 'node:worker_threads'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { EMPTY_ID, LEAF_SIZE, manifestOf, pieceLength, sha256 } from '../../common/merkle.ts'
import { startHashWorker, WorkerHasher } from './worker-hasher.ts'

const folder = mkdtempSync(join(tmpdir(), 'hashing-'))
const workers: Worker[] = []
const hasher = new WorkerHasher({
  startWorker: () => {
    const worker = startHashWorker()
    workers.push(worker)
    return worker
  },
})
const open: number[] = []
let serial = 0

/** Bytes that differ from place to place, so that a piece in the wrong place is a wrong piece. */
function bytes(size: number, seed = 1): Buffer {
  const data = Buffer.alloc(size)
  let x = seed
  for (let i = 0; i + 4 <= size; i += 4) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0
    data.writeUInt32LE(x, i)
  }
  return data
}

function file(data: Buffer): { fd: number; path: string } {
  const path = join(folder, `file${serial++}`)
  writeFileSync(path, data)
  const fd = openSync(path, 'r+')
  open.push(fd)
  return { fd, path }
}

const empty = () => file(Buffer.alloc(0))

beforeAll(async () => {
  await hasher.hashFile(file(bytes(10)).fd, 10)
})

afterAll(async () => {
  await hasher.close()
  for (const fd of open) closeSync(fd)
  rmSync(folder, { recursive: true, force: true })
})

describe('hashing a file', () => {
  test.each([0, 1, LEAF_SIZE, LEAF_SIZE + 1, 262_144, 262_145, 1_310_797, 9_000_001, 20_000_000])(
    'of %i bytes gives the same manifest as hashing its bytes in memory',
    async (size) => {
      const data = bytes(size)
      expect(await hasher.hashFile(file(data).fd, size)).toEqual(manifestOf(data))
    },
  )

  test('covers only the first bytes asked for', async () => {
    const data = bytes(400_000)
    expect((await hasher.hashFile(file(data).fd, 300_000)).id).toBe(manifestOf(data.subarray(0, 300_000)).id)
    expect((await hasher.hashFile(file(data).fd, 0)).id).toBe(EMPTY_ID)
  })

  test.each([1000, 30_000_000])('that is shorter than the %i bytes asked for is a conflict', async (size) => {
    await expect(hasher.hashFile(file(bytes(size - 1)).fd, size)).rejects.toMatchObject({ code: 'conflict' })
  })

  test('reports progress up to its size', async () => {
    const size = 20_000_000
    const seen: number[] = []
    await hasher.hashFile(file(bytes(size)).fd, size, undefined, (done) => seen.push(done))
    expect(seen.length).toBeGreaterThan(1)
    expect(seen).toEqual([...seen].sort((a, b) => a - b))
    expect(seen.at(-1)).toBe(size)
  })

  test('that can not be read fails with the reason, and other files are not affected', async () => {
    const data = bytes(1000)
    const [bad, good] = await Promise.allSettled([hasher.hashFile(9999, 1000), hasher.hashFile(file(data).fd, 1000)])
    expect(bad).toMatchObject({ status: 'rejected', reason: { name: 'NetworkError' } })
    expect(good).toMatchObject({ status: 'fulfilled', value: { id: manifestOf(data).id } })
  })

  test('stops when aborted, whether it waits or runs', async () => {
    const huge = empty()
    ftruncateSync(huge.fd, 100 * 2 ** 30)
    const stop = new AbortController()
    setMaxListeners(0, stop.signal)
    const running = hasher.hashFile(huge.fd, 100 * 2 ** 30, stop.signal)
    const waiting = Promise.all(
      Array.from({ length: 200 }, () => hasher.hashFile(huge.fd, 1000, stop.signal).catch((error: unknown) => error)),
    )
    stop.abort()
    await expect(running).rejects.toMatchObject({ code: 'cancelled' })
    for (const outcome of await waiting) expect(outcome).toMatchObject({ code: 'cancelled' })
    await expect(hasher.hashFile(huge.fd, 10, stop.signal)).rejects.toMatchObject({ code: 'cancelled' })
  })

  test('goes on for small files and arriving pieces while a huge file is hashed', async () => {
    const huge = empty()
    ftruncateSync(huge.fd, 1000 * 2 ** 30)
    const stop = new AbortController()
    const running = hasher.hashFile(huge.fd, 1000 * 2 ** 30, stop.signal).catch((error: unknown) => error)
    const data = bytes(300_000)
    const small = file(data.subarray(0, 5000))
    const target = empty()
    const manifest = manifestOf(data)
    await Promise.all(Array.from({ length: 500 }, () => hasher.hashFile(small.fd, 5000)))
    expect(await hasher.commitPiece(target.fd, manifest, 1, [Uint8Array.from(data.subarray(262_144))])).toBe(true)
    const other = file(bytes(9_000_000))
    expect((await hasher.hashFile(other.fd, 9_000_000)).size).toBe(9_000_000)
    stop.abort()
    expect(await running).toMatchObject({ code: 'cancelled' })
  })
})

describe('verifying a file', () => {
  test('tells right pieces from wrong ones, holes and what is missing at the end', async () => {
    const data = bytes(5 * 262_144 + 100)
    const manifest = manifestOf(data)
    const { fd } = file(data)
    expect(await hasher.verifyFile(fd, manifest)).toEqual([true, true, true, true, true, true])
    writeSync(fd, Buffer.from([data[300_000]! ^ 1]), 0, 1, 300_000)
    writeSync(fd, Buffer.alloc(262_144), 0, 262_144, 3 * 262_144)
    ftruncateSync(fd, 5 * 262_144 + 99)
    expect(await hasher.verifyFile(fd, manifest)).toEqual([true, false, true, false, true, false])
    ftruncateSync(fd, 0)
    ftruncateSync(fd, manifest.size)
    expect(await hasher.verifyFile(fd, manifest)).toEqual(new Array(6).fill(false))
  })

  test('looks only at the pieces that are asked for, and answers in their order', async () => {
    const count = 43
    const data = bytes((count - 1) * 262_144 + 100)
    const manifest = manifestOf(data)
    const { fd } = file(data)
    for (const wrong of [0, 17, 42]) writeSync(fd, Buffer.from([data[wrong * 262_144]! ^ 1]), 0, 1, wrong * 262_144)
    const right = (pieces: number[]) => pieces.map((piece) => ![0, 17, 42].includes(piece))
    const all = Array.from({ length: count }, (_, i) => i)
    for (const pieces of [[], [0], [1], [42], [41, 42], [0, 2, 3, 17, 40], all.slice(1), all.filter((i) => i % 2), all])
      expect(await hasher.verifyFile(fd, manifest, undefined, pieces), `${pieces}`).toEqual(right(pieces))
  })

  test('of an empty content finds no piece', async () => {
    expect(await hasher.verifyFile(empty().fd, manifestOf(Buffer.alloc(0)))).toEqual([])
  })
})

describe('committing a piece', () => {
  const data = bytes(3 * 262_144 + 50_000)
  const manifest = manifestOf(data)
  const piece = (index: number) => Uint8Array.from(data.subarray(index * 262_144, (index + 1) * 262_144))

  test('writes it at its place, from parts that are views anywhere in larger memory', async () => {
    const { fd, path } = empty()
    for (const index of [3, 0, 2, 1]) {
      const source = piece(index)
      const parts: Uint8Array[] = []
      for (let at = 0; at < source.length; at += 3 * LEAF_SIZE) {
        const part = source.subarray(at, at + 3 * LEAF_SIZE)
        const roomy = new Uint8Array(part.length + 100)
        roomy.set(part, 37)
        parts.push(roomy.subarray(37, 37 + part.length))
      }
      expect(await hasher.commitPiece(fd, manifest, index, parts)).toBe(true)
    }
    expect(readFileSync(path).equals(data)).toBe(true)
  })

  test('takes the memory away without a copy, and copes with several parts in one allocation', async () => {
    const { fd } = empty()
    const memory = piece(0)
    const parts = [memory.subarray(0, 2 * LEAF_SIZE), memory.subarray(2 * LEAF_SIZE)]
    expect(await hasher.commitPiece(fd, manifest, 0, parts)).toBe(true)
    expect(memory.byteLength).toBe(0)
  })

  test('accepts small buffers out of the shared pool and leaves their neighbours alone', async () => {
    const tiny = Buffer.from('tiny content')
    const neighbour = Buffer.from('neighbour')
    const { fd, path } = empty()
    expect(await hasher.commitPiece(fd, manifestOf(tiny), 0, [Buffer.from(tiny)])).toBe(true)
    expect(readFileSync(path, 'utf8')).toBe('tiny content')
    expect(neighbour.toString()).toBe('neighbour')
  })

  test('accepts parts that are cut anywhere', async () => {
    const source = piece(1)
    const { fd } = empty()
    expect(await hasher.commitPiece(fd, manifest, 1, [source.slice(0, 100_001), source.slice(100_001)])).toBe(true)
  })

  test('writes nothing where a bit is wrong, a byte is missing or too many came', async () => {
    const { fd, path } = empty()
    const wrong = piece(2)
    wrong[200_000]! ^= 1
    expect(await hasher.commitPiece(fd, manifest, 2, [wrong])).toBe(false)
    expect(await hasher.commitPiece(fd, manifest, 2, [piece(2).slice(1)])).toBe(false)
    expect(await hasher.commitPiece(fd, manifest, 2, [piece(2), new Uint8Array(1)])).toBe(false)
    expect(await hasher.commitPiece(fd, manifest, 2, [])).toBe(false)
    expect(await hasher.commitPiece(fd, manifest, 2, [piece(1)])).toBe(false)
    expect(readFileSync(path).length).toBe(0)
  })

  test('on a full disk fails with disk_full', async () => {
    const fd = openSync('/dev/full', 'r+')
    open.push(fd)
    await expect(hasher.commitPiece(fd, manifest, 0, [piece(0)])).rejects.toMatchObject({
      code: 'unavailable',
      details: { reason: 'disk_full' },
    })
  })

  test('of which the memory was given away twice fails, and the hasher goes on', async () => {
    const { fd } = empty()
    const memory = piece(0)
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, () => hasher.commitPiece(fd, manifest, 0, [memory])),
    )
    expect(outcomes[0]).toEqual({ status: 'fulfilled', value: true })
    for (const outcome of outcomes.slice(1)) expect(outcome).not.toEqual({ status: 'fulfilled', value: true })
    expect(await hasher.commitPiece(fd, manifest, 1, [piece(1)])).toBe(true)
  })

  test('has the length that the manifest says', () => {
    expect(pieceLength(manifest, 3)).toBe(50_000)
  })
})

describe('the threads', () => {
  test('are started only when there is work, and no more than asked for', async () => {
    const startWorker = vi.fn(startHashWorker)
    const pool = new WorkerHasher({ startWorker }, { size: 2 })
    expect(startWorker).not.toHaveBeenCalled()
    const data = bytes(100)
    const { fd } = file(data)
    await Promise.all(Array.from({ length: 300 }, () => pool.hashFile(fd, 100)))
    expect(startWorker.mock.calls.length).toBeLessThanOrEqual(2)
    await pool.close()
  })

  test('that crash fail the work they had, and are replaced', async () => {
    const crashed: Worker[] = []
    const pool = new WorkerHasher(
      {
        startWorker: () => {
          const worker = startHashWorker()
          crashed.push(worker)
          return worker
        },
      },
      { size: 1 },
    )
    const huge = empty()
    ftruncateSync(huge.fd, 100 * 2 ** 30)
    const lost = pool.hashFile(huge.fd, 100 * 2 ** 30).catch((error: unknown) => error)
    void crashed[0]!.terminate()
    expect(await lost).toMatchObject({ code: 'internal', message: expect.stringContaining('hashing thread') })
    expect((await pool.hashFile(file(Buffer.from('after')).fd, 5)).id).toBe(
      sha256(Buffer.from('after')).toString('hex'),
    )
    expect(crashed).toHaveLength(2)
    await pool.close()
  })

  test('end with close, which settles everything that was asked', async () => {
    const pool = new WorkerHasher({}, { size: 1 })
    const huge = empty()
    ftruncateSync(huge.fd, 100 * 2 ** 30)
    const asked = [
      pool.hashFile(huge.fd, 100 * 2 ** 30),
      pool.hashFile(huge.fd, 100 * 2 ** 30),
      pool.hashFile(huge.fd, 10),
      pool.commitPiece(huge.fd, manifestOf(Buffer.from('a')), 0, [Buffer.from('a')]),
    ]
    const outcomes = Promise.allSettled(asked)
    await pool.close()
    for (const outcome of await outcomes) expect(outcome).toMatchObject({ reason: { code: 'cancelled' } })
    await expect(pool.hashFile(huge.fd, 1)).rejects.toMatchObject({ code: 'cancelled' })
    await expect(pool.commitPiece(huge.fd, manifestOf(Buffer.from('a')), 0, [])).rejects.toMatchObject({
      code: 'cancelled',
    })
  })
})
