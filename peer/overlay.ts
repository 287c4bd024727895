import type { Registry } from 'prom-client'
import { hostPort, parseRestUrl } from '../common/address.ts'
import type { Clock } from '../common/clock.ts'
import { NetworkError } from '../common/errors.ts'
import type { ContentId } from '../common/ids.ts'
import { type Component, Loop } from '../common/lifecycle.ts'
import type { Logger } from '../common/log.ts'
import type { MaestroClient } from '../common/maestro-client.ts'
import { counter, gauge } from '../common/metrics.ts'
import type { Random } from '../common/random.ts'
import type { DiscoverBody, KnownPeerBody, RingBody } from '../common/schemas.ts'
import type { OverlayRouteDeps } from './app/overlay.ts'
import { type PeerContact, restOf } from './contact.ts'
import { PatientRing } from './dht/patience.ts'
import type { PublishedCatalog } from './dht/publisher.ts'
import { memberOf } from './dht/ring.ts'
import { RingService } from './dht/ring-service.ts'
import { discover } from './discover.ts'
import { Flood } from './flood/flood.ts'
import { addressOf, type Friends } from './friends.ts'
import { ChordStrategy } from './locate/chord.ts'
import { FloodStrategy } from './locate/flood.ts'
import type { LocalFiles } from './locate/local.ts'
import type { LocateStrategy } from './locate/strategy.ts'
import type { BookFile } from './overlay/book-file.ts'
import { Exchange } from './overlay/exchange.ts'
import { type KnownPeer, PeerBook } from './overlay/known-peers.ts'
import { Links } from './overlay/links.ts'
import type { RpcClients } from './rpc/client.ts'
import { GrpcOverlay } from './rpc/overlay-network.ts'
import { GrpcRing } from './rpc/ring-network.ts'

export interface OverlayDeps {
  self: () => PeerContact
  catalog: LocalFiles & PublishedCatalog
  clients: RpcClients
  friends: Pick<Friends, 'identify' | 'contacts' | 'list'>
  maestro: Pick<MaestroClient, 'url' | 'peers'> | undefined
  file: BookFile
  clock: Clock
  random: Random
  log: Logger
}

export interface OverlayOptions {
  /** members of the ring that follow this one and are known to it */
  successors: number
  /** how often the ring is checked while nothing changes, ms */
  stabilizeMs: number
  /** bound on one question to a peer, ms */
  timeoutMs: number
}

/** While anything changes, the ring is checked this often, ms. */
const BUSY_MS = 1000
/** Where so many peers are known, the Maestro needs not to be asked for more; asked at most this often, ms. */
const ENOUGH_KNOWN = 16
const ASK_MAESTRO_MS = 30_000
const FROM_MAESTRO = 32
/** With fewer neighbours, others are chosen as soon as one is lost; at most this often, ms. */
const FEW_NEIGHBOURS = 3
const REPLACE_MS = 2000
/** Between two rounds while nobody is known, or a friend has never answered: doubled from the first to the second, ms. */
const LONELY_MS = [1000, 30_000] as const

/** What the peers are to each other without a Maestro: whom this one knows, floods of queries, and the ring. */
export class Overlay implements Component, OverlayRouteDeps {
  readonly #deps: OverlayDeps
  readonly #options: OverlayOptions
  readonly #book: PeerBook
  readonly #links: Links
  readonly #exchange: Exchange
  readonly #flood: Flood
  readonly #ring: RingService
  readonly #loop: Loop
  #replacedAt = Number.NEGATIVE_INFINITY
  #maestroAskedAt = Number.NEGATIVE_INFINITY
  /** until friends that were silent are asked again, and the Maestro where nobody is known, ms; else without end */
  #lonelyMs = Number.POSITIVE_INFINITY
  #isMeetingFriends = false

