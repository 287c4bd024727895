import type { PeerId } from '../../common/ids.ts'

/** A registration and its lease, as long as it is in force. */
export interface LeaseRow {
  readonly key: number
  readonly id: PeerId
  readonly rest: string
  readonly grpcPort: number
  revision: number
  files: number
  lastSeen: number
  expiresAt: number
}

/** The leases in force, in memory: a heartbeat touches nothing else, and a lookup finds the peer of a row here. */
export class Leases {
  #byKey = new Map<number, LeaseRow>()
  #byId = new Map<PeerId, LeaseRow>()

  get size(): number {
    return this.#byKey.size
  }

  /** The lease of an id, whether or not its time is over. */
  of(id: PeerId): LeaseRow | undefined {
    return this.#byId.get(id)
  }

  live(id: PeerId, now: number): LeaseRow | undefined {
    const row = this.#byId.get(id)
    return row !== undefined && row.expiresAt > now ? row : undefined
  }

  liveByKey(key: number, now: number): LeaseRow | undefined {
    const row = this.#byKey.get(key)
    return row !== undefined && row.expiresAt > now ? row : undefined
  }

  expiresAt(key: number): number | undefined {
    return this.#byKey.get(key)?.expiresAt
  }

  values(): IterableIterator<LeaseRow> {
    return this.#byKey.values()
  }

  add(row: LeaseRow): void {
    this.#byKey.set(row.key, row)
    this.#byId.set(row.id, row)
  }

  delete(row: LeaseRow): void {
    this.#byKey.delete(row.key)
    if (this.#byId.get(row.id) === row) this.#byId.delete(row.id)
  }
}
