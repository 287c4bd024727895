import { NetworkError } from '../../common/errors.ts'
import type { BusState, EventBus } from '../../common/events/bus.ts'

/** Where nothing carries events: they stay with this process, and no mail is kept for anybody. */
export class NoBus implements EventBus {
  readonly state: BusState = { kind: 'none', state: 'unreachable', problem: null }

  async start(): Promise<void> {}

  async stop(): Promise<void> {}

  /** There is nobody to tell: so they are not unsent for ever. */
  async publish(): Promise<void> {}

  async send(): Promise<void> {
    throw new NetworkError(
      'unavailable',
      'this network has neither a Maestro nor a broker that keeps mail: configure "maestro_url", or "events" with a RabbitMQ',
      { reason: 'no_carrier' },
    )
  }
}
