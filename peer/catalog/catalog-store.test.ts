import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { describe, expect, test } from 'vitest'
import { manifestOf } from '../../common/merkle.ts'
import { fileName, recordingLog, temporaryFolder } from './catalog.fixture.ts'
import { type CatalogFile, CatalogStore } from './catalog-store.ts'

const manifest = manifestOf(Buffer.from('some content'))
const file = (name: string, inode = 1n): CatalogFile => ({
  name: fileName(name),
  path: name,
  id: manifest.id,
  size: manifest.size,
  mtimeNs: 1_700_000_000_123_456_789n,
  ctimeNs: 1_700_000_000_123_456_790n,
  bornNs: 1n,
  inode,
  dev: -5n,
})
const put = (...files: CatalogFile[]) => ({ removed: [], put: files, manifests: [manifest] })

describe('the catalog store', () => {
  test('gives back after a restart what was put, to the nanosecond', () => {
    const dir = join(temporaryFolder(), 'made/on/the/way')
    const { log } = recordingLog()
    const store = CatalogStore.open(dir, log)
    expect(store.revision).toBe(1)
    store.apply(put(file('b'), file('a/c'), file('é', 2n ** 63n - 1n)))
    store.apply({ removed: [fileName('b')], put: [], manifests: [] })
    store.touch([{ ...file('a/c'), ctimeNs: 7n }])
    store.close()
    const again = CatalogStore.open(dir, log)
    expect([...again.files()]).toEqual([{ ...file('a/c'), ctimeNs: 7n }, file('é', 2n ** 63n - 1n)])
    expect(again.revision).toBe(3)
    expect(again.bytes).toBe(2 * manifest.size)
    expect(again.manifest(manifest.id)).toEqual(manifest)
    again.close()
  })

  test('pages through names in order', () => {
    const store = CatalogStore.open(temporaryFolder(), recordingLog().log)
    store.apply(put(file('c'), file('a'), file('b'), file('B')))
    expect(store.list('', 2).map(({ name }) => name)).toEqual(['B', 'a'])
    expect(store.list('a', 10).map(({ name }) => name)).toEqual(['b', 'c'])
    store.close()
  })

  test('knows a file by its stamp under whatever name, and no other file', () => {
    const store = CatalogStore.open(temporaryFolder(), recordingLog().log)
    store.apply(put(file('a', 12n)))
    expect(store.contentOfFile({ ...file('x', 12n), ctimeNs: 99n })).toBe(manifest.id)
    for (const other of [{ inode: 13n }, { dev: 1n }, { size: 1 }, { mtimeNs: 1n }, { bornNs: 2n }])
      expect(store.contentOfFile({ ...file('x', 12n), ...other })).toBeUndefined()
    store.close()
  })

  test('forgets piece hashes that nothing needs', () => {
    const store = CatalogStore.open(temporaryFolder(), recordingLog().log)
    store.apply(put(file('a')))
    store.prune(new Set())
    expect(store.hasContent(manifest.id)).toBe(true)
    store.apply({ removed: [fileName('a')], put: [], manifests: [] })
    store.prune(new Set([manifest.id]))
    expect(store.hasContent(manifest.id)).toBe(true)
    store.prune(new Set())
    expect(store.hasContent(manifest.id)).toBe(false)
    store.close()
  })

  test.each([
    ['is no database', () => Buffer.from('not a database at all, but long enough to be looked at'.repeat(100))],
    ['has a damaged page', (good: Buffer) => Buffer.from(good).fill(0xff, 4096, 12_000)],
    ['has a damaged header', (good: Buffer) => Buffer.from(good).fill(0, 0, 40)],
  ])('is moved aside and made anew where it %s', (_, damage) => {
    const dir = temporaryFolder()
    const { log, lines } = recordingLog()
    const store = CatalogStore.open(dir, log)
    store.apply(put(file('a')))
    store.close()
    const path = join(dir, 'catalog.db')
    writeFileSync(path, damage(readFileSync(path)))
    const again = CatalogStore.open(dir, log)
    expect(again.size).toBe(0)
    again.apply(put(file('b')))
    again.close()
    expect(readdirSync(dir).some((name) => name.startsWith('catalog.db.damaged-'))).toBe(true)
    expect(lines.join()).toContain('damaged')
  })

  test('of a later version of the program is moved aside', () => {
    const dir = temporaryFolder()
    const db = new Database(join(dir, 'catalog.db'))
    db.pragma('user_version = 99')
    db.close()
    const store = CatalogStore.open(dir, recordingLog().log)
    expect(store.revision).toBe(1)
    store.close()
  })

  test('is refused to a second agent', () => {
    const dir = temporaryFolder()
    const store = CatalogStore.open(dir, recordingLog().log)
    expect(() => CatalogStore.open(dir, recordingLog().log)).toThrow(
      expect.objectContaining({ code: 'conflict', message: expect.stringContaining('another agent') }),
    )
    store.close()
  })

  test('that can not be made says where', () => {
    const dir = temporaryFolder()
    writeFileSync(join(dir, 'file'), '')
    expect(() => CatalogStore.open(join(dir, 'file/state'), recordingLog().log)).toThrow(join(dir, 'file/state'))
    mkdirSync(join(dir, 'state/catalog.db'), { recursive: true })
    expect(() => CatalogStore.open(join(dir, 'state'), recordingLog().log)).toThrow(/catalog|state/)
  })
})
