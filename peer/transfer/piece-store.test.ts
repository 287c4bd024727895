import { execFileSync, spawnSync } from 'node:child_process'
import {
  appendFileSync,
  closeSync,
  cpSync,
  existsSync,
  fstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { type Manifest, manifestOf, pieceCount } from '../../common/merkle.ts'
import { fileName, sharedHasher, temporaryFolder, useSharedHasher } from '../catalog/catalog.fixture.ts'
import { FolderLanding } from '../catalog/folder-landing.ts'
import { SharedFolder } from '../catalog/shared-folder.ts'
import type { Hasher } from '../hashing/hasher.ts'
import { Journal } from './journal.ts'
import { PieceStore } from './piece-store.ts'
import { piecesOf } from './runs.ts'
import { patternOf } from './transfer.fixture.ts'

useSharedHasher()
const PIECE = 262_144
const data = patternOf(5 * PIECE + 1000)
const manifest = manifestOf(data)
const signal = new AbortController().signal

/** One attempt at a download after the other, in one folder. */
class Attempts {
  readonly root: string
  readonly clock = new ManualClock()
  readonly published: string[] = []
  /** pieces that were read and hashed, in the order in which they were asked for */
  readonly read: number[] = []
  readonly landing: FolderLanding
  readonly #hasher: Hasher
  #looks: ((right: boolean[]) => void)[] | undefined

  constructor(root = temporaryFolder()) {
    this.root = root
    const verifyFile: Hasher['verifyFile'] = (fd, of, stop, pieces) => {
      this.read.push(...(pieces ?? Array(pieceCount(of.size, of.pieceSize)).keys()))
      if (this.#looks) return new Promise((answer) => this.#looks?.push(answer))
      return sharedHasher().verifyFile(fd, of, stop, pieces)
    }
    const real = sharedHasher()
    this.#hasher = {
      hashFile: (...args) => real.hashFile(...args),
      commitPiece: (...args) => real.commitPiece(...args),
      verifyFile,
      close: async () => {},
    }
    this.landing = new FolderLanding(
      {
        folder: SharedFolder.open(root),
        hasher: this.#hasher,
        onPublished: (name) => this.published.push(name),
      },
      { reserveBytes: 0 },
    )
  }

  get deps() {
    return { landing: this.landing, hasher: this.#hasher, clock: this.clock }
  }

  /** From now on what is on disk is as the test says: each look waits for its answer. */
  answerLooks(): ((right: boolean[]) => void)[] {
    this.#looks = []
    return this.#looks
  }

  lookReally(): void {
    this.#looks = undefined
  }

  async open(of: Manifest = manifest): Promise<PieceStore> {
    const store = await PieceStore.open(this.deps, of, signal)
    onTestFinished(() => store.close())
    return store
  }

  /** An attempt that is over, with these pieces. */
  async after(pieces: number[]): Promise<this> {
    const store = await this.open()
    await fetch(store, pieces)
    await store.close()
    this.read.length = 0
    return this
  }

  async resume(): Promise<PieceStore | undefined> {
    const store = await PieceStore.resume(this.deps, manifest.id, signal)
    onTestFinished(() => store?.close())
    return store
  }

  path(name: string): string {
    return join(this.root, name)
  }

  get partial(): string {
    return this.path(`.p2p-${manifest.id}.part`)
  }

  get journal(): string {
    return this.path(`.p2p-${manifest.id}.journal`)
  }

  files(): string[] {
    return readdirSync(this.root).sort()
  }
}

async function fetch(store: PieceStore, pieces: Iterable<number>): Promise<void> {
  for (const index of pieces) {
    expect(await store.commit(index, [Uint8Array.from(data.subarray(index * PIECE, (index + 1) * PIECE))])).toBe(true)
    store.verified(index)
  }
}

/** Changes one byte of a piece. */
function damage(path: string, piece: number): void {
  const fd = openSync(path, 'r+')
  const at = piece * PIECE + 17
  writeSync(fd, Buffer.from([data[at]! ^ 1]), 0, 1, at)
  closeSync(fd)
}

const here = (store: PieceStore) => [...piecesOf(store.held())]

describe('a piece', () => {
  test('counts once it was said to be verified, for this process and later ones', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    expect(store).toMatchObject({ blank: true, complete: false, damaged: 0, resumedBytes: 0 })
    const told: number[] = []
    const stop = store.onVerified((index) => told.push(index))
    expect(await store.commit(2, [new Uint8Array(PIECE)])).toBe(false)
    expect(await store.commit(2, [Uint8Array.from(data.subarray(2 * PIECE, 3 * PIECE))])).toBe(true)
    expect(store.has(2)).toBe(false)
    store.verified(2)
    store.verified(2)
    expect(store.has(2)).toBe(true)
    stop()
    await fetch(store, [5])
    expect(told).toEqual([2])
    expect(store.missing()).toEqual([0, 1, 3, 4])
    expect(store.held()).toEqual([2, 1, 5, 1])
    await store.close()
    const again = await attempts.open()
    expect(here(again)).toEqual([2, 5])
    expect(again.resumedBytes).toBe(PIECE + 1000)
  })

  test('that was verified survives a process that is killed at any moment', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    for (const index of [3, 0, 5, 1, 4, 2]) {
      await fetch(store, [index])
      // What a killed process leaves is what other processes see of its files.
      const left = temporaryFolder()
      cpSync(attempts.root, left, { recursive: true })
      rmSync(join(left, `.p2p-${manifest.id}.lock`))
      const later = await new Attempts(left).open()
      expect(later.held()).toEqual(store.held())
      expect(later.damaged).toBe(0)
    }
  })

  test('is no longer taken once the transfer has ended', async () => {
    const store = await new Attempts().open()
    await store.close()
    expect(() => store.verified(0)).toThrow(expect.objectContaining({ code: 'cancelled' }))
    await expect(store.commit(0, [])).rejects.toMatchObject({ code: 'cancelled' })
    await expect(store.check(0)).resolves.toBe(false)
  })
})

