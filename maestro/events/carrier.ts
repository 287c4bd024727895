import type { Clock } from '../../common/clock.ts'
import { AmqpBus } from '../../common/events/amqp-bus.ts'
import type { EventBus } from '../../common/events/bus.ts'
import type { EventLog } from '../../common/events/log.ts'
import type { Component } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import type { MaestroConfig } from '../config.ts'

/** What carries events between the Maestro and all others. */
export type Carrier = Pick<EventBus, 'state' | 'publish' | keyof Component>

/** Without a broker the Maestro's own log is what carries them: what is in it is there for all. */
const OWN_LOG: Carrier = {
  state: { kind: 'embedded', state: 'connected', problem: null },
  publish: async () => {},
  start: async () => {},
  stop: async () => {},
}

export interface CarrierDeps {
  log: EventLog
  clock: Clock
  logger: Logger
  /** what could not be published may be tried again now */
  onConnected: () => void
}

/** @throws NetworkError `invalid` where the broker's address is none */
export function openCarrier({ id, events, events_prefix: prefix }: MaestroConfig, deps: CarrierDeps): Carrier {
  if (events === 'embedded') return OWN_LOG
  const { logger } = deps
  return new AmqpBus(
    {
      ...deps,
      onMail: async () => {},
      // Of what it missed, the peers tell the directory by themselves.
      onGap: () => logger.info('events may have passed this Maestro unheard'),
    },
    // No peer can have this name.
    { url: events, prefix, self: `maestro:${id}`, mailbox: false },
  )
}
