import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import { contentIdOf, manifestOf } from '../../common/merkle.ts'
import type { Shelved, SmallFile } from '../transfer/contents.ts'
import { CatalogFixture, fileName, useSharedHasher } from './catalog.fixture.ts'

useSharedHasher()

const small = (name: string, text: string): SmallFile => {
  const data = Buffer.from(text)
  return { name: fileName(name), manifest: manifestOf(data), data }
}
const many = (count: number) => Array.from({ length: count }, (_, i) => small(`d${i % 7}/f${i}`, `content ${i}`))
const codes = (outcomes: readonly Shelved[]) => outcomes.map((o) => (typeof o === 'string' ? o : o.code))
const hidden = (folder: CatalogFixture) => readdirSync(folder.root).filter((name) => name.startsWith('.'))

test('a batch is on disk and shared when it has landed, in one batch of changes, and is never hashed', async () => {
  const folder = new CatalogFixture()
  const catalog = await folder.start()
  const changes: number[] = []
  catalog.onChange(({ added }) => changes.push(added.length))
  const files = many(300)
  expect(new Set(await catalog.landAll(files))).toEqual(new Set(['landed']))
  expect(changes).toEqual([300])
  for (const { name, data, manifest } of files) {
    expect(readFileSync(folder.path(name)).equals(data)).toBe(true)
    expect(catalog.get(name)?.id).toBe(manifest.id)
  }
  await catalog.refresh()
  expect([catalog.hashed, catalog.size, hidden(folder)]).toEqual([0, 300, []])
  await folder.restart()
  expect([folder.catalog.hashed, folder.catalog.size]).toEqual([0, 300])
})

test('an empty file lands', async () => {
  const folder = new CatalogFixture()
  const catalog = await folder.start()
  expect(await catalog.landAll([small('a/empty', '')])).toEqual(['landed'])
  expect(statSync(folder.path('a/empty')).size).toBe(0)
  expect(catalog.open(catalog.get(fileName('a/empty'))!.id).size).toBe(0)
})

test('what stands under a name stays, and is told apart by its content; the rest of the batch lands', async () => {
  const folder = new CatalogFixture()
  folder.write('d/other', 'something else')
  folder.write('d/same', 'same')
  const catalog = await folder.start()
  const outcomes = await catalog.landAll([small('d/other', 'new'), small('d/same', 'same'), small('d/free', 'free')])
  expect(codes(outcomes)).toEqual(['conflict', 'here', 'landed'])
  expect(readFileSync(folder.path('d/other'), 'utf8')).toBe('something else')
  expect(hidden(folder)).toEqual([])
})

test('a file where a folder has to be, and a folder where a file has to be, refuse one file each', async () => {
  const folder = new CatalogFixture()
  const catalog = await folder.start()
  const outcomes = await catalog.landAll([
    small('a', 'file'),
    small('a/b', 'below it'),
    small('c/d', 'x'),
    small('c', 'y'),
  ])
  expect(codes(outcomes)).toEqual(['landed', 'conflict', 'landed', 'conflict'])
  expect(hidden(folder)).toEqual([])
})

test('no link is followed out of the folder', async () => {
  const folder = new CatalogFixture()
  const outside = join(folder.base, 'outside')
  mkdirSync(outside)
  mkdirSync(folder.root, { recursive: true })
  symlinkSync(outside, folder.path('d'))
  writeFileSync(join(outside, 'target'), 'untouched')
  symlinkSync(join(outside, 'target'), folder.path('link'))
  const catalog = await folder.start()
  const outcomes = await catalog.landAll([small('d/f', 'x'), small('link', 'x'), small('ok', 'x')])
  expect(codes(outcomes)).toEqual(['conflict', 'conflict', 'landed'])
  expect(readdirSync(outside)).toEqual(['target'])
  expect(readFileSync(join(outside, 'target'), 'utf8')).toBe('untouched')
})

test('two names of one content are two files', async () => {
  const folder = new CatalogFixture()
  const catalog = await folder.start()
  await catalog.landAll([small('a', 'same'), small('b', 'same')])
  expect(statSync(folder.path('a')).ino).not.toBe(statSync(folder.path('b')).ino)
  expect(catalog.byId(contentIdOf(Buffer.from('same'))).map(({ name }) => name)).toEqual(['a', 'b'])
})

test('a batch that can not be written leaves nothing behind', async () => {
  const folder = new CatalogFixture()
  const catalog = await folder.start()
  const broken = { ...small('b', 'x'), data: null as unknown as Buffer }
  await expect(catalog.landAll([small('a', 'x'), broken])).rejects.toThrow(NetworkError)
  expect(readdirSync(folder.root)).toEqual([])
})

test('what a killed process left of a batch is removed at the next start', async () => {
  const folder = new CatalogFixture()
  folder.write('.p2p-batch-0-1.part', 'half')
  folder.write('.p2p-other', 'not ours')
  await folder.start()
  expect(hidden(folder)).toEqual(['.p2p-other'])
})
