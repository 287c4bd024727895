import type { ServerResponse } from 'node:http'
import { expect, test } from 'vitest'
import { ManualClock } from '../clock.ts'
import { FeedReader } from './feed-reader.ts'
import { foreign } from './log.contract.ts'

function setUp() {
  const written: string[] = []
  const outgoing = { room: true, destroyed: false, write: (text: string) => written.push(text) > 0 && outgoing.room }
  const reader = new FeedReader(outgoing as unknown as ServerResponse, 'log', {}, new ManualClock())
  return { written, outgoing, reader }
}

test('of what is told beside the events, the latest of each name waits for room, and nothing else', () => {
  const { written, outgoing, reader } = setUp()
  outgoing.room = false
  reader.hint('mail', 1)
  reader.hint('mail', 2)
  reader.hint('mail', 3)
  reader.hint('other', 4)
  expect(written).toHaveLength(1)
  outgoing.room = true
  expect(reader.drained()).toBe(true)
  expect(written.slice(1)).toEqual(['event: mail\ndata: 3\n\n', 'event: other\ndata: 4\n\n'])
})

test('one that is behind is written a portion at a time, however long the events are', () => {
  const { written, reader } = setUp()
  const text = JSON.stringify('x'.repeat(16_000))
  const rows = Array.from({ length: 50 }, (_, index) => {
    const event = foreign(index + 1)
    return { position: index + 1, type: event.type, event, text }
  })
  expect(reader.take(rows)).toBe(3)
  expect(reader.position).toBe(3)
  expect(written.join('').length).toBeLessThan(50_000)
})

test('as long as its beginning is looked for, one is told of no place to go on from', () => {
  const { written, reader } = setUp()
  reader.position = 7
  reader.lacking = 2
  reader.keepAlive()
  expect(written).toEqual([': nothing new\n\n'])
  reader.lacking = 0
  reader.keepAlive()
  expect(written.slice(1)).toEqual(['id: log-7\n\n'])
})
