import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { fold } from '../../common/folding.ts'
import { type ContentId, type FileName, parseFileName, parsePeerId } from '../../common/ids.ts'
import { sha256 } from '../../common/merkle.ts'
import type { FileEntry } from '../../common/schemas.ts'
import { trigrams, wholeWordGrams } from '../trigrams.ts'
import type { DirectoryStore, Registration } from './store.ts'

const NOW = 1_000_000
const LEASE = 1000
const TERM = { now: NOW, expiresAt: NOW + LEASE }
const OVER = NOW + LEASE
const MANY = 1_000_000

export function file(name: string, content?: string): FileEntry {
  return content === undefined
    ? { name: parseFileName(name), size: null, id: null }
    : { name: parseFileName(name), size: content.length, id: idOf(content) }
}

function idOf(content: string): ContentId {
  return sha256(Buffer.from(content)).toString('hex') as ContentId
}

function registration(id: string, files: FileEntry[], over: Partial<Registration> = {}): Registration {
  return { id: parsePeerId(id), rest: `http://${id}:8000`, grpcPort: 50051, revision: 1, files, ...over }
}

const P1 = parsePeerId('P1')
const name = (text: string) => parseFileName(text)

/** What every directory store does. `open(path)` opens the same store again for the same path. */
export function directoryStoreContract(open: (folder: string) => DirectoryStore, folderOf: () => string): void {
  let store: DirectoryStore
  let folder: string

  beforeEach(() => {
    folder = folderOf()
    store = open(folder)
  })
  afterEach(() => store.close())

  const locate = async (text: string, now = NOW) => (await store.locateName(name(text), now, 100)).map((p) => p.peer)
  const register = (id: string, files: FileEntry[], over: Partial<Registration> = {}) =>
    store.register(registration(id, files, over), TERM, MANY)
  const sweep = async () => {
    while ((await store.sweep(3)) > 0);
  }

  describe('register', () => {
    it('makes every file locatable by name and by content', async () => {
      expect(await register('P1', [file('a.txt', 'A'), file('b.txt')])).toEqual({
        kind: 'done',
        files: 2,
        renewed: false,
      })
      expect(await store.locateName(name('a.txt'), NOW, 100)).toEqual([
        { peer: 'P1', rest: 'http://P1:8000', grpc_port: 50051, id: idOf('A'), size: 1 },
      ])
      expect(await store.locateName(name('b.txt'), NOW, 100)).toMatchObject([{ peer: 'P1', id: null, size: null }])
      expect(await store.locateContent(idOf('A'), NOW, 100)).toMatchObject([{ peer: 'P1', file: 'a.txt', size: 1 }])
      expect(await store.locateContent(idOf('nobody'), NOW, 100)).toEqual([])
    })

    it('replaces everything that the peer offered before', async () => {
      await register('P1', [file('old.txt', 'old'), file('kept.txt', 'x')])
      expect(await register('P1', [file('kept.txt', 'y'), file('new.txt')])).toMatchObject({ files: 2, renewed: true })
      await sweep()
      expect(await locate('old.txt')).toEqual([])
      expect(await store.locateContent(idOf('x'), NOW, 100)).toEqual([])
      expect(await store.locateContent(idOf('y'), NOW, 100)).toHaveLength(1)
      expect(await locate('new.txt')).toEqual(['P1'])
    })

    it('keeps the last of two entries with one name', async () => {
      expect(await register('P1', [file('a.txt', 'first'), file('a.txt', 'second')])).toMatchObject({ files: 1 })
      expect(await store.locateName(name('a.txt'), NOW, 100)).toMatchObject([{ id: idOf('second') }])
    })

    it('refuses the id of a live peer at another address, and changes nothing', async () => {
      await register('P1', [file('a.txt')])
      expect(await register('P1', [file('evil.txt')], { rest: 'http://evil:1' })).toEqual({
        kind: 'taken',
        rest: 'http://P1:8000',
      })
      expect(await locate('a.txt')).toEqual(['P1'])
      expect(await locate('evil.txt')).toEqual([])
    })

    it('gives an id whose lease is over to another address', async () => {
      await register('P1', [file('a.txt')])
      const later = { now: OVER, expiresAt: OVER + LEASE }
      const moved = registration('P1', [file('b.txt')], { rest: 'http://moved:1' })
      expect(await store.register(moved, later, MANY)).toMatchObject({ kind: 'done', renewed: false })
      expect(await store.locateName(name('b.txt'), OVER, 100)).toMatchObject([{ rest: 'http://moved:1' }])
    })

    it('refuses a new peer beyond the maximum, but not a known one', async () => {
      await register('P1', [])
      expect(await store.register(registration('P2', []), TERM, 1)).toEqual({ kind: 'full' })
      expect(await store.register(registration('P1', []), TERM, 1)).toMatchObject({ kind: 'done' })
    })

    it('takes both of two registrations of one id at the same moment, the later one last', async () => {
      await Promise.all([register('P1', [file('a.txt')]), register('P1', [file('b.txt')])])
      expect([await locate('a.txt'), await locate('b.txt')]).toEqual([[], ['P1']])
    })
  })

  it('answers by what is true now, however often it was asked before', async () => {
    const P2 = parsePeerId('P2')
    const who = async () =>
      (await store.locateName(name('a.txt'), NOW, 100)).map(({ peer, id }) => [peer, id]).sort() as unknown
    const told = async (...expected: [string, string][]) => {
      for (let i = 0; i < 2; i++) expect(await who()).toEqual(expected.map(([peer, text]) => [peer, idOf(text)]))
    }
    await register('P1', [file('a.txt', 'one')])
    await told(['P1', 'one'])
    await store.patch(P1, { from: 1, to: 2, add: [file('a.txt', 'two')], remove: [] }, TERM, MANY)
    await told(['P1', 'two'])
    await register('P2', [file('a.txt', 'two')])
    await told(['P1', 'two'], ['P2', 'two'])
    await store.withdraw(P1, NOW)
    await told(['P2', 'two'])
    await sweep()
    await told(['P2', 'two'])
    await store.patch(P2, { from: 1, to: 2, add: [], remove: [name('a.txt')] }, TERM, MANY)
    await told()
    await register('P3', [file('a.txt', 'three')])
    await told(['P3', 'three'])
    await register('P3', [])
    await told()
  })

  describe('leases', () => {
    it('end to the millisecond for every read', async () => {
      await register('P1', [file('a.txt', 'A')])
      expect(await locate('a.txt', OVER - 1)).toEqual(['P1'])
      expect(await locate('a.txt', OVER)).toEqual([])
      expect(await store.locateContent(idOf('A'), OVER, 100)).toEqual([])
      expect(await store.peers('', 10, OVER)).toEqual([])
      expect(await store.providersOf(1, OVER, 10)).toEqual({ count: 0, providers: [] })
      expect(await store.counts(OVER - 1)).toEqual({ peers: 1, files: 1 })
      expect(await store.counts(OVER)).toEqual({ peers: 0, files: 0 })
    })

    it('are renewed by their revision only', async () => {
      await register('P1', [file('a.txt')])
      const renewal = { now: NOW + 1, expiresAt: OVER + 500 }
      expect(await store.renew(P1, 2, renewal)).toEqual({ kind: 'stale', revision: 1 })
      expect(await store.renew(P1, 1, renewal)).toEqual({ kind: 'done', files: 1 })
      expect(await locate('a.txt', OVER + 499)).toEqual(['P1'])
      expect((await store.peers('', 1, NOW))[0]?.lastSeen).toBe(NOW + 1)
    })

    it('are gone once over or withdrawn', async () => {
      await register('P1', [file('a.txt')])
      expect(await store.renew(P1, 1, { now: OVER, expiresAt: OVER + LEASE })).toEqual({ kind: 'gone' })
      expect(await store.withdraw(P1, NOW)).toBe(true)
      expect(await store.withdraw(P1, NOW)).toBe(false)
      expect(await locate('a.txt')).toEqual([])
      expect(await store.renew(P1, 1, TERM)).toEqual({ kind: 'gone' })
    })

    it('that are over are not withdrawn: they expire, so that it is told', async () => {
      await register('P1', [])
      expect(await store.withdraw(P1, OVER)).toBe(false)
      expect(await store.expire(OVER, MANY)).toEqual(['P1'])
    })

    it('are told once when they expire', async () => {
      await register('P1', [])
      await register('P2', [])
      await store.renew(P1, 1, { now: NOW, expiresAt: OVER + 1 })
      expect(await store.expire(OVER, MANY)).toEqual(['P2'])
      expect(await store.expire(OVER, MANY)).toEqual([])
      expect(await store.expire(OVER + 1, MANY)).toEqual(['P1'])
    })

    it('expire a few at a time', async () => {
      for (const id of ['P1', 'P2', 'P3']) await register(id, [])
      const first = await store.expire(OVER, 2)
      expect(first).toHaveLength(2)
      expect([...first, ...(await store.expire(OVER, 2))].sort()).toEqual(['P1', 'P2', 'P3'])
    })
  })

  describe('patch', () => {
    const change = (over: { from?: number; to?: number; add?: FileEntry[]; remove?: FileName[] }) => ({
      from: 1,
      to: 2,
      add: [],
      remove: [],
      ...over,
    })

    it('adds, replaces and removes, and counts right', async () => {
      await register('P1', [file('a.txt', 'A'), file('b.txt', 'B')])
      const add = [file('b.txt', 'B2'), file('c.txt')]
      const remove = [name('a.txt'), name('never.txt')]
      expect(await store.patch(P1, change({ add, remove }), TERM, MANY)).toEqual({ kind: 'done', files: 2 })
      expect([await locate('a.txt'), await locate('b.txt'), await locate('c.txt')]).toEqual([[], ['P1'], ['P1']])
      expect(await store.locateContent(idOf('B2'), NOW, 100)).toHaveLength(1)
      expect(await store.counts(NOW)).toEqual({ peers: 1, files: 2 })
    })

    it('renews the lease', async () => {
      await register('P1', [file('a.txt')])
      await store.patch(P1, change({}), { now: NOW, expiresAt: OVER + 5 }, MANY)
      expect(await locate('a.txt', OVER)).toEqual(['P1'])
    })

    it('changes nothing from another revision, nor for a peer without a lease', async () => {
      await register('P1', [])
      const add = [file('a.txt')]
      expect(await store.patch(P1, change({ from: 3, to: 4, add }), TERM, MANY)).toEqual({ kind: 'stale', revision: 1 })
      expect(await store.patch(parsePeerId('P9'), change({ add }), TERM, MANY)).toEqual({ kind: 'gone' })
      expect(await locate('a.txt')).toEqual([])
    })

    it('refuses more files than a peer may have, counting what is replaced and removed', async () => {
      await register('P1', [file('a.txt'), file('b.txt')])
      const tooMany = change({ add: [file('c.txt')] })
      expect(await store.patch(P1, tooMany, TERM, 2)).toEqual({ kind: 'too_many', files: 3 })
      expect(await locate('c.txt')).toEqual([])
      const swap = change({ add: [file('b.txt'), file('c.txt')], remove: [name('a.txt')] })
      expect(await store.patch(P1, swap, TERM, 2)).toEqual({ kind: 'done', files: 2 })
    })

    it('takes parts of one change from a revision to itself', async () => {
      await register('P1', [], { revision: 0 })
      await store.patch(P1, change({ from: 0, to: 0, add: [file('a.txt')] }), TERM, MANY)
      expect(await store.patch(P1, change({ from: 0, to: 7, add: [file('b.txt')] }), TERM, MANY)).toMatchObject({
        files: 2,
      })
      expect(await store.renew(P1, 7, TERM)).toEqual({ kind: 'done', files: 2 })
    })
  })

  describe('hint', () => {
    const change = { from: 1, to: 2, add: [file('b.txt', 'B')], remove: [name('a.txt')] }

    it('applies what others heard of a peer, as a patch would', async () => {
      await register('P1', [file('a.txt', 'A')])
      expect(await store.hint(P1, change, NOW, MANY)).toEqual({ kind: 'done', files: 1 })
      expect([await locate('a.txt'), await locate('b.txt')]).toEqual([[], ['P1']])
      expect(await store.renew(P1, 2, TERM)).toEqual({ kind: 'done', files: 1 })
    })

    it('neither opens nor renews a lease', async () => {
      expect(await store.hint(P1, change, NOW, MANY)).toEqual({ kind: 'gone' })
      await register('P1', [file('a.txt', 'A')])
      await store.hint(P1, change, NOW + 1, MANY)
      expect((await store.peer(P1, NOW + 1))?.lastSeen).toBe(NOW)
      expect(await locate('b.txt', OVER - 1)).toEqual(['P1'])
      expect(await locate('b.txt', OVER)).toEqual([])
      expect(await store.hint(P1, { ...change, from: 2, to: 3 }, OVER, MANY)).toEqual({ kind: 'gone' })
    })

    it('changes nothing from another revision, nor beyond the files that a peer may have', async () => {
      await register('P1', [file('a.txt', 'A')])
      expect(await store.hint(P1, { ...change, from: 0 }, NOW, MANY)).toEqual({ kind: 'stale', revision: 1 })
      expect(await store.hint(P1, { ...change, remove: [] }, NOW, 1)).toEqual({ kind: 'too_many', files: 2 })
      expect([await locate('a.txt'), await locate('b.txt')]).toEqual([['P1'], []])
    })
  })

  describe('names', () => {
    it('are found by the trigrams of their words until nobody offers them', async () => {
      await register('P1', [file('Música/canción.mp3'), file('other.txt')])
      await register('P2', [file('Música/canción.mp3')])
      const found = async () =>
        (await store.namesWithGrams(trigrams('cancion'), 0, MANY, 10)).map((row) => row.name as string)
      expect(await found()).toEqual(['Música/canción.mp3'])
      await store.withdraw(P1, NOW)
      await sweep()
      expect(await found()).toEqual(['Música/canción.mp3'])
      expect(await store.namesWithGrams(wholeWordGrams('other'), 0, MANY, 10)).toEqual([])
      await store.patch(
        parsePeerId('P2'),
        { from: 1, to: 2, add: [], remove: [name('Música/canción.mp3')] },
        TERM,
        MANY,
      )
      expect(await found()).toEqual([])
      expect(await store.names('', 10)).toEqual([])
    })

    it('come by their bytes, page by page', async () => {
      await register(
        'P1',
        ['b', 'a', 'Z', 'é'].map((text) => file(text)),
      )
      const first = await store.names('', 3)
      expect(first.map((row) => row.name)).toEqual(['Z', 'a', 'b'])
      expect((await store.names('b', 3)).map((row) => row.name)).toEqual(['é'])
    })

    it('are found by their beginning, in any case, the shortest first, page by page', async () => {
      const names = ['Ab', 'AB', 'ab', 'ábc', 'abc', 'AbD', 'b', 'aa', '\u{1f3ac}ab']
      await register(
        'P1',
        names.map((text) => file(text)),
      )
      const all = await store.namesBeginning('ab', undefined, 10)
      expect(all.map((row) => row.folded)).toEqual(['ab', 'ab', 'ab', 'abc', 'abc', 'abd'])
      const paged: string[] = []
      for (let last = all[0]; last !== undefined; ) {
        paged.push(last.name)
        last = (await store.namesBeginning('ab', last, 1))[0]
      }
      expect(paged).toEqual(all.map((row) => row.name))
      expect(all.every((row) => fold(row.name) === row.folded)).toBe(true)
    })

    it('are found by a part of any length in a range of keys', async () => {
      await register('P1', [file('x1y.txt'), file('abc.txt'), file('X1.bin')])
      const rows = await store.namesContaining('x1', 0, await store.lastNameKey(), 10)
      expect(rows.map((row) => row.name)).toEqual(['x1y.txt', 'X1.bin'])
      expect(await store.namesContaining('x1', rows[0]!.key, rows[1]!.key - 1, 10)).toEqual([])
    })

    it('may look like the syntax of a search', async () => {
      await register('P1', [file('a"b OR c* NEAR(d).txt')])
      expect(await store.namesWithGrams(['"*"', 'a"b', 'OR '], 0, MANY, 10)).toEqual([])
      expect(await locate('a"b OR c* NEAR(d).txt')).toEqual(['P1'])
    })
  })

  it('sweeps ended leases in steps of bounded size, and then rests', async () => {
    await register(
      'P1',
      Array.from({ length: 10 }, (_, i) => file(`f${i}`)),
    )
    await register('P2', [file('f1')])
    await store.withdraw(P1, NOW)
    const steps: number[] = []
    for (let rows = -1; rows !== 0; ) {
      rows = await store.sweep(4)
      steps.push(rows)
    }
    expect(Math.max(...steps)).toBeLessThanOrEqual(5)
    expect((await store.names('', 100)).map((row) => row.name)).toEqual(['f1'])
  })

  it('lists live peers by id, page by page, with some of their names', async () => {
    for (const id of ['b', 'a', 'c', 'd']) await register(id, [file(`${id}1`), file(`${id}2`), file(`${id}3`)])
    await store.withdraw(parsePeerId('b'), NOW)
    const first = await store.peers('', 2, NOW)
    expect(first).toMatchObject([
      { id: 'a', rest: 'http://a:8000', grpcPort: 50051, revision: 1, files: 3, lastSeen: NOW },
      { id: 'c' },
    ])
    expect((await store.peers('c', 2, NOW)).map((peer) => peer.id)).toEqual(['d'])
    expect(await store.namesOf(parsePeerId('a'), 2)).toHaveLength(2)
  })

  it('knows a live peer by its id', async () => {
    await register('P1', [file('a.txt')])
    expect(await store.peer(P1, NOW)).toMatchObject({ id: 'P1', rest: 'http://P1:8000', grpcPort: 50051, files: 1 })
    expect(await store.peer(P1, OVER)).toBeUndefined()
    expect(await store.peer(parsePeerId('P2'), NOW)).toBeUndefined()
  })

  it('names other providers each time where there are more than asked for', async () => {
    const ids = Array.from({ length: 300 }, (_, i) => `p${i}`)
    await Promise.all(ids.map((id) => register(id, [file('popular.iso', 'bytes')])))
    await Promise.all(ids.slice(0, 150).map((id) => store.withdraw(parsePeerId(id), NOW)))
    const seen = new Set<string>()
    for (let i = 0; i < 40; i++) {
      const byName = await store.locateName(name('popular.iso'), NOW, 20)
      const byContent = await store.locateContent(idOf('bytes'), NOW, 20)
      expect([new Set(byName.map((p) => p.peer)).size, byContent.length]).toEqual([20, 20])
      for (const { peer } of [...byName, ...byContent]) seen.add(peer)
    }
    expect(seen.size).toBeGreaterThan(60)
    expect([...seen].filter((id) => Number(id.slice(1)) < 150)).toEqual([])
    expect(await store.locateName(name('popular.iso'), NOW, 1000)).toHaveLength(150)
  })

  describe('opened again', () => {
    const reopen = async () => {
      await store.close()
      store = open(folder)
    }

    it('holds every registration, whose leases begin anew', async () => {
      await register('P1', [file('a.txt', 'A')], { revision: 4 })
      await register('P2', [file('b.txt')])
      await store.withdraw(parsePeerId('P2'), NOW)
      await reopen()
      await store.extendLeases(NOW + 9 * LEASE)
      expect(await locate('a.txt', NOW + 9 * LEASE - 1)).toEqual(['P1'])
      expect(await locate('b.txt')).toEqual([])
      expect(await store.renew(P1, 4, { now: NOW, expiresAt: NOW + 20 * LEASE })).toEqual({ kind: 'done', files: 1 })
    })

    it('never shortens a lease', async () => {
      await register('P1', [file('a.txt')])
      await store.extendLeases(NOW + 1)
      expect(await locate('a.txt', OVER - 1)).toEqual(['P1'])
    })

    it('goes on with the sweep', async () => {
      await register('P1', [file('a.txt')])
      await store.withdraw(P1, NOW)
      await reopen()
      await sweep()
      expect(await store.names('', 10)).toEqual([])
    })
  })

  it('says its size', async () => {
    await register('P1', [file('a.txt')])
    expect(await store.size()).toBeGreaterThan(0)
  })
}
