import { z } from 'zod'
import { secretKey } from '../config.ts'

/** The configuration keys of events, the same for Maestro and agents. */
export const eventKeys = {
  events: secretKey(
    z
      .string()
      .max(1000)
      .refine((text) => text === 'embedded' || isBroker(text), {
        error: 'must be "embedded", or where a RabbitMQ is, as in amqp://user:password@host:5672',
      }),
  )
    .default('embedded')
    .describe(
      'what carries events and mail: "embedded" (the Maestro), or the RabbitMQ at amqp://user:password@host:5672; the same for all',
    ),
  events_prefix: z
    .string()
    .regex(/^[a-z0-9][a-z0-9._-]{0,39}$/, 'has 1 to 40 of a-z, 0-9, ".", "_", "-"')
    .default('p2p')
    .describe('begins the names of exchanges and queues at the RabbitMQ, so that networks can share one'),
  webhook_url: z
    .string()
    .max(1000)
    .refine(isHttp, { error: 'must be an http or https URL' })
    .optional()
    .describe('every event is posted there, signed (default: nowhere)'),
  webhook_secret: secretKey(z.string().min(16).max(200))
    .optional()
    .describe('signs what is posted to the webhook (HMAC-SHA256)'),
  webhook_types: z.string().max(500).default('*').describe('events that go there, as in "file.*,peer.expired"'),
  webhook_allow_internal: z
    .boolean()
    .default(false)
    .describe('whether the webhook may be at an internal address: this machine, a private network'),
}

export type EventsConfig = z.output<z.ZodObject<typeof eventKeys>>

function isBroker(text: string): boolean {
  return URL.canParse(text) && /^amqps?:$/.test(new URL(text).protocol) && new URL(text).hostname !== ''
}

function isHttp(text: string): boolean {
  return URL.canParse(text) && /^https?:$/.test(new URL(text).protocol)
}
