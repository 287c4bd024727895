import type { Database } from 'better-sqlite3'
import { openDatabase } from '../database.ts'
import { databaseFailure } from '../database-failure.ts'
import type { NetworkError } from '../errors.ts'
import type { EventType } from './event.ts'

const MIGRATIONS = [
  `create table state (name text not null, seq integer not null, dropped integer not null, resume text);
  create table events (
    position integer primary key autoincrement,
    id text not null,
    origin text not null,
    heard integer not null,
    type text not null,
    text text not null,
    unique (id, origin)
  );
  create index events_by_type on events (type);
  create table unsent (position integer primary key);
  create table cursors (reader text primary key, position integer not null) without rowid;
  create table forgotten (source text primary key, seq integer not null, at integer not null) without rowid;
  create table names (opening integer primary key, name text not null unique, up_to integer not null);
  insert into state values (lower(hex(randomblob(4))), 0, 0, null);`,
]

/** Opens the database of an event log. @param take what is made of it */
export function openLogDatabase<T>(path: string, take: (db: Database) => T): T {
  // A killed process loses nothing; what a power cut takes, others have or nobody has heard of.
  return openDatabase(path, { migrations: MIGRATIONS, synchronous: 'NORMAL' }, (db) => {
    db.pragma('wal_autocheckpoint = 4096')
    db.pragma('journal_size_limit = 16777216')
    return take(db)
  })
}

/** What a failure of the database at `path` means. */
export function logFailure(error: unknown, path: string): NetworkError {
  return databaseFailure(error, path, {
    damaged: 'it was moved aside, and a new one begins at the next start',
    busy: 'does the same program run already?',
    access: 'check its permissions',
    folder: 'check where it is configured to be',
  })
}

interface EventRow {
  position: number
  type: EventType
  text: string
}

/** Its statements. `limit ? + 0`: SQLite plans by the value of a bare limit, and so would compile the statement again at every call. */
export function prepare(db: Database) {
  const sql = <Parameters extends unknown[], Row = never>(text: string) => db.prepare<Parameters, Row>(text)
  const ofTypes = new Map<number, ReturnType<typeof prepareOfTypes>>()
  return {
    state: sql<[], { name: string; seq: number; dropped: number; resume: string | null }>('select * from state'),
    setState: sql<[seq: number, dropped: number]>('update state set seq = ?, dropped = ?'),
    setResume: sql<[resume: string]>('update state set resume = ?'),
    setName: sql<[name: string]>('update state set name = ?'),
    addName: sql<[name: string, upTo: number]>('insert or replace into names (name, up_to) values (?, ?)'),
    upTo: sql<[name: string], number>('select up_to from names where name = ?').pluck(),
    forgetNames: sql<[keep: number]>('delete from names where opening <= (select max(opening) from names) - ?'),
    seen: sql<[id: string, origin: string], number>('select 1 from events where id = ? and origin = ?').pluck(),
    add: sql<[id: string, origin: string, heard: number, type: EventType, text: string]>(
      'insert into events (id, origin, heard, type, text) values (?, ?, ?, ?, ?)',
    ),
    read: sql<[after: number, last: number, limit: number], EventRow>(
      'select position, type, text from events where position > ? and position <= ? order by position limit ? + 0',
    ),
    ofTypes: (count: number) => {
      const made = ofTypes.get(count) ?? prepareOfTypes(db, count)
      ofTypes.set(count, made)
      return made
    },
    first: sql<[], number>('select position from events order by position limit 1').pluck(),
    last: sql<[], number>("select seq from sqlite_sequence where name = 'events'").pluck(),
    oldest: sql<[limit: number], { position: number; heard: number; id: string; origin: string }>(
      'select position, heard, id, origin from events order by position limit ? + 0',
    ),
    drop: sql<[upTo: number]>('delete from events where position <= ?'),
    forgotten: sql<[source: string], number>('select seq from forgotten where source = ?').pluck(),
    forget: sql<[source: string, seq: number, at: number]>(
      `insert into forgotten values (?, ?, ?)
       on conflict do update set seq = max(seq, excluded.seq), at = excluded.at`,
    ),
    forgetSources: sql<[keep: number]>(
      `delete from forgotten where source in
       (select source from forgotten order by at desc limit -1 offset ? + 0)`,
    ),
    cursor: sql<[reader: string], number>('select position from cursors where reader = ?').pluck(),
    setCursor: sql<[reader: string, position: number]>(
      'insert into cursors values (?, ?) on conflict do update set position = excluded.position',
    ),
    addUnsent: sql<[position: number | undefined]>('insert into unsent values (?)'),
    unsent: sql<[last: number, limit: number], string>(
      `select text from unsent join events using (position)
       where position <= ? order by position limit ? + 0`,
    ).pluck(),
    countUnsent: sql<[], number>('select count(*) from unsent').pluck(),
    sent: sql<[id: string]>('delete from unsent where position in (select position from events where id = ?)'),
    dropUnsent: sql<[count: number]>(
      'delete from unsent where position in (select position from unsent order by position limit ? + 0)',
    ),
    dropUnsentUpTo: sql<[upTo: number]>('delete from unsent where position <= ?'),
  }
}

/**
 * Those that read and search for `count` types. SQLite merges the types as it goes along their index: it touches what
 * it returns or counts, however little of the log that is.
 */
function prepareOfTypes(db: Database, count: number) {
  const merged = (columns: string, bounds: string) =>
    Array(count).fill(`select ${columns} from events where type = ? and ${bounds}`).join(' union all ')
  return {
    read: db.prepare<[ofEach: (EventType | number)[], limit: number], EventRow>(
      `${merged('position, type, text', 'position > ? and position <= ?')} order by position limit ? + 0`,
    ),
    /** the last but so many, up to a position */
    back: db
      .prepare<[ofEach: (EventType | number)[], skip: number], number>(
        `${merged('position', 'position <= ?')} order by position desc limit 1 offset ? + 0`,
      )
      .pluck(),
  }
}
