import type { Clock } from '../../common/clock.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import { type Component, Loop } from '../../common/lifecycle.ts'
import type { Logger } from '../../common/log.ts'
import type { Random } from '../../common/random.ts'
import type { RingBody } from '../../common/schemas.ts'
import { type PeerContact, restOf } from '../contact.ts'
import type { KnownPeers } from '../overlay/protocol.ts'
import type { RingFinding } from './finding.ts'
import { ChordNode, type ChordOptions } from './node.ts'
import type { RecordKey, RingHandlers, RingNetwork } from './protocol.ts'
import { type PublishedCatalog, Publisher } from './publisher.ts'
import { RecordStore } from './record-store.ts'
import { Replication } from './replication.ts'
import { type Member, type RingId, share } from './ring.ts'

export interface RingServiceDeps {
  self: () => PeerContact
  network: RingNetwork
  known: KnownPeers
  catalog: PublishedCatalog
  clock: Clock
  random: Random
  log: Logger
}

export type RingServiceOptions = Pick<ChordOptions, 'successors' | 'stabilizeMs'>

/** Members that a record is kept at. */
const REPLICAS = 6
const GOODBYE_MS = 1500
/** Between two looks at what has to be handed on, ms. */
const REPLICATE_MS = 1000
/** Where there is nobody to publish to, that is looked at again after this, ms. */
const ALONE_MS = 1000
/** A fall of the number of members is one against the most of so long, ms. */
const CROWD_MS = 300_000
/** What is left of them, at most, where so many have gone that records may have lost all that kept them. */
const FALLEN = 2 / 3
/** Between two counts of what this member is responsible for, ms. */
const COUNT_MS = 1000

