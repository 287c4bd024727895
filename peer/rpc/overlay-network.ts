import { hostPort } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import { fromStatus } from '../../common/rpc.ts'
import { type PeerContact, restOf } from '../contact.ts'
import { type FloodAnswer, type FloodNetwork, type FloodQuery, MAX_HITS } from '../flood/protocol.ts'
import type { Acquaintance, Introduction, OverlayNetwork } from '../overlay/protocol.ts'
import { asItCame, MAX_SAID, type RpcClients, read } from './client.ts'
import {
  acquaintancesOfWire,
  answerOfWire,
  introductionToWire,
  OVERLAY_SERVICE,
  queryToWire,
  type WireIntroduction,
  type WireQuery,
} from './overlay-codec.ts'
import { introducedOfWire, type Teller, tellerOf } from './peer-codec.ts'
import { messagesOf } from './streams.ts'

export interface GrpcOverlayDeps {
  clients: RpcClients
  self: () => PeerContact
}

export interface GrpcOverlayOptions {
  /** a peer that does not answer an introduction by then is silent, ms (default 1,000) */
  exchangeMs?: number
}

/** The way of an answer, beside the time that the query may take, ms. */
const ON_THE_WAY_MS = 250

const { Exchange, Query } = OVERLAY_SERVICE
const QUERY = {
  path: Query.path,
  requestSerialize: Query.requestSerialize,
  responseDeserialize: asItCame,
  maxAnswer: MAX_SAID,
}

/** The unstructured network over gRPC, as this peer reaches it. */
export class GrpcOverlay implements OverlayNetwork, FloodNetwork {
  readonly #clients: RpcClients
  readonly #self: () => PeerContact
  readonly #exchangeMs: number

  constructor({ clients, self }: GrpcOverlayDeps, options: GrpcOverlayOptions = {}) {
    this.#clients = clients
    this.#self = self
    this.#exchangeMs = options.exchangeMs ?? 1000
  }

  async exchange(
    to: Pick<PeerContact, 'host' | 'grpcPort'>,
    peers: readonly Acquaintance[],
    linked: boolean,
    signal: AbortSignal,
  ): Promise<Introduction> {
    const address = hostPort(to.host, to.grpcPort)
    const method = {
      path: Exchange.path,
      requestSerialize: Exchange.requestSerialize,
      responseDeserialize: (bytes: Buffer) => introductionOf(Exchange.responseDeserialize(bytes), to),
      maxAnswer: MAX_SAID,
    }
    const target = { peer: address, rest: `http://${address}`, grpc_port: to.grpcPort }
    const request = introductionToWire(this.#self(), peers, linked)
    return this.#clients.unary(target, method, request, this.#exchangeMs, signal)
  }

  async *query(to: PeerContact, query: FloodQuery, signal: AbortSignal): AsyncIterable<FloodAnswer> {
    const target = { peer: to.peer, rest: restOf(to), grpc_port: to.grpcPort }
    const call = this.#clients.serverStream<WireQuery, Buffer>(
      target,
      QUERY,
      queryToWire(query, this.#self().peer),
      query.timeMs + ON_THE_WAY_MS,
      signal,
    )
    let last = false
    try {
      for await (const answer of answersOf(messagesOf<Buffer>(call), tellerOf(to))) {
        last = answer.kind !== 'hits'
        yield answer
        if (last) return
      }
    } catch (error) {
      throw fromStatus(error, to.peer)
    } finally {
      // The call that has said its last ends by itself: to take it back would look like one that was opened for nothing.
      if (last) call.on('data', () => call.cancel())
      else call.cancel()
    }
  }
}

/**
 * What a neighbour answers; of hits, those that can be.
 * @throws NetworkError `corrupt`
 */
async function* answersOf(messages: AsyncIterable<Buffer>, teller: Teller): AsyncGenerator<FloodAnswer> {
  let hits = 0
  for await (const message of messages) {
    const parse = (bytes: Buffer) => {
      const wire = Query.responseDeserialize(bytes)
      hits += wire.hits.length
      if (hits > MAX_HITS) throw new NetworkError('corrupt', `more than ${MAX_HITS} hits`)
      return answerOfWire(wire, teller)
    }
    const answer = read(parse, message, teller.self.peer)
    // What is left out here may be all that it brought: an honest neighbour tells of peers that only it can reach.
    if (answer.kind !== 'hits' || answer.hits.length > 0) yield answer
  }
}

function introductionOf(
  { self: wire, peers }: WireIntroduction,
  to: Pick<PeerContact, 'host' | 'grpcPort'>,
): Introduction {
  const self = introducedOfWire(wire, to)
  return { self, peers: acquaintancesOfWire(peers, tellerOf(self)) }
}
