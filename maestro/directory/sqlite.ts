import { randomBytes } from 'node:crypto'
import type { Database } from 'better-sqlite3'
import { fold } from '../../common/folding.ts'
import { GroupCommit } from '../../common/group-commit.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { FileEntry, ProviderBody } from '../../common/schemas.ts'
import { gramText } from '../trigrams.ts'
import { databaseSize, openDatabase, storageError } from './database.ts'
import { type LeaseRow, Leases } from './leases.ts'
import { SoleProviders } from './sole-providers.ts'
import { type ProviderRow, prepare, type Statements } from './statements.ts'
import type {
  Change,
  DirectoryStore,
  FoldedRow,
  NameRow,
  Patched,
  PeerRecord,
  Registered,
  Registration,
  Renewed,
  Term,
} from './store.ts'

/** Rows of one step of a scan over providers, and of the whole scan. */
const SCAN_STEP = 128
const SCAN_ROWS = 4096
const COUNTED_PROVIDERS = 1000
/** 52 MiB once a million names are in use, and little before. */
const SOLE_SLOTS = 2 ** 20

export interface SqliteOptions {
  /** default Math.random; chooses among many providers */
  random?: () => number
}

/**
 * The directory in SQLite. Leases live in memory and names on disk: every registration gets a new peer key, so that
 * opening, replacing and ending one costs the same however much was offered before; what ended is swept later.
 */
export class SqliteStore implements DirectoryStore {
  readonly #path: string
  readonly #db: Database
  readonly #sql: Statements
  readonly #soles: SoleProviders
  readonly #commits: GroupCommit
  readonly #random: () => number
  #leases = new Leases()
  #lastPeerKey = 0
  #latestExpiry = 0

