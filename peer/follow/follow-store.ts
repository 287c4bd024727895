import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { dirname } from 'node:path'
import Sqlite, { type Database } from 'better-sqlite3'
import { asNetworkError, errnoOf, NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'

/** What a user follows. */
export interface Rule {
  readonly pattern: string
  /** bytes */
  readonly quota: number
  /** ms since the epoch */
  readonly since: number
}

/** A file that is wanted for a rule, or was fetched for it (`landed`). */
export interface SavedFile {
  readonly name: FileName
  readonly id: ContentId
  readonly size: number
  readonly pattern: string
  readonly landed: boolean
}

const SCHEMA = `CREATE TABLE rules (
   pattern TEXT PRIMARY KEY,
   quota INTEGER NOT NULL,
   since INTEGER NOT NULL
 ) STRICT;
 CREATE TABLE files (
   name TEXT PRIMARY KEY,
   content_id TEXT NOT NULL,
   size INTEGER NOT NULL,
   pattern TEXT NOT NULL,
   landed INTEGER NOT NULL
 ) STRICT, WITHOUT ROWID;
 PRAGMA user_version = 1;`

/** What is followed, and which files came of it, over restarts: SQLite, durable against a killed process. */
export class FollowStore {
  readonly #path: string
  readonly #db: Database
  readonly #sql: ReturnType<typeof prepare>

  /**
   * Opens the file, making it and its folder where they are missing; a damaged one is moved aside.
   * @param path `:memory:` keeps nothing
   * @throws NetworkError in words for the person who configured it
   */
  static open(path: string, log: Logger): FollowStore {
    try {
      if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
      try {
        return new FollowStore(path)
      } catch (error) {
        if (!/^SQLITE_(CORRUPT|NOTADB)/.test(errnoOf(error) ?? '')) throw error
        const aside = `${path}.damaged-${Date.now()}`
        for (const suffix of ['', '-wal', '-shm'])
          if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix)
        log.warn({ path, aside, err: error }, 'what was followed is damaged: moved aside, follow it again')
        return new FollowStore(path)
      }
    } catch (error) {
      throw storeFault(error, path)
    }
  }

  private constructor(path: string) {
    this.#path = path
    this.#db = new Sqlite(path, { timeout: 1000 })
    try {
      this.#db.pragma('locking_mode = EXCLUSIVE')
      this.#db.pragma('journal_mode = WAL')
      this.#db.pragma('synchronous = NORMAL')
      const version = this.#db.pragma('user_version', { simple: true }) as number
      if (version > 1) throw new NetworkError('invalid', `${path} was written by a newer agent: update this one`)
      if (version === 0) this.#db.transaction(() => this.#db.exec(SCHEMA)).immediate()
      this.#sql = prepare(this.#db)
    } catch (error) {
      this.#db.close()
      throw error
    }
  }

  /** In the order in which they were made. */
  rules(): Rule[] {
    return this.#sql.rules.all() as Rule[]
  }

  files(): SavedFile[] {
    const rows = this.#sql.files.all() as (Omit<SavedFile, 'landed'> & { landed: number })[]
    return rows.map((row) => ({ ...row, landed: row.landed === 1 }))
  }

  putRule(rule: Rule): void {
    this.#try(() => this.#sql.putRule.run(rule))
  }

  dropRule(pattern: string): void {
    this.#try(() => this.#sql.dropRule.run(pattern))
  }

  putFile({ landed, ...file }: SavedFile): void {
    this.#try(() => this.#sql.putFile.run({ ...file, landed: landed ? 1 : 0 }))
  }

  dropFile(name: FileName): void {
    this.#try(() => this.#sql.dropFile.run(name))
  }

  /** All that `change` does is kept, or nothing. */
  together(change: () => void): void {
    this.#try(() => this.#db.transaction(change).immediate())
  }

  close(): void {
    this.#db.close()
  }

  #try(write: () => void): void {
    try {
      write()
    } catch (error) {
      throw storeFault(error, this.#path)
    }
  }
}

function prepare(db: Database) {
  return {
    rules: db.prepare('SELECT pattern, quota, since FROM rules ORDER BY since, rowid'),
    files: db.prepare('SELECT name, content_id AS id, size, pattern, landed FROM files'),
    putRule: db.prepare(
      `INSERT INTO rules VALUES (@pattern, @quota, @since)
       ON CONFLICT (pattern) DO UPDATE SET quota = excluded.quota`,
    ),
    dropRule: db.prepare('DELETE FROM rules WHERE pattern = ?'),
    putFile: db.prepare('INSERT OR REPLACE INTO files VALUES (@name, @id, @size, @pattern, @landed)'),
    dropFile: db.prepare('DELETE FROM files WHERE name = ?'),
  }
}

function storeFault(error: unknown, path: string): NetworkError {
  const code = errnoOf(error) ?? ''
  const say = (problem: string, details = {}) => new NetworkError('unavailable', `${path}: ${problem}`, details, error)
  if (code === 'SQLITE_FULL') return say('the disk is full: free some space', { reason: 'disk_full' })
  if (code.startsWith('SQLITE_BUSY')) return say('another process uses it: is an agent running already?')
  if (/^SQLITE_(READONLY|CANTOPEN)|^E(ACCES|PERM|ROFS|NOTDIR|EXIST|NOENT)$/.test(code))
    return say('it can\'t be written: check the key "state_dir" and the permissions')
  return asNetworkError(error)
}
