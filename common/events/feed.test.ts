import { copyFileSync, mkdtempSync, rmSync } from 'node:fs'
import { IncomingMessage, ServerResponse } from 'node:http'
import { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, onTestFinished, test } from 'vitest'
import { NetworkError } from '../errors.ts'
import { added, serve, stall, watch } from './feed.fixture.ts'
import { EventFeed } from './feed.ts'
import { SqliteEventLog } from './sqlite-log.ts'

const open = (options = {}) => SqliteEventLog.open(':memory:', { origin: 'P1', ...options })
const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index)
const publish = (log: SqliteEventLog, from: number, to: number) => log.publish(range(from, to).map((n) => added(n)))

/** What is in use, garbage apart. */
function memory(): NodeJS.MemoryUsage {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage()
}

test('a reader hears what is published while it reads, in order, and nothing of before', async () => {
  const log = open()
  const { url } = await serve(log)
  await publish(log, 1, 3)
  const reader = await watch(url)
  expect([reader.status, reader.type]).toEqual([200, 'text/event-stream'])
  for (const n of range(4, 30)) await publish(log, n, n)
  await publish(log, 31, 2000)
  await expect.poll(() => reader.numbers().length).toBe(1997)
  expect(reader.numbers()).toEqual(range(4, 2000))
  expect(reader.heard[0]).toMatchObject({ event: 'file.added', id: `${log.name}-4` })
})

test('the answer begins before there is anything to tell, and says where it is', async () => {
  const log = open()
  await publish(log, 1, 3)
  const { url } = await serve(log)
  const reader = await watch(url)
  await expect.poll(reader.lastId).toBe(`${log.name}-3`)
})

test('a reader begins with as much of the past as it asks for', async () => {
  const log = open()
  await publish(log, 1, 1000)
  const { url } = await serve(log)
  const reader = await watch(url, '/events?last=700')
  await publish(log, 1001, 1010)
  await expect.poll(() => reader.numbers().length).toBe(710)
  expect(reader.numbers()).toEqual(range(301, 1010))
})

test('without follow, the answer ends with what there was', async () => {
  const log = open()
  await publish(log, 1, 1000)
  const { url } = await serve(log)
  const reader = await watch(url, '/events?last=100000&follow=0')
  await reader.ended
  expect(reader.numbers()).toEqual(range(1, 1000))
  const none = await watch(url, '/events?follow=0')
  await none.ended
  expect(none.heard).toEqual([])
})

test('each reader hears the types it asked for', async () => {
  const log = open()
  const { url } = await serve(log)
  const [files, peers, all] = await Promise.all(
    ['?type=file.*', '?type=peer.expired', ''].map((query) => watch(url, `/events${query}`)),
  )
  await log.publish([added(1), { type: 'peer.expired', data: { peer: 'P2' } } as never, added(2)])
  await expect.poll(() => all!.heard.length).toBe(3)
  await expect.poll(() => peers!.heard.map(({ event }) => event)).toEqual(['peer.expired'])
  await expect.poll(() => files!.numbers()).toEqual([1, 2])
  expect((await watch(url, '/events?type=file.eaten')).status).toBe(400)
})

test('of the past, each reader gets as many as it asks for of the types that it asks for', async () => {
  const log = open()
  const { url } = await serve(log)
  await publish(log, 1, 3)
  await log.publish([{ type: 'peer.expired', data: { peer: 'P2' } } as never])
  await publish(log, 4, 3000)
  const reader = await watch(url, '/events?type=peer.*,file.removed&last=2')
  await log.publish([{ type: 'peer.expired', data: { peer: 'P3' } } as never, added(9)])
  await expect.poll(() => reader.heard.map(({ data }) => JSON.parse(data).data.peer)).toEqual(['P2', 'P3'])
  const files = await watch(url, '/events?type=file.*&last=2999&follow=0')
  await files.ended
  expect(files.numbers()).toEqual([...range(3, 3000), 9])
})

test('a reader goes on right after the id that it read last', async () => {
  const log = open()
  const { url } = await serve(log)
  await publish(log, 1, 10)
  const reader = await watch(url, '/events', `${log.name}-7`)
  await publish(log, 11, 12)
  await expect.poll(reader.numbers).toEqual(range(8, 12))
  expect(reader.heard.every(({ event }) => event === 'file.added')).toBe(true)
})

test('where events are gone that a reader has not seen, it is told how many', async () => {
  const log = open({ retain: { events: 4, ms: 1e12 } })
  const { url } = await serve(log)
  await publish(log, 1, 10)
  await log.sweep()
  const reader = await watch(url, '/events', `${log.name}-2`)
  await expect.poll(() => reader.heard.length).toBe(5)
  expect(reader.heard[0]).toMatchObject({ event: 'gap', data: '{"lost":4}' })
  expect(reader.numbers()).toEqual(range(7, 10))
})

