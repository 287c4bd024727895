import { setImmediate } from 'node:timers/promises'
import type { Channel } from 'rabbitmq-client'
import type { Parcel } from './amqp-messages.ts'
import type { Session } from './amqp-session.ts'

/** Publishes with the broker's confirmation: what is confirmed is on its disk. */
export class ConfirmedChannel {
  readonly #session: Session
  readonly #channel: Channel
  readonly #app: string
  readonly #returned = new Set<string>()

  private constructor(session: Session, channel: Channel, app: string) {
    this.#session = session
    this.#channel = channel
    this.#app = app
    channel.on('basic.return', ({ messageId }) => {
      if (messageId !== undefined) this.#returned.add(messageId)
    })
  }

  /** @param app who publishes, for people who look at a message */
  static async open(session: Session, app: string): Promise<ConfirmedChannel> {
    const channel = await session.channel()
    await channel.confirmSelect()
    return new ConfirmedChannel(session, channel, app)
  }

  get channel(): Channel {
    return this.#channel
  }

  /**
   * Puts all on their way, in order, and waits until the broker has confirmed them.
   * @returns whether a queue took each of them
   * @throws NetworkError `unavailable`, `cancelled`
   */
  async publish(parcels: readonly Parcel[], signal?: AbortSignal): Promise<boolean> {
    await this.#session.within(Promise.all(parcels.map((parcel) => this.#put(parcel))), signal)
    // A message that no queue takes is returned before it is confirmed, but the library tells of it a turn later.
    await setImmediate()
    if (this.#returned.size === 0) return true
    return !parcels.some(({ id }) => this.#returned.delete(id))
  }

  #put({ exchange, routingKey, id, type, body, expiration }: Parcel): Promise<void> {
    return this.#channel.basicPublish(
      {
        exchange,
        routingKey,
        mandatory: true,
        durable: true,
        contentType: 'application/json',
        messageId: id,
        type,
        appId: this.#app,
        ...(expiration === undefined ? {} : { expiration: String(expiration) }),
      },
      body,
    )
  }
}
