import { expect, test } from 'vitest'
import type { ContentId, FileName, PeerId } from '../../../common/ids.ts'
import type { FolderProvider } from './listing.ts'
import type { Wanted } from './plan.ts'
import { WorkQueue } from './work-queue.ts'

const provider = (peer: string): FolderProvider => ({ peer: peer as PeerId, rest: `http://${peer}`, grpc_port: 1 })
const [p1, p2, p3] = [provider('P1'), provider('P2'), provider('P3')]
const content = (name: string, size: number, providers: readonly FolderProvider[]): Wanted => ({
  id: name as ContentId,
  size,
  names: [name as FileName],
  providers,
})
const ids = (contents: readonly Wanted[]) => contents.map(({ id }) => id as string)
const all = { bytes: Number.POSITIVE_INFINITY, count: 100 }

test('each content is given to one provider, what is rare first, and in the order of the list', () => {
  const [one, both] = [[p1], [p1, p2]]
  const queue = new WorkQueue([
    content('a', 1, both),
    content('b', 1, one),
    content('c', 1, both),
    content('d', 1, one),
  ])
  expect(ids(queue.take(p1, { ...all, count: 3 }))).toEqual(['b', 'd', 'a'])
  expect(ids(queue.take(p2, all))).toEqual(['c'])
  expect([queue.has(p1), queue.has(p2), queue.left()]).toEqual([false, false, []])
})

test('what is taken at once is bounded in bytes, but for one content', () => {
  const one = [p1]
  const queue = new WorkQueue([content('a', 5, one), content('b', 6, one), content('c', 20, one)])
  const take = () => ids(queue.take(p1, { bytes: 10, count: 100 }))
  expect([take(), take(), take(), take()]).toEqual([['a'], ['b'], ['c'], []])
})

test('what is given back is there for the others', () => {
  const both = [p1, p2]
  const queue = new WorkQueue([content('a', 1, both), content('b', 1, both)])
  queue.giveBack(queue.take(p1, all))
  queue.drop(p1)
  expect([ids(queue.take(p1, all)), queue.has(p1)]).toEqual([[], false])
  expect(ids(queue.take(p2, all)).sort()).toEqual(['a', 'b'])
})

test('what one refuses, another is asked for, until nobody is left', () => {
  const queue = new WorkQueue([content('a', 1, [p1, p2, p3])])
  expect(queue.refused(queue.take(p1, all)[0]!, p1)).toBe(true)
  expect(queue.has(p1)).toBe(false)
  queue.drop(p3)
  expect(queue.refused(queue.take(p2, all)[0]!, p2)).toBe(false)
  expect(queue.left()).toEqual([])
})

test('what only dropped ones have is left', () => {
  const queue = new WorkQueue([content('a', 1, [p1]), content('b', 1, [p2])])
  queue.drop(p1)
  expect([queue.providers, ids(queue.left())]).toEqual([[p2], ['a', 'b']])
})
