import { expect, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { FileEntry } from '../../common/schemas.ts'
import type { CatalogEvent } from '../catalog/change-feed.ts'
import { FileEvents } from './file-events.ts'

const idOf = (digit: string) => digit.repeat(64) as ContentId
const name = (text: string) => text as FileName
const entry = (file: string, digit: string): FileEntry => ({ name: name(file), size: 1, id: idOf(digit) })
const change = (to: number, added: FileEntry[], removed: Record<string, string> = {}): CatalogEvent => ({
  from: to - 1,
  to,
  added,
  removed: Object.keys(removed).map(name),
  before: new Map(Object.entries(removed).map(([file, digit]) => [name(file), idOf(digit)])),
})

function world() {
  const clock = new ManualClock()
  return { clock, events: new FileEvents({ clock }) }
}

test('all changes of a batch but the last leave the revision where it is', () => {
  const { events } = world()
  const drafts = events.draftsOf(change(5, [entry('b', '2'), entry('c', '3')], { a: '1' }))
  expect(drafts).toEqual([
    { type: 'file.removed', data: { name: 'a', revision: { from: 4, to: 4, part: 1 } } },
    { type: 'file.added', data: { name: 'b', id: idOf('2'), size: 1, revision: { from: 4, to: 4, part: 2 } } },
    { type: 'file.added', data: { name: 'c', id: idOf('3'), size: 1, revision: { from: 4, to: 5, part: 3 } } },
  ])
})

test('a content that changes its name in one batch is one event', () => {
  const { events } = world()
  expect(events.draftsOf(change(2, [entry('b', '1')], { a: '1' }))).toEqual([
    {
      type: 'file.renamed',
      data: { name: 'b', from: 'a', id: idOf('1'), size: 1, revision: { from: 1, to: 2, part: 1 } },
    },
  ])
})

test('a content that was removed and is soon there again under another name was renamed', () => {
  const { clock, events } = world()
  events.draftsOf(change(2, [], { a: '1' }))
  clock.advance(3000)
  expect(events.draftsOf(change(3, [entry('b', '1')]))).toMatchObject([
    { type: 'file.renamed', data: { name: 'b', from: 'a' } },
  ])
  expect(events.draftsOf(change(4, [entry('c', '1')]))).toMatchObject([{ type: 'file.added' }])
})

test('a content that comes back late, or under its old name, was added', () => {
  const { clock, events } = world()
  events.draftsOf(change(2, [], { a: '1', b: '2' }))
  expect(events.draftsOf(change(3, [entry('a', '1')]))).toMatchObject([{ type: 'file.added' }])
  clock.advance(60_000)
  expect(events.draftsOf(change(4, [entry('c', '2')]))).toMatchObject([{ type: 'file.added' }])
})

test('of two names that had a content, one was renamed and the other one removed', () => {
  const { events } = world()
  const drafts = events.draftsOf(change(2, [entry('c', '1')], { a: '1', b: '1' }))
  expect(drafts.map(({ type }) => type)).toEqual(['file.removed', 'file.renamed'])
  expect(drafts.map(({ data }) => (data as { revision: unknown }).revision)).toEqual([
    { from: 1, to: 1, part: 1 },
    { from: 1, to: 2, part: 2 },
  ])
})

test('a content that comes back after another one has taken its name was added, and the name stays', () => {
  const { events } = world()
  events.draftsOf(change(2, [], { a: '1' }))
  events.draftsOf(change(3, [entry('a', '2')]))
  expect(events.draftsOf(change(4, [entry('b', '1')]))).toMatchObject([{ type: 'file.added' }])
})
