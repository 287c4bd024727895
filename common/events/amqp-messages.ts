import type { AsyncMessage } from 'rabbitmq-client'
import { NetworkError } from '../errors.ts'
import { issueText } from '../issue.ts'
import type { AmqpNames } from './amqp-topology.ts'
import { EVENT_LIMITS, isEventType, type NetworkEvent, parseEvent } from './event.ts'
import { MAIL_BYTES, type Mail, MailSchema } from './mail.ts'

/** Events and mail as RabbitMQ carries them: JSON in a body, with properties that only people look at. */

export interface Parcel {
  /** '' leads to the queue that the routing key names */
  readonly exchange: string
  readonly routingKey: string
  readonly id: string
  readonly type: string
  readonly body: Buffer
  /** ms; for ever by default */
  readonly expiration?: number
}

/** Why a message was set aside: it is among the dead letters then, for people to look at. */
export const ASIDE_REASONS = ['oversized', 'foreign', 'malformed', 'storm'] as const
export type AsideReason = (typeof ASIDE_REASONS)[number]

/** What a message is; `past` is one that nobody need see. */
export type Reading<T> =
  | { readonly kind: 'item'; readonly item: T }
  | { readonly kind: 'aside'; readonly reason: AsideReason }
  | { readonly kind: 'past' }

/** The content type of a message that was too long to be read. */
export const OVERSIZED = 'oversized'
const CHECK = 'check'
/** The longest that the broker can count, ms; a recipient looks at `expires` itself. */
const MAX_EXPIRATION_MS = 2 ** 32 - 1

/** @throws NetworkError `invalid` or `too_large` with its id */
export function eventParcel(event: NetworkEvent, names: AmqpNames): Parcel {
  const body = Buffer.from(JSON.stringify(checked(event)))
  if (body.length > EVENT_LIMITS.bytes)
    throw new NetworkError('too_large', `event ${event.id} has ${body.length} bytes: ${EVENT_LIMITS.bytes} at most`, {
      id: event.id,
    })
  return { exchange: names.events, routingKey: event.type, id: event.id, type: event.type, body }
}

/**
 * Undefined where it has expired already.
 * @param now ms
 * @throws NetworkError `invalid` or `too_large` with its id
 */
export function mailParcel(mail: Mail, names: AmqpNames, now: number): Parcel | undefined {
  const parsed = MailSchema.safeParse(mail)
  if (!parsed.success) throw new NetworkError('invalid', issueText(parsed.error.issues, mail, 'mail'), { id: mail.id })
  const body = Buffer.from(JSON.stringify(parsed.data))
  if (body.length > MAIL_BYTES)
    throw new NetworkError('too_large', `message ${mail.id} has ${body.length} bytes: ${MAIL_BYTES} at most`, {
      id: mail.id,
    })
  const left = Date.parse(mail.expires) - now
  if (left <= 0) return undefined
  return {
    exchange: '',
    routingKey: names.mailbox(mail.to),
    id: mail.id,
    type: mail.kind,
    body,
    ...(left <= MAX_EXPIRATION_MS ? { expiration: left } : {}),
  }
}

/** What only the queue of events of that process gets; it says nothing. */
export function checkParcel(process: string, names: AmqpNames): Parcel {
  return {
    exchange: names.events,
    routingKey: names.checkKey(process),
    id: CHECK,
    type: CHECK,
    body: Buffer.alloc(0),
  }
}

export function readEvent(message: AsyncMessage): Reading<NetworkEvent> {
  if (message.type === CHECK) return { kind: 'past' }
  const json = readJson(message)
  if (json.kind !== 'item') return json
  const value = json.item as { v?: unknown; type?: unknown } | null
  if (value?.v !== 1 || !isEventType(value.type)) return { kind: 'aside', reason: 'foreign' }
  try {
    return { kind: 'item', item: parseEvent(value) }
  } catch {
    return { kind: 'aside', reason: 'malformed' }
  }
}

/** @param self whose mailbox it was in. @param now ms */
export function readMail(message: AsyncMessage, self: string, now: number): Reading<Mail> {
  const json = readJson(message)
  if (json.kind !== 'item') return json
  const parsed = MailSchema.safeParse(json.item)
  if (!parsed.success) return { kind: 'aside', reason: 'malformed' }
  const mail = parsed.data
  if (mail.to !== self) return { kind: 'aside', reason: 'foreign' }
  return Date.parse(mail.expires) <= now ? { kind: 'past' } : { kind: 'item', item: mail }
}

/** The JSON value of a message that is one of ours by its looks. */
function readJson(message: AsyncMessage): Reading<unknown> {
  if (message.contentType === OVERSIZED) return { kind: 'aside', reason: 'oversized' }
  if (message.contentType !== 'application/json' || message.contentEncoding) return { kind: 'aside', reason: 'foreign' }
  // The library has parsed it, and leaves the bytes of what is no JSON.
  if (Buffer.isBuffer(message.body)) return { kind: 'aside', reason: 'malformed' }
  return { kind: 'item', item: message.body }
}

/** @throws NetworkError `invalid` with its id */
function checked(event: NetworkEvent): NetworkEvent {
  try {
    return parseEvent(event)
  } catch (error) {
    throw new NetworkError('invalid', (error as Error).message, { id: event.id }, error)
  }
}
