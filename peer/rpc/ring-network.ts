import type { MethodDefinition } from '@grpc/proto-loader'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import { type PeerContact, restOf } from '../contact.ts'
import type { RecordKey, RingFound, RingNetwork, RingRecord, RingStep, RingView } from '../dht/protocol.ts'
import type { Member, RingId } from '../dht/ring.ts'
import { MAX_SAID, type RpcClients } from './client.ts'
import { peerToWire, tellerOf } from './peer-codec.ts'
import {
  findToWire,
  foundOfWire,
  placeToWire,
  RING_SERVICE,
  recordBatches,
  stepOfWire,
  viewOfWire,
  type WireStore,
} from './ring-codec.ts'

export interface GrpcRingDeps {
  clients: RpcClients
  self: () => PeerContact
}

export interface GrpcRingOptions {
  /** a member that does not answer by then is silent, ms (default 500) */
  timeoutMs?: number
  /** the same where it is given records, ms (default 5,000) */
  storeMs?: number
}

/** The ring over gRPC, as this member reaches it. */
export class GrpcRing implements RingNetwork {
  readonly #clients: RpcClients
  readonly #self: () => PeerContact
  readonly #timeoutMs: number
  readonly #storeMs: number

  constructor({ clients, self }: GrpcRingDeps, options: GrpcRingOptions = {}) {
    this.#clients = clients
    this.#self = self
    this.#timeoutMs = options.timeoutMs ?? 500
    this.#storeMs = options.storeMs ?? 5000
  }

  async stabilize(to: Member, signal: AbortSignal): Promise<RingView> {
    const { Stabilize } = RING_SERVICE
    return this.#ask(
      to,
      Stabilize,
      { to: to.peer, from: this.#from() },
      (view) => viewOfWire(view, tellerOf(to)),
      signal,
    )
  }

  async step(to: Member, key: RingId, signal: AbortSignal): Promise<RingStep> {
    const { Step } = RING_SERVICE
    return this.#ask(to, Step, { to: to.peer, key: placeToWire(key) }, (step) => stepOfWire(step, tellerOf(to)), signal)
  }

  async find(to: Member, key: RecordKey, of: FileName | ContentId, signal: AbortSignal): Promise<RingFound> {
    const { Find } = RING_SERVICE
    return this.#ask(to, Find, findToWire(to.peer, key, of), (found) => foundOfWire(found, tellerOf(to)), signal)
  }

  /** What is too large for one message goes in several. */
  async store(
    to: Member,
    records: readonly RingRecord[],
    withdraw: readonly RingRecord[],
    signal: AbortSignal,
  ): Promise<number> {
    let kept = 0
    for (const batch of recordBatches(records, withdraw)) kept += await this.#store(to, batch, signal)
    return kept
  }

  async leave(to: Member, signal: AbortSignal): Promise<void> {
    await this.#ask(to, RING_SERVICE.Leave, { to: to.peer, from: this.#from() }, () => undefined, signal)
  }

  #store(to: Member, batch: Pick<WireStore, 'records' | 'withdraw'>, signal: AbortSignal): Promise<number> {
    const given = batch.records.length
    const keptOf = ({ kept }: { kept: number }) => {
      if (kept > given) throw new NetworkError('corrupt', `it keeps ${kept} of ${given} records`)
      return kept
    }
    return this.#ask(
      to,
      RING_SERVICE.Store,
      { to: to.peer, from: this.#from(), ...batch },
      keptOf,
      signal,
      this.#storeMs,
    )
  }

  #ask<Request, Wire, Answer>(
    to: Member,
    { path, requestSerialize, responseDeserialize }: MethodDefinition<Request, Wire>,
    request: Request,
    parse: (wire: Wire) => Answer,
    signal: AbortSignal,
    timeoutMs = this.#timeoutMs,
  ): Promise<Answer> {
    const method = {
      path,
      requestSerialize,
      responseDeserialize: (bytes: Buffer) => parse(responseDeserialize(bytes)),
      maxAnswer: MAX_SAID,
    }
    const target = { peer: to.peer, rest: restOf(to), grpc_port: to.grpcPort }
    return this.#clients.unary(target, method, request, timeoutMs, signal)
  }

  #from() {
    return peerToWire(this.#self())
  }
}
