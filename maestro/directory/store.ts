import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { FileEntry, ProviderBody } from '../../common/schemas.ts'

/**
 * Where the directory is kept. Only peers whose lease ends after `now` are ever seen by a read; times are milliseconds
 * since the epoch. A write is durable when its promise resolves, and has changed nothing where it rejects or answers
 * with a refusal.
 */
export interface DirectoryStore {
  /** Begins a lease; whatever the peer offered before is gone with the same step. */
  register(registration: Registration, term: Term, maxPeers: number): Promise<Registered>
  /** Renews a live lease of this revision. */
  renew(id: PeerId, revision: number, term: Term): Promise<Renewed>
  /** Applies changes between two revisions, and renews the lease. An added name replaces what stood under it. */
  patch(id: PeerId, change: Change, term: Term, maxFiles: number): Promise<Patched>
  /** Likewise applies what others heard of a peer: its lease ends when it would have. */
  hint(id: PeerId, change: Change, now: number, maxFiles: number): Promise<Patched>
  /** @returns whether there was a live lease to end */
  withdraw(id: PeerId, now: number): Promise<boolean>

  /** Lets every lease of the store end no sooner than `expiresAt`. */
  extendLeases(expiresAt: number): Promise<void>
  /** Ends up to `limit` leases whose time is over; @returns whose they were. */
  expire(now: number, limit: number): Promise<PeerId[]>
  /** Deletes up to `rows` entries of ended leases, and names that nobody offers; @returns how many, 0 once all is clean. */
  sweep(rows: number): Promise<number>

  /** Up to `limit` live providers of a name; where there are more, others each time. */
  locateName(name: FileName, now: number, limit: number): Promise<ProviderBody[]>
  /** Likewise of a content, each with the name it has there. */
  locateContent(id: ContentId, now: number, limit: number): Promise<(ProviderBody & { file: FileName })[]>
  /** Live peers with an id after `after`, by id. */
  peers(after: string, limit: number, now: number): Promise<PeerRecord[]>
  /** The live peer of this id. */
  peer(id: PeerId, now: number): Promise<PeerRecord | undefined>
  /** Some names that a peer offers, up to `limit`. */
  namesOf(id: PeerId, limit: number): Promise<FileName[]>
  /** Names after `after`, in the order of their bytes, whether or not a live peer offers them. */
  names(after: string, limit: number): Promise<NameRow[]>
  /** The largest name key. */
  lastNameKey(): Promise<number>
  /**
   * Names that begin with `beginning` when both are folded (see common/folding.ts), in the order of the bytes of their folded
   * form, then of their keys: those after that of `after`, where given.
   */
  namesBeginning(beginning: string, after: Omit<FoldedRow, 'name'> | undefined, limit: number): Promise<FoldedRow[]>
  /** Names indexed under all these trigrams (see trigrams.ts), by key: after `from`, up to `to`. */
  namesWithGrams(grams: readonly string[], from: number, to: number, limit: number): Promise<NameRow[]>
  /** This many names at random, with repetition; fewer where there are hardly any. */
  sampleNames(count: number): Promise<FileName[]>
  /** Names that may contain `text`, lower-case letters and digits, by key: after `from`, up to `to`. */
  namesContaining(text: string, from: number, to: number, limit: number): Promise<NameRow[]>
  /** Live providers of the name with this key: up to `limit`, and how many there are, counted up to 1000. */
  providersOf(nameKey: number, now: number, limit: number): Promise<{ count: number; providers: ProviderBody[] }>

  counts(now: number): Promise<{ peers: number; files: number }>
  /** Bytes on disk. */
  size(): Promise<number>
  close(): Promise<void>
}

export interface Registration {
  readonly id: PeerId
  readonly rest: string
  readonly grpcPort: number
  readonly revision: number
  readonly files: readonly FileEntry[]
}

export interface Term {
  readonly now: number
  readonly expiresAt: number
}

export interface Change {
  readonly from: number
  readonly to: number
  readonly add: readonly FileEntry[]
  readonly remove: readonly FileName[]
}

export type Registered =
  /** `renewed`: the peer had a live lease */
  | { kind: 'done'; files: number; renewed: boolean }
  /** a live peer at another address has this id */
  | { kind: 'taken'; rest: string }
  | { kind: 'full' }

export type Renewed =
  | { kind: 'done'; files: number }
  /** no live lease */
  | { kind: 'gone' }
  /** the lease is of another revision */
  | { kind: 'stale'; revision: number }

export type Patched =
  | Renewed
  /** the peer would offer this many files */
  | { kind: 'too_many'; files: number }

export interface PeerRecord {
  readonly id: PeerId
  readonly rest: string
  readonly grpcPort: number
  readonly revision: number
  readonly files: number
  readonly lastSeen: number
}

export interface NameRow {
  readonly key: number
  readonly name: FileName
}

export interface FoldedRow extends NameRow {
  readonly folded: string
}
