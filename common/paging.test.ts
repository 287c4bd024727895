import { expect, test } from 'vitest'
import { folderRange, pagesOf } from './paging.ts'

/** A list whose pages have these cursors. */
async function cursorsAskedFor(nexts: (string | null)[]): Promise<(string | undefined)[]> {
  const asked: (string | undefined)[] = []
  for await (const _ of pagesOf(async (after) => ({ next: nexts[asked.push(after) - 1]! })));
  return asked
}

test('each page is asked for by the cursor of the one before, until there is none', async () => {
  expect(await cursorsAskedFor(['a', 'b', null])).toEqual([undefined, 'a', 'b'])
})

test('a cursor that stands still ends the paging', async () => {
  expect(await cursorsAskedFor(['a', 'a', 'a'])).toEqual([undefined, 'a'])
})

test('a folder is a range of names: its neighbours in the order of bytes are not in it', () => {
  const { from, holds } = folderRange('a')
  const names = ['a', 'a-b', 'a.b/c', 'a/.x', 'a/b', 'a/b/c', 'a/é', 'a0', 'a0/b', 'b/a']
  expect(names.filter((name) => name > from(undefined) && holds(name))).toEqual(['a/.x', 'a/b', 'a/b/c', 'a/é'])
  expect(names.filter((name) => name > from('a/b') && holds(name))).toEqual(['a/b/c', 'a/é'])
})

test('a cursor from outside the folder begins at its beginning', () => {
  const { from } = folderRange('a')
  expect([from('Z'), from('b/c'), from('a/b')]).toEqual(['a/', 'a/', 'a/b'])
})

test('without a folder all names are in the range', () => {
  const { from, holds } = folderRange(undefined)
  expect([from(undefined), from('x'), holds('x'), holds('a/b')]).toEqual(['', 'x', true, true])
})
