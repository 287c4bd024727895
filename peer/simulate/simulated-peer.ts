import type { Clock } from '../../common/clock.ts'
import type { Random } from '../../common/random.ts'
import { type ChordDeps, ChordNode, type ChordOptions } from '../dht/node.ts'
import { RecordStore } from '../dht/record-store.ts'
import type { Member } from '../dht/ring.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import { NOBODY } from './acquaintances.ts'
import type { Inhabitant, SimulatedNetwork } from './network.ts'

export interface SimulatedPeerDeps {
  member: Member
  network: SimulatedNetwork
  known: KnownPeers
  clock: Clock
  random: Random
}

/** One peer of a simulation: the node itself, and what an agent would run around it. */
export class SimulatedPeer {
  readonly member: Member
  readonly node: ChordNode
  readonly known: KnownPeers
  readonly records: RecordStore
  readonly #deps: SimulatedPeerDeps
  readonly #options: Partial<ChordOptions>
  readonly #stopping = new AbortController()
  /** a running maintenance: what ends it */
  #maintenance: { isOver: boolean } | undefined

  constructor(deps: SimulatedPeerDeps, options: Partial<ChordOptions>) {
    const { member, network, known, clock, random } = deps
    this.#deps = deps
    this.#options = options
    this.member = member
    this.known = known
    this.records = new RecordStore({ clock })
    this.node = new ChordNode(
      { self: () => member, network: network.ringOf(member), known, records: this.records, clock, random },
      options,
    )
  }

  /** @param others what else it answers to */
  settle(others: Omit<Inhabitant, 'ring'> = {}): void {
    this.#deps.network.settle(this.member, { ring: this.node, ...others })
  }

  /** Rounds of maintenance until it is stopped, the first at a random time within the first pause. `jitter`: of a pause, either way. */
  maintain(jitter: number): void {
    if (this.#maintenance) return
    const maintenance = { isOver: false }
    this.#maintenance = maintenance
    void this.#run(maintenance, jitter)
  }

  /** Begins no other round. */
  pause(): void {
    if (this.#maintenance) this.#maintenance.isOver = true
    this.#maintenance = undefined
  }

  async tick(): Promise<void> {
    const { signal } = this.#stopping
    await this.node.tick(signal).catch((error: unknown) => {
      if (!signal.aborted) throw error
    })
  }

  /** Goes silent. */
  vanish(): void {
    this.pause()
    this.#stopping.abort()
    this.#deps.network.kill(this.member)
  }

  /** Says goodbye, then goes silent. */
  async leave(): Promise<void> {
    this.pause()
    await this.node.leave(this.#stopping.signal)
    this.vanish()
  }

  /**
   * A node with the same pointers: what it learns by lookups leaves this peer as it was.
   * @param suspectMs 0: it does not even remember who was silent
   */
  twin(suspectMs: number): ChordNode {
    const { member, network, clock, random } = this.#deps
    const deps: ChordDeps = {
      self: () => member,
      network: network.ringOf(member),
      known: NOBODY,
      records: this.records,
      clock,
      random,
    }
    const twin = new ChordNode(deps, { ...this.#options, suspectMs })
    twin.resume(this.node.view, this.node.fingers)
    return twin
  }

  async #run(maintenance: { readonly isOver: boolean }, jitter: number): Promise<void> {
    const { clock, random } = this.#deps
    await clock.sleep(this.node.pauseMs * random())
    while (!maintenance.isOver) {
      await this.tick()
      await clock.sleep(this.node.pauseMs * (1 + jitter * (2 * random() - 1)))
    }
  }
}