describe('on resume', () => {
  test('only pieces that the journal tells of are read', async () => {
    const attempts = await new Attempts().after([4, 1, 5])
    const store = await attempts.open()
    expect(attempts.read).toEqual([1, 4, 5])
    expect(here(store)).toEqual([1, 4, 5])
    await fetch(store, store.missing())
    await store.publish([fileName('whole')])
    expect(readFileSync(attempts.path('whole')).equals(data)).toBe(true)
    expect(attempts.files()).toEqual(['whole'])
  })

  test('from a journal that was cut at any byte no piece is lost', async () => {
    const attempts = await new Attempts().after([3, 0, 2])
    const whole = readFileSync(attempts.journal)
    for (let length = 0; length <= whole.length; length++) {
      writeFileSync(attempts.journal, whole.subarray(0, length))
      const store = await attempts.open()
      expect(here(store), `${length}`).toEqual([0, 2, 3])
      await store.close()
      expect(readFileSync(attempts.journal), `${length}`).toHaveLength(whole.length)
    }
  })

  test('from a journal of which any byte was changed no piece is lost, and none is invented', async () => {
    const attempts = await new Attempts().after([3, 0, 2])
    const whole = readFileSync(attempts.journal)
    for (let at = 0; at < whole.length; at++) {
      const changed = Buffer.from(whole)
      changed[at]! ^= 1 << (at % 8)
      writeFileSync(attempts.journal, changed)
      const store = await attempts.open()
      expect(here(store), `${at}`).toEqual([0, 2, 3])
      await store.close()
    }
  })

  test('with no journal, or with that of another content, all that is there is read', async () => {
    const attempts = await new Attempts().after([3, 0, 2])
    rmSync(attempts.journal)
    const store = await attempts.open()
    expect(attempts.read).toEqual([0, 1, 2, 3, 4, 5])
    expect(here(store)).toEqual([0, 2, 3])
    await store.close()
    const fd = openSync(attempts.journal, 'w+')
    Journal.open(fd, manifestOf(patternOf(5 * PIECE + 1000, 8))).append([1, 4])
    closeSync(fd)
    const again = await attempts.open()
    expect(here(again)).toEqual([0, 2, 3])
    expect(again.damaged).toBe(0)
  })

  test('a journal that is ahead of the file is not believed', async () => {
    const attempts = await new Attempts().after([1])
    const fd = openSync(attempts.journal, 'r+')
    Journal.open(fd, manifest).append([0, 1, 2, 3, 4, 5])
    closeSync(fd)
    const store = await attempts.open()
    expect(here(store)).toEqual([1])
    expect(store.damaged).toBe(5)
  })

  test('a piece that was damaged meanwhile is missing again, and told of', async () => {
    const attempts = await new Attempts().after([0, 1, 4])
    damage(attempts.partial, 1)
    const store = await attempts.open()
    expect(here(store)).toEqual([0, 4])
    expect(store.damaged).toBe(1)
    expect(store.resumedBytes).toBe(2 * PIECE)
    await fetch(store, store.missing())
    await store.publish([fileName('whole')])
    expect(readFileSync(attempts.path('whole')).equals(data)).toBe(true)
  })

  test.each([0, 1, PIECE, PIECE + 1, 2 * PIECE, 5 * PIECE + 999, 5 * PIECE + 1001])(
    'of a file that was cut to %i bytes only what is left counts',
    async (length) => {
      const attempts = await new Attempts().after([0, 1, 5])
      truncateSync(attempts.partial, length)
      const store = await attempts.open()
      const left = [0, 1, 5].filter((index) => Math.min((index + 1) * PIECE, data.length) <= length)
      expect(here(store)).toEqual(left)
      expect(store.damaged).toBe(3 - left.length)
      expect(statSync(attempts.partial).size).toBe(data.length)
    },
  )

  test('a file that was removed begins anew', async () => {
    const attempts = await new Attempts().after([0, 1, 5])
    rmSync(attempts.partial)
    const store = await attempts.open()
    expect(store.blank).toBe(true)
    expect(store.damaged).toBe(3)
    expect(attempts.read).toEqual([])
    await store.discard()
    expect(attempts.files()).toEqual([])
  })

  test('a cancelled look at what is there leaves it as it was', async () => {
    const attempts = await new Attempts().after([0, 1, 5])
    await expect(PieceStore.open(attempts.deps, manifest, AbortSignal.abort())).rejects.toMatchObject({
      code: 'cancelled',
    })
    expect(here(await attempts.open())).toEqual([0, 1, 5])
  })

  test('a content of one piece needs no journal', async () => {
    const attempts = new Attempts()
    const small = manifestOf(data.subarray(0, 1000))
    const store = await attempts.open(small)
    expect(await store.commit(0, [Uint8Array.from(data.subarray(0, 1000))])).toBe(true)
    store.verified(0)
    expect(attempts.files()).toEqual([`.p2p-${small.id}.lock`, `.p2p-${small.id}.part`])
    await store.close()
    const again = await attempts.open(small)
    expect(again.complete).toBe(true)
    await again.publish([fileName('small')])
    expect(attempts.files()).toEqual(['small'])
  })
})

