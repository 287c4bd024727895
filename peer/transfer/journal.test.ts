import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { type Manifest, manifestOf } from '../../common/merkle.ts'
import { Journal, journaledManifest } from './journal.ts'
import { patternOf } from './transfer.fixture.ts'

const PIECES = 6
const manifest = manifestOf(patternOf(5 * 262_144 + 1000))
const other = manifestOf(patternOf(5 * 262_144 + 1000, 8))
const HEADER = 56 + 32 * PIECES
const folder = mkdtempSync(join(tmpdir(), 'journal-'))
const path = join(folder, 'journal')
afterAll(() => rmSync(folder, { recursive: true }))
beforeEach(() => writeFileSync(path, ''))

function using<T>(use: (fd: number) => T, flags = 'r+'): T {
  const fd = openSync(path, flags)
  try {
    return use(fd)
  } finally {
    closeSync(fd)
  }
}

const append = (pieces: number[], of = manifest) => using((fd) => Journal.open(fd, of).append(pieces))
const open = (of = manifest) => using((fd) => Journal.open(fd, of))
const manifestIn = (id = manifest.id) => using((fd) => journaledManifest(fd, id))

test('what was recorded is found again, in its order, and the manifest with it', () => {
  expect(open()).toMatchObject({ found: [], intact: false })
  append([4])
  append([0, 2])
  append([2, 5, 5])
  expect(open()).toMatchObject({ found: [4, 0, 2, 5], intact: true })
  expect(readFileSync(path)).toHaveLength(HEADER + 4 * 8)
  expect(manifestIn()).toEqual(manifest)
})

test('a content of no piece has a journal too', () => {
  const empty = manifestOf(Buffer.alloc(0))
  open(empty)
  expect(open(empty)).toMatchObject({ found: [], intact: true })
  expect(manifestIn(empty.id)).toEqual(empty)
})

describe('of a journal', () => {
  const recorded = [4, 0, 2, 5]

  test('that was cut at any byte, what is left are the records before the cut', () => {
    append(recorded)
    const whole = readFileSync(path)
    for (let length = 0; length <= whole.length; length++) {
      writeFileSync(path, whole.subarray(0, length))
      expect(manifestIn(), `${length}`).toEqual(length < HEADER ? undefined : manifest)
      const found = recorded.slice(0, Math.max(0, Math.floor((length - HEADER) / 8)))
      const intact = length >= HEADER && (length - HEADER) % 8 === 0
      expect(open(), `${length}`).toMatchObject({ found, intact })
      append([1])
      expect(open(), `${length}`).toMatchObject({ found: [...found, 1], intact: true })
    }
  })

  test('of which any byte was changed, what is left are the records before it', () => {
    append(recorded)
    const whole = readFileSync(path)
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole)
      changed[at]! ^= 1 << (at % 8)
      writeFileSync(path, changed)
      expect(manifestIn(), `${at}`).toEqual(at < HEADER ? undefined : manifest)
      const found = recorded.slice(0, Math.max(0, Math.floor((at - HEADER) / 8)))
      expect(open(), `${at}`).toMatchObject({ found, intact: false })
      append([1])
      expect(open(), `${at}`).toMatchObject({ found: [...found, 1], intact: true })
    }
  })

  test('of another content nothing is believed', () => {
    append(recorded, other)
    expect(manifestIn()).toBeUndefined()
    expect(open()).toMatchObject({ found: [], intact: false })
    expect(manifestIn()).toEqual(manifest)
  })

  test('records of another content, records in another order and what follows the last piece are not believed', () => {
    append(recorded, other)
    const foreign = readFileSync(path).subarray(HEADER)
    writeFileSync(path, '')
    append(recorded)
    const whole = readFileSync(path)
    writeFileSync(path, Buffer.concat([whole.subarray(0, HEADER), foreign]))
    expect(open()).toMatchObject({ found: [], intact: false })
    const record = (i: number) => whole.subarray(HEADER + i * 8, HEADER + (i + 1) * 8)
    writeFileSync(path, Buffer.concat([whole.subarray(0, HEADER), record(0), record(2), record(1)]))
    expect(open()).toMatchObject({ found: [4], intact: false })
    writeFileSync(path, Buffer.concat([whole, Buffer.alloc(100_000)]))
    expect(open()).toMatchObject({ found: recorded, intact: false })
    expect(readFileSync(path)).toEqual(whole)
  })

  test('with impossible numbers the manifest is refused before memory is spent on it', () => {
    append(recorded)
    const whole = readFileSync(path)
    for (const size of [2n ** 64n - 1n, 2n ** 40n + 1n, 2n ** 40n, 0n]) {
      const changed = Buffer.from(whole)
      changed.writeBigUInt64LE(size, 40)
      writeFileSync(path, changed)
      expect(manifestIn()).toBeUndefined()
    }
  })

  test('whose checksums are right the manifest is still proven against the content id', () => {
    const false_: Manifest = { ...manifest, hashes: Buffer.from(other.hashes) }
    open(false_)
    expect(manifestIn()).toBeUndefined()
  })
})

test('a record that the disk refuses is not there, and later ones are', () => {
  append([1])
  const fd = openSync(path, 'r')
  onTestFinished(() => closeSync(fd))
  const journal = Journal.open(fd, manifest)
  expect(() => journal.append([2])).toThrow(expect.objectContaining({ code: 'EBADF' }))
  expect(() => journal.append([2])).toThrow(expect.objectContaining({ code: 'EBADF' }))
  append([3])
  expect(open().found).toEqual([1, 3])
})

test('a journal that somebody cuts while it is open tells of fewer pieces, and of no wrong one', () => {
  using((fd) => {
    const journal = Journal.open(fd, manifest)
    journal.append([0, 1])
    truncateSync(path, HEADER + 8)
    journal.append([2])
  })
  expect(open()).toMatchObject({ found: [0], intact: false })
})
