import type { Database, Statement } from 'better-sqlite3'
import { openDatabase, openOrRenew } from '../../common/database.ts'
import { databaseFailure } from '../../common/database-failure.ts'
import type { NetworkError } from '../../common/errors.ts'
import type { Mail } from '../../common/events/mail.ts'
import { GroupCommit } from '../../common/group-commit.ts'
import type { PeerId } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'
import type { Bounds, MailboxStore, Put } from './store.ts'

/** `waiting` counts the rows of `mail`, so that nobody counts a long mailbox. A mailbox that is empty has no row. */
const SCHEMA = `
create table mailboxes (
  key integer primary key autoincrement,
  peer text not null unique,
  waiting integer not null
);
create table mail (
  position integer primary key autoincrement,
  mailbox integer not null,
  id text not null,
  expires integer not null,
  body text not null
);
create unique index mail_ids on mail (mailbox, id);
create index mail_order on mail (mailbox, position);
create index mail_expiry on mail (expires, mailbox);
`

/** Mailboxes in an SQLite file of their own. */
export class SqliteMailboxes implements MailboxStore {
  readonly #path: string
  readonly #db: Database
  readonly #sql: ReturnType<typeof prepare>
  readonly #commits: GroupCommit
  #size = 0

  private constructor(db: Database) {
    this.#db = db
    this.#path = db.name
    this.#sql = prepare(db)
    this.#commits = new GroupCommit(db, () => this.#count())
    this.#count()
  }

  /**
   * A damaged file is moved aside, and a new one begun.
   * @throws NetworkError where the file can't be used, in words for the person who configured it
   */
  static open(path: string, log: Logger): SqliteMailboxes {
    // What a power cut takes, or damage, comes again: the sender of an offer leaves it anew until it hears of it, and its
    // recipient answers each time.
    const form = { migrations: [SCHEMA], synchronous: 'NORMAL' } as const
    const open = () => openDatabase(path, form, (db) => new SqliteMailboxes(db))
    try {
      return openOrRenew(path, open, { log, loss: 'what waited in mailboxes comes again from its senders' })
    } catch (error) {
      throw mailFailure(error, path)
    }
  }

  put(mail: Mail, now: number, { perMailbox, inAll }: Bounds): Promise<Put> {
    return this.#write((): Put => {
      const known = this.#sql.mailbox.get(mail.to)
      const waiting = known ? this.#live(known, now) : 0
      const before = known && this.#sql.find.get(known.key, mail.id)
      if (before && before.expires > now) return { kind: 'known', waiting }
      if (waiting >= perMailbox) return { kind: 'full', of: 'mailbox' }
      if (this.#size >= inAll) return { kind: 'full', of: 'all' }
      if (before) {
        this.#sql.remove.run(before.position)
        this.#shrink(known.key, 1)
      }
      const key = this.#sql.mailbox.get(mail.to)?.key ?? Number(this.#sql.addMailbox.run(mail.to).lastInsertRowid)
      this.#sql.add.run(key, mail.id, Date.parse(mail.expires), JSON.stringify(mail))
      this.#sql.grow.run(1, key)
      this.#size++
      return { kind: 'stored', waiting: waiting + 1 }
    })
  }

  list(peer: PeerId, after: number, limit: number, now: number): Promise<{ position: number; mail: Mail }[]> {
    return this.#read(() => {
      const mailbox = this.#sql.mailbox.get(peer)
      if (!mailbox) return []
      const rows = this.#sql.list.all(mailbox.key, after, now, limit)
      return rows.map(({ position, body }) => ({ position, mail: JSON.parse(body) as Mail }))
    })
  }

  take(peer: PeerId, ids: readonly string[]): Promise<number> {
    return this.#write(() => {
      const mailbox = this.#sql.mailbox.get(peer)
      if (!mailbox) return 0
      let taken = 0
      for (const id of ids) taken += this.#sql.take.run(mailbox.key, id).changes
      this.#shrink(mailbox.key, taken)
      return taken
    })
  }

  waiting(peer: PeerId, now: number): Promise<number> {
    return this.#read(() => {
      const mailbox = this.#sql.mailbox.get(peer)
      return mailbox ? this.#live(mailbox, now) : 0
    })
  }

  async size(): Promise<number> {
    return this.#size
  }

  sweep(now: number, rows: number): Promise<number> {
    return this.#write(() => {
      const expired = this.#sql.expired.all(now, rows)
      const gone = new Map<number, number>()
      for (const { position, mailbox } of expired) {
        this.#sql.remove.run(position)
        gone.set(mailbox, (gone.get(mailbox) ?? 0) + 1)
      }
      for (const [mailbox, count] of gone) this.#shrink(mailbox, count)
      return expired.length
    })
  }

  async close(): Promise<void> {
    this.#commits.flush()
    this.#db.close()
  }

  #live({ key, waiting }: MailboxRow, now: number): number {
    return waiting - this.#sql.expiredOf.get(now, key)!
  }

  #shrink(key: number, by: number): void {
    this.#sql.grow.run(-by, key)
    this.#sql.dropEmpty.run(key)
    this.#size -= by
  }

  #count(): void {
    this.#size = this.#sql.size.get()!
  }

  async #read<T>(work: () => T): Promise<T> {
    try {
      return work()
    } catch (error) {
      throw mailFailure(error, this.#path)
    }
  }

  async #write<T>(work: () => T): Promise<T> {
    try {
      return await this.#commits.write(work)
    } catch (error) {
      throw mailFailure(error, this.#path)
    }
  }
}

function mailFailure(error: unknown, path: string): NetworkError {
  return databaseFailure(error, path, {
    damaged: 'move it away, and what waited in it is sent again by those who sent it',
    busy: 'is a Maestro running already?',
    access: 'check its permissions, and the key "events_database"',
    folder: 'check the key "events_database"',
  })
}

interface MailboxRow {
  key: number
  waiting: number
}

function prepare(db: Database) {
  const number = (sql: string) => db.prepare(sql).pluck() as unknown as Statement<unknown[], number>
  return {
    mailbox: db.prepare('select key, waiting from mailboxes where peer = ?') as Statement<[string], MailboxRow>,
    addMailbox: db.prepare('insert into mailboxes (peer, waiting) values (?, 0)'),
    grow: db.prepare('update mailboxes set waiting = waiting + ? where key = ?'),
    dropEmpty: db.prepare('delete from mailboxes where key = ? and waiting = 0'),
    size: number('select coalesce(sum(waiting), 0) from mailboxes'),
    find: db.prepare('select position, expires from mail where mailbox = ? and id = ?') as Statement<
      unknown[],
      { position: number; expires: number }
    >,
    add: db.prepare('insert into mail (mailbox, id, expires, body) values (?, ?, ?, ?)'),
    list: db.prepare(
      'select position, body from mail indexed by mail_order where mailbox = ? and position > ? and expires > ? order by position limit ?',
    ) as Statement<unknown[], { position: number; body: string }>,
    take: db.prepare('delete from mail where mailbox = ? and id = ?'),
    expired: db.prepare('select position, mailbox from mail where expires <= ? order by expires limit ?') as Statement<
      unknown[],
      { position: number; mailbox: number }
    >,
    expiredOf: number('select count(*) from mail indexed by mail_expiry where expires <= ? and mailbox = ?'),
    remove: db.prepare('delete from mail where position = ?'),
  }
}
