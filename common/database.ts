import { existsSync, mkdirSync, renameSync } from 'node:fs'
import { dirname } from 'node:path'
import Sqlite, { type Database } from 'better-sqlite3'
import { isDamaged } from './database-failure.ts'
import { NetworkError } from './errors.ts'
import type { Logger } from './log.ts'

export interface DatabaseForm {
  /** Applied in order from `user_version` on; one that has shipped is never edited. */
  readonly migrations: readonly string[]
  /** A killed process loses nothing; `NORMAL`: a power cut takes the last moments, `FULL`: nothing. */
  readonly synchronous: 'NORMAL' | 'FULL'
}

/**
 * Opens an SQLite database for this process alone, in its newest form; makes the file and its folder where they are
 * missing.
 * @param path `:memory:` keeps nothing
 * @param take what is made of it; where that throws, the database is closed
 * @throws NetworkError `invalid` where a newer program wrote it; else what `databaseFailure` puts in words
 */
export function openDatabase<T>(path: string, { migrations, synchronous }: DatabaseForm, take: (db: Database) => T): T {
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
  const db = new Sqlite(path, { timeout: 1000 })
  try {
    // One process owns the file, which spares every statement the file locks.
    db.pragma('locking_mode = EXCLUSIVE')
    db.pragma('journal_mode = WAL')
    db.pragma(`synchronous = ${synchronous}`)
    const version = db.pragma('user_version', { simple: true }) as number
    if (version > migrations.length)
      throw new NetworkError('invalid', `${path} was written by a newer program (version ${version}): update this one`)
    db.transaction(() => {
      for (const migration of migrations.slice(version)) db.exec(migration)
      db.pragma(`user_version = ${migrations.length}`)
    }).immediate()
    return take(db)
  } catch (error) {
    db.close()
    throw error
  }
}

/**
 * Looks at every page, some 50 ms for 100,000 rows: better than to fail again and again in the middle of work.
 * @throws SqliteError as where damage is found at work
 */
export function checkIntact(db: Database): void {
  const found = db.pragma('quick_check(1)', { simple: true })
  if (found !== 'ok') throw new Sqlite.SqliteError(String(found), 'SQLITE_CORRUPT')
}

/** What `open` returns; a damaged file is moved aside before, and `open` begins anew. `loss`: what that means, for people. */
export function openOrRenew<T>(path: string, open: () => T, { log, loss }: { log: Logger; loss: string }): T {
  try {
    return open()
  } catch (error) {
    if (!isDamaged(error)) throw error
    const aside = moveAside(path)
    log.warn({ path, aside, err: error }, `the database is damaged: moved aside; ${loss}`)
    return open()
  }
}

/** Renames a database; who has it open keeps it, the next one to open it begins anew. @returns the new path */
export function moveAside(path: string): string {
  const aside = `${path}.damaged-${Date.now()}`
  for (const suffix of ['', '-wal', '-shm']) if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix)
  return aside
}