test.each([
  ['of another log', 'ffffffff-2'],
  ['of no form', '../../etc/passwd'],
  ['that overflows', (name: string) => `${name}-99999999999999999999999`],
  ['that is negative', (name: string) => `${name}--1`],
  ['that is long', 'x'.repeat(8000)],
])('an id %s leads to all that is kept, after a gap', async (_, id) => {
  const log = open()
  const { url } = await serve(log)
  await publish(log, 1, 5)
  const reader = await watch(url, '/events', typeof id === 'string' ? id : id(log.name))
  await expect.poll(() => reader.heard.length).toBe(6)
  expect(reader.heard[0]).toMatchObject({ event: 'gap', data: '{"lost":null}' })
  expect(reader.numbers()).toEqual(range(1, 5))
})

test('an id of what a power cut took leads to what came since, after a gap', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'feed-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const [path, copy] = [join(folder, 'events.db'), join(folder, 'copy.db')]
  const log = SqliteEventLog.open(path, { origin: 'P1' })
  await publish(log, 1, 3)
  for (const end of ['', '-wal']) copyFileSync(path + end, copy + end)
  await publish(log, 4, 5)
  await log.close()
  const again = SqliteEventLog.open(copy, { origin: 'P1' })
  onTestFinished(() => again.close())
  await publish(again, 6, 9)
  const { url } = await serve(again)
  const reader = await watch(url, '/events', `${log.name}-5`)
  await expect.poll(reader.numbers).toEqual(range(6, 9))
  expect(reader.heard[0]).toMatchObject({ event: 'gap', data: '{"lost":null}' })
  const other = await watch(url, '/events', `${log.name}-2`)
  await expect.poll(other.numbers).toEqual([3, ...range(6, 9)])
  expect(other.heard.map(({ event }) => event)).not.toContain('gap')
  await expect.poll(other.lastId).toBe(`${again.name}-7`)
})

test('two logs serve their own', async () => {
  const logs = [open(), open()]
  const readers = await Promise.all(logs.map(async (log) => watch((await serve(log)).url)))
  await publish(logs[0]!, 1, 3)
  await publish(logs[1]!, 7, 9)
  await expect.poll(readers[0]!.numbers).toEqual([1, 2, 3])
  await expect.poll(readers[1]!.numbers).toEqual([7, 8, 9])
})

test('a reader that hears nothing is told that all is well, and where it is', async () => {
  const log = open()
  const { url, clock, feed } = await serve(log)
  const reader = await watch(url, '/events?type=peer.*')
  await publish(log, 1, 5)
  const afterSilence = () => {
    clock.advance(15_000)
    feed.tick()
    return reader.lastId()
  }
  await expect.poll(afterSilence).toBe(`${log.name}-5`)
})

test('whoever leaves is forgotten, at whatever moment', async () => {
  const log = open()
  await publish(log, 1, 5000)
  const { url, feed, server } = await serve(log)
  const reader = await watch(url)
  const hasty = await stall(server.port, 'GET /events?last=5000 HTTP/1.1\r\nhost: a\r\n\r\n')
  await expect.poll(() => feed.readers).toBe(2)
  reader.leave()
  hasty.destroy()
  await expect.poll(() => feed.readers).toBe(0)
  await publish(log, 5001, 5010)
})

test('those that are behind take turns with each other, and with all else of the process', async () => {
  const log = open()
  await publish(log, 1, 5000)
  const { url } = await serve(log)
  let [together, most] = [0, 0]
  let looking = setImmediate(function look() {
    most = Math.max(most, together)
    together = 0
    looking = setImmediate(look)
  })
  onTestFinished(() => clearImmediate(looking))
  for (const method of ['read', 'back'] as const) {
    const works = log[method].bind(log) as (...of: unknown[]) => Promise<never>
    log[method] = (...of: unknown[]) => {
      together++
      for (const begin = performance.now(); performance.now() - begin < 2; );
      return works(...of)
    }
  }
  let ended = 0
  const greedy = await Promise.all(
    range(1, 10).map(() => watch(url, '/events?last=100000&follow=0&type=file.added,file.removed')),
  )
  const done = greedy.map((reader) => reader.ended.then(() => ended++))
  const modest = await watch(url, '/events?last=3&follow=0')
  await modest.ended
  expect(modest.numbers()).toEqual(range(4998, 5000))
  expect(ended).toBe(0)
  await Promise.all(done)
  for (const reader of greedy) expect(reader.numbers()).toEqual(range(1, 5000))
  expect(most).toBeLessThanOrEqual(2)
})

test('one that comes while others at the head are about to be told hears what it asked for, and no more', async () => {
  const log = open()
  const { url } = await serve(log)
  const early = await watch(url)
  await expect.poll(early.lastId).not.toBe('')
  for (let n = 1; n <= 20; n++) {
    const from = (await log.bounds()).last
    await publish(log, n, n)
    const late = await watch(url)
    await publish(log, n + 1000, n + 1000)
    const brief = await watch(url, '/events?last=1&follow=0')
    await brief.ended
    expect(brief.numbers()).toEqual([n + 1000])
    await expect.poll(late.numbers).toEqual([n + 1000])
    expect(late.heard[0]!.id).toBe(`${log.name}-${from + 2}`)
    late.leave()
  }
  await expect.poll(() => early.numbers().length).toBe(40)
  expect(early.numbers()).toEqual(range(1, 20).flatMap((n) => [n, n + 1000]))
})

