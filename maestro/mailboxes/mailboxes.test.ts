import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, type TestContext, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { MAX_EXPIRY_MS, type Mail } from '../../common/events/mail.ts'
import { createApp } from '../../common/http.ts'
import { parsePeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { createMetrics } from '../../common/metrics.ts'
import { addMailboxRoutes } from '../app/mailboxes.ts'
import { Mailboxes, type MailboxOptions } from './mailboxes.ts'
import { SqliteMailboxes } from './sqlite.ts'
import { mailOf as mailAt2026 } from './store.contract.ts'

const P2 = parsePeerId('P2')
const DAY = 24 * 3600 * 1000

function setUp(t: Pick<TestContext, 'onTestFinished'>, options?: MailboxOptions) {
  const folder = mkdtempSync(join(tmpdir(), 'mailboxes-'))
  const clock = new ManualClock(Date.parse('2026-01-01T00:00:00Z'))
  const mailboxes = new Mailboxes({ store: SqliteMailboxes.open(join(folder, 'mail.db'), silentLog), clock }, options)
  t.onTestFinished(async () => {
    await mailboxes.close()
    rmSync(folder, { recursive: true })
  })
  const mailOf = (id: string, over: Partial<Mail> = {}) => mailAt2026(id, over)
  const idsOf = async () => (await mailboxes.page(P2, { limit: 1000 })).mail.map(({ id }) => id)
  return { clock, mailboxes, mailOf, idsOf }
}

const at = (ms: number) => new Date(ms).toISOString()

test('a message waits a month for a peer that is away, and no longer than it is to', async (t) => {
  const { clock, mailboxes, mailOf, idsOf } = setUp(t)
  await mailboxes.put(mailOf('month', { expires: at(clock.now() + 30 * DAY) }))
  await mailboxes.put(mailOf('week', { expires: at(clock.now() + 7 * DAY) }))
  clock.advance(30 * DAY - 1)
  expect(await idsOf()).toEqual(['month'])
  await mailboxes.sweep()
  expect(await mailboxes.size()).toBe(1)
  clock.advance(1)
  await mailboxes.sweep()
  expect([await idsOf(), await mailboxes.size()]).toEqual([[], 0])
})

test('a sweep removes everything that has expired, in bites', async (t) => {
  const { clock, mailboxes, mailOf } = setUp(t)
  const expires = at(clock.now() + 1)
  await Promise.all(Array.from({ length: 2500 }, (_, i) => mailboxes.put(mailOf(`m${i}`, { expires }))))
  clock.advance(1)
  await mailboxes.sweep()
  expect(await mailboxes.size()).toBe(0)
})

test('a message that expired on its way is taken and not kept', async (t) => {
  const { clock, mailboxes, mailOf } = setUp(t)
  expect(await mailboxes.put(mailOf('late', { expires: at(clock.now()) }))).toBe(0)
  expect(await mailboxes.size()).toBe(0)
})

test('who waits for mail is told of each new message, and of no known one', async (t) => {
  const { mailboxes, mailOf } = setUp(t)
  const told: [string, number][] = []
  const stop = mailboxes.onMail((peer, waiting) => told.push([peer, waiting]))
  await mailboxes.put(mailOf('a'))
  await mailboxes.put(mailOf('a'))
  await mailboxes.put(mailOf('b'))
  stop()
  await mailboxes.put(mailOf('c'))
  expect(told).toEqual([
    ['P2', 1],
    ['P2', 2],
  ])
})

test('a message is refused that is to wait for years', async (t) => {
  const { clock, mailboxes, mailOf } = setUp(t)
  const expires = at(clock.now() + MAX_EXPIRY_MS + 2 * DAY)
  await expect(mailboxes.put(mailOf('a', { expires }))).rejects.toMatchObject({ code: 'invalid', details: { id: 'a' } })
  await mailboxes.put(mailOf('b', { expires: at(clock.now() + MAX_EXPIRY_MS) }))
})

test('a full mailbox and a full Maestro say when to try again, and what is full', async (t) => {
  const { mailboxes, mailOf } = setUp(t, { perMailbox: 1, inAll: 2 })
  await mailboxes.put(mailOf('a'))
  await expect(mailboxes.put(mailOf('b'))).rejects.toMatchObject({
    code: 'limited',
    message: expect.stringContaining('mailbox of P2 is full'),
    details: { retry_ms: expect.any(Number) },
  })
  await mailboxes.put(mailOf('c', { to: parsePeerId('P3') }))
  await expect(mailboxes.put(mailOf('d', { to: parsePeerId('P4') }))).rejects.toMatchObject({
    code: 'limited',
    message: expect.stringContaining('no more messages'),
  })
})

test('a storm from one host is refused, and messages from others and from this machine are not', async (t) => {
  const { clock, mailboxes, mailOf } = setUp(t, { perSender: { perSecond: 10, atOnce: 3 } })
  let n = 0
  const from = (host: string) => mailboxes.put(mailOf(`m${n++}`), host)
  for (let i = 0; i < 3; i++) await from('2001:db8::1')
  await expect(from('2001:db8::2')).rejects.toMatchObject({ code: 'limited', details: { retry_ms: 100 } })
  await from('10.0.0.7')
  for (let i = 0; i < 10; i++) await from('127.0.0.1')
  clock.advance(100)
  await from('2001:db8::1')
  expect(await mailboxes.size()).toBe(15)
})

function setUpApp(t: Pick<TestContext, 'onTestFinished'>, broker = false) {
  const { mailboxes, mailOf } = setUp(t)
  const app = createApp({ title: '', description: '', log: silentLog, metrics: createMetrics('maestro') })
  addMailboxRoutes(app, { mailboxes: broker ? undefined : mailboxes })
  const call = async (method: string, path: string, body?: unknown) => {
    const headers = { 'content-type': 'application/json' }
    const response = await app.request(path, { method, ...(body ? { body: JSON.stringify(body), headers } : {}) })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> & { error?: unknown } }
  }
  return { call, mailOf, mailboxes }
}

