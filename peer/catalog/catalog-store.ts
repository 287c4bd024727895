import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { moveAside } from '../../common/database.ts'
import { asNetworkError, errnoOf, NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import { type Manifest, pieceSizeFor } from '../../common/merkle.ts'
import type { FileStamp } from './file-stamp.ts'

/** One shared file, as it was when it was hashed. */
export interface CatalogFile extends FileStamp {
  readonly name: FileName
  /** below the shared folder, as on disk: `name` but for its Unicode form */
  readonly path: string
  readonly id: ContentId
}

/** A name is removed or put, not both; what is put replaces what stood under the name. */
export interface CatalogChange {
  readonly removed: readonly FileName[]
  readonly put: readonly CatalogFile[]
  /** of the contents in `put`, those that are not stored yet */
  readonly manifests: readonly Manifest[]
}

/** Applied in order from `user_version` on; one that has shipped is never edited. */
const MIGRATIONS = [
  `CREATE TABLE contents (
     id TEXT PRIMARY KEY,
     size INTEGER NOT NULL,
     hashes BLOB NOT NULL
   ) STRICT;
   CREATE TABLE files (
     name TEXT PRIMARY KEY,
     path TEXT NOT NULL,
     content_id TEXT NOT NULL REFERENCES contents (id),
     size INTEGER NOT NULL,
     mtime_ns INTEGER NOT NULL,
     ctime_ns INTEGER NOT NULL,
     born_ns INTEGER NOT NULL,
     inode INTEGER NOT NULL,
     dev INTEGER NOT NULL
   ) STRICT, WITHOUT ROWID;
   CREATE INDEX files_by_content ON files (content_id);
   CREATE INDEX files_by_inode ON files (inode, dev);
   CREATE TABLE meta (revision INTEGER NOT NULL) STRICT;
   INSERT INTO meta VALUES (1);`,
]

type Row = [FileName, string, ContentId, bigint, bigint, bigint, bigint, bigint, bigint]

/**
 * What the catalog remembers, in SQLite and, but for the piece hashes, in memory. A batch of changes and its revision
 * are one transaction, made durable before it is visible.
 */
export class CatalogStore {
  readonly path: string
  #db: Database.Database
  #files = new Map<FileName, CatalogFile>()
  #revision: number
  #bytes = 0
  #sql: ReturnType<typeof prepare>

  /**
   * Opens `catalog.db` in the state folder, which is made where it is missing. A damaged one is moved aside: all that
   * is lost is the time to hash again.
   * @throws NetworkError `conflict` where another process has it open; `forbidden`, `unavailable` as the system says
   */
  static open(stateDir: string, log: Logger): CatalogStore {
    const path = join(stateDir, 'catalog.db')
    try {
      mkdirSync(stateDir, { recursive: true })
      try {
        return new CatalogStore(path)
      } catch (error) {
        if (!isDamage(error)) throw error
        const aside = moveAside(path)
        log.warn(
          { path, aside, err: error },
          'the catalog database is damaged: moved aside, all files are hashed again',
        )
        return new CatalogStore(path)
      }
    } catch (error) {
      throw storeFault(error, stateDir)
    }
  }

  private constructor(path: string) {
    this.path = path
    this.#db = new Database(path, { timeout: 1000 })
    try {
      // Exclusive, because two agents with one state folder would undo each other's revisions.
      this.#db.pragma('locking_mode = EXCLUSIVE')
      this.#db.pragma('journal_mode = WAL')
      this.#db.pragma('synchronous = FULL')
      this.#db.transaction(() => migrate(this.#db)).exclusive()
      // Some 50 ms for 100,000 files, against a catalog that fails again and again in the middle of its work.
      const check = this.#db.pragma('quick_check(1)', { simple: true })
      if (check !== 'ok') throw new Damage(String(check))
      this.#sql = prepare(this.#db)
      this.#revision = this.#sql.revision.get() as number
      this.#load()
    } catch (error) {
      this.#db.close()
      throw error
    }
  }

  /** Grows by one with every batch; 1 in a new catalog. */
  get revision(): number {
    return this.#revision
  }

  get size(): number {
    return this.#files.size
  }

  /** Bytes of all files together. */
  get bytes(): number {
    return this.#bytes
  }

  get(name: FileName): CatalogFile | undefined {
    return this.#files.get(name)
  }

  files(): IterableIterator<CatalogFile> {
    return this.#files.values()
  }

  names(): IterableIterator<FileName> {
    return this.#files.keys()
  }

  /** In the order of their names; names after `after`. */
  list(after: string, limit: number): CatalogFile[] {
    return this.#resolve(this.#sql.list.all(after, limit))
  }

  byId(id: ContentId): CatalogFile[] {
    return this.#resolve(this.#sql.byContent.all(id))
  }

  /** The content of a file that is known under another name: renamed, or linked. */
  contentOfFile(stamp: FileStamp): ContentId | undefined {
    return this.#sql.byStamp.get(stamp) as ContentId | undefined
  }

  manifest(id: ContentId): Manifest | undefined {
    const row = this.#sql.manifest.get(id) as { size: number; hashes: Buffer } | undefined
    return row && { id, size: row.size, pieceSize: pieceSizeFor(row.size), hashes: row.hashes }
  }

  /** Whether piece hashes of this content are stored, be it shared now or not. */
  hasContent(id: ContentId): boolean {
    return this.#sql.hasContent.get(id) !== undefined
  }

  /**
   * Applies a batch; the revision grows by one.
   * @throws NetworkError `unavailable` where the disk is full; then nothing has changed
   */
  apply(change: CatalogChange): void {
    this.#transaction(() => {
      this.#write(change.put, change.manifests)
      for (const name of change.removed) this.#sql.remove.run(name)
      this.#sql.setRevision.run(this.#revision + 1)
    })
    this.#revision++
    for (const name of change.removed) this.#forget(name)
    for (const file of change.put) this.#remember(file)
  }

  /** Notes new stamps and paths of files whose name and content stay. The revision stays too. */
  touch(files: readonly CatalogFile[]): void {
    if (files.length === 0) return
    this.#transaction(() => this.#write(files, []))
    for (const file of files) this.#remember(file)
  }

  /** Deletes the piece hashes of contents that no file has and that are not in `keep`. */
  prune(keep: ReadonlySet<ContentId>): void {
    this.#transaction(() => {
      for (const id of this.#sql.orphans.all() as ContentId[]) if (!keep.has(id)) this.#sql.removeContent.run(id)
    })
  }

  close(): void {
    this.#db.close()
  }

  #load(): void {
    for (const row of this.#sql.all.iterate() as IterableIterator<Row>) {
      const [name, path, id, size, mtimeNs, ctimeNs, bornNs, inode, dev] = row
      // Mostly one and the same text: then it is kept once.
      const onDisk = path === name ? name : path
      this.#remember({ name, path: onDisk, id, size: Number(size), mtimeNs, ctimeNs, bornNs, inode, dev })
    }
  }

  #write(files: readonly CatalogFile[], manifests: readonly Manifest[]): void {
    for (const manifest of manifests) this.#sql.putContent.run(manifest.id, manifest.size, manifest.hashes)
    for (const file of files) this.#sql.put.run(file)
  }

  #remember(file: CatalogFile): void {
    this.#forget(file.name)
    this.#files.set(file.name, file)
    this.#bytes += file.size
  }

  #forget(name: FileName): void {
    this.#bytes -= this.#files.get(name)?.size ?? 0
    this.#files.delete(name)
  }

  #resolve(names: unknown[]): CatalogFile[] {
    return names.map((name) => this.#files.get(name as FileName)!)
  }

  #transaction(run: () => void): void {
    try {
      this.#db.transaction(run)()
    } catch (error) {
      throw storeFault(error, this.path)
    }
  }
}