test('HEAD is answered with no reader', async () => {
  const { url, feed } = await serve(open())
  const response = await fetch(`${url}/events`, { method: 'HEAD' })
  expect([response.status, response.headers.get('content-type')]).toEqual([200, 'text/event-stream'])
  expect(feed.readers).toBe(0)
})

test('where the log can not be read, a reader is told so; where that shows later, its stream ends', async () => {
  const log = open()
  await publish(log, 1, 3)
  const { url, feed } = await serve(log)
  const failing = (method: 'bounds' | 'back') => {
    const works = log[method]
    log[method] = async () => {
      log[method] = works as never
      throw new NetworkError('unavailable', 'the disk fails')
    }
  }
  failing('bounds')
  expect((await watch(url)).status).toBe(503)
  failing('back')
  const reader = await watch(url, '/events?last=3').catch(() => undefined)
  await reader?.ended
  expect(reader?.numbers() ?? []).toEqual([])
  await expect.poll(() => feed.readers).toBe(0)
  const again = await watch(url, '/events?last=3&follow=0')
  await again.ended
  expect(again.numbers()).toEqual([1, 2, 3])
})

test('too many readers, or too many of one host, are refused', async () => {
  const { url } = await serve(open(), { maxReaders: 2 })
  await watch(url)
  await watch(url)
  expect((await watch(url)).status).toBe(429)
})

test('readers of one host have a share, which an IPv6 network is one of, and this machine has no bound', async () => {
  const feed = new EventFeed({ log: open() }, { maxReadersOfHost: 2 })
  await feed.start()
  onTestFinished(() => feed.stop())
  const from = async (host: string) => {
    const outgoing = new ServerResponse(new IncomingMessage(new Socket()))
    await feed.serve({ outgoing, host, follow: true })
    return outgoing
  }
  const [first] = await Promise.all([
    from('10.0.0.1'),
    from('::ffff:10.0.0.1'),
    from('2001:db8::1'),
    from('2001:db8::2'),
  ])
  await expect(from('10.0.0.1')).rejects.toMatchObject({ code: 'limited' })
  await expect(from('2001:db8::3')).rejects.toMatchObject({ code: 'limited' })
  for (let count = 0; count < 5; count++) await from('127.0.0.1')
  await from('10.0.0.2')
  expect(feed.readers).toBe(10)
  // As its server does when the connection has ended.
  first!.emit('close')
  expect(feed.readers).toBe(9)
  await from('10.0.0.1')
})

test('stopping ends all readers at once, slow ones too', async () => {
  const log = open()
  await publish(log, 1, 50_000)
  const { url, feed, server } = await serve(log)
  const reader = await watch(url)
  const slow = await stall(server.port, 'GET /events?last=50000 HTTP/1.1\r\nhost: a\r\n\r\n')
  await expect.poll(() => feed.readers).toBe(2)
  await feed.stop()
  await reader.ended
  await expect.poll(() => feed.readers).toBe(0)
  slow.destroy()
  expect((await watch(url)).status).toBe(503)
})

test('a reader may be told more than events', async () => {
  const log = open()
  const mailboxes: string[] = []
  const { url } = await serve(log, undefined, {
    onMailbox: (reader, peer) => {
      mailboxes.push(peer)
      reader.hint('mail', { waiting: 3 })
      return () => void mailboxes.pop()
    },
  })
  const reader = await watch(url, '/events?mailbox=P2')
  await expect.poll(() => reader.heard).toMatchObject([{ event: 'mail', data: '{"waiting":3}' }])
  expect(mailboxes).toEqual(['P2'])
  await watch(url)
  reader.leave()
  await expect.poll(() => mailboxes).toEqual([])
})

test('a reader that takes nothing costs no memory, is cut, and goes on with none missing and none twice', async () => {
  const log = open()
  const { url, feed, server, clock } = await serve(log)
  const slow = await stall(server.port)
  await expect.poll(() => feed.readers).toBe(1)
  const before = memory()
  for (let n = 1; n <= 100_000; n += 500) {
    await publish(log, n, n + 499)
    clock.advance(1000)
    feed.tick()
  }
  const after = memory()
  expect(feed.dropped).toBe(1)
  await expect.poll(() => feed.readers).toBe(0)
  // 40 MB were published; the log itself is in memory outside the heap.
  expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(4e6)
  expect(after.heapUsed - before.heapUsed).toBeLessThan(10e6)
  let text = ''
  slow.on('data', (chunk) => {
    text += chunk
  })
  slow.resume()
  await new Promise((resolve) => slow.once('close', resolve))
  const ids = [...text.matchAll(/^id: \w+-(\d+)\nevent: file.added\ndata: .*\n\n/gm)].map((match) => Number(match[1]))
  const last = ids.at(-1) ?? 0
  expect(ids).toEqual(range(1, last))
  expect(last).toBeLessThan(100_000)
  const again = await watch(url, '/events?follow=0', `${log.name}-${last}`)
  await again.ended
  expect(again.numbers()).toEqual(range(last + 1, 100_000))
})
