import { PassThrough } from 'node:stream'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { unlessSilent } from './sse-client.ts'

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }))
afterEach(() => void vi.useRealTimers())

test('a body is given up once nothing comes for too long', async () => {
  const body = new PassThrough()
  const chunks = unlessSilent(body, 1000, 'the agent')
  const first = chunks.next()
  vi.advanceTimersByTime(999)
  body.write('a')
  expect(String((await first).value)).toBe('a')
  const second = chunks.next()
  // The silence counts from when the next one is asked for.
  await Promise.resolve()
  vi.advanceTimersByTime(1000)
  await expect(second).rejects.toMatchObject({ code: 'unavailable', message: 'the agent has fallen silent' })
})

test('a reader that takes its time is no silence of the other side', async () => {
  const body = new PassThrough()
  const chunks = unlessSilent(body, 1000, 'the agent')
  body.write('a')
  await chunks.next()
  vi.advanceTimersByTime(60_000)
  body.end('b')
  expect(String((await chunks.next()).value)).toBe('b')
  expect((await chunks.next()).done).toBe(true)
  expect(vi.getTimerCount()).toBe(0)
})
