import { expect, test } from 'vitest'
import { pagesOf } from './paging.ts'

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
