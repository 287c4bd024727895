import { expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { OfferBody } from '../../common/events/rest.ts'
import type { FileName, PeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { createMetrics } from '../../common/metrics.ts'
import type { Mailbox } from '../mailbox/mailbox.ts'
import { createPeerApp, type PeerAppDeps } from './app.ts'
import type { OfferDesk } from './mailbox.ts'

const ID = 'a'.repeat(64)
const NOTHING = { sent: [], received: [], sent_total: 0, received_total: 0 }
const TIME = '2026-03-01T12:00:00.000Z'

/** The routes as someone at that address sees them. */
function served(desk: Partial<OfferDesk> = {}, remoteAddress = '127.0.0.1') {
  const asked: unknown[] = []
  const mailbox: OfferDesk = {
    list: (query) => {
      asked.push(query)
      return NOTHING
    },
    offer: (request) => {
      asked.push(request)
      return request.to.map((peer): OfferBody => {
        const what = { name: request.name ?? ('film.mkv' as FileName), id: request.id, size: 1 }
        const times = { sent: TIME, changed: TIME, expires: TIME }
        return { offer: 'o1', peer: peer as PeerId, ...what, ...times, state: 'sending', problem: null }
      })
    },
    ...desk,
  }
  const events = { mailbox: mailbox as Mailbox } as PeerAppDeps['events']
  const others = { log: silentLog, metrics: createMetrics('test') } as PeerAppDeps
  const app = createPeerApp({ ...others, events }, { token: 'a good token', advertiseHost: undefined })
  const call = async (method: string, body?: unknown, query = '') => {
    const headers = { host: '127.0.0.1', 'content-type': 'application/json' }
    const init = { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) }
    const response = await app.request(`http://127.0.0.1/mailbox${query}`, init, {
      incoming: { socket: { remoteAddress } },
    })
    return { status: response.status, body: (await response.json()) as Record<string, unknown> }
  }
  return { call, asked }
}

test('an offer is made to each recipient, and what there is is listed', async () => {
  const { call, asked } = served()
  const { status, body } = await call('POST', { to: ['P2', 'P3'], id: ID, expires_s: 60 })
  expect(status).toBe(202)
  expect(body.offers).toMatchObject([
    { peer: 'P2', name: 'film.mkv', state: 'sending' },
    { peer: 'P3', name: 'film.mkv', state: 'sending' },
  ])
  expect(asked).toEqual([{ to: ['P2', 'P3'], id: ID, expires_s: 60 }])
  expect(await call('GET')).toEqual({ status: 200, body: NOTHING })
})

test('just some of what was sent can be asked for, up to 200 at a time', async () => {
  const { call, asked } = served()
  expect((await call('GET', undefined, '?sent=o1,o2')).status).toBe(200)
  expect(asked).toEqual([{ sent: ['o1', 'o2'] }])
  for (const sent of ['', 'o1,,o2', 'o'.repeat(65), Array(201).fill('o').join(',')])
    expect(await call('GET', undefined, `?sent=${sent}`)).toMatchObject({
      status: 400,
      body: { error: { code: 'invalid' } },
    })
})

test('what this peer does not share is not found', async () => {
  const { call } = served({
    offer: () => {
      throw new NetworkError('not_found', 'this peer does not share the content')
    },
  })
  expect(await call('POST', { to: ['P2'], id: ID })).toMatchObject({
    status: 404,
    body: { error: { code: 'not_found' } },
  })
})

test.each([
  [{}],
  [{ to: [], id: ID }],
  [{ to: ['no/peer'], id: ID }],
  [{ to: Array(1001).fill('P2'), id: ID }],
  [{ to: ['P2'], id: 'a' }],
  [{ to: ['P2'], id: ID, name: '../up' }],
  [{ to: ['P2'], id: ID, expires_s: 0 }],
  [{ to: ['P2'], id: ID, expires_s: 1e9 }],
])('a bad request changes nothing: %j', async (body) => {
  const { call, asked } = served()
  expect(await call('POST', body)).toMatchObject({ status: 400, body: { error: { code: 'invalid' } } })
  expect(asked).toEqual([])
})

test('the mailbox is for the own user only', async () => {
  const { call, asked } = served({}, '192.168.1.9')
  expect((await call('GET')).status).toBe(401)
  expect((await call('POST', { to: ['P2'], id: ID })).status).toBe(401)
  expect(asked).toEqual([])
})
