import type { Clock } from '../../common/clock.ts'
import type { PeerContact } from '../contact.ts'
import type { RingNetwork, RingRecord, RingView } from './protocol.ts'
import { fitting } from './record-messages.ts'
import type { RecordStore } from './record-store.ts'
import { between, type Member, type RingId } from './ring.ts'

export interface ReplicationDeps {
  records: Pick<RecordStore, 'serial' | 'placesIn' | 'handedSince' | 'at'>
  network: Pick<RingNetwork, 'store'>
  clock: Clock
}

export interface ReplicationOptions {
  /** members that keep a record: the first that follow its place (default 6) */
  replicas: number
  /** between two turns of one target, ms (default 5000) */
  pauseMs: number
  /** messages to a target in one turn (default 20) */
  messagesPerTurn: number
  /** how long a new predecessor is handed on what comes late, ms (default 60,000) */
  settleMs: number
}

const DEFAULTS: ReplicationOptions = { replicas: 6, pauseMs: 5000, messagesPerTurn: 20, settleMs: 60_000 }
const TARGETS_AT_ONCE = 4
const ATTEMPTS = 3

/** Places after `from`, and not after `to`. */
interface Arc {
  readonly from: RingId
  readonly to: RingId
}

/** What one member is to be sent. It stays until its pause is over, also where nothing is left. */
interface Transfer {
  readonly target: Member
  /** whose places are looked up when its turn comes */
  arcs: Arc[]
  places: RingId[]
  failures: number
  notBefore: number
}

/** A new predecessor, and what came before it was told of last. */
interface Settling {
  until: number
  serial: number
}

/**
 * Keeps each record on the first members that follow its place while members come and go. This member is responsible for
 * the places between its predecessor and itself. What it sends, and never twice to the same member as long as that stays
 * where it is:
 * - a new predecessor gets all that is kept here and is not this member's own. Most of it others give it too; but where the
 *   one before died as it joined, it follows places that nobody else may know to be its;
 * - a new one among the successors that keep replicas gets all that this member is responsible for, and where this
 *   member's range grows, each of them gets what is new in it.
 * Records are read when they are sent, so what expired or was withdrawn meanwhile is not. Sources: Dabek et al.,
 * "Wide-area cooperative storage with CFS", SOSP 2001 (replicas at the successors); Cates, "Robust and efficient data
 * management for a distributed hash table", MIT 2003 (local and global maintenance).
 */
export class Replication {
  readonly #deps: ReplicationDeps
  readonly #options: ReplicationOptions
  readonly #transfers = new Map<string, Transfer>()
  /** where the range of which a successor has had the records begins, by member */
  #had = new Map<string, RingId>()
  /** predecessors that another joined behind of: they get theirs yet */
  readonly #displaced = new Set<string>()
  #self: Member | undefined
  /** the last one known */
  #predecessor: Member | undefined
  #successors: readonly Member[] = []
  #settling: Settling | undefined

  constructor(deps: ReplicationDeps, options: Partial<ReplicationOptions> = {}) {
    this.#deps = deps
    this.#options = { ...DEFAULTS, ...options }
  }

