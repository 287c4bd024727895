import { NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import type { Random } from '../../common/random.ts'
import type { PeerContact } from '../contact.ts'
import type { RingHandlers, RingNetwork } from '../dht/protocol.ts'
import type { Member } from '../dht/ring.ts'
import type { FloodAnswer, FloodHandlers, FloodNetwork, FloodQuery } from '../flood/protocol.ts'
import type { OverlayHandlers, OverlayNetwork } from '../overlay/protocol.ts'
import type { VirtualClock } from './virtual-clock.ts'

export interface NetworkOptions {
  /** one way, ms (default 10 to 50) */
  latencyMs?: readonly [least: number, most: number]
  /** after so long without an answer a peer counts as silent, ms (default 500) */
  timeoutMs?: number
}

/** What a simulated peer answers with; what it lacks it refuses. */
export interface Inhabitant {
  readonly ring?: RingHandlers
  readonly flood?: FloodHandlers
  readonly overlay?: OverlayHandlers
}

type Address = Pick<PeerContact, 'host' | 'grpcPort'>

/** How many messages were sent, each call and each answer counted as one. */
export interface Traffic {
  /** by verb */
  readonly calls: Readonly<Record<string, number>>
  readonly messages: number
}

/** A network within this process, on virtual time: peers live at addresses, are slow by a latency, fall silent, and are cut off. */
export class SimulatedNetwork {
  readonly #clock: VirtualClock
  readonly #random: Random
  readonly #latency: readonly [number, number]
  readonly #timeoutMs: number
  readonly #hosts = new Addresses<{ readonly peer: PeerId; readonly inhabitant: Inhabitant }>()
  /** side of a partition; absent: side 0 */
  readonly #sides = new Addresses<number>()
  #calls: Record<string, number> = {}
  #messages = 0

  constructor(deps: { clock: VirtualClock; random: Random }, options: NetworkOptions = {}) {
    this.#clock = deps.clock
    this.#random = deps.random
    this.#latency = options.latencyMs ?? [10, 50]
    this.#timeoutMs = options.timeoutMs ?? 500
  }

  get traffic(): Traffic {
    return { calls: { ...this.#calls }, messages: this.#messages }
  }

  resetTraffic(): void {
    this.#calls = {}
    this.#messages = 0
  }

  /** Puts a peer at its address. */
  settle(contact: PeerContact, inhabitant: Inhabitant): void {
    this.#hosts.set(contact, { peer: contact.peer, inhabitant })
  }

  /** From now on nobody answers there. */
  kill(contact: PeerContact): void {
    this.#hosts.delete(contact)
  }

  isAlive(contact: PeerContact): boolean {
    return this.#hosts.get(contact)?.peer === contact.peer
  }

  /** Puts peers on another side: only those of one side reach each other. `heal` ends it. */
  cutOff(contacts: Iterable<PeerContact>, side: number): void {
    for (const contact of contacts) this.#sides.set(contact, side)
  }

  heal(): void {
    this.#sides.clear()
  }

  /** The ring as one member reaches it. */
  ringOf(self: Member): RingNetwork {
    const call = <T>(verb: string, to: Member, answer: (there: RingHandlers) => T | Promise<T>, signal: AbortSignal) =>
      this.#call(`ring.${verb}`, self, to, to.peer, ({ ring }) => answer(provided(ring)), signal)
    return {
      stabilize: (to, signal) => call('stabilize', to, (there) => there.onStabilize(self, self.host), signal),
      step: (to, key, signal) => call('step', to, (there) => there.onStep(key), signal),
      find: (to, key, of, signal) => call('find', to, (there) => there.onFind(key, of), signal),
      store: (to, records, withdraw, signal) =>
        call('store', to, (there) => there.onStore(self, records, withdraw, self.host), signal),
      leave: (to, signal) => call('leave', to, (there) => there.onLeave(self), signal),
    }
  }

  overlayOf(self: PeerContact): OverlayNetwork {
    return {
      exchange: (to, peers, linked, signal) =>
        this.#call(
          'exchange',
          self,
          to,
          undefined,
          ({ overlay }) => provided(overlay).onExchange(self, peers, linked, self.host),
          signal,
        ),
    }
  }

  floodOf(self: PeerContact): FloodNetwork {
    return { query: (to, query, signal) => this.#query(self, to, query, signal) }
  }

  async #call<T>(
    verb: string,
    from: PeerContact,
    to: Address,
    peer: PeerId | undefined,
    answer: (there: Inhabitant) => T | Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    this.#sent(verb)
    const sentAt = this.#clock.now()
    const there = await this.#arrive(from, to, peer, sentAt, signal)
    const answered = await answer(there)
    this.#messages++
    await this.#travel()
    if (signal.aborted) throw cancelled()
    if (this.#clock.now() - sentAt > this.#timeoutMs || !this.#connected(from, to)) throw SILENT
    return answered
  }

  async *#query(
    from: PeerContact,
    to: PeerContact,
    query: FloodQuery,
    signal: AbortSignal,
  ): AsyncIterable<FloodAnswer> {
    this.#sent(`flood.${query.scope}`)
    const { flood } = await this.#arrive(from, to, to.peer, this.#clock.now(), signal).catch((error: unknown) => {
      // It follows the query on its way.
      if (signal.aborted) this.#sent('flood.cancel')
      throw error
    })
    const gone = new AbortController()
    const take = () => gone.abort()
    signal.addEventListener('abort', take, { once: true })
    let over = false
    try {
      for await (const answer of provided(flood).onQuery({ host: from.host, peer: from.peer }, query, gone.signal)) {
        over = answer.kind !== 'hits'
        if (answer.kind === 'hits') this.#messages++
        await this.#travel()
        if (signal.aborted) return
        yield answer
      }
      over = true
    } finally {
      signal.removeEventListener('abort', take)
      // What is over needs not be taken back.
      if (!over) {
        this.#sent('flood.cancel')
        gone.abort()
      }
    }
  }

  /** @throws NetworkError `unavailable`, after the timeout, where nobody is there, or another than was meant */
  async #arrive(
    from: PeerContact,
    to: Address,
    peer: PeerId | undefined,
    sentAt: number,
    signal: AbortSignal,
  ): Promise<Inhabitant> {
    await this.#travel()
    if (signal.aborted) throw cancelled()
    const host = this.#hosts.get(to)
    if (host && (peer === undefined || host.peer === peer) && this.#connected(from, to)) return host.inhabitant
    await this.#clock.sleep(sentAt + this.#timeoutMs - this.#clock.now())
    if (signal.aborted) throw cancelled()
    throw SILENT
  }

  /** What is on its way arrives, wanted or not: to listen for the end of each call would be most of the work. */
  #travel(): Promise<void> {
    const [least, most] = this.#latency
    // Whole milliseconds: what arrives together is dealt with together, which is much faster to simulate.
    return this.#clock.sleep(least + Math.floor(this.#random() * (most - least + 1)))
  }

  #connected(a: Address, b: Address): boolean {
    return (this.#sides.get(a) ?? 0) === (this.#sides.get(b) ?? 0)
  }

  #sent(verb: string): void {
    this.#calls[verb] = (this.#calls[verb] ?? 0) + 1
    this.#messages++
  }
}

/** What is at an address. No text is made of one: there are millions of messages. */
class Addresses<T> {
  readonly #hosts = new Map<string, Map<number, T>>()

  get({ host, grpcPort }: Address): T | undefined {
    return this.#hosts.get(host)?.get(grpcPort)
  }

  set({ host, grpcPort }: Address, value: T): void {
    const ports = this.#hosts.get(host)
    if (ports) ports.set(grpcPort, value)
    else this.#hosts.set(host, new Map([[grpcPort, value]]))
  }

  delete({ host, grpcPort }: Address): void {
    this.#hosts.get(host)?.delete(grpcPort)
  }

  clear(): void {
    this.#hosts.clear()
  }
}

function provided<T>(handlers: T | undefined): T {
  if (handlers === undefined) throw new NetworkError('invalid', 'that peer does not speak this')
  return handlers
}

function cancelled(): NetworkError {
  return new NetworkError('cancelled', 'cancelled')
}

/** The same one each time: where half of all are silent, errors would be a good part of the work. */
const SILENT = new NetworkError('unavailable', 'that peer does not answer')
