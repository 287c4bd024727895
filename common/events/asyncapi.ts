import { createRoute, z } from '@hono/zod-openapi'
import type { App } from '../http.ts'
import { VERSION } from '../project.ts'
import { AmqpNames } from './amqp-topology.ts'
import { EVENT_EXAMPLES, MAIL_EXAMPLES } from './asyncapi-examples.ts'
import { EVENT_MEANINGS, EVENT_SCHEMAS, EVENT_TYPES, type EventType } from './event.ts'
import { MailSchema } from './mail.ts'
import { MaestroEventsQuery } from './rest.ts'

/** What is said by events and mail, as an AsyncAPI 3.0 document made of the schemas themselves. */

type Json = Record<string, unknown>

const AMQP = { bindingVersion: '0.3.0' } as const
const HTTP = { bindingVersion: '0.3.0' } as const

/** `prefix` begins the names at the broker (configuration `events_prefix`). */
export function asyncApiDocument(prefix = 'p2p'): Json {
  const names = new AmqpNames(prefix)
  const exchange = { name: names.events, type: 'topic', durable: true, autoDelete: false, vhost: '/' }
  const queue = { name: names.mailbox('{peer}'), durable: true, exclusive: false, autoDelete: false, vhost: '/' }
  const events = EVENT_TYPES.map(nameOf)
  const mail = Object.keys(MAIL_EXAMPLES)
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Events and mailboxes of a peer-to-peer network',
      version: VERSION,
      description:
        'What Maestro and agents tell each other and whoever watches them. Every event may come more than once, with the same id; those of one origin come in their order. Their routes for requests are in /openapi.json.',
      license: { name: 'MIT' },
    },
    defaultContentType: 'application/json',
    servers: {
      maestro: { host: 'localhost:9000', protocol: 'http', description: 'the directory' },
      agent: { host: 'localhost:8000', protocol: 'http', description: 'a peer, with the events that it has heard of' },
      broker: {
        host: 'localhost:5672',
        protocol: 'amqp',
        protocolVersion: '0.9.1',
        description: 'a RabbitMQ, where the configuration names one ("events": "amqp://…")',
      },
    },
    channels: {
      stream: {
        address: '/events',
        title: 'Server-sent events',
        description:
          'The name of a message is the type of its event, its id the place in the log of the service: send it as Last-Event-ID to go on after it.',
        servers: refs('servers', ['maestro', 'agent']),
        messages: messages([...events, 'Gap', 'MailHint']),
      },
      exchange: {
        address: '{type}',
        title: `The topic exchange ${exchange.name}`,
        description: `The routing key is the type of the event. Each process has a durable queue of its own, ${names.eventQueue('{process}')}; what it can't read goes to ${names.deadLetters}.`,
        servers: refs('servers', ['broker']),
        parameters: { type: { description: 'the type of the event', enum: [...EVENT_TYPES] } },
        messages: messages(events),
        bindings: { amqp: { is: 'routingKey', exchange, ...AMQP } },
      },
      mailbox: {
        address: queue.name,
        title: 'The mailbox of a peer',
        description:
          'A quorum queue. A message stays until the peer has it in its own book. Without a broker the Maestro keeps it.',
        servers: refs('servers', ['broker']),
        parameters: { peer: { description: 'the id of the recipient', examples: ['P2'] } },
        messages: messages(mail),
        bindings: { amqp: { is: 'queue', queue, ...AMQP } },
      },
      webhook: {
        address: null,
        title: 'The webhook of the configuration (webhook_url)',
        description:
          'Each event is posted there in order, signed as in the Standard Webhooks specification: webhook-signature is "v1," and the Base64 of the HMAC-SHA256 of "{webhook-id}.{webhook-timestamp}.{body}". An answer of 2xx means that it was taken; otherwise it is posted again.',
        messages: messages(events),
      },
    },
    operations: {
      streamEvents: {
        action: 'send',
        channel: ref('channels', 'stream'),
        summary: 'Maestro and agents tell watchers what happens',
        bindings: { http: { method: 'GET', query: schemaOf(MaestroEventsQuery), ...HTTP } },
      },
      publishEvent: {
        action: 'send',
        channel: ref('channels', 'exchange'),
        summary: 'an origin publishes its events',
        bindings: { amqp: { deliveryMode: 2, ...AMQP } },
      },
      hearEvent: {
        action: 'receive',
        channel: ref('channels', 'exchange'),
        summary: 'every process hears of them, and keeps each once',
        bindings: { amqp: { ack: true, ...AMQP } },
      },
      leaveMail: {
        action: 'send',
        channel: ref('channels', 'mailbox'),
        summary: 'a peer leaves a message for another, which may be away',
        bindings: { amqp: { deliveryMode: 2, ...AMQP } },
      },
      takeMail: {
        action: 'receive',
        channel: ref('channels', 'mailbox'),
        summary: 'a peer takes its messages',
        bindings: { amqp: { ack: true, ...AMQP } },
      },
      postEvent: {
        action: 'send',
        channel: ref('channels', 'webhook'),
        summary: 'events are posted to where the configuration says',
        bindings: { http: { method: 'POST', ...HTTP } },
      },
    },
    components: { messages: allMessages(), schemas: allSchemas() },
  }
}