  /** Members that are to be sent something yet. */
  get waiting(): number {
    return [...this.#transfers.values()].filter(isPending).length
  }

  /** What this member knows of its surroundings now. Cheap where nothing changed. */
  update({ self, predecessor, successors }: RingView & { readonly self: Member }): void {
    this.#self = self
    this.#successors = distinct(successors, self)
    // Where none is known for a while, the range is what it was: who comes next tells whether it grew.
    if (predecessor && predecessor.id !== self.id) this.#precede(self, predecessor)
    this.#replicate(self)
    this.#dropGone()
  }

  /** Sends what is due. Who fails is tried again twice, after its pause. */
  async tick(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    this.#handOn()
    const due: Transfer[] = []
    for (const [key, transfer] of this.#transfers) {
      if (transfer.notBefore > clock.now()) continue
      if (isPending(transfer)) due.push(transfer)
      else this.#transfers.delete(key)
    }
    const work = async () => {
      for (let next = due.shift(); next && !signal.aborted; next = due.shift()) await this.#take(next, signal)
    }
    await Promise.all(Array.from({ length: TARGETS_AT_ONCE }, work))
  }

  /** Hands all that this member is responsible for to its first successor that answers. Ends early where the signal aborts. */
  async leave(signal: AbortSignal): Promise<void> {
    const self = this.#self
    this.#transfers.clear()
    if (!self) return
    const arc = { from: this.#predecessor?.id ?? self.id, to: self.id }
    for (const target of this.#successors) {
      if (signal.aborted) return
      const transfer: Transfer = { target, arcs: [arc], places: [], failures: 0, notBefore: 0 }
      const sent = await this.#send(transfer, Number.POSITIVE_INFINITY, () => true, signal).catch(() => false)
      if (sent) return
    }
  }

  #precede(self: Member, predecessor: Member): void {
    const before = this.#predecessor
    if (before && keyOf(before) === keyOf(predecessor)) return
    this.#predecessor = predecessor
    const joinedBetween = before !== undefined && between(before.id, predecessor.id, self.id)
    if (joinedBetween) this.#displaced.add(keyOf(before))
    else this.#displaced.clear()
    // What is planned last goes first: that for which it surely is responsible now.
    this.#plan(predecessor, { from: self.id, to: joinedBetween ? before.id : predecessor.id })
    if (joinedBetween) this.#plan(predecessor, { from: before.id, to: predecessor.id })
    const { clock, records } = this.#deps
    this.#settling = { until: clock.now() + this.#options.settleMs, serial: records.serial }
  }

  #replicate(self: Member): void {
    if (!this.#predecessor) return
    const { id: from } = this.#predecessor
    const had = new Map<string, RingId>()
    for (const successor of this.#successors.slice(0, this.#options.replicas - 1)) {
      const key = keyOf(successor)
      const before = this.#had.get(key)
      if (before === undefined) this.#plan(successor, { from, to: self.id })
      else if (between(from, before, self.id)) this.#plan(successor, { from, to: before })
      // Where the range has become smaller, what is not this member's any more may change without it.
      had.set(key, from)
    }
    this.#had = had
  }

  #dropGone(): void {
    const wanted = new Set([...this.#had.keys(), ...this.#displaced])
    if (this.#predecessor) wanted.add(keyOf(this.#predecessor))
    for (const key of this.#transfers.keys()) if (!wanted.has(key)) this.#transfers.delete(key)
    for (const key of this.#displaced) if (!this.#transfers.has(key)) this.#displaced.delete(key)
  }

  /**
   * Where several join together, one of them gets from its successor what another of them, behind it, is responsible for:
   * the giver knew its own predecessor only. So what comes by hand to a place that isn't this member's goes on to its
   * predecessor, as long as that is new.
   */
  #handOn(): void {
    const [self, predecessor, settling] = [this.#self, this.#predecessor, this.#settling]
    if (!self || !predecessor || !settling) return
    const { clock, records } = this.#deps
    if (records.serial > settling.serial) {
      const places = records.handedSince(settling.serial, predecessor.peer, self.id, predecessor.id)
      settling.serial = records.serial
      if (places.length > 0) {
        const transfer = this.#transferTo(predecessor)
        transfer.places = transfer.places.concat(places)
        settling.until = clock.now() + this.#options.settleMs
      }
    }
    if (clock.now() >= settling.until) this.#settling = undefined
  }

  #plan(target: Member, arc: Arc): void {
    const { arcs } = this.#transferTo(target)
    if (!arcs.some(({ from, to }) => from === arc.from && to === arc.to)) arcs.push(arc)
  }

  #transferTo(target: Member): Transfer {
    const key = keyOf(target)
    let transfer = this.#transfers.get(key)
    if (!transfer) {
      transfer = { target, arcs: [], places: [], failures: 0, notBefore: 0 }
      this.#transfers.set(key, transfer)
    }
    return transfer
  }

  async #take(transfer: Transfer, signal: AbortSignal): Promise<void> {
    const isWanted = () => this.#transfers.get(keyOf(transfer.target)) === transfer
    try {
      await this.#send(transfer, this.#options.messagesPerTurn, isWanted, signal)
      transfer.failures = 0
    } catch {
      if (!signal.aborted) transfer.failures++
    }
    if (transfer.failures >= ATTEMPTS) {
      transfer.arcs = []
      transfer.places = []
      transfer.failures = 0
    }
    transfer.notBefore = this.#deps.clock.now() + this.#options.pauseMs
  }

  /** @returns whether nothing is left of it. @throws NetworkError where the target does not answer: what it lacks is left */
  async #send(transfer: Transfer, messages: number, isWanted: () => boolean, signal: AbortSignal): Promise<boolean> {
    for (let sent = 0; sent < messages && isPending(transfer) && isWanted() && !signal.aborted; ) {
      const { message, places } = this.#nextOf(transfer)
      if (message.length === 0) continue
      sent++
      try {
        const kept = await this.#deps.network.store(transfer.target, message, [], signal)
        // It has no room.
        if (kept === 0) transfer.places = []
      } catch (error) {
        transfer.places = transfer.places.concat(places)
        throw error
      }
    }
    return !isPending(transfer)
  }

  #nextOf(transfer: Transfer): { message: RingRecord[]; places: RingId[] } {
    const { records } = this.#deps
    if (transfer.arcs.length > 0) {
      const places = transfer.arcs.flatMap(({ from, to }) => records.placesIn(from, to))
      transfer.places = [...new Set([...transfer.places, ...places])]
      transfer.arcs = []
    }
    function* fromTheEnd() {
      for (let i = transfer.places.length - 1; i >= 0; i--) yield records.at(transfer.places[i]!)
    }
    const groups = fitting(fromTheEnd())
    return { message: groups.flat(), places: transfer.places.splice(-groups.length) }
  }
}

/** One that came back with another address may have lost what it had: it counts as another. */
function keyOf({ peer, host, grpcPort }: PeerContact): string {
  return `${peer} ${host} ${grpcPort}`
}

function isPending({ arcs, places }: Transfer): boolean {
  return arcs.length + places.length > 0
}

function distinct(members: readonly Member[], self: Member): Member[] {
  const byId = new Map(members.map((member) => [member.id, member]))
  byId.delete(self.id)
  return [...byId.values()]
}
