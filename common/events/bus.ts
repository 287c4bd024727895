import type { Component } from '../lifecycle.ts'
import type { NetworkEvent } from './event.ts'
import type { EventLog } from './log.ts'
import type { Mail } from './mail.ts'

/** How a process stands with what carries its events. */
export interface BusState {
  readonly kind: 'embedded' | 'rabbitmq' | 'none'
  /** `blocked`: it answers, but takes nothing at present (its disk is full) */
  readonly state: 'connected' | 'unreachable' | 'blocked'
  /** what is wrong, for people */
  readonly problem: string | null
}

/**
 * What carries events and mail between the processes of the network, each at least once, the events of one origin in
 * their order. What arrives goes into the log (`BusDeps`); what it can't understand it sets aside, and goes on.
 *
 * `start` returns at once: where the carrier is away, the bus connects when it is there. Implementations: the Maestro
 * (`peer/events/maestro-bus.ts`), RabbitMQ (`common/events/amqp-bus.ts`); `bus.contract.ts` holds for both.
 */
export interface EventBus extends Component {
  readonly state: BusState
  /**
   * Resolves once all are where neither a crash of this process nor one of the carrier loses them. Where it throws,
   * some of them may be there: send all again.
   * @throws NetworkError `unavailable` (try later), `limited` (try later; details `retry_ms`), `invalid` or `too_large`
   *   (details `id`: the event that will never be taken), `cancelled`
   */
  publish(events: readonly NetworkEvent[], signal: AbortSignal): Promise<void>
  /** Likewise leaves one message in the mailbox of `mail.to`, whether or not that peer is there, or has ever been. */
  send(mail: Mail, signal: AbortSignal): Promise<void>
}

export interface BusDeps {
  /** takes what arrives; an event leaves the carrier when it is kept there */
  log: Pick<EventLog, 'keep' | 'resume'>
  /** Takes messages from this peer's own mailbox: they leave it when this resolves, and come again where it throws. */
  onMail: (mail: readonly Mail[]) => Promise<void>
  /** Events may have passed unheard of. */
  onGap: () => void
}
