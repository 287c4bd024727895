import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { ManualClock } from '../../common/clock.ts'
import { silentLog } from '../../common/log.ts'
import { createMetrics } from '../../common/metrics.ts'
import { Limits } from '../limits.ts'
import { createPeerApp, type PeerAppDeps } from './app.ts'

const MB = 1_000_000

/** The routes as someone at that address sees them. */
function served(remoteAddress = '127.0.0.1') {
  const folder = mkdtempSync(join(tmpdir(), 'limits-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const limits = new Limits(
    { clock: new ManualClock(), log: silentLog },
    { file: join(folder, 'limits.json'), configured: { download: 10 * MB } },
  )
  const others = { events: {} } as PeerAppDeps
  const app = createPeerApp(
    { ...others, limits, log: silentLog, metrics: createMetrics('test') },
    { token: 'a good token', advertiseHost: undefined },
  )
  const call = async (method: string, body?: unknown, more: Record<string, string> = {}) => {
    const headers = { host: '127.0.0.1', 'content-type': 'application/json', ...more }
    const init = { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }
    const response = await app.request('http://127.0.0.1/limits', init, { incoming: { socket: { remoteAddress } } })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  return { app, call, limits }
}

test('what is given is set, in whatever form, and the rest stays', async () => {
  const { call, limits } = served()
  const base = { download: 10 * MB, upload: null, schedule: [], now: { download: 10 * MB, upload: null, until: null } }
  expect(await call('GET')).toEqual({ status: 200, body: { ...base, set: [] } })
  const upload = { upload: 5 * MB, now: { ...base.now, upload: 5 * MB } }
  expect(await call('PUT', { upload: '40Mbit' })).toEqual({
    status: 200,
    body: { ...base, ...upload, set: ['upload'] },
  })
  expect(limits.now()).toMatchObject({ download: 10 * MB, upload: 5 * MB })
  const schedule = [{ from: '00:00', to: '24:00', days: ['mon', 'sun'], download: 'none', upload: '1MB/s' }]
  expect((await call('PUT', { schedule })).body.schedule).toEqual([{ ...schedule[0], download: null, upload: MB }])
  expect((await call('PUT', { download: null, upload: 2 * MB, schedule: [] })).body).toMatchObject({
    now: { download: null, upload: 2 * MB, until: null },
    set: ['download', 'upload', 'schedule'],
  })
  expect(await call('DELETE')).toEqual({ status: 200, body: { ...base, set: [] } })
})

test.each([
  [{}, 'give "download", "upload" or "schedule"'],
  [{ downlaod: 1 * MB }, 'not have "downlaod"'],
  [{ download: 'fast' }, 'download in the body: "fast" is not a rate'],
  [{ download: 10 }, 'a rate of 10 is too low: 1KB/s is the least'],
  [{ upload: true }, 'upload in the body is true: it must be a number or be a text'],
  [{ schedule: [{ from: '8:00', to: '18:00', upload: 'none' }] }, '"from" is a time of day'],
  [{ schedule: [{ from: '08:00', to: '18:60', upload: 'none' }] }, '"to" is a time of day'],
  [{ schedule: [{ from: '08:00', to: '18:00' }] }, 'schedule.0 in the body: an entry gives "download" or "upload"'],
  [{ schedule: [{ from: '08:00', to: '18:00', days: ['monday'], upload: 'none' }] }, 'one of sun, mon'],
  [{ schedule: [{ from: '08:00', to: '18:00', days: [], upload: 'none' }] }, 'it must not be empty'],
  [{ schedule: Array(65).fill({ from: '08:00', to: '18:00', upload: 'none' }) }, 'at most 64 entries'],
])('%j is refused in one sentence, and changes nothing', async (body, says) => {
  const { call } = served()
  const refused = await call('PUT', body)
  expect(refused).toMatchObject({ status: 400, body: { error: { code: 'invalid' } } })
  expect((refused.body.error as { message: string }).message).toContain(says)
  expect((await call('GET')).body.set).toEqual([])
})

test('they are the business of the own user', async () => {
  const { call } = served('10.0.0.9')
  for (const method of ['GET', 'PUT', 'DELETE']) {
    const body = method === 'PUT' ? { upload: '1MB' } : undefined
    expect(await call(method, body)).toMatchObject({ status: 401, body: { error: { code: 'unauthorized' } } })
    expect((await call(method, body, { authorization: 'Bearer a good token' })).status).toBe(200)
  }
})

test('the reference describes them', async () => {
  const { app } = served()
  const { paths } = (await (await app.request('/openapi.json')).json()) as { paths: Record<string, object> }
  expect(Object.keys(paths['/limits'] ?? {}).sort()).toEqual(['delete', 'get', 'put'])
})
