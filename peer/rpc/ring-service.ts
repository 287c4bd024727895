import { NetworkError } from '../../common/errors.ts'
import { printable } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import type { PeerContact } from '../contact.ts'
import { MAX_RECORDS, type RingHandlers } from '../dht/protocol.ts'
import { memberOf } from '../dht/ring.ts'
import { sameHost } from '../overlay/reachable.ts'
import { answering, type Caller, callerOf } from './answering.ts'
import type { Teller, WirePeer } from './peer-codec.ts'
import {
  findOfWire,
  foundToWire,
  placeOfWire,
  recordsOfWire,
  stepToWire,
  viewToWire,
  type WireCall,
  type WireFind,
  type WireFound,
  type WireStep,
  type WireStore,
  type WireView,
} from './ring-codec.ts'

export interface RingServiceDeps {
  ring: RingHandlers
  self: () => PeerContact
  log: Logger
}

/** The Ring service: what members of the ring ask, to the member that this peer is. */
export class RingServiceHandlers {
  readonly #deps: RingServiceDeps

  constructor(deps: RingServiceDeps) {
    this.#deps = deps
  }

  readonly stabilize = this.#answering<WireCall, WireView>(async ({ from }, call) => {
    const { self, seen } = this.#caller(from, call)
    return viewToWire(await this.#deps.ring.onStabilize(memberOf(self), seen))
  })

  readonly step = this.#answering<{ to: string; key: Buffer }, WireStep>(({ key }) =>
    stepToWire(this.#deps.ring.onStep(placeOfWire(key))),
  )

  readonly find = this.#answering<WireFind, WireFound>((request) =>
    foundToWire(this.#deps.ring.onFind(...findOfWire(request))),
  )

  readonly store = this.#answering<WireStore, { kept: number }>(({ from, records, withdraw }, call) => {
    if (records.length + withdraw.length > MAX_RECORDS)
      throw new NetworkError('too_large', `one request has ${MAX_RECORDS} records at most`)
    const caller = this.#caller(from, call)
    const { self, seen } = caller
    // Nobody takes back what another one said.
    const gone = isSeenAtHome(caller) ? recordsOfWire(withdraw, caller) : []
    const own = gone.filter(({ provider }) => provider.peer === self.peer)
    return { kept: this.#deps.ring.onStore(memberOf(self), recordsOfWire(records, caller), own, seen) }
  })

  readonly leave = this.#answering<WireCall, object>(({ from }, call) => {
    const caller = this.#caller(from, call)
    // Of one that calls from elsewhere it is found out in time: it is not asked any more where it does not answer.
    if (isSeenAtHome(caller)) this.#deps.ring.onLeave(memberOf(caller.self))
    return {}
  })

  /** A call that is meant for this peer. */
  #answering<Request extends { to: string }, Answer>(
    answer: (request: Request, call: Caller) => Answer | Promise<Answer>,
  ) {
    return answering<Request, Answer>(
      () => this.#deps.log,
      (request, call) => {
        if (request.to !== this.#deps.self().peer)
          throw new NetworkError('unavailable', `"${printable(request.to, 64)}" is not here`)
        return answer(request, call)
      },
    )
  }

  #caller(from: WirePeer | null, call: Caller): Teller {
    const caller = callerOf(from, call)
    const { peer } = caller.self
    if (peer === this.#deps.self().peer)
      throw new NetworkError('conflict', `${peer} is this peer: each has an id of its own`)
    return caller
  }
}

/** Whether it calls from the host at which it says it is. */
function isSeenAtHome({ seen, self }: Teller): boolean {
  return sameHost(self.host, seen)
}
