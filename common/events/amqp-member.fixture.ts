import pino from 'pino'
import { expect, onTestFinished } from 'vitest'
import { systemClock } from '../clock.ts'
import { NetworkError } from '../errors.ts'
import { AmqpBus, type AmqpBusOptions } from './amqp-bus.ts'
import { MemoryLog } from './bus.fixture.ts'
import { EVENT_LIMITS, type NetworkEvent } from './event.ts'
import type { Mail } from './mail.ts'

/** Real brokers on busy machines take their time. */
export const PATIENCE = { timeout: 45_000, interval: 50 }
export const never = new AbortController().signal

/** A process that uses RabbitMQ, with what it heard. */
export class AmqpMember {
  readonly log = new MemoryLog()
  readonly mail: Mail[] = []
  /** what was logged, as text */
  readonly logged: string[] = []
  gaps = 0
  /** how often publishing was said to be worth another try */
  nudges = 0
  beforeMail: (() => Promise<void> | void) | undefined
  readonly bus: AmqpBus

  private constructor(options: AmqpBusOptions) {
    this.bus = new AmqpBus(
      {
        log: this.log,
        onMail: async (mail) => {
          await this.beforeMail?.()
          this.mail.push(...mail)
        },
        onGap: () => this.gaps++,
        onConnected: () => this.nudges++,
        clock: systemClock,
        logger: pino({ level: 'debug' }, { write: (line: string) => void this.logged.push(line) }),
      },
      options,
    )
    onTestFinished(() => this.bus.stop())
  }

  static async start(url: string, prefix: string, self: string, over: Partial<AmqpBusOptions> = {}) {
    const member = new AmqpMember({ url, prefix, self, mailbox: true, ...over })
    await member.bus.start()
    return member
  }

  static async connected(url: string, prefix: string, self: string, over: Partial<AmqpBusOptions> = {}) {
    return (await AmqpMember.start(url, prefix, self, over)).connected()
  }

  async connected(): Promise<this> {
    await expect.poll(() => this.bus.state, PATIENCE).toMatchObject({ state: 'connected' })
    return this
  }

  /** Publishes batch by batch, each until it is taken, as a publisher does. @returns how often it had to try again */
  async publish(events: readonly NetworkEvent[], onBatch?: (done: number) => void): Promise<number> {
    let again = 0
    for (let done = 0; done < events.length; onBatch?.(done)) {
      const batch = events.slice(done, done + EVENT_LIMITS.batch)
      try {
        await this.bus.publish(batch, never)
        done += batch.length
      } catch (error) {
        if (!(error instanceof NetworkError) || error.code !== 'unavailable') throw error
        again++
        await systemClock.sleep(50)
      }
    }
    return again
  }

  hears(origin: string, seqs: readonly number[]): Promise<void> {
    return expect.poll(() => this.log.seqs(origin), PATIENCE).toEqual(seqs)
  }
}

export function numbers(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index)
}
