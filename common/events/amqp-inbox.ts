import { setImmediate } from 'node:timers/promises'
import type { AsyncMessage, Channel } from 'rabbitmq-client'
import { backoff } from '../backoff.ts'
import type { Clock } from '../clock.ts'
import type { Logger } from '../log.ts'
import { type AsideReason, OVERSIZED, type Reading } from './amqp-messages.ts'
import type { Session } from './amqp-session.ts'

export interface InboxDeps<T> {
  clock: Clock
  logger: Logger
  read: (message: AsyncMessage) => Reading<T>
  /** Messages leave the queue when it resolves; where it throws, it is called again with the same, later. */
  take: (items: readonly T[]) => Promise<void>
  onAside: (reason: AsideReason) => void
}

export interface InboxOptions {
  queue: string
  /** messages held that are not done with */
  prefetch: number
  /** bytes; the body of a longer message is dropped as it comes */
  bytes: number
}

const RETRY_MS = { first: 250, longest: 15_000 }

/** Takes messages from a queue, in order and in batches, as long as a session lasts. */
export class AmqpInbox<T> {
  readonly #deps: InboxDeps<T>
  readonly #session: Session
  readonly #channel: Channel
  readonly #ended = new AbortController()
  #arrived: AsyncMessage[] = []
  #working: Promise<void> | undefined

  private constructor(deps: InboxDeps<T>, session: Session, channel: Channel) {
    this.#deps = deps
    this.#session = session
    this.#channel = channel
    void session.over.then(() => this.#ended.abort())
  }

  /** Begins to consume. */
  static async open<T>(deps: InboxDeps<T>, session: Session, options: InboxOptions): Promise<AmqpInbox<T>> {
    const channel = await session.channel()
    boundBodies(channel, options.bytes)
    await channel.basicQos({ prefetchCount: options.prefetch })
    const inbox = new AmqpInbox(deps, session, channel)
    await channel.basicConsume({ queue: options.queue }, (message) => inbox.#accept(message))
    return inbox
  }

  /** Takes nothing more; resolves when what is being taken is done with. */
  async stop(): Promise<void> {
    this.#ended.abort()
    await this.#working
  }

  #accept(message: AsyncMessage): void {
    this.#arrived.push(message)
    this.#working ??= this.#work()
  }

  async #work(): Promise<void> {
    // What came over the socket together arrives in this turn, message by message.
    await setImmediate()
    try {
      while (this.#arrived.length > 0 && !this.#ended.signal.aborted) {
        const messages = this.#arrived
        this.#arrived = []
        await this.#process(messages)
      }
    } catch (error) {
      this.#session.fail(error)
    }
    this.#working = undefined
  }

  async #process(messages: readonly AsyncMessage[]): Promise<void> {
    const items: T[] = []
    let last: number | undefined
    for (const message of messages) {
      const reading = this.#deps.read(message)
      if (reading.kind === 'aside') {
        this.#channel.basicNack({ deliveryTag: message.deliveryTag, requeue: false })
        this.#deps.onAside(reading.reason)
        continue
      }
      last = message.deliveryTag
      if (reading.kind === 'item') items.push(reading.item)
    }
    if (items.length > 0 && !(await this.#taken(items))) return
    if (last !== undefined) this.#channel.basicAck({ deliveryTag: last, multiple: true })
  }

  /** @returns false where the session ended first: the broker delivers them again */
  async #taken(items: readonly T[]): Promise<boolean> {
    const { clock, logger, take } = this.#deps
    for (let failures = 0; ; failures++) {
      try {
        await take(items)
        return this.#channel.active
      } catch (error) {
        logger.warn({ err: error, messages: items.length }, 'what came from the RabbitMQ was not taken: it waits')
      }
      if (!this.#ended.signal.aborted) await clock.sleep(backoff(RETRY_MS, failures), this.#ended.signal)
      if (this.#ended.signal.aborted) return false
    }
  }
}

interface ChannelInside {
  _onBody(frame?: { payload: Buffer }): void
  _state: { incoming?: { headerFrame?: { bodySize: number; fields: { contentType?: string } } } }
}

/**
 * The library gathers the whole of a message, 128 MiB perhaps, and parses it as JSON, before it shows it to anybody, and
 * has no bound for it. Here the frames of a message that is too long are emptied as they come.
 */
function boundBodies(channel: Channel, bytes: number): void {
  const inside = channel as unknown as ChannelInside
  const onBody = inside._onBody.bind(channel)
  inside._onBody = (frame) => {
    const header = inside._state.incoming?.headerFrame
    if (frame && header && header.bodySize > bytes) {
      frame.payload = Buffer.alloc(0)
      header.fields.contentType = OVERSIZED
    }
    onBody(frame)
  }
}