/** Adds `/asyncapi.json`. */
export function addAsyncApi(app: App, options: { prefix: string }): void {
  const document = asyncApiDocument(options.prefix)
  app.openapi(
    createRoute({
      method: 'get',
      path: '/asyncapi.json',
      tags: ['service'],
      summary: 'Events and mail, described for programs',
      responses: {
        200: {
          description: 'what events and mail look like, as AsyncAPI 3.0',
          content: { 'application/json': { schema: z.looseObject({ asyncapi: z.string() }) } },
        },
      },
    }),
    (c) => c.json(document as { asyncapi: string }, 200),
  )
}

function allMessages(): Json {
  const events = EVENT_TYPES.map((type) => [
    nameOf(type),
    {
      name: type,
      title: type,
      summary: EVENT_MEANINGS[type],
      payload: ref('components/schemas', nameOf(type)),
      examples: [{ name: type, payload: EVENT_EXAMPLES[type] }],
    },
  ])
  const mail = Object.entries(MAIL_EXAMPLES).map(([name, payload]) => [
    name,
    { name: payload.kind, title: payload.kind, payload: ref('components/schemas', name), examples: [{ payload }] },
  ])
  return {
    ...Object.fromEntries(events),
    ...Object.fromEntries(mail),
    Gap: {
      name: 'gap',
      title: 'gap',
      summary: 'events have passed that are kept no longer: look at the directory',
      payload: ref('components/schemas', 'Gap'),
      examples: [{ payload: { lost: 12 } }],
    },
    MailHint: {
      name: 'mail',
      title: 'mail',
      summary: 'the mailbox that was asked for (Maestro only, query "mailbox") has something',
      payload: ref('components/schemas', 'MailHint'),
      examples: [{ payload: { waiting: 2 } }],
    },
  }
}

function allSchemas(): Json {
  const schemas: Json = {
    Gap: {
      type: 'object',
      properties: { lost: { type: ['integer', 'null'], description: 'how many, where that is known' } },
      required: ['lost'],
    },
    MailHint: {
      type: 'object',
      properties: { waiting: { type: 'integer', description: 'messages in it' } },
      required: ['waiting'],
    },
  }
  for (const schema of [...EVENT_TYPES.map((type) => EVENT_SCHEMAS[type]), MailSchema])
    Object.assign(schemas, (schemaOf(schema) as { definitions: Json }).definitions)
  return schemas
}

/** As JSON Schema of draft 7, which AsyncAPI takes as it is; what it names is among the components. */
function schemaOf(schema: z.ZodType): Json {
  const { $schema, ...made } = z.toJSONSchema(schema, { target: 'draft-7', io: 'input' })
  const text = JSON.stringify(made, (key, value: unknown) => {
    if (key !== 'properties' && isObject(value) && 'example' in value) {
      const { example, ...others } = value
      return { ...others, examples: [example] }
    }
    return value
  })
  return JSON.parse(text.replaceAll('"#/definitions/', '"#/components/schemas/')) as Json
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function nameOf(type: EventType): string {
  return EVENT_SCHEMAS[type].meta()?.id as string
}

function ref(where: string, name: string): { $ref: string } {
  return { $ref: `#/${where}/${name}` }
}

function refs(where: string, names: readonly string[]) {
  return names.map((name) => ref(where, name))
}

function messages(names: readonly string[]): Json {
  return Object.fromEntries(names.map((name) => [name, ref('components/messages', name)]))
}