/** This peer's part in the ring: a member that keeps its pointers, the records of others, and up its own. */
export class RingService implements Component {
  readonly #deps: RingServiceDeps
  readonly #options: RingServiceOptions
  readonly #node: ChordNode
  readonly #records: RecordStore
  readonly #replication: Replication
  readonly #publisher: Publisher
  readonly #maintaining: Loop
  readonly #publishing: Loop
  readonly #replicating: Loop
  #unsubscribe: (() => void) | undefined
  /** the state after the last round */
  #noted: ChordNode['state'] = 'alone'
  /** how many members there seemed to be in the last minutes */
  #crowds: { readonly at: number; readonly members: number }[] = []
  #own: { readonly from: RingId | undefined; readonly at: number; readonly count: number } = {
    from: undefined,
    at: 0,
    count: 0,
  }

  constructor(deps: RingServiceDeps, options: RingServiceOptions) {
    const { self, network, known, catalog, clock, random, log } = deps
    this.#deps = deps
    this.#options = options
    this.#records = new RecordStore({ clock })
    this.#node = new ChordNode({ self, network, known, records: this.#records, clock, random }, options)
    this.#replication = new Replication({ records: this.#records, network, clock }, { replicas: REPLICAS })
    this.#publisher = new Publisher(
      {
        ring: { lookup: (key, signal) => this.#node.lookup(key, signal, REPLICAS) },
        network,
        catalog,
        self,
        own: this.#records,
        clock,
        random,
        log,
      },
      { replicas: REPLICAS },
    )
    const timing = { clock, random }
    this.#maintaining = new Loop('ring', (signal) => this.#maintain(signal), log, {
      interval: () => this.#node.pauseMs,
      ...timing,
    })
    this.#replicating = new Loop('replicate', (signal) => this.#replicate(signal), log, {
      interval: () => REPLICATE_MS,
      ...timing,
    })
    this.#publishing = new Loop('publish', (signal) => this.#publish(signal), log, {
      interval: () => (this.state === 'alone' ? ALONE_MS : this.#publisher.nextMs),
      ...timing,
    })
  }

  get handlers(): RingHandlers {
    return this.#node
  }

  get state(): ChordNode['state'] {
    return this.#node.state
  }

  /** @throws NetworkError as `ChordNode.find` */
  find(key: RecordKey, of: FileName | ContentId, signal: AbortSignal, isThorough = false): Promise<RingFinding> {
    return this.#node.find(key, of, signal, isThorough)
  }

  /** Somebody is known now: the next round is at once. */
  nudge(): void {
    if (this.state === 'alone') this.#maintaining.nudge()
  }

  async start(): Promise<void> {
    this.#unsubscribe = this.#deps.catalog.onChange(() => this.#publishing.nudge())
    await this.#maintaining.start()
    await this.#replicating.start()
    await this.#publishing.start()
  }

  /** Leaves politely: what this member keeps goes to the next one, and its neighbours are told. */
  async stop(): Promise<void> {
    this.#unsubscribe?.()
    await Promise.all([this.#publishing.stop(), this.#replicating.stop(), this.#maintaining.stop()])
    const bound = new AbortController()
    const handedOver = this.#handOver(bound.signal).catch((error) =>
      this.#deps.log.debug({ err: error }, 'the ring was left before all was handed over'),
    )
    await Promise.race([handedOver, this.#deps.clock.sleep(GOODBYE_MS, bound.signal)])
    bound.abort()
    await handedOver
    await this.#node.leave(new AbortController().signal)
  }

  /** First what this peer shares is taken back, so that it is not handed on; then what it keeps for others goes. */
  async #handOver(signal: AbortSignal): Promise<void> {
    if (this.state === 'alone') return
    await this.#publisher.withdrawAll(signal)
    await this.#replication.leave(signal)
  }

  /** Numbers that cost nothing, for metrics. */
  get load() {
    const { members, view, messages } = this.#node
    const { published } = this.#publisher
    return { members, successors: view.successors.length, held: this.#records.size, published, ...messages }
  }

  status(): Omit<RingBody, 'text'> {
    const { self, view, fingers, members, state, messages, checkedAt } = this.#node
    const { predecessor, successors } = view
    return {
      state,
      self: told(self),
      predecessor: predecessor ? told(predecessor) : null,
      successors: successors.map(told),
      fingers: fingers.map(({ power, member }) => ({ ...told(member), power })),
      successor_list: this.#options.successors,
      members,
      share: predecessor ? share(predecessor.id, self.id) : 1,
      records: {
        held: this.#records.size,
        own: this.#countOwn(predecessor?.id ?? self.id, self.id),
        published: this.#publisher.published,
        unpublished: this.#publisher.waiting,
      },
      checked_ms: checkedAt === undefined ? null : this.#deps.clock.now() - checkedAt,
      messages,
    }
  }

  /** All that is kept is looked through for it, which takes some ms: not more often than every second. */
  #countOwn(from: RingId, to: RingId): number {
    const now = this.#deps.clock.now()
    if (this.#own.from !== from || now - this.#own.at >= COUNT_MS)
      this.#own = { from, at: now, count: this.#records.countIn(from, to) }
    return this.#own.count
  }

  async #maintain(signal: AbortSignal): Promise<void> {
    await this.#node.tick(signal)
    const { self, view, state } = this.#node
    this.#replication.update({ self, ...view })
    if (this.#haveManyGone()) {
      this.#deps.log.info({ members: Math.round(this.#node.members) }, 'many members of the ring have gone')
      this.#publisher.republishSoon()
      this.#publishing.nudge()
    }
    // It may have changed between two rounds, too.
    const before = this.#noted
    this.#noted = state
    if (state === before) return
    this.#deps.log.info({ state, members: Math.round(this.#node.members) }, 'the ring has changed its state')
    if (before !== 'alone' && before !== 'repairing') return
    if (before === 'repairing') this.#publisher.republishSoon()
    this.#publishing.nudge()
  }

  /** Whether a third of the members went within minutes; told once for each such fall. */
  #haveManyGone(): boolean {
    const { members, view, state } = this.#node
    // A short list says little about how close members are.
    const isSure = state === 'small' || (state === 'whole' && view.successors.length >= this.#options.successors)
    if (!isSure) return false
    const at = this.#deps.clock.now()
    const crowds = this.#crowds.filter((crowd) => at - crowd.at < CROWD_MS)
    const most = Math.max(0, ...crowds.map((crowd) => crowd.members))
    // Where there were no more than keep each record, those that are left have them all.
    const isFallen = most > REPLICAS && members <= most * FALLEN
    this.#crowds = [...(isFallen ? [] : crowds), { at, members }]
    return isFallen
  }

  async #replicate(signal: AbortSignal): Promise<void> {
    await this.#replication.tick(signal)
    this.#records.expire()
  }

  async #publish(signal: AbortSignal): Promise<void> {
    if (this.state !== 'alone') await this.#publisher.tick(signal)
  }
}

function told(member: Member): RingBody['self'] {
  return { peer: member.peer, rest: restOf(member), place: member.id as string as ContentId }
}