describe('without a provider', () => {
  test('an unfinished content is opened by what its journal tells', async () => {
    const attempts = await new Attempts().after([0, 5])
    expect(attempts.landing.unfinished()).toEqual([manifest.id])
    const store = (await attempts.resume())!
    expect(store.manifest).toEqual(manifest)
    expect(here(store)).toEqual([0, 5])
    await fetch(store, store.missing())
    await store.publish([fileName('whole')])
    expect(attempts.landing.unfinished()).toEqual([])
  })

  test('one whose journal is of no use, or that is not here, is not', async () => {
    const attempts = new Attempts()
    expect(await attempts.resume()).toBeUndefined()
    await attempts.after([0, 5])
    truncateSync(attempts.journal, 100)
    expect(await attempts.resume()).toBeUndefined()
    expect(here(await attempts.open())).toEqual([0, 5])
  })

  test('a journal whose file was removed is cleared away, but not that of a transfer under way', async () => {
    const attempts = await new Attempts().after([0, 5])
    rmSync(attempts.partial)
    writeFileSync(attempts.path(`.p2p-${manifest.id}.lock`), readFileSync(attempts.journal))
    const other = await attempts.open(manifestOf(data.subarray(PIECE)))
    rmSync(attempts.path(`.p2p-${other.manifest.id}.part`))
    expect(attempts.landing.unfinished()).toEqual([])
    expect(existsSync(attempts.journal)).toBe(false)
    expect(existsSync(attempts.path(`.p2p-${other.manifest.id}.journal`))).toBe(true)
    await other.close()
    expect(attempts.files()).toEqual([])
  })
})

