import { parseAdvertised } from '../common/address.ts'
import type { Clock } from '../common/clock.ts'
import { NetworkError } from '../common/errors.ts'
import type { EventDraft } from '../common/events/event.ts'
import { type PeerId, parsePeerId } from '../common/ids.ts'
import { type Lease, LIMITS } from '../common/schemas.ts'
import type { Change, DirectoryStore, Registration, Renewed, Term } from './directory/store.ts'

export interface RegistryDeps {
  store: DirectoryStore
  clock: Clock
  /** tells the network; never fails */
  publish: (drafts: readonly EventDraft[]) => void
}

export interface RegistryOptions {
  leaseMs: number
  maxFilesPerPeer: number
  maxPeers: number
}

/** What a peer asks for when it registers, before the rules have been applied. */
export interface RegisterCall extends Omit<Registration, 'id' | 'rest'> {
  readonly id?: PeerId | undefined
  /** the REST URL that it advertises */
  readonly peer: string
  /** the address that the request came from, where known */
  readonly from?: string | undefined
}

/** The rules of leases: who may open one, what keeps it, what ends it. */
export class Registry {
  readonly #store: DirectoryStore
  readonly #clock: Clock
  readonly #publish: RegistryDeps['publish']
  readonly #options: RegistryOptions

  constructor(deps: RegistryDeps, options: RegistryOptions) {
    this.#store = deps.store
    this.#clock = deps.clock
    this.#publish = deps.publish
    this.#options = options
  }

  /**
   * Opens a lease, replacing whatever this peer offered before. A live peer's id is its own: it may register again
   * from the same address (a restart), but nobody may from another.
   * @throws NetworkError `invalid`, `forbidden` (no such address), `conflict` (the id is taken), `too_large`, `limited`
   */
  async register(call: RegisterCall): Promise<{ lease: Lease; renewed: boolean }> {
    const rest = parseAdvertised(call.peer, call.from)
    const id = call.id ?? idOf(rest.host, rest.port)
    const { maxFilesPerPeer, maxPeers } = this.#options
    if (call.files.length > maxFilesPerPeer) throw tooMany(id, call.files.length, maxFilesPerPeer)
    const registration = { id, rest: rest.url, grpcPort: call.grpcPort, revision: call.revision, files: call.files }
    const outcome = await this.#store.register(registration, this.#term(), maxPeers)
    switch (outcome.kind) {
      case 'done': {
        const { files, renewed } = outcome
        const data = { peer: id, rest: rest.url, grpc_port: call.grpcPort, files }
        if (!renewed) this.#publish([{ type: 'peer.registered', data }])
        return { lease: this.#lease(id, call.revision, files), renewed }
      }
      case 'taken':
        throw new NetworkError(
          'conflict',
          `the id ${id} belongs to a live peer at ${outcome.rest}: choose another id, or wait until its lease ends`,
          { id },
        )
      case 'full':
        throw new NetworkError('limited', `this Maestro holds its maximum of ${maxPeers} peers: try again later`, {
          max_peers: maxPeers,
        })
    }
  }

  /** @throws NetworkError `not_found` (no live lease), `conflict` (another revision): the peer then registers again */
  async heartbeat(id: PeerId, revision: number): Promise<Lease> {
    const outcome = await this.#store.renew(id, revision, this.#term())
    if (outcome.kind !== 'done') throw lost(id, revision, outcome)
    return this.#lease(id, revision, outcome.files)
  }

  /** @throws NetworkError as `heartbeat`; `too_large` */
  async patch(id: PeerId, change: Change): Promise<Lease> {
    const changes = change.add.length + change.remove.length
    if (changes > LIMITS.filesPerRequest)
      throw new NetworkError(
        'too_large',
        `${changes} changes in one request: send at most ${LIMITS.filesPerRequest}, from one revision to itself but for the last part`,
      )
    const { maxFilesPerPeer } = this.#options
    const outcome = await this.#store.patch(id, change, this.#term(), maxFilesPerPeer)
    switch (outcome.kind) {
      case 'done':
        return this.#lease(id, change.to, outcome.files)
      case 'too_many':
        throw tooMany(id, outcome.files, maxFilesPerPeer)
      default:
        throw lost(id, change.from, outcome)
    }
  }

  /** @throws NetworkError `not_found` */
  async withdraw(id: PeerId): Promise<void> {
    if (!(await this.#store.withdraw(id, this.#clock.now()))) throw lost(id, 0, { kind: 'gone' })
    this.#publish([{ type: 'peer.withdrawn', data: { peer: id } }])
  }

  #term(): Term {
    const now = this.#clock.now()
    return { now, expiresAt: now + this.#options.leaseMs }
  }

  #lease(id: PeerId, revision: number, files: number): Lease {
    const { leaseMs } = this.#options
    return { id, revision, files, lease_ms: leaseMs, heartbeat_ms: Math.max(1, Math.floor(leaseMs / 3)) }
  }
}

function idOf(host: string, port: number): PeerId {
  try {
    return parsePeerId(`${host}-${port}`.replace(/[.:]/g, '-').replace(/^-+/, ''))
  } catch {
    throw new NetworkError('invalid', `no peer id can be made of ${host}:${port}: give the peer an "id"`)
  }
}

function lost(id: PeerId, revision: number, outcome: Exclude<Renewed, { kind: 'done' }>): NetworkError {
  return outcome.kind === 'gone'
    ? new NetworkError('not_found', `no live lease of ${id}: register`, { id })
    : new NetworkError(
        'conflict',
        `the directory holds revision ${outcome.revision} of ${id}, not ${revision}: register again`,
        { id, revision: outcome.revision },
      )
}

function tooMany(id: PeerId, files: number, max: number): NetworkError {
  return new NetworkError('too_large', `${id} would offer ${files} files; this Maestro takes ${max} of one peer`, {
    id,
    max_files_per_peer: max,
  })
}
