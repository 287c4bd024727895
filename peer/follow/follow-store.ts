import type { Database } from 'better-sqlite3'
import { checkIntact, type DatabaseForm, openDatabase, openOrRenew } from '../../common/database.ts'
import { databaseFailure } from '../../common/database-failure.ts'
import type { NetworkError } from '../../common/errors.ts'
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

const FORM: DatabaseForm = {
  migrations: [
    `CREATE TABLE rules (
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
     ) STRICT, WITHOUT ROWID;`,
  ],
  synchronous: 'NORMAL',
}

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
      const open = () => openDatabase(path, FORM, (db) => new FollowStore(db))
      return openOrRenew(path, open, { log, loss: 'what was followed has to be followed again' })
    } catch (error) {
      throw storeFault(error, path)
    }
  }

  private constructor(db: Database) {
    this.#path = db.name
    this.#db = db
    checkIntact(db)
    this.#sql = prepare(db)
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
  return databaseFailure(error, path, {
    damaged: 'it is moved aside at the next start, and what was followed has to be followed again',
    busy: 'is an agent running already?',
    access: 'check the key "state_dir" and the permissions',
    folder: 'check the key "state_dir"',
  })
}