describe('while a download runs', () => {
  test('a piece is read again before it is served, and is missing where it is wrong by then', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, [0, 1, 2, 3, 4, 5])
    damage(attempts.partial, 3)
    const lost: number[] = []
    store.onLost((index) => lost.push(index))
    attempts.clock.advance(5001)
    expect(await store.check(2)).toBe(true)
    expect(await store.check(3)).toBe(false)
    expect(await store.check(3)).toBe(false)
    expect(lost).toEqual([3])
    expect(store).toMatchObject({ complete: false, damaged: 1 })
    expect(store.missing()).toEqual([3])
    // One that nobody asked for is found by then too: where one was damaged, all are looked at.
    damage(attempts.partial, 4)
    await fetch(store, [3])
    expect(await store.confirm()).toBe(false)
    expect(lost).toEqual([3, 4])
    await fetch(store, [4])
    expect(await store.confirm()).toBe(true)
    await store.publish([fileName('whole')])
    expect(readFileSync(attempts.path('whole')).equals(data)).toBe(true)
  })

  test('two looks at a piece at a time that differ leave it missing, and it counts when it is there again', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, [0, 1, 2, 3, 4, 5])
    attempts.clock.advance(5001)
    const looks = attempts.answerLooks()
    const checks = [store.check(3), store.check(3)]
    looks.shift()!([false])
    looks.shift()!([true])
    expect(await Promise.all(checks)).toEqual([false, false])
    expect(store).toMatchObject({ complete: false, damaged: 1 })
    expect(store.missing()).toEqual([3])
    await fetch(store, [3])
    expect(store.complete).toBe(true)
  })

  test('a piece that is found wrong while the file is being published is not published', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, [0, 1, 2, 3, 4, 5])
    attempts.clock.advance(5001)
    const looks = attempts.answerLooks()
    const check = store.check(3)
    const published = store.publish([fileName('whole')])
    looks.shift()!([false])
    expect(await check).toBe(false)
    await expect(published).rejects.toMatchObject({ code: 'conflict' })
    expect(attempts.published).toEqual([])
    await fetch(store, [3])
    attempts.lookReally()
    await store.publish([fileName('whole')])
    expect(readFileSync(attempts.path('whole')).equals(data)).toBe(true)
  })

  test.each([-3_600_000, 5001])('a piece is read again where the clock was moved by %i ms', async (ms) => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, [0])
    attempts.clock.advance(ms)
    await store.check(0)
    expect(attempts.read).toEqual([0])
  })

  test('pieces that lay there for long are read again before the file is published, fresh ones are not', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, [0, 1])
    attempts.clock.advance(61_000)
    await fetch(store, [2, 3, 4, 5])
    damage(attempts.partial, 1)
    await expect(store.publish([fileName('whole')])).rejects.toMatchObject({ code: 'conflict' })
    expect(attempts.read).toEqual([0, 1])
    expect(store.missing()).toEqual([1])
    expect(attempts.files().some((name) => !name.startsWith('.'))).toBe(false)
    await fetch(store, [1])
    await store.publish([fileName('whole')])
    expect(readFileSync(attempts.path('whole')).equals(data)).toBe(true)
    expect(attempts.read).toEqual([0, 1, 0, 1, 2, 3, 4, 5])
  })

  test('no byte of a quick one is read again', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, store.missing())
    await store.publish([fileName('whole')])
    expect(attempts.read).toEqual([])
  })

  test.each([0, PIECE + 1, 3 * PIECE, 5 * PIECE])('a cut to %i bytes is noticed', async (length) => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, [0, 1, 2])
    truncateSync(attempts.partial, length)
    // The last piece gives the file its size back.
    await fetch(store, [5, 3, 4])
    const whole = await store.confirm()
    expect(whole).toBe(length >= 3 * PIECE)
    await fetch(store, store.missing())
    await store.publish([fileName('whole')])
    expect(readFileSync(attempts.path('whole')).equals(data)).toBe(true)
  })

  test('what somebody appended is cut off', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, store.missing())
    appendFileSync(attempts.partial, 'more')
    await store.publish([fileName('whole')])
    expect(readFileSync(attempts.path('whole')).equals(data)).toBe(true)
  })

  test('a file that was removed is noticed with the next piece, and nothing is published', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, [0, 1])
    rmSync(attempts.partial)
    await expect(fetch(store, [2])).rejects.toMatchObject({
      code: 'conflict',
      message: 'the partial file was removed: start the download again',
    })
    expect(store.has(2)).toBe(false)
    await store.close()
    expect(attempts.files()).toEqual([])
    const again = await attempts.open()
    await fetch(again, again.missing())
    rmSync(attempts.partial)
    await expect(again.publish([fileName('a'), fileName('b')])).rejects.toMatchObject({ code: 'conflict' })
    await again.close()
    expect(attempts.files()).toEqual([])
    expect(attempts.published).toEqual([])
  })

  test('a file that was exchanged is not published', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, store.missing())
    renameSync(attempts.partial, attempts.path('.away'))
    writeFileSync(attempts.partial, patternOf(data.length, 3))
    await expect(store.publish([fileName('a'), fileName('b')])).rejects.toMatchObject({ code: 'conflict' })
    expect(() => store.openForReading()).toThrow(expect.objectContaining({ code: 'conflict' }))
    expect(attempts.published).toEqual([])
  })

  test('its bytes can be read by another descriptor, also after the file was published', async () => {
    const attempts = new Attempts()
    const store = await attempts.open()
    await fetch(store, [0])
    const fd = store.openForReading()
    onTestFinished(() => closeSync(fd))
    expect(() => writeSync(fd, 'x')).toThrow('EBADF')
    await fetch(store, store.missing())
    await store.publish([fileName('whole')])
    const into = Buffer.alloc(data.length)
    expect(readSync(fd, into, 0, into.length, 0)).toBe(data.length)
    expect(into.equals(data)).toBe(true)
    expect(fstatSync(fd).ino).toBe(statSync(attempts.path('whole')).ino)
  })
})