test('a message is left, read page by page, and taken', async (t) => {
  const { call, mailOf } = setUpApp(t)
  for (const [i, id] of ['a', 'b', 'c'].entries())
    expect(await call('POST', '/mailboxes/P2', { mail: mailOf(id) })).toEqual({ status: 202, body: { waiting: i + 1 } })
  const first = await call('GET', '/mailboxes/P2?limit=2')
  expect(first).toMatchObject({ status: 200, body: { mail: [mailOf('a'), mailOf('b')], waiting: 3 } })
  expect(await call('POST', '/mailboxes/P2/taken', { ids: ['a', 'b', 'never'] })).toEqual({
    status: 200,
    body: { waiting: 1 },
  })
  expect(await call('GET', `/mailboxes/P2?limit=2&after=${first.body.next}`)).toEqual({
    status: 200,
    body: { mail: [mailOf('c')], next: null, waiting: 1 },
  })
  expect(await call('GET', '/mailboxes/P9')).toMatchObject({ status: 200, body: { mail: [], next: null, waiting: 0 } })
})

test.each([
  ['a message for another peer', 'POST', '/mailboxes/P3', { mail: mailAt2026('a') }, /for P2/],
  ['no message', 'POST', '/mailboxes/P2', {}, /mail/],
  [
    'a message of a kind that is not known',
    'POST',
    '/mailboxes/P2',
    { mail: { ...mailAt2026('a'), kind: 'x' } },
    /kind/,
  ],
  ['a message of another version', 'POST', '/mailboxes/P2', { mail: { ...mailAt2026('a'), v: 2 } }, /v/],
  ['a bad id', 'POST', '/mailboxes/P2', { mail: mailAt2026('../x') }, /id/],
  ['a long reason', 'POST', '/mailboxes/P2', { mail: { ...mailAt2026('a'), reason: 'x'.repeat(501) } }, /reason/],
  ['a bad peer', 'GET', '/mailboxes/a%20b%2F', undefined, /peer/],
  ['a cursor that nobody gave', 'GET', '/mailboxes/P2?after=-1', undefined, /after/],
  ['a cursor beyond numbers', 'GET', '/mailboxes/P2?after=9999999999999999', undefined, /after/],
  ['too many rows', 'GET', '/mailboxes/P2?limit=100000', undefined, /limit/],
  ['nothing taken', 'POST', '/mailboxes/P2/taken', { ids: [] }, /ids/],
  ['too much taken', 'POST', '/mailboxes/P2/taken', { ids: Array(1001).fill('a') }, /ids/],
])('%s is refused, and changes nothing', async (_, method, path, body, words) => {
  const { call, mailboxes } = setUpApp({ onTestFinished })
  expect(await call(method, path, body)).toMatchObject({
    status: 400,
    body: { error: { code: 'invalid', message: expect.stringMatching(words) } },
  })
  expect(await mailboxes.size()).toBe(0)
})

test('what a message has beside its fields is not kept', async (t) => {
  const { call, mailOf } = setUpApp(t)
  await call('POST', '/mailboxes/P2', { mail: { ...mailOf('a'), bytes: 'x'.repeat(1_000_000) } })
  expect((await call('GET', '/mailboxes/P2')).body.mail).toEqual([mailOf('a')])
})

test('where a broker keeps the mailboxes, every route says so', async (t) => {
  const { call, mailOf } = setUpApp(t, true)
  for (const answer of [
    await call('POST', '/mailboxes/P2', { mail: mailOf('a') }),
    await call('GET', '/mailboxes/P2'),
    await call('POST', '/mailboxes/P2/taken', { ids: ['a'] }),
  ])
    expect(answer).toMatchObject({ status: 409, body: { error: { message: expect.stringContaining('RabbitMQ') } } })
})