  /** Takes over an open database. The leases of an earlier run have no time left until `extendLeases` gives it. */
  constructor(db: Database, options: SqliteOptions = {}) {
    this.#path = db.name
    this.#random = options.random ?? Math.random
    this.#db = db
    this.#sql = prepare(db)
    this.#soles = new SoleProviders(SOLE_SLOTS, randomBytes(8))
    this.#commits = new GroupCommit(db, () => {
      this.#soles.clear()
      this.#loadLeases()
    })
    this.#loadLeases()
  }

  /** @throws NetworkError where the file can't be used, in words for the person who configured it */
  static open(path: string, options?: SqliteOptions): SqliteStore {
    const db = openDatabase(path)
    try {
      return new SqliteStore(db, options)
    } catch (error) {
      db.close()
      throw storageError(error, path)
    }
  }

  // ---- writes

  register(registration: Registration, term: Term, maxPeers: number): Promise<Registered> {
    return this.#write((): Registered => {
      const { id, rest, grpcPort, revision } = registration
      const held = this.#leases.of(id)
      const renewed = held !== undefined && held.expiresAt > term.now
      if (renewed && held.rest !== rest) return { kind: 'taken', rest: held.rest }
      if (!held && this.#leases.size >= maxPeers) return { kind: 'full' }
      const files = new Map(registration.files.map((file) => [file.name, file]))
      if (held) this.#end(held)
      const added = this.#sql.addPeer.run(id, rest, grpcPort, revision, files.size, term.now)
      const key = Number(added.lastInsertRowid)
      for (const file of files.values()) this.#addEntry(key, file)
      this.#lastPeerKey = Math.max(this.#lastPeerKey, key)
      this.#latestExpiry = term.expiresAt
      const { now: lastSeen, expiresAt } = term
      this.#leases.add({ key, id, rest, grpcPort, revision, files: files.size, lastSeen, expiresAt })
      return { kind: 'done', files: files.size, renewed }
    })
  }

  /** Touches memory only: after a restart every lease begins anew, so there is nothing to remember of it. */
  async renew(id: PeerId, revision: number, term: Term): Promise<Renewed> {
    const lease = this.#leases.live(id, term.now)
    if (!lease) return { kind: 'gone' }
    if (lease.revision !== revision) return { kind: 'stale', revision: lease.revision }
    this.#renew(lease, term)
    return { kind: 'done', files: lease.files }
  }

  patch(id: PeerId, change: Change, term: Term, maxFiles: number): Promise<Patched> {
    return this.#write(() => this.#apply(id, change, term.now, maxFiles, term))
  }

  hint(id: PeerId, change: Change, now: number, maxFiles: number): Promise<Patched> {
    return this.#write(() => this.#apply(id, change, now, maxFiles))
  }

  withdraw(id: PeerId, now: number): Promise<boolean> {
    return this.#write(() => {
      const lease = this.#leases.of(id)
      // One whose time is over is for `expire`, which tells of it.
      if (!lease || lease.expiresAt <= now) return false
      this.#end(lease)
      return true
    })
  }

  async extendLeases(expiresAt: number): Promise<void> {
    for (const lease of this.#leases.values()) lease.expiresAt = Math.max(lease.expiresAt, expiresAt)
    this.#latestExpiry = expiresAt
  }

  async expire(now: number, limit: number): Promise<PeerId[]> {
    const over: LeaseRow[] = []
    for (const lease of this.#leases.values()) {
      if (over.length === limit) break
      if (lease.expiresAt <= now) over.push(lease)
    }
    if (over.length === 0) return []
    return this.#write(() => {
      for (const lease of over) this.#end(lease)
      return over.map((lease) => lease.id)
    })
  }

  async sweep(rows: number): Promise<number> {
    const peerKey = this.#sql.endedPeer.get()
    if (peerKey === undefined) return 0
    return this.#write(() => {
      const nameKeys = this.#sql.nameKeysOf.all(peerKey, rows)
      for (const nameKey of nameKeys) {
        this.#sql.deleteEntry.run(nameKey, peerKey)
        this.#dropUnoffered(nameKey)
      }
      if (nameKeys.length < rows) this.#sql.deletePeer.run(peerKey)
      return nameKeys.length + 1
    })
  }

  // ---- reads

  async locateName(name: FileName, now: number, limit: number): Promise<ProviderBody[]> {
    const sole = this.#soles.get(name)
    const known = sole && this.#provider([sole.peerKey, sole.id, sole.size], now)
    if (known) return [known]
    const step = (from: number) => {
      const rows = this.#sql.providersOfName.all(name, from, SCAN_STEP)
      if (from === 0 && rows.length === 1) this.#rememberSole(name, rows[0]!)
      return rows
    }
    return this.#sample(limit, step, (row) => this.#provider(row, now))
  }

  async locateContent(id: ContentId, now: number, limit: number): Promise<(ProviderBody & { file: FileName })[]> {
    return this.#sample(
      limit,
      (from) => this.#sql.providersOfContent.all(id, id, from, SCAN_STEP),
      ([peerKey, same, size, file]) => {
        const provider = same ? this.#provider([peerKey, id, size], now) : undefined
        return provider && { ...provider, file }
      },
    )
  }

  async peers(after: string, limit: number, now: number): Promise<PeerRecord[]> {
    const found: PeerRecord[] = []
    for (let last = after; ; ) {
      const ids = this.#sql.peerIdsAfter.all(last, limit)
      for (const id of ids) {
        const lease = this.#leases.live(id, now)
        if (lease) found.push(lease)
        if (found.length === limit) return found
      }
      if (ids.length < limit) return found
      last = ids.at(-1)!
    }
  }

  async peer(id: PeerId, now: number): Promise<PeerRecord | undefined> {
    return this.#leases.live(id, now)
  }

  async namesOf(id: PeerId, limit: number): Promise<FileName[]> {
    const lease = this.#leases.of(id)
    return lease ? this.#sql.namesOf.all(lease.key, limit) : []
  }

  async names(after: string, limit: number): Promise<NameRow[]> {
    return this.#sql.namesAfter.all(after, limit)
  }

  async lastNameKey(): Promise<number> {
    return this.#sql.lastNameKey.get() ?? 0
  }

  async namesBeginning(
    beginning: string,
    after: Omit<FoldedRow, 'name'> | undefined,
    limit: number,
  ): Promise<FoldedRow[]> {
    const { folded: from, key } = after ?? { folded: beginning, key: 0 }
    return this.#sql.namesBeginning.all({ from, key, end: `${beginning}\u{10ffff}`, limit })
  }

  async namesWithGrams(grams: readonly string[], from: number, to: number, limit: number): Promise<NameRow[]> {
    const match = grams.map((gram) => `"${gram.replaceAll('"', '""')}"`).join(' AND ')
    return this.#sql.namesWithGrams.all(match, from, to, limit)
  }

  async sampleNames(count: number): Promise<FileName[]> {
    const last = await this.lastNameKey()
    return Array.from({ length: count }, () => this.#sql.nameFrom.get(Math.floor(this.#random() * last) + 1)).filter(
      (name) => name !== undefined,
    )
  }

  async namesContaining(text: string, from: number, to: number, limit: number): Promise<NameRow[]> {
    return this.#sql.namesContaining.all(from, to, `%${text}%`, limit)
  }

  async providersOf(
    nameKey: number,
    now: number,
    limit: number,
  ): Promise<{ count: number; providers: ProviderBody[] }> {
    const live = this.#sql.providersOfNameKey
      .all(nameKey, COUNTED_PROVIDERS)
      .map((row) => this.#provider(row, now))
      .filter((provider) => provider !== undefined)
    return { count: live.length, providers: live.slice(0, limit) }
  }

  async counts(now: number): Promise<{ peers: number; files: number }> {
    let peers = 0
    let files = 0
    for (const lease of this.#leases.values()) {
      if (lease.expiresAt <= now) continue
      peers++
      files += lease.files
    }
    return { peers, files }
  }

  async size(): Promise<number> {
    return databaseSize(this.#path)
  }

  async close(): Promise<void> {
    this.#commits.flush()
    this.#db.close()
  }

  // ---- within

  #write<T>(work: () => T): Promise<T> {
    return this.#commits.write(work).catch((error: unknown) => {
      throw storageError(error, this.#path)
    })
  }

  /** Reads the registrations that the database holds; a lease whose end is not known gets the latest that was granted. */
  #loadLeases(): void {
    const before = this.#leases
    this.#leases = new Leases()
    for (const seed of this.#sql.peers.all())
      this.#leases.add({ ...seed, expiresAt: before.expiresAt(seed.key) ?? this.#latestExpiry })
    this.#lastPeerKey = this.#sql.lastPeerKey.get() ?? 0
  }

  /** Renews the lease too where `term` is given. */
  #apply(id: PeerId, change: Change, now: number, maxFiles: number, term?: Term): Patched {
    const lease = this.#leases.live(id, now)
    if (!lease) return { kind: 'gone' }
    if (lease.revision !== change.from) return { kind: 'stale', revision: lease.revision }
    const add = new Map(change.add.map((file) => [file.name, file]))
    const remove = new Set(change.remove.filter((name) => !add.has(name)))
    if (lease.files + add.size > maxFiles) {
      const offered = (name: FileName) => this.#offers(lease.key, name)
      const files =
        lease.files + [...add.keys()].filter((name) => !offered(name)).length - [...remove].filter(offered).length
      if (files > maxFiles) return { kind: 'too_many', files }
    }
    let { files } = lease
    for (const name of remove) {
      const nameKey = this.#sql.nameKey.get(name)
      if (nameKey === undefined || this.#sql.deleteEntry.run(nameKey, lease.key).changes === 0) continue
      this.#soles.delete(name)
      this.#dropUnoffered(nameKey)
      files--
    }
    for (const file of add.values()) if (this.#addEntry(lease.key, file)) files++
    if (term) this.#renew(lease, term)
    lease.revision = change.to
    lease.files = files
    this.#sql.updatePeer.run(change.to, files, lease.lastSeen, lease.key)
    return { kind: 'done', files }
  }

  #renew(lease: LeaseRow, term: Term): void {
    lease.lastSeen = term.now
    lease.expiresAt = term.expiresAt
    this.#latestExpiry = term.expiresAt
  }

  #end(lease: LeaseRow): void {
    this.#sql.endPeer.run(lease.key)
    this.#leases.delete(lease)
  }

  /** @returns whether the peer did not offer the name before */
  #addEntry(peerKey: number, file: FileEntry): boolean {
    let nameKey = this.#sql.nameKey.get(file.name)
    if (nameKey === undefined) {
      const folded = fold(file.name)
      nameKey = Number(this.#sql.addName.run(file.name, folded === file.name ? null : folded).lastInsertRowid)
      this.#sql.addGrams.run(nameKey, gramText(folded))
      this.#rememberSole(file.name, [peerKey, file.id ?? '', file.size])
    } else this.#soles.delete(file.name)
    if (this.#sql.addEntry.run(nameKey, peerKey, file.id, file.size).changes > 0) return true
    this.#sql.updateEntry.run(file.id, file.size, nameKey, peerKey)
    return false
  }

  #rememberSole(name: FileName, [peerKey, id, size]: ProviderRow): void {
    if (id !== '' && size !== null) this.#soles.set(name, { peerKey, id: id as ContentId, size })
  }

  #offers(peerKey: number, name: FileName): boolean {
    const nameKey = this.#sql.nameKey.get(name)
    return nameKey !== undefined && this.#sql.hasEntry.get(nameKey, peerKey) !== undefined
  }

  #dropUnoffered(nameKey: number): void {
    if (this.#sql.isOffered.get(nameKey) !== undefined) return
    this.#sql.deleteName.run(nameKey)
    this.#sql.deleteGrams.run(nameKey)
  }

  #provider([peerKey, id, size]: ProviderRow, now: number): ProviderBody | undefined {
    const lease = this.#leases.liveByKey(peerKey, now)
    if (!lease) return undefined
    return {
      peer: lease.id,
      rest: lease.rest,
      grpc_port: lease.grpcPort,
      // SQLite's own lower() takes half a microsecond.
      id: id === '' ? null : (id.toLowerCase() as ContentId),
      size,
    }
  }

  /**
   * Up to `limit` providers out of rows in the order of their peer key. Where one step does not hold all rows, the
   * scan begins at a random peer, so that the load of a popular file spreads; it gives up after SCAN_ROWS.
   */
  #sample<Row extends [peerKey: number, ...unknown[]], P>(
    limit: number,
    step: (fromPeer: number) => Row[],
    parse: (row: Row) => P | undefined,
  ): P[] {
    const found = new Map<number, P>()
    const take = (rows: Row[]) => {
      for (const row of rows) {
        if (found.size === limit) return
        const provider = found.has(row[0]) ? undefined : parse(row)
        if (provider !== undefined) found.set(row[0], provider)
      }
    }
    let rows = step(0)
    if (rows.length === SCAN_STEP) {
      const start = Math.floor(this.#random() * (this.#lastPeerKey + 1))
      let wrapped = false
      rows = step(start)
      for (let scanned = 0; scanned < SCAN_ROWS && found.size < limit; scanned += SCAN_STEP) {
        take(rows)
        const last = rows.at(-1)?.[0] ?? 0
        if (rows.length === SCAN_STEP) rows = step(last + 1)
        else if (!wrapped) {
          wrapped = true
          rows = step(0)
        } else break
      }
    } else take(rows)
    return [...found.values()]
  }
}