describe('published under several names', () => {
  async function whole(attempts: Attempts): Promise<PieceStore> {
    const store = await attempts.open()
    await fetch(store, store.missing())
    return store
  }

  test('each name has a file of its own, and all are told of', async () => {
    const attempts = new Attempts()
    const store = await whole(attempts)
    const names = ['a', 'folder/b', 'c', 'a'].map(fileName)
    expect(await store.publish(names)).toEqual(new Map())
    expect(attempts.published.sort()).toEqual(['a', 'c', 'folder/b'])
    expect(attempts.files()).toEqual(['a', 'c', 'folder'])
    damage(attempts.path('folder/b'), 0)
    for (const name of ['a', 'c']) expect(readFileSync(attempts.path(name)).equals(data)).toBe(true)
    expect(readFileSync(attempts.path('folder/b')).equals(data)).toBe(false)
  })

  test('a name that has other content by now is told of, and the others are there', async () => {
    const attempts = new Attempts()
    writeFileSync(attempts.path('b'), 'other')
    writeFileSync(attempts.path('c'), data)
    const store = await whole(attempts)
    const refused = await store.publish(['a', 'b', 'c', 'd'].map(fileName))
    expect([...refused].map(([name, { code }]) => [name, code])).toEqual([['b', 'conflict']])
    expect(attempts.files()).toEqual(['a', 'b', 'c', 'd'])
    expect(readFileSync(attempts.path('b'), 'utf8')).toBe('other')
    for (const name of ['a', 'c', 'd']) expect(readFileSync(attempts.path(name)).equals(data)).toBe(true)
    expect(attempts.published.sort()).toEqual(['a', 'd'])
  })

  test('where the first name is taken, the others are there all the same', async () => {
    const attempts = new Attempts()
    writeFileSync(attempts.path('a'), 'other')
    const store = await whole(attempts)
    expect([...(await store.publish(['a', 'b'].map(fileName))).keys()]).toEqual(['a'])
    expect(readFileSync(attempts.path('a'), 'utf8')).toBe('other')
    expect(readFileSync(attempts.path('b')).equals(data)).toBe(true)
    expect(attempts.files()).toEqual(['a', 'b'])
  })

  test('where all names are taken, what is there stays for another name', async () => {
    const attempts = new Attempts()
    for (const name of ['a', 'b']) writeFileSync(attempts.path(name), 'other')
    const store = await whole(attempts)
    await expect(store.publish(['a', 'b'].map(fileName))).rejects.toMatchObject({ code: 'conflict' })
    await store.publish([fileName('c')])
    expect(readFileSync(attempts.path('c')).equals(data)).toBe(true)
    expect(attempts.files()).toEqual(['a', 'b', 'c'])
  })
})

