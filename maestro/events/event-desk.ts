import { partyOf } from '../../common/address.ts'
import type { Clock } from '../../common/clock.ts'
import { type ErrorCode, NetworkError } from '../../common/errors.ts'
import type { EventBus } from '../../common/events/bus.ts'
import { EVENT_LIMITS, type NetworkEvent } from '../../common/events/event.ts'
import type { EventLog } from '../../common/events/log.ts'
import type { PeerId } from '../../common/ids.ts'
import { PartyLimits } from '../../common/party-limits.ts'
import type { DirectoryStore } from '../directory/store.ts'

/** Events of one origin, and from one host other than the Maestro's own, where labs run many agents. */
const ORIGIN_RATE = { perSecond: 1000, atOnce: 10_000 }
const HOST_RATE = { perSecond: 4000, atOnce: 40_000 }

export interface EventDeskDeps {
  log: Pick<EventLog, 'keep'>
  /** carries on what is taken */
  bus: Pick<EventBus, 'publish'>
  store: Pick<DirectoryStore, 'peer'>
  clock: Clock
}

/** The rules of what peers publish at the Maestro. */
export class EventDesk {
  readonly #deps: EventDeskDeps
  readonly #origins: PartyLimits
  readonly #hosts: PartyLimits
  #refused = 0

  constructor(deps: EventDeskDeps) {
    this.#deps = deps
    const now = () => deps.clock.now()
    this.#origins = new PartyLimits(ORIGIN_RATE, now)
    this.#hosts = new PartyLimits(HOST_RATE, now)
  }

  /** events that were not taken, since the start */
  get refused(): number {
    return this.#refused
  }

  /**
   * Takes the events of one peer: all or none. They are kept first, so that whoever watches here hears of them also
   * while the broker is away; the peer then sends them again, and the second time only the broker lacks them.
   * @param from the address that they came from, where known
   * @returns how many were not known yet
   * @throws NetworkError `invalid` (of several origins), `not_found` (no live lease), `limited` (details `retry_ms`),
   *   `forbidden` or `too_large` (details `id`: the event that will never be taken), `unavailable`
   */
  async publish(events: readonly NetworkEvent[], from: string | undefined, signal: AbortSignal): Promise<number> {
    try {
      await this.#admit(events, from)
    } catch (error) {
      this.#refused += events.length
      throw error
    }
    const accepted = await this.#deps.log.keep(events)
    await this.#deps.bus.publish(events, signal)
    return accepted
  }

  async #admit(events: readonly NetworkEvent[], from: string | undefined): Promise<void> {
    const { store, clock } = this.#deps
    const { origin } = events[0]!
    if (events.some((event) => event.origin !== origin))
      throw new NetworkError('invalid', 'the events of one request have one origin: send those of each peer apart')
    // Whatever else an origin may be called, no lease has that id.
    if (!(await store.peer(origin as PeerId, clock.now())))
      throw new NetworkError('not_found', `no live lease of ${origin}: register first`, { peer: origin })
    for (const event of events) {
      const fault = faultOf(event)
      if (fault) throw new NetworkError(fault.code, fault.message, { id: event.id })
    }
    const wait = this.#wait(origin, from, events.length)
    if (wait > 0)
      throw new NetworkError('limited', `${origin} tells more than this Maestro takes: try again in ${wait} ms`, {
        retry_ms: wait,
      })
  }

  /** Counts them; @returns 0, or where they are too many the milliseconds until they are not, and counts none. */
  #wait(origin: string, from: string | undefined, events: number): number {
    const host = partyOf(from)
    const hostWait = host === undefined ? 0 : this.#hosts.wait(host, events)
    const wait = Math.max(hostWait, this.#origins.wait(origin, events))
    if (wait > 0) return wait
    this.#origins.take(origin, events)
    if (host !== undefined) this.#hosts.take(host, events)
    return 0
  }
}

function faultOf(event: NetworkEvent): { code: ErrorCode; message: string } | undefined {
  if (event.type.startsWith('peer.'))
    return { code: 'forbidden', message: `${event.type} is for the Maestro alone to tell` }
  const bytes = Buffer.byteLength(JSON.stringify(event))
  if (bytes > EVENT_LIMITS.bytes)
    return {
      code: 'too_large',
      message: `event ${event.id} has ${bytes} bytes; at most ${EVENT_LIMITS.bytes} are taken`,
    }
  return undefined
}
