import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { dirname, join } from 'node:path'
import Sqlite, { type Database } from 'better-sqlite3'
import { databaseFailure } from '../../common/database-failure.ts'
import { NetworkError } from '../../common/errors.ts'
import { projectFile } from '../../common/project.ts'

const MIGRATIONS = projectFile('maestro', 'directory', 'migrations')

/**
 * Opens the directory's database, in its newest form; makes the file and its folder where they are missing.
 * @throws NetworkError in words for the person who configured it
 */
export function openDatabase(path: string): Database {
  let db: Database | undefined
  try {
    if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
    db = new Sqlite(path, { timeout: 1000 })
    // One process owns the file, which spares every statement the file locks.
    db.pragma('locking_mode = EXCLUSIVE')
    db.pragma('journal_mode = WAL')
    // Survives a killed process whole, and a power cut without the last moments: their peers register again.
    db.pragma('synchronous = NORMAL')
    // 64 MiB of log between checkpoints: index pages that change often are then written once, not a thousand times.
    db.pragma('wal_autocheckpoint = 32768')
    db.pragma('journal_size_limit = 67108864')
    db.pragma('cache_size = -65536')
    db.pragma('mmap_size = 0')
    migrate(db, path)
    return db
  } catch (error) {
    db?.close()
    throw storageError(error, path)
  }
}

/** Applies the numbered migrations that the database has not seen, each in a transaction. */
function migrate(db: Database, path: string): void {
  const files = readdirSync(MIGRATIONS)
    .filter((file) => /^\d{3}_\w+\.sql$/.test(file))
    .sort()
  const seen = db.pragma('user_version', { simple: true }) as number
  if (seen > files.length)
    throw new NetworkError('invalid', `${path} was written by a newer Maestro (version ${seen}): update this one`)
  for (const file of files.slice(seen))
    db.transaction(() => {
      db.exec(readFileSync(join(MIGRATIONS, file), 'utf8'))
      db.pragma(`user_version = ${Number(file.slice(0, 3))}`)
    }).immediate()
}

/** Bytes of the database and its log. */
export function databaseSize(path: string): number {
  return [path, `${path}-wal`].reduce((sum, file) => sum + (statSync(file, { throwIfNoEntry: false })?.size ?? 0), 0)
}

/** What a failure of the database at `path` means. */
export function storageError(error: unknown, path: string): NetworkError {
  return databaseFailure(error, path, {
    damaged: 'move it away, and the peers will register again',
    busy: 'is a Maestro running already?',
    access: 'check the key "database" and the permissions',
    folder: 'check the key "database"',
  })
}
