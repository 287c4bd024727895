import { afterEach, beforeEach, expect, test } from 'vitest'
import type { WatchOptions } from '../../common/events/watch.ts'
import type { FileName } from '../../common/ids.ts'
import { PeerClient } from './client.ts'
import { FakeAgent, happened, ID_A } from './fake-agent.fixture.ts'

let agent: FakeAgent
let client: PeerClient
const ended = new AbortController()

beforeEach(async () => {
  agent = await new FakeAgent().start()
  client = new PeerClient({ signal: ended.signal }, { name: 'the agent', url: agent.url })
})
afterEach(async () => {
  await client.close()
  await agent.stop()
})

const revision = { from: 1, to: 2 }
const added = (name: string, seq: number) =>
  happened('file.added', { name: name as FileName, id: ID_A, size: 3, revision }, { seq })
const gone = (seq: number) => happened('peer.expired', { peer: 'P3' as never }, { origin: 'maestro', seq })

async function watched(options: WatchOptions) {
  const seen = []
  for await (const { id, event } of client.events(options)) seen.push([id, event.type])
  return seen
}

test('what has happened is told and then the stream ends, where nobody wants to follow', async () => {
  agent.tell(added('a', 1), gone(2), added('b', 3), added('c', 4))
  expect(await watched({ last: 3, follow: false })).toEqual([
    ['fake-2', 'peer.expired'],
    ['fake-3', 'file.added'],
    ['fake-4', 'file.added'],
  ])
  expect(await watched({ types: 'peer.*', last: 9, follow: false })).toEqual([['fake-2', 'peer.expired']])
  expect(await watched({ lastEventId: 'fake-3', last: 9, follow: false })).toEqual([['fake-4', 'file.added']])
})

test('a watcher hears of what happens next, until it has heard enough', async () => {
  agent.tell(added('a', 1))
  const enough = new AbortController()
  const events = client.events({}, enough.signal)
  const first = events.next()
  await expect.poll(() => agent.watchers).toBe(1)
  agent.tell(added('b', 2))
  expect((await first).value).toEqual({ id: 'fake-2', event: added('b', 2) })
  const second = events.next()
  enough.abort()
  await expect(second).rejects.toMatchObject({ code: 'cancelled' })
  await expect.poll(() => agent.watchers).toBe(0)
})

test('a stream that is broken off is told as such', async () => {
  agent.tell(added('a', 1))
  const events = client.events({ last: 1 })
  await events.next()
  const second = events.next()
  await agent.stop()
  await expect(second).rejects.toMatchObject({ code: 'unavailable' })
})

test('gaps are told, what is of an unknown kind is counted, and neither ends the stream', async () => {
  agent.greeting = [
    'event: gap\ndata: {"lost": 12}\n\n',
    'event: gap\ndata: {"lost": null}\n\n',
    'event: gap\ndata: garbage\n\n',
    'event: file.praised\ndata: {"v":1,"type":"file.praised"}\n\n',
    'event: file.added\ndata: {"v":2}\n\n',
    'event: file.added\ndata: {{{\n\n',
    'event: mail\ndata: {}\n\n',
  ].join('')
  agent.tell(added('a', 1))
  const lost: (number | null)[] = []
  let skipped = 0
  const seen = await watched({
    last: 1,
    follow: false,
    onGap: (count) => lost.push(count),
    onSkipped: () => skipped++,
  })
  expect({ seen, lost, skipped }).toEqual({ seen: [['fake-1', 'file.added']], lost: [12, null, null], skipped: 3 })
})
