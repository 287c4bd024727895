import { expect, test } from 'vitest'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { FolderProvider } from './folder-listing.ts'
import type { Wanted } from './folder-plan.ts'
import { Shares } from './folder-shares.ts'

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
  const shares = new Shares([content('a', 1, both), content('b', 1, one), content('c', 1, both), content('d', 1, one)])
  expect(ids(shares.take(p1, { ...all, count: 3 }))).toEqual(['b', 'd', 'a'])
  expect(ids(shares.take(p2, all))).toEqual(['c'])
  expect([shares.has(p1), shares.has(p2), shares.left()]).toEqual([false, false, []])
})

test('a share is bounded in bytes, but for one content', () => {
  const one = [p1]
  const shares = new Shares([content('a', 5, one), content('b', 6, one), content('c', 20, one)])
  const take = () => ids(shares.take(p1, { bytes: 10, count: 100 }))
  expect([take(), take(), take(), take()]).toEqual([['a'], ['b'], ['c'], []])
})

test('what is given back is there for the others', () => {
  const both = [p1, p2]
  const shares = new Shares([content('a', 1, both), content('b', 1, both)])
  shares.giveBack(shares.take(p1, all))
  shares.drop(p1)
  expect([ids(shares.take(p1, all)), shares.has(p1)]).toEqual([[], false])
  expect(ids(shares.take(p2, all)).sort()).toEqual(['a', 'b'])
})

test('what one refuses, another is asked for, until nobody is left', () => {
  const shares = new Shares([content('a', 1, [p1, p2, p3])])
  expect(shares.refused(shares.take(p1, all)[0]!, p1)).toBe(true)
  expect(shares.has(p1)).toBe(false)
  shares.drop(p3)
  expect(shares.refused(shares.take(p2, all)[0]!, p2)).toBe(false)
  expect(shares.left()).toEqual([])
})

test('what only dropped ones have is left', () => {
  const shares = new Shares([content('a', 1, [p1]), content('b', 1, [p2])])
  shares.drop(p1)
  expect([shares.providers, ids(shares.left())]).toEqual([[p2], ['a', 'b']])
})
