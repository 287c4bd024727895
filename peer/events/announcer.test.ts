import { expect, test } from 'vitest'
import type { EventDraft } from '../../common/events/event.ts'
import type { FileName } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { Announcer } from './announcer.ts'

const removed = (count: number, from = 0): EventDraft[] =>
  Array.from({ length: count }, (_, i) => ({
    type: 'file.removed',
    data: { name: `${from + i}` as FileName, revision: { from: 0, to: 0 } },
  }))

function world(publish: (drafts: readonly EventDraft[]) => Promise<void> = async () => {}) {
  const slices: (readonly EventDraft[])[] = []
  const log = {
    publish: async (drafts: readonly EventDraft[]) => {
      slices.push(drafts)
      await publish(drafts)
      return []
    },
  }
  return { slices, announcer: new Announcer({ log, logger: silentLog }) }
}

test('what is told comes to the log in order, a little at a time', async () => {
  const { slices, announcer } = world()
  announcer.tell(removed(600))
  announcer.tell(removed(1, 600))
  await announcer.settled()
  expect(slices.flat()).toEqual(removed(601))
  expect(Math.max(...slices.map(({ length }) => length))).toBeLessThanOrEqual(250)
})

test('nothing at all is no end of it', async () => {
  const { slices, announcer } = world()
  announcer.tell([])
  announcer.tell(removed(1))
  await announcer.settled()
  expect(slices).toEqual([removed(1)])
})

test('a log that fails loses what it was given, and takes what comes next', async () => {
  let failing = true
  const { slices, announcer } = world(async () => {
    if (failing) throw new Error('the disk is full')
  })
  announcer.tell(removed(1))
  await announcer.settled()
  failing = false
  announcer.tell(removed(1, 1))
  await announcer.settled()
  expect(slices).toEqual([removed(1), removed(1, 1)])
})

test('more at once than there is room for is dropped, the rest is told', async () => {
  const { slices, announcer } = world()
  announcer.tell(removed(100_500))
  await announcer.settled()
  expect(slices.flat()).toHaveLength(100_000)
  announcer.tell(removed(1))
  await announcer.settled()
  expect(slices.flat()).toHaveLength(100_001)
})
