import { describe, expect, it } from 'vitest'
import type { EventDraft, NetworkEvent } from '../common/events/event.ts'
import { serverSentEvents } from '../common/events/sse-parser.ts'
import { startMaestro, type TestMaestro } from './maestro.fixture.ts'

const ID = 'a'.repeat(64)
const TIME = '2026-01-01T00:00:00.000Z'

const added = (name: string): EventDraft => ({
  type: 'file.added',
  data: { name, id: ID, size: 1, revision: { from: 1, to: 2 } } as never,
})

/** An event as the peer itself makes it. */
function eventOf(origin: string, seq: number, draft: EventDraft = added(`${seq}.txt`)): NetworkEvent {
  return { v: 1, id: `${origin}-run.${seq}`, origin, seq, time: TIME, ...draft } as NetworkEvent
}

/** All that a Maestro keeps, or what came after `lastEventId`. */
async function heard(maestro: TestMaestro, lastEventId?: string, query = 'last=100000') {
  const response = await fetch(`${maestro.url}/events?follow=0&${query}`, {
    headers: lastEventId === undefined ? {} : { 'last-event-id': lastEventId },
  })
  const messages = []
  for await (const message of serverSentEvents(response.body!))
    messages.push({ ...message, body: JSON.parse(message.data || 'null') as NetworkEvent })
  return messages
}

/** `P1 peer.registered`, … */
async function told(maestro: TestMaestro, lastEventId?: string) {
  const messages = (await heard(maestro, lastEventId)).filter(({ event }) => event.includes('.'))
  return messages.map(({ event, body }) => `${(body.data as { peer?: string }).peer ?? body.origin} ${event}`)
}

describe('what the Maestro tells of leases', () => {
  it('is each of them once: opened, withdrawn, expired', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', ['a.txt'])
    await maestro.register('P1', ['a.txt', 'b.txt'])
    await maestro.call('POST', '/heartbeat', { id: 'P1', revision: 1 })
    await maestro.register('P2', [])
    await maestro.call('DELETE', '/peers/P1')
    await maestro.call('DELETE', '/peers/P1')
    maestro.clock.advance(20_000)
    await maestro.maestro.reap()
    await expect
      .poll(() => told(maestro))
      .toEqual(['P1 peer.registered', 'P2 peer.registered', 'P1 peer.withdrawn', 'P2 peer.expired'])
    const first = (await heard(maestro)).find(({ event }) => event === 'peer.registered')
    expect(first?.body).toMatchObject({
      origin: 'maestro',
      seq: 1,
      data: { peer: 'P1', rest: 'http://10.0.0.1:8000', grpc_port: 50051, files: 1 },
    })
  })
})

describe('what a peer publishes', () => {
  it('is taken once, and told to all', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    const events = [eventOf('P1', 1), eventOf('P1', 2)]
    expect(await maestro.call('POST', '/events', { events })).toEqual({ status: 202, body: { accepted: 2 } })
    expect(await maestro.call('POST', '/events', { events })).toEqual({ status: 202, body: { accepted: 0 } })
    const messages = (await heard(maestro)).filter(({ event }) => event === 'file.added')
    expect(messages.map(({ body }) => body)).toEqual(events)
  })
})