  constructor(deps: OverlayDeps, options: OverlayOptions) {
    const { self, catalog, clients, friends, file, clock, random, log } = deps
    this.#deps = deps
    this.#options = options
    const network = new GrpcOverlay({ clients, self })
    this.#book = new PeerBook({ self, clock, random, onLost: () => this.#replace() }, { remembered: file.load() })
    this.#links = new Links({ book: this.#book, clock })
    this.#exchange = new Exchange({
      self,
      network,
      book: this.#book,
      links: this.#links,
      file,
      clock,
      preferred: () => friends.contacts(),
      nudge: () => {
        // What the friends tell is looked at in the same round; that one of them answers is no reason for another one.
        if (!this.#isMeetingFriends) this.#loop.nudge()
      },
    })
    this.#flood = new Flood({
      self,
      network,
      links: () => this.#links.list(),
      known: this.#book,
      files: catalog,
      clock,
      random,
    })
    this.#ring = new RingService(
      {
        self,
        network: new PatientRing({ within: (timeoutMs) => new GrpcRing({ clients, self }, { timeoutMs }), clock }),
        known: this.#book,
        catalog,
        clock,
        random,
        log: log.child({ part: 'ring' }),
      },
      { successors: options.successors, stabilizeMs: [Math.min(BUSY_MS, options.stabilizeMs), options.stabilizeMs] },
    )
    this.#loop = new Loop('exchange', (signal) => this.#meet(signal), log.child({ part: 'overlay' }), {
      interval: () => Math.min(this.#exchange.pauseMs, this.#lonelyMs),
      clock,
      random,
    })
  }

  /** What other peers ask of this one. */
  get handlers() {
    return { ring: this.#ring.handlers, flood: this.#flood, overlay: this.#exchange }
  }

  strategies(): LocateStrategy[] {
    const self = this.#deps.self().peer
    const confirm = this.#flood.confirm.bind(this.#flood)
    return [new ChordStrategy({ ring: this.#ring, confirm, self }), new FloodStrategy({ flood: this.#flood, self })]
  }

  get ringState(): RingService['state'] {
    return this.#ring.state
  }

  get neighbours(): number {
    return this.#links.list().length
  }

  ring(): RingBody {
    const status = this.#ring.status()
    return { ...status, text: textOf(status) }
  }

  addMetrics(registry: Registry): void {
    gauge(registry, 'p2p_known_peers', 'peers that answered when they were asked last', () => this.#book.aliveCount)
    gauge(registry, 'p2p_neighbours', 'peers that floods of queries go to', () => this.neighbours)
    gauge(registry, 'p2p_flood_queries', 'queries of others at work', () => this.#flood.load.queries)
    gauge(registry, 'p2p_ring_members', 'members that the ring seems to have', () => this.#ring.load.members)
    gauge(registry, 'p2p_ring_successors', 'successors known', () => this.#ring.load.successors)
    gauge(registry, 'p2p_ring_repairing', '1 while no successor is known to be right', () =>
      this.ringState === 'repairing' ? 1 : 0,
    )
    gauge(registry, 'p2p_ring_records', 'records kept', () => this.#ring.load.held)
    gauge(registry, 'p2p_ring_published', 'records kept up at others', () => this.#ring.load.published)
    counter(registry, 'p2p_ring_calls_sent_total', 'calls to members of the ring', () => this.#ring.load.sent)
    counter(registry, 'p2p_ring_calls_answered_total', 'calls of members', () => this.#ring.load.answered)
  }

  /** Itself first. */
  knownPeers(): KnownPeerBody[] {
    const friends = new Set(this.#deps.friends.list().map(({ url }) => numeric(url)))
    for (const contact of this.#deps.friends.contacts()) friends.add(restOf(contact))
    const links = new Set(this.#links.list().map(({ peer }) => peer))
    const known = this.#book.list()
    const row = ({ contact, standing, seenAt }: KnownPeer): KnownPeerBody => ({
      id: contact.peer,
      rest: restOf(contact),
      grpc_port: contact.grpcPort,
      status: standing,
      friend: friends.has(restOf(contact)),
      neighbour: links.has(contact.peer),
      seen: seenAt === undefined ? null : new Date(seenAt).toISOString(),
    })
    return [selfRow(this.#deps.self()), ...known.map(row), ...this.#silentFriends(known)]
  }

  discover(url: string, signal: AbortSignal): Promise<DiscoverBody> {
    const { self } = this.#deps
    const { timeoutMs } = this.#options
    return discover({ self, book: this.#book, exchange: this.#exchange, timeoutMs }, url, signal)
  }

  async start(): Promise<void> {
    await this.#loop.start()
    await this.#ring.start()
  }

  async stop(): Promise<void> {
    await this.#loop.stop()
    await this.#ring.stop()
    this.#exchange.save()
  }

  /** One round of getting to know others: the friends and whom the Maestro knows, then those whom they know. */
  async #meet(signal: AbortSignal): Promise<void> {
    // At the same time: each that is silent takes its second.
    await Promise.all([this.#meetFriends(signal), this.#askMaestro(signal)])
    await this.#exchange.tick(signal)
    // However they came to be known: also between two rounds.
    if (this.#book.aliveCount > 0) this.#ring.nudge()
    this.#lonelyMs = this.#nextLonelyMs()
  }

  #nextLonelyMs(): number {
    const hasStrangers = this.#deps.friends.list().some(({ id }) => id === null)
    if (this.#book.aliveCount > 0 && !hasStrangers) return Number.POSITIVE_INFINITY
    const [least, most] = LONELY_MS
    return Number.isFinite(this.#lonelyMs) ? Math.min(this.#lonelyMs * 2, most) : least
  }

  async #meetFriends(signal: AbortSignal): Promise<void> {
    const { friends } = this.#deps
    const isThere = ({ peer }: PeerContact) => this.#book.contactOf(peer) !== undefined
    this.#isMeetingFriends = true
    try {
      await friends.identify(signal, isThere)
      const strangers = friends.contacts().filter((contact) => !isThere(contact))
      await Promise.allSettled(strangers.map((contact) => this.#exchange.introduce(contact, signal)))
    } finally {
      this.#isMeetingFriends = false
    }
  }

  /** The Maestro's word about others is hearsay too: they are asked themselves. */
  async #askMaestro(signal: AbortSignal): Promise<void> {
    const { maestro, clock } = this.#deps
    const { aliveCount } = this.#book
    const isDue = aliveCount === 0 || clock.now() - this.#maestroAskedAt >= ASK_MAESTRO_MS
    if (!maestro || !isDue || aliveCount >= ENOUGH_KNOWN) return
    try {
      const { peers } = await maestro.peers({ limit: FROM_MAESTRO }, { signal, timeoutMs: this.#options.timeoutMs })
      this.#maestroAskedAt = clock.now()
      const told = peers.map(({ id: peer, rest, grpc_port: grpcPort }) => {
        const { host, port: restPort } = parseRestUrl(rest)
        return { contact: { peer, host, restPort, grpcPort }, ageMs: 0 }
      })
      this.#book.heard(told, parseRestUrl(maestro.url).host)
    } catch {
      // That it does not answer is for the session with it to say.
    }
  }

  /** One that was lost may have been the last neighbour, and the next round a minute away. */
  #replace(): void {
    const now = this.#deps.clock.now()
    if (this.neighbours >= FEW_NEIGHBOURS || now - this.#replacedAt < REPLACE_MS) return
    this.#replacedAt = now
    this.#loop.nudge()
  }

  /** Friends of whom it is not known yet who they are. */
  #silentFriends(known: readonly KnownPeer[]): KnownPeerBody[] {
    const rests = new Set(known.map(({ contact }) => restOf(contact)))
    const ids = new Set(known.map(({ contact }) => contact.peer))
    return this.#deps.friends
      .list()
      .filter(
        ({ id, url }) => !rests.has(numeric(url)) && !(id !== null && ids.has(id)) && id !== this.#deps.self().peer,
      )
      .map(({ id, url, alive }) => ({
        id,
        rest: url,
        grpc_port: null,
        status: alive === false ? 'lost' : 'hearsay',
        friend: true,
        neighbour: false,
        seen: null,
      }))
  }
}

/** A friend's URL as known peers have it: `localhost` is this machine's address. */
function numeric(url: string): string {
  const address = addressOf(url, url)
  return address ? `http://${hostPort(address.host, address.restPort)}` : url
}

/** Of a peer that takes no part. */
export function noOverlay(self: () => PeerContact): OverlayRouteDeps {
  const off = (): never => {
    throw new NetworkError(
      'conflict',
      'this peer takes no part in the network of peers: its configuration says "ring": false',
    )
  }
  const me = () => ({ peer: self().peer, rest: restOf(self()), place: memberOf(self()).id as string as ContentId })
  const nothing: Omit<RingBody, 'text' | 'self'> = {
    state: 'off',
    predecessor: null,
    successors: [],
    fingers: [],
    successor_list: 0,
    members: 0,
    share: 0,
    records: { held: 0, own: 0, published: 0, unpublished: 0 },
    checked_ms: null,
    messages: { sent: 0, answered: 0 },
  }
  return {
    ring: () => ({ ...nothing, self: me(), text: textOf({ ...nothing, self: me() }) }),
    knownPeers: () => [selfRow(self())],
    discover: async () => off(),
  }
}

function selfRow(self: PeerContact): KnownPeerBody {
  const { peer: id, grpcPort: grpc_port } = self
  return { id, rest: restOf(self), grpc_port, status: 'self', friend: false, neighbour: false, seen: null }
}

function textOf({ state, members, successors }: Omit<RingBody, 'text'>): string {
  switch (state) {
    case 'off':
      return 'this peer takes no part in the ring'
    case 'alone':
      return 'no other member is known: the ring is this peer alone'
    case 'small':
      return `a ring of ${members}: each member knows all others`
    case 'whole':
      return `a ring of about ${Math.round(members)} members, of which the next ${successors.length} are known`
    case 'repairing':
      return 'no successor answered: who follows is being found out, and lookups may miss what is there'
  }
}
