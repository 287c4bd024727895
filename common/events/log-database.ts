import { randomBytes } from 'node:crypto'
import { mkdirSync, renameSync, rmSync } from 'node:fs'
import { dirname } from 'node:path'
import Sqlite, { type Database } from 'better-sqlite3'
import { databaseFailure } from '../database-failure.ts'
import { NetworkError } from '../errors.ts'
import type { Logger } from '../log.ts'

const VERSION = 1
const SCHEMA = `
  create table state (name text not null, seq integer not null, dropped integer not null, resume text);
  create table events (
    position integer primary key autoincrement,
    id text not null,
    origin text not null,
    heard integer not null,
    text text not null,
    unique (id, origin)
  );
  create table unsent (position integer primary key);
  create table cursors (reader text primary key, position integer not null) without rowid;
  create table forgotten (source text primary key, seq integer not null, at integer not null) without rowid;
`

/** Opens the database of an event log; makes the file and its folder where they are missing. */
export function openLogDatabase(path: string): Database {
  if (path !== ':memory:') mkdirSync(dirname(path), { recursive: true })
  const db = new Sqlite(path, { timeout: 1000 })
  try {
    // One process owns the file, which spares every statement the file locks.
    db.pragma('locking_mode = EXCLUSIVE')
    db.pragma('journal_mode = WAL')
    // Survives a killed process whole, and a power cut without the last moments.
    db.pragma('synchronous = NORMAL')
    db.pragma('wal_autocheckpoint = 4096')
    db.pragma('journal_size_limit = 16777216')
    const version = db.pragma('user_version', { simple: true }) as number
    if (version > VERSION)
      throw new NetworkError('invalid', `${path} was written by a newer program (version ${version}): update this one`)
    if (version === 0)
      db.transaction(() => {
        db.exec(SCHEMA)
        db.prepare('insert into state values (?, 0, 0, null)').run(randomBytes(4).toString('hex'))
        db.pragma(`user_version = ${VERSION}`)
      }).immediate()
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

/** Renames a damaged database to `.broken`; who has it open keeps it, the next one to open it begins anew. */
export function setAside(path: string, log: Logger): void {
  if (path === ':memory:') return
  const broken = `${path}.broken`
  try {
    renameSync(path, broken)
    for (const file of ['-wal', '-shm']) rmSync(path + file, { force: true })
    log.warn({ database: path, broken }, 'the event log is damaged: it was set aside, and a new one begins')
  } catch (error) {
    log.warn({ database: path, err: error }, 'the event log is damaged, and can not be set aside')
  }
}

/** What a failure of the database at `path` means. */
export function logFailure(error: unknown, path: string): NetworkError {
  return databaseFailure(error, path, {
    damaged: 'it was set aside, and a new one begins at the next start',
    busy: 'does the same program run already?',
    access: 'check its permissions',
    folder: 'check where it is configured to be',
  })
}
