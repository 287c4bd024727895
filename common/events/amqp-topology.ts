import type { Channel } from 'rabbitmq-client'
import { MAILBOX_MESSAGES } from './mail.ts'

const DAY_MS = 24 * 3600 * 1000

/** Events that wait for one process that is away; of more, the oldest are dropped. */
export const EVENT_QUEUE_MESSAGES = 200_000
/** The queue of a process that stays away for so long is dropped, ms. */
const EVENT_QUEUE_EXPIRES_MS = 14 * DAY_MS
const DEAD_LETTERS = { messages: 10_000, ms: 7 * DAY_MS }
/**
 * How often a message may go back because the connection or the process that had it ended. It is there against a
 * message that kills whoever reads it, once in every start; what merely waits for its handler is not delivered anew.
 */
const DELIVERIES = 10_000

/**
 * A consumer that takes over from one that was lost gets nothing before what that one had not acknowledged is back in
 * its place: so the order holds.
 */
const ORDERED = { 'x-queue-type': 'quorum', 'x-single-active-consumer': true } as const

/** Names of what a network has at a RabbitMQ. */
export class AmqpNames {
  readonly events: string
  readonly dead: string
  readonly deadLetters: string
  readonly #prefix: string

  constructor(prefix: string) {
    this.#prefix = prefix
    this.events = `${prefix}.events`
    this.dead = `${prefix}.dead`
    this.deadLetters = `${prefix}.dead-letters`
  }

  eventQueue(process: string): string {
    return `${this.#prefix}.events.${process}`
  }

  mailbox(peer: string): string {
    return `${this.#prefix}.mailbox.${peer}`
  }

  /** An empty queue that belongs to one connection: two processes with one id would each hear a part of the events. */
  lock(process: string): string {
    return `${this.#prefix}.process.${process}`
  }

  /** A routing key that no event has: it leads to the queue of that process alone. */
  checkKey(process: string): string {
    return `check.of.${process}`
  }
}

export async function declareExchanges(channel: Channel, names: AmqpNames): Promise<void> {
  await channel.exchangeDeclare({ exchange: names.events, type: 'topic', durable: true })
  await channel.exchangeDeclare({ exchange: names.dead, type: 'fanout', durable: true })
  await channel.queueDeclare({
    queue: names.deadLetters,
    durable: true,
    arguments: { 'x-max-length': DEAD_LETTERS.messages, 'x-message-ttl': DEAD_LETTERS.ms },
  })
  await channel.queueBind({ queue: names.deadLetters, exchange: names.dead, routingKey: '' })
}

/**
 * A quorum queue, as for mail: with one broker it was the faster as well (246-byte events, confirmed, batches of 500:
 * 27,000 against 21,000 a second with a classic queue, 5,900 against 3,800 where eight queues get each, and 47,000
 * against 38,000 heard), and in a cluster it survives a node.
 */
export async function declareEventQueue(channel: Channel, names: AmqpNames, process: string): Promise<void> {
  await channel.queueDeclare({
    queue: names.eventQueue(process),
    durable: true,
    arguments: {
      ...ORDERED,
      'x-delivery-limit': DELIVERIES,
      'x-expires': EVENT_QUEUE_EXPIRES_MS,
      'x-max-length': EVENT_QUEUE_MESSAGES,
      'x-overflow': 'drop-head',
      'x-dead-letter-exchange': names.dead,
    },
  })
}

/** All events, and the checks of that process alone. */
export async function bindEventQueue(channel: Channel, names: AmqpNames, process: string): Promise<void> {
  const binding = { queue: names.eventQueue(process), exchange: names.events }
  await channel.queueBind({ ...binding, routingKey: '*.*' })
  await channel.queueBind({ ...binding, routingKey: names.checkKey(process) })
}

/** Senders and the recipient declare it alike, whoever is first. A full one refuses more. */
export async function declareMailbox(channel: Channel, names: AmqpNames, peer: string): Promise<void> {
  await channel.queueDeclare({
    queue: names.mailbox(peer),
    durable: true,
    arguments: {
      ...ORDERED,
      'x-delivery-limit': DELIVERIES,
      'x-max-length': MAILBOX_MESSAGES,
      'x-overflow': 'reject-publish',
      'x-dead-letter-exchange': names.dead,
    },
  })
}
