import { ftruncateSync } from 'node:fs'
import { type Clock, systemClock } from '../../common/clock.ts'
import { asNetworkError, NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import { type Manifest, pieceCount, pieceLength } from '../../common/merkle.ts'
import type { Hasher } from '../hashing/hasher.ts'
import type { Landing, PartialFile } from './contents.ts'
import { Journal } from './journal.ts'
import { type Runs, runsOf } from './runs.ts'

export interface PieceStoreDeps {
  landing: Landing
  hasher: Hasher
  clock?: Pick<Clock, 'now'>
}

/** A piece that was seen right is served for so long, ms, before it is read and hashed again. */
const TRUSTED_MS = 5000

type PieceListener = (index: number) => void

/** A piece that has lain on disk for longer, in ms, is read again before it is published (see `confirm`). */
const FRESH_MS = 60_000
/** … or for longer than 20 times what reading the whole file takes, so that this costs a long download 5 % at most. */
const FRESH_BYTES_PER_MS = 50_000
const MISSING = -1

/**
 * The taker's disk side of one content: which pieces are there, and how one more gets there. A piece counts only if its
 * bytes were verified by this process. The journal tells which ones an earlier process had: they are read and hashed
 * again, nothing on disk is trusted.
 */
export class PieceStore {
  readonly manifest: Manifest
  /** bytes that were found right on disk at open */
  readonly resumedBytes: number
  #hasher: Hasher
  #clock: Pick<Clock, 'now'>
  #file: PartialFile
  #journal: Journal | undefined
  /** when each piece was last seen right, ms; MISSING */
  #seen: Float64Array
  #left: number
  #damaged: number
  /** Something on disk changed that this process did not write. */
  #suspect = false
  /** bytes of room that the file takes when nothing of it is missing */
  #fullRoom: number
  /** what is under way on other threads with the descriptor */
  #underWay = new Set<Promise<unknown>>()
  /** open: for everything; closing: for what was begun */
  #phase: 'open' | 'closing' | 'closed' = 'open'
  #onVerified = new Set<PieceListener>()
  #onLost = new Set<PieceListener>()

  /**
   * @throws NetworkError as `Landing.openPartial`; `cancelled`
   */
  static async open(deps: PieceStoreDeps, manifest: Manifest, signal: AbortSignal): Promise<PieceStore> {
    const file = await deps.landing.openPartial(manifest)
    try {
      // Of one piece there is all or nothing: no journal could tell more.
      const count = pieceCount(manifest.size, manifest.pieceSize)
      const journal = count > 1 ? Journal.open(file.openJournal(), manifest) : undefined
      const candidates = candidatesIn(file, manifest, journal)
      const right = await deps.hasher.verifyFile(file.fd, manifest, signal, candidates)
      const verified = candidates.filter((_, place) => right[place])
      journal?.append(verified)
      return new PieceStore(deps, manifest, { file, journal, verified })
    } catch (error) {
      if (file.resumed) await file.close()
      else await file.discard()
      throw asNetworkError(error)
    }
  }

  /**
   * Opens an unfinished content that no provider told the manifest of: its journal has it.
   * @returns undefined where there is no journal that can be used
   * @throws NetworkError as `open`
   */
  static async resume(deps: PieceStoreDeps, id: ContentId, signal: AbortSignal): Promise<PieceStore | undefined> {
    const manifest = deps.landing.unfinishedManifest(id)
    return manifest && PieceStore.open(deps, manifest, signal)
  }

  private constructor(
    { hasher, clock }: PieceStoreDeps,
    manifest: Manifest,
    there: { file: PartialFile; journal: Journal | undefined; verified: readonly number[] },
  ) {
    this.manifest = manifest
    this.#hasher = hasher
    this.#clock = clock ?? systemClock
    this.#file = there.file
    this.#journal = there.journal
    this.#seen = new Float64Array(pieceCount(manifest.size, manifest.pieceSize)).fill(MISSING)
    this.#left = this.#seen.length - there.verified.length
    this.#fullRoom = manifest.size
    const now = this.#clock.now()
    for (const index of there.verified) this.#seen[index] = now
    this.resumedBytes = bytesOf(manifest, there.verified)
    const known = there.journal?.found.filter((index) => !this.has(index)) ?? []
    this.#damaged = known.length
  }

  /** of the partial file, for threads that write by themselves; not after `close`, `publish` or `discard` */
  get fd(): number {
    return this.#file.fd
  }

  /** Pieces that were verified once and were found wrong on disk since, or gone: something else changed the file. */
  get damaged(): number {
    return this.#damaged
  }

  has(index: number): boolean {
    return this.#seen[index]! !== MISSING
  }

  get complete(): boolean {
    return this.#left === 0
  }

  /** Nothing verified is in it. */
  get blank(): boolean {
    return this.#left > 0 && this.#left === this.#seen.length
  }

  missing(): number[] {
    return this.#indices((seen) => seen === MISSING)
  }

  held(): Runs {
    return runsOf(this.#indices((seen) => seen !== MISSING))
  }

  /**
   * Verifies a piece and writes it, both off this thread; then it is for the caller to say `verified`. The memory of
   * `parts` is given away.
   * @returns whether it was right; only then is it written
   * @throws NetworkError `unavailable` where the disk is full
   */
  commit(index: number, parts: Uint8Array[]): Promise<boolean> {
    return this.#whileOpen(() => this.#hasher.commitPiece(this.#file.fd, this.manifest, index, parts))
  }

  /**
   * The piece is verified and written, by `commit` or by a thread of its own: from now on it counts, for later processes
   * too. Written, then journaled, and neither is synced: what a power cut makes of that is found when it is read again.
   * @throws NetworkError `unavailable` or `forbidden` where the disk refuses; `conflict` where somebody removed the
   *   partial file. The piece does not count then.
   */
  verified(index: number): void {
    if (this.#phase === 'closed') throw ended()
    if (this.has(index)) return
    this.#restoreSize(this.#file.look().size)
    try {
      this.#journal?.append([index])
    } catch (error) {
      throw asNetworkError(error)
    }
    this.#seen[index] = this.#clock.now()
    this.#left--
    for (const listener of this.#onVerified) listener(index)
  }

  /** @returns how to stop listening */
  onVerified(listener: PieceListener): () => void {
    this.#onVerified.add(listener)
    return () => this.#onVerified.delete(listener)
  }

  /**
   * Told of pieces that were here and are missing again: something else changed the partial file.
   * @returns how to stop listening
   */
  onLost(listener: PieceListener): () => void {
    this.#onLost.add(listener)
    return () => this.#onLost.delete(listener)
  }

  /**
   * Reads and hashes a piece that is here, before it is served to others; not where it was seen right a moment ago.
   * @returns whether it is right; where it isn't, it is missing from now on
   * @throws NetworkError where the disk refuses
   */
  async check(index: number): Promise<boolean> {
    if (!this.has(index)) return false
    const age = this.#clock.now() - this.#seen[index]!
    // A clock that was set back says nothing.
    if (age < 0 || age > TRUSTED_MS) await this.#readAgain([index])
    return this.has(index)
  }

  /**
   * Looks once more at what may have been damaged since it was verified: all of it where there is a sign of that, else
   * what has lain on disk for long. Not all of it always, which would hash every download twice.
   * @returns whether it is complete still; else pieces are missing again, and `publish` has to wait for them
   * @throws NetworkError `conflict` where somebody removed the partial file; `cancelled`; where the disk refuses
   */
  async confirm(signal?: AbortSignal): Promise<boolean> {
    const { size, held } = this.#file.look()
    this.#restoreSize(size)
    const whole = this.#suspect || (this.complete && held < this.#fullRoom)
    const now = this.#clock.now()
    const stale = now - Math.max(FRESH_MS, this.manifest.size / FRESH_BYTES_PER_MS)
    await this.#readAgain(
      this.#indices((seen) => seen !== MISSING && (whole || seen < stale || seen > now)),
      signal,
    )
    if (whole) this.#suspect = false
    if (whole && this.complete) this.#fullRoom = Math.min(held, this.manifest.size)
    return this.complete
  }

  /**
   * Makes the file visible under these names, each with a file of its own. Only a complete store can be published.
   * @returns the names that could not be had, and why; the others are there
   * @throws NetworkError as `PartialFile.publish`, where no name could be had: what is there stays; `conflict` where
   *   something else changed the partial file meanwhile: pieces are missing again; `cancelled`
   */
  async publish(names: readonly FileName[], signal?: AbortSignal): Promise<ReadonlyMap<FileName, NetworkError>> {
    if (!this.complete) throw new Error(`${this.#left} pieces are missing`)
    if (!(await this.confirm(signal))) throw this.#changed()
    const [first, ...further] = [...new Set(names)]
    if (first === undefined) throw new Error('a file needs a name')
    const refused = new Map<FileName, NetworkError>()
    // Copies first: a process that is killed in between finds everything still to be done, with the file to do it from.
    for (const name of further) {
      try {
        await this.#file.copyTo(name)
      } catch (error) {
        refused.set(name, asNetworkError(error))
      }
    }
    await this.#settled()
    // Who is served meanwhile may have found something wrong.
    if (!this.complete) {
      this.#phase = 'open'
      throw this.#changed()
    }
    try {
      await this.#file.publish(first)
    } catch (error) {
      if (refused.size === further.length) {
        this.#phase = 'open'
        throw error
      }
      refused.set(first, asNetworkError(error))
      await this.#file.discard()
    }
    return refused
  }

  /** Another descriptor of the partial file (see `PartialFile.openForReading`). */
  openForReading(): number {
    return this.#file.openForReading()
  }

  async close(): Promise<void> {
    await this.#settled()
    await this.#file.close()
  }

  async discard(): Promise<void> {
    await this.#settled()
    await this.#file.discard()
  }

  #indices(of: (seen: number) => boolean): number[] {
    const indices: number[] = []
    for (const [index, seen] of this.#seen.entries()) if (of(seen)) indices.push(index)
    return indices
  }

  /** A file that was cut by somebody is full of holes when it has its size again. */
  #restoreSize(size: number): void {
    if (size === this.manifest.size) return
    this.#suspect = true
    ftruncateSync(this.#file.fd, this.manifest.size)
  }

  async #readAgain(indices: readonly number[], signal?: AbortSignal): Promise<void> {
    if (indices.length === 0) return
    const right = await this.#whileOpen(() => this.#hasher.verifyFile(this.#file.fd, this.manifest, signal, indices))
    const now = this.#clock.now()
    for (const [place, index] of indices.entries()) {
      if (!right[place]) this.#lose(index)
      // Another look at it may have found it wrong meanwhile: then it has to come again, and to be said to be verified.
      else if (this.has(index)) this.#seen[index] = now
    }
  }

  #lose(index: number): void {
    if (!this.has(index)) return
    this.#seen[index] = MISSING
    this.#left++
    this.#damaged++
    this.#suspect = true
    for (const listener of this.#onLost) listener(index)
  }

  #changed(): NetworkError {
    return new NetworkError(
      'conflict',
      `${this.#left} pieces of the partial file were changed by something else: start the download again to fetch them`,
    )
  }

  #whileOpen<T>(begin: () => Promise<T>): Promise<T> {
    if (this.#phase !== 'open') return Promise.reject(ended())
    const work = begin()
    const done = () => this.#underWay.delete(work)
    this.#underWay.add(work)
    work.then(done, done)
    return work
  }

  /** A worker must not touch a descriptor that was closed: its number may belong to another file by then. */
  async #settled(): Promise<void> {
    this.#phase = 'closing'
    await Promise.allSettled(this.#underWay)
    this.#phase = 'closed'
  }
}

function ended(): NetworkError {
  return new NetworkError('cancelled', 'the transfer has ended')
}

/**
 * The pieces that are worth reading: those that the journal tells of. Where the disk holds more than those take, or the
 * journal is torn, foreign or missing, all of them, so that a lost journal loses no piece.
 */
function candidatesIn(file: PartialFile, manifest: Manifest, journal: Journal | undefined): number[] {
  const all = Array.from({ length: pieceCount(manifest.size, manifest.pieceSize) }, (_, index) => index)
  if (!file.resumed) return []
  const { held } = file.look()
  if (!journal?.intact) return held > 0 ? all : []
  const known = new Set(journal.found)
  const unknown = all.filter((index) => !known.has(index))
  const shortest = unknown.at(-1)
  const beyond = held - bytesOf(manifest, journal.found)
  if (shortest !== undefined && beyond >= pieceLength(manifest, shortest)) return all
  return all.filter((index) => known.has(index))
}

function bytesOf(manifest: Manifest, indices: readonly number[]): number {
  return indices.reduce((bytes, index) => bytes + pieceLength(manifest, index), 0)
}
