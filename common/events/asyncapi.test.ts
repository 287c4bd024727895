import { readFileSync, writeFileSync } from 'node:fs'
import { Registry } from 'prom-client'
import { describe, expect, test } from 'vitest'
import { createApp } from '../http.ts'
import { silentLog } from '../log.ts'
import { projectFile } from '../project.ts'
import { addAsyncApi, asyncApiDocument } from './asyncapi.ts'
import { EVENT_EXAMPLES, MAIL_EXAMPLES } from './asyncapi-examples.ts'
import { EVENT_TYPES, parseEvent } from './event.ts'
import { MailSchema } from './mail.ts'

type Json = Record<string, unknown>
const document = JSON.parse(JSON.stringify(asyncApiDocument())) as Json

/** Every object within, with the path to it. */
function* objectsIn(value: unknown, path = '#'): Generator<[string, Json]> {
  if (typeof value !== 'object' || value === null) return
  if (!Array.isArray(value)) yield [path, value as Json]
  for (const [key, inner] of Object.entries(value)) yield* objectsIn(inner, `${path}/${key.replaceAll('/', '~1')}`)
}

function at(pointer: string): unknown {
  return pointer
    .slice(2)
    .split('/')
    .reduce<unknown>((value, key) => (value as Json | undefined)?.[key], document)
}

describe('the AsyncAPI document', () => {
  test('is the one in docs/', () => {
    const path = projectFile('docs', 'asyncapi.json')
    if (process.env.UPDATE === '1') writeFileSync(path, JSON.stringify(document))
    expect(
      JSON.parse(readFileSync(path, 'utf8')),
      'renew it: UPDATE=1 npx vitest run common/events/asyncapi.test.ts && npx biome check --write docs/asyncapi.json',
    ).toEqual(document)
  })

  test('names nothing that it does not have', () => {
    const pointers = [...objectsIn(document)].flatMap(([, { $ref }]) => (typeof $ref === 'string' ? [$ref] : []))
    expect(pointers.length).toBeGreaterThan(50)
    expect(pointers.filter((pointer) => at(pointer) === undefined)).toEqual([])
  })

  test('has a message for every type, on every channel of events', () => {
    const { channels, components } = document as { channels: Json; components: { messages: Json } }
    for (const channel of ['stream', 'exchange', 'webhook']) {
      const { messages } = channels[channel] as { messages: Record<string, { $ref: string }> }
      const types = Object.values(messages).map(({ $ref }) => (at($ref) as { name: string }).name)
      expect(types.filter((name) => name.includes('.'))).toEqual(EVENT_TYPES)
    }
    const used = new Set(
      Object.values(channels).flatMap((channel) => Object.keys((channel as { messages: Json }).messages)),
    )
    expect([...used].sort()).toEqual(Object.keys(components.messages).sort())
  })

  test('has operations on channels, in words of AsyncAPI 3', () => {
    const { operations, asyncapi } = document as { operations: Json; asyncapi: string }
    expect(asyncapi).toBe('3.0.0')
    for (const operation of Object.values(operations) as { action: string; channel: { $ref: string } }[]) {
      expect(['send', 'receive']).toContain(operation.action)
      expect(operation.channel.$ref).toMatch(/^#\/channels\/\w+$/)
    }
    for (const [name, channel] of Object.entries(document.channels as Record<string, Json>)) {
      const parameters = [...((channel.address ?? '') as string).matchAll(/\{(\w+)\}/g)].map(([, word]) => word)
      expect([name, Object.keys((channel.parameters ?? {}) as Json)]).toEqual([name, parameters])
    }
  })

  test('has schemas of JSON Schema alone', () => {
    for (const [path, object] of objectsIn(document))
      if (!path.endsWith('/properties'))
        expect([path, 'example' in object, '$schema' in object]).toEqual([path, false, false])
  })

  test('names exchange and queues as the configuration does', () => {
    expect(JSON.stringify(asyncApiDocument('lab7'))).toContain('"name":"lab7.events"')
    expect(asyncApiDocument('lab7')).toMatchObject({
      channels: { mailbox: { bindings: { amqp: { queue: { name: 'lab7.mailbox.{peer}' } } } } },
    })
  })

  test('is served', async () => {
    const app = createApp({ title: 't', description: 'd', log: silentLog, metrics: new Registry() })
    addAsyncApi(app, { prefix: 'p2p' })
    const response = await app.request('/asyncapi.json')
    expect(await response.json()).toEqual(document)
  })
})

describe('its examples', () => {
  test.each(EVENT_TYPES)('of %s is such an event, whole', (type) => {
    expect(parseEvent(EVENT_EXAMPLES[type])).toEqual(EVENT_EXAMPLES[type])
    expect(EVENT_EXAMPLES[type].type).toBe(type)
  })

  test.each(Object.entries(MAIL_EXAMPLES))('of %s is such a message, whole', (_, mail) => {
    expect(MailSchema.parse(mail)).toEqual(mail)
  })
})
