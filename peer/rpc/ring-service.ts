import { hostOf } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import { printable } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import type { PeerContact } from '../contact.ts'
import { MAX_RECORDS, type RingHandlers } from '../dht/protocol.ts'
import { memberOf } from '../dht/ring.ts'
import { answering, type Caller } from './answering.ts'
import { callerOfWire, type Teller, type WirePeer } from './peer-codec.ts'
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
    const { self } = this.#caller(from, call)
    return viewToWire(await this.#deps.ring.onStabilize(memberOf(self)))
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
    // Nobody takes back what another one said.
    const own = recordsOfWire(withdraw, caller).filter(({ provider }) => provider.peer === caller.self.peer)
    return { kept: this.#deps.ring.onStore(memberOf(caller.self), recordsOfWire(records, caller), own) }
  })

  readonly leave = this.#answering<WireCall, object>(({ from }, call) => {
    this.#deps.ring.onLeave(memberOf(this.#caller(from, call).self))
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
    const seen = hostOf(call.getPeer())
    const self = callerOfWire(from, seen)
    if (self.peer === this.#deps.self().peer)
      throw new NetworkError('conflict', `${self.peer} is this peer: each has an id of its own`)
    return { seen: seen ?? self.host, self }
  }
}