function prepare(db: Database.Database) {
  const columns = 'name, path, content_id, size, mtime_ns, ctime_ns, born_ns, inode, dev'
  return {
    all: db.prepare(`SELECT ${columns} FROM files`).raw().safeIntegers(),
    list: db.prepare('SELECT name FROM files WHERE name > ? ORDER BY name LIMIT ?').pluck(),
    byContent: db.prepare('SELECT name FROM files WHERE content_id = ? ORDER BY name').pluck(),
    byStamp: db
      .prepare(
        `SELECT content_id FROM files WHERE inode = :inode AND dev = :dev
         AND size = :size AND mtime_ns = :mtimeNs AND born_ns = :bornNs`,
      )
      .pluck(),
    put: db.prepare(
      `INSERT OR REPLACE INTO files (${columns})
       VALUES (:name, :path, :id, :size, :mtimeNs, :ctimeNs, :bornNs, :inode, :dev)`,
    ),
    remove: db.prepare('DELETE FROM files WHERE name = ?'),
    manifest: db.prepare('SELECT size, hashes FROM contents WHERE id = ?'),
    hasContent: db.prepare('SELECT 1 FROM contents WHERE id = ?'),
    putContent: db.prepare('INSERT OR IGNORE INTO contents (id, size, hashes) VALUES (?, ?, ?)'),
    orphans: db.prepare('SELECT id FROM contents WHERE id NOT IN (SELECT content_id FROM files)').pluck(),
    removeContent: db.prepare('DELETE FROM contents WHERE id = ?'),
    revision: db.prepare('SELECT revision FROM meta').pluck(),
    setRevision: db.prepare('UPDATE meta SET revision = ?'),
  }
}

/** The database can't be used as it is. */
class Damage extends Error {}

function migrate(db: Database.Database): void {
  const version = db.pragma('user_version', { simple: true }) as number
  if (version > MIGRATIONS.length) throw new Damage('it was made by a later version of this program')
  for (const migration of MIGRATIONS.slice(version)) db.exec(migration)
  db.pragma(`user_version = ${MIGRATIONS.length}`)
}

/** Whether the database itself is at fault, and not the disk or another process. */
function isDamage(error: unknown): boolean {
  const code = errnoOf(error) ?? ''
  return error instanceof Damage || /^SQLITE_(CORRUPT|NOTADB|ERROR|MISMATCH|CONSTRAINT|SCHEMA|FORMAT)/.test(code)
}

function storeFault(error: unknown, path: string): NetworkError {
  const code = errnoOf(error) ?? ''
  if (code.startsWith('SQLITE_BUSY'))
    return new NetworkError('conflict', `${path} is in use by another agent: stop it, or set another "state_dir"`)
  if (code.startsWith('SQLITE_FULL'))
    return new NetworkError('unavailable', `no room for the catalog in ${path}: free some space`, {
      reason: 'disk_full',
    })
  if (code.startsWith('SQLITE_READONLY') || code.startsWith('SQLITE_CANTOPEN'))
    return new NetworkError('forbidden', `${path} can't be written: set another "state_dir"`, {}, error)
  const fault = asNetworkError(error)
  return new NetworkError(fault.code, `${path}: ${fault.message}`, fault.details, error)
}