/** Whether this user may mount a disk of a few MiB. */
const disk = process.getuid?.() === 0 && spawnSync('unshare', ['-m', 'true']).status === 0
if (!disk) process.stderr.write('not root, or no mounting here: what a full disk does is not tested\n')

function smallDisk(options: string): string {
  const path = temporaryFolder()
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path])
  onTestFinished(() => void execFileSync('umount', ['-l', path]))
  return path
}

describe.runIf(disk)('on a disk that becomes full', () => {
  test('at any page, what was verified is kept, and the rest goes on where there is room again', async () => {
    const page = 4096
    const size = 2 * 1024 * 1024
    const frees = [0, 1, 2, 3, 4].flatMap((pieces) => [0, 1, 2, 3, 63].map((pages) => pieces * PIECE + pages * page))
    for (const free of [...frees, data.length - 1, data.length + 8 * page]) {
      const attempts = new Attempts(smallDisk(`size=${size}`))
      const opened: Hasher = sharedHasher()
      // The room is promised first, and then somebody else takes it.
      vi.spyOn(attempts.landing, 'reserve').mockImplementation(() => {})
      writeFileSync(attempts.path('.filler'), Buffer.alloc(size - free))
      const kept: number[] = []
      const fault = await fill(attempts, kept)
      if (free <= data.length) expect(fault, `${free}`).toMatchObject({ details: { reason: 'disk_full' } })
      else expect(fault).toBeUndefined()
      rmSync(attempts.path('.filler'))
      const store = await PieceStore.open({ landing: attempts.landing, hasher: opened }, manifest, signal)
      expect(
        kept.filter((index) => !store.has(index)),
        `${free}`,
      ).toEqual([])
      expect(store.damaged).toBe(0)
      await fetch(store, store.missing())
      await store.publish([fileName('whole')])
      expect(readFileSync(attempts.path('whole')).equals(data)).toBe(true)
    }
  })

  /** What ended an attempt. */
  async function fill(attempts: Attempts, kept: number[]): Promise<unknown> {
    let store: PieceStore | undefined
    try {
      store = await attempts.open()
      for (const index of store.missing()) {
        await fetch(store, [index])
        kept.push(index)
      }
      return undefined
    } catch (error) {
      return error
    } finally {
      await store?.close()
    }
  }

  test('a record that does not fit fails clearly, and the ones before it stay', () => {
    // 4088 bytes of header leave room for one record in its page.
    const long: Manifest = { id: manifest.id, size: 126 * PIECE, pieceSize: PIECE, hashes: Buffer.alloc(126 * 32, 7) }
    const root = smallDisk('size=64k')
    const fd = openSync(join(root, 'journal'), 'w+')
    onTestFinished(() => closeSync(fd))
    const journal = Journal.open(fd, long)
    expect(() => writeFileSync(join(root, 'filler'), Buffer.alloc(65_536))).toThrow('ENOSPC')
    journal.append([0])
    expect(() => journal.append([1, 2])).toThrow('ENOSPC')
    expect(fstatSync(fd).size).toBe(4096)
    rmSync(join(root, 'filler'))
    journal.append([2])
    expect(Journal.open(fd, long)).toMatchObject({ found: [0, 2], intact: true })
  })

  test('a further name for which there is no room is told of, and the first one is there', async () => {
    const attempts = new Attempts(smallDisk('size=2m'))
    const store = await attempts.open()
    await fetch(store, store.missing())
    const refused = await store.publish(['a', 'b'].map(fileName))
    expect(refused.get(fileName('b'))).toMatchObject({ code: 'unavailable', details: { reason: 'disk_full' } })
    expect(attempts.files()).toEqual(['a'])
    expect(readFileSync(attempts.path('a')).equals(data)).toBe(true)
  })
})
