import { join } from 'node:path'
import type { Database } from 'better-sqlite3'
import type { Backoff } from '../../common/backoff.ts'
import { checkIntact, type DatabaseForm, openDatabase, openOrRenew } from '../../common/database.ts'
import { databaseFailure } from '../../common/database-failure.ts'
import { NetworkError } from '../../common/errors.ts'
import type { OfferState } from '../../common/events/rest.ts'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { Logger } from '../../common/log.ts'

export type Side = 'sent' | 'received'

/** Which offer is meant. Two peers may have chosen the same id. */
export interface OfferKey {
  readonly side: Side
  /** the recipient of one that was sent, the sender of one that was received */
  readonly peer: PeerId
  readonly id: string
}

/** Times are ms since the epoch. */
export interface Offer extends OfferKey {
  readonly name: FileName
  readonly content: ContentId
  /** bytes */
  readonly size: number
  readonly state: OfferState
  readonly problem: string | null
  readonly sent: number
  /** when the state was reached */
  readonly changed: number
  readonly expires: number
  /** when its message goes out: the offer, or of one that was received its receipt; null where none is owed */
  readonly mailDue: number | null
  readonly mailTries: number
  /** when it is fetched next; null where it is being fetched, or is not to be */
  readonly fetchDue: number | null
  readonly fetchTries: number
  /** when it was last tried to fetch it; 0: never */
  readonly tried: number
}

/** What changes of an offer; `changed` goes with `state`. */
export type OfferChange = Partial<
  Pick<Offer, 'state' | 'problem' | 'changed' | 'mailDue' | 'mailTries' | 'fetchDue' | 'fetchTries' | 'tried'>
>

/** Rows of one deletion or expiry at a time: a matter of some ms. */
const BITE = 1000
const UNDER_WAY = "state IN ('sending', 'queued', 'taken')"

const FORM: DatabaseForm = {
  migrations: [
    `CREATE TABLE offers (
       number INTEGER PRIMARY KEY,
       side TEXT NOT NULL,
       peer TEXT NOT NULL,
       id TEXT NOT NULL,
       name TEXT NOT NULL,
       content TEXT NOT NULL,
       size INTEGER NOT NULL,
       state TEXT NOT NULL,
       problem TEXT,
       sent INTEGER NOT NULL,
       changed INTEGER NOT NULL,
       expires INTEGER NOT NULL,
       mail_due INTEGER,
       mail_tries INTEGER NOT NULL DEFAULT 0,
       fetch_due INTEGER,
       fetch_tries INTEGER NOT NULL DEFAULT 0,
       tried INTEGER NOT NULL DEFAULT 0,
       UNIQUE (side, peer, id)
     ) STRICT;
     CREATE INDEX by_side ON offers (side);
     CREATE INDEX by_mail ON offers (mail_due) WHERE mail_due IS NOT NULL;
     CREATE INDEX by_fetch ON offers (fetch_due) WHERE fetch_due IS NOT NULL;
     CREATE INDEX waiting_for ON offers (content) WHERE fetch_due IS NOT NULL;
     CREATE INDEX under_way ON offers (side, peer, content) WHERE ${UNDER_WAY};
     CREATE INDEX by_expiry ON offers (expires) WHERE ${UNDER_WAY};
     CREATE INDEX ended ON offers (side, changed) WHERE NOT ${UNDER_WAY};`,
    `CREATE INDEX sent_by_id ON offers (id) WHERE side = 'sent';
     CREATE INDEX under_way_by_age ON offers (side) WHERE ${UNDER_WAY};
     CREATE INDEX by_sender ON offers (peer, fetch_due, expires) WHERE fetch_due IS NOT NULL;`,
  ],
  // A message leaves the carrier when it is recorded here: from then on this is the only copy.
  synchronous: 'FULL',
}

/**
 * Every offer that this peer has made or was made, with what is still to be done about it, in SQLite. A change is
 * durable when its method, or the transaction around it, has returned.
 */
export class OfferBook {
  readonly #db: Database
  readonly #sql: ReturnType<typeof prepare>

  /**
   * Opens `mailbox.db` in the state folder, which is made where it is missing. A damaged one is moved aside.
   * @throws NetworkError in words for the person who configured it
   */
  static open(stateDir: string, log: Logger): OfferBook {
    const path = join(stateDir, 'mailbox.db')
    try {
      const open = () => openDatabase(path, FORM, (db) => new OfferBook(db))
      return openOrRenew(path, open, { log, loss: 'offers have to be made again' })
    } catch (error) {
      throw bookFailure(error, path)
    }
  }

  private constructor(db: Database) {
    this.#db = db
    checkIntact(db)
    this.#sql = prepare(db)
    // What was being fetched when the process ended.
    this.#sql.refetch.run()
  }

  /** Runs `work` whole or not at all. */
  transaction<T>(work: () => T): T {
    try {
      return this.#db.transaction(work)()
    } catch (error) {
      throw error instanceof NetworkError ? error : bookFailure(error, this.#db.name)
    }
  }

  /** One that is there already stays as it is. */
  add(offer: Offer): void {
    this.#sql.add.run(offer)
  }

  find(key: OfferKey): Offer | undefined {
    return this.#sql.find.get(key) as Offer | undefined
  }

  /** One that was sent to this peer, of the same content and name, and has not ended. */
  same(peer: PeerId, content: ContentId, name: FileName): Offer | undefined {
    return this.#sql.same.get(peer, content, name) as Offer | undefined
  }

  change(key: OfferKey, change: OfferChange): void {
    const offer = this.find(key)
    if (offer) this.#sql.change.run({ ...offer, ...change })
  }

  remove({ side, peer, id }: OfferKey): void {
    this.#sql.remove.run(side, peer, id)
  }

  /** Those that have not ended; of one peer where that is given. */
  underWay(side: Side, peer?: PeerId): number {
    return (peer === undefined ? this.#sql.count.get(side) : this.#sql.countOf.get(side, peer)) as number
  }

  count(side: Side): number {
    return this.#sql.rows.get(side) as number
  }

  /** Those under way, the newest first, and then those that have ended, the latest first. */
  list(side: Side, limit: number): Offer[] {
    const underWay = this.#sql.list.underWay.all(side, limit)
    return [...underWay, ...this.#sql.list.ended.all(side, limit - underWay.length)] as Offer[]
  }

  /** Those with these ids that this peer has made. */
  sentOf(ids: readonly string[]): Offer[] {
    return this.#sql.list.ofIds.all(JSON.stringify(ids)) as Offer[]
  }

  /** Ends those whose time is over, but for what is being fetched; many at a time, and perhaps not all. @returns how many */
  expire(now: number): number {
    return this.#sql.expire.run({ now }).changes
  }

  /** Whose message is due, those that wait longest first. */
  mailDue(now: number, limit: number): Offer[] {
    return this.#sql.mailDue.all({ now, limit }) as Offer[]
  }

  /** Those who have sent what is to be fetched now. */
  sendersDue(now: number): PeerId[] {
    // Looks at all that wait, but only where some are due.
    return (this.nextDue('fetch') ?? Number.POSITIVE_INFINITY) > now
      ? []
      : (this.#sql.sendersDue.all({ now }) as PeerId[])
  }

  /** Of what one sent and is to be fetched now, what waits longest. */
  fetchDue(peer: PeerId, now: number): Offer | undefined {
    return this.#sql.fetchDue.get({ peer, now }) as Offer | undefined
  }

  /** Those that were tried to fetch in vain, and wait to be tried again, longest ago first. */
  triedInVain(): OfferKey[] {
    return this.#sql.triedInVain.all() as OfferKey[]
  }

  /** When the next message, or the next fetch, is due; undefined where there is none. */
  nextDue(what: 'mail' | 'fetch'): number | undefined {
    return (this.#sql.next[what].get() as number | null) ?? undefined
  }

  /**
   * Has those that wait for a fetch tried at `due`, or a `rest` after they were tried last, if that is later: one that
   * grows with the tries that were in vain.
   * @returns whether any is tried sooner than it would have been
   */
  hasten({ content, peer }: { content?: ContentId; peer?: PeerId }, due: number, rest: Backoff): boolean {
    const { hasten } = this.#sql
    const which = content !== undefined ? hasten.content : peer !== undefined ? hasten.peer : hasten.all
    return which.run({ content: content ?? null, peer: peer ?? null, due, ...rest }).changes > 0
  }

  /** Forgets those that ended before `endedBefore`, and the oldest of those that have ended beyond `keep` a side. */
  async sweep({ endedBefore, keep }: { endedBefore: number; keep: number }): Promise<void> {
    const bites = (['sent', 'received'] as const).flatMap((side) => [
      () => this.#sql.forget.run(side, endedBefore),
      () => this.#sql.trim.run({ side, excess: Math.min(BITE, this.count(side) - keep) }),
    ])
    for (const bite of bites) while (bite().changes === BITE) await new Promise(setImmediate)
  }

  close(): void {
    this.#db.close()
  }
}

function prepare(db: Database) {
  const columns = `side, peer, id, name, content, size, state, problem, sent, changed, expires, mail_due AS mailDue,
    mail_tries AS mailTries, fetch_due AS fetchDue, fetch_tries AS fetchTries, tried`
  const select = `SELECT ${columns} FROM offers`
  const numbers = `SELECT number FROM offers`
  // By itself SQLite takes an index with all that has ended.
  const count = `SELECT count(*) FROM offers INDEXED BY under_way WHERE ${UNDER_WAY}`
  const fetchDue = 'offers INDEXED BY by_sender WHERE fetch_due <= :now AND expires > :now'
  const hastened = 'max(:due, tried + min(:longest, :first << min(fetch_tries - 1, 20)))'
  const hasten = `UPDATE offers SET fetch_due = ${hastened} WHERE fetch_due IS NOT NULL AND fetch_due > ${hastened}`
  return {
    add: db.prepare(
      `INSERT INTO offers (side, peer, id, name, content, size, state, problem, sent, changed, expires,
         mail_due, mail_tries, fetch_due, fetch_tries, tried)
       VALUES (:side, :peer, :id, :name, :content, :size, :state, :problem, :sent, :changed, :expires,
         :mailDue, :mailTries, :fetchDue, :fetchTries, :tried)
       ON CONFLICT (side, peer, id) DO NOTHING`,
    ),
    find: db.prepare(`${select} WHERE side = :side AND peer = :peer AND id = :id`),
    same: db.prepare(`${select} WHERE ${UNDER_WAY} AND side = 'sent' AND peer = ? AND content = ? AND name = ?`),
    change: db.prepare(
      `UPDATE offers SET state = :state, problem = :problem, changed = :changed, mail_due = :mailDue,
         mail_tries = :mailTries, fetch_due = :fetchDue, fetch_tries = :fetchTries, tried = :tried
       WHERE side = :side AND peer = :peer AND id = :id`,
    ),
    count: db.prepare(`${count} AND side = ?`).pluck(),
    countOf: db.prepare(`${count} AND side = ? AND peer = ?`).pluck(),
    rows: db.prepare('SELECT count(*) FROM offers WHERE side = ?').pluck(),
    remove: db.prepare('DELETE FROM offers WHERE side = ? AND peer = ? AND id = ?'),
    list: {
      underWay: db.prepare(
        `${select} INDEXED BY under_way_by_age WHERE ${UNDER_WAY} AND side = ? ORDER BY number DESC LIMIT ?`,
      ),
      ended: db.prepare(
        `${select} INDEXED BY ended WHERE NOT ${UNDER_WAY} AND side = ? ORDER BY changed DESC, number DESC LIMIT ?`,
      ),
      ofIds: db.prepare(
        `${select} INDEXED BY sent_by_id WHERE side = 'sent' AND id IN (SELECT value FROM json_each(?))`,
      ),
    },
    mailDue: db.prepare(
      `${select} WHERE mail_due <= :now AND (expires > :now OR NOT ${UNDER_WAY}) ORDER BY mail_due LIMIT :limit`,
    ),
    sendersDue: db.prepare(`SELECT DISTINCT peer FROM ${fetchDue}`).pluck(),
    fetchDue: db.prepare(`SELECT ${columns} FROM ${fetchDue} AND peer = :peer ORDER BY fetch_due LIMIT 1`),
    triedInVain: db.prepare(
      `SELECT side, peer, id FROM offers WHERE fetch_due IS NOT NULL AND tried > 0 AND ${UNDER_WAY} ORDER BY tried`,
    ),
    next: {
      mail: db.prepare('SELECT min(mail_due) FROM offers WHERE mail_due IS NOT NULL').pluck(),
      fetch: db.prepare('SELECT min(fetch_due) FROM offers WHERE fetch_due IS NOT NULL').pluck(),
    },
    refetch: db.prepare(
      `UPDATE offers SET fetch_due = 0 WHERE ${UNDER_WAY} AND side = 'received' AND fetch_due IS NULL`,
    ),
    // One statement each, so that each finds its few rows by an index: there is one for every event that is heard.
    hasten: {
      content: db.prepare(`${hasten} AND content = :content`),
      peer: db.prepare(`${hasten} AND ${UNDER_WAY} AND side = 'received' AND peer = :peer`),
      all: db.prepare(hasten),
    },
    expire: db.prepare(
      `UPDATE offers SET state = 'expired', changed = :now, mail_due = NULL, fetch_due = NULL WHERE number IN
         (${numbers} WHERE ${UNDER_WAY} AND expires <= :now AND (side = 'sent' OR fetch_due IS NOT NULL) LIMIT ${BITE})`,
    ),
    forget: db.prepare(
      `DELETE FROM offers WHERE number IN
         (${numbers} WHERE NOT ${UNDER_WAY} AND side = ? AND changed < ? LIMIT ${BITE})`,
    ),
    trim: db.prepare(
      `DELETE FROM offers WHERE number IN
         (${numbers} WHERE NOT ${UNDER_WAY} AND side = :side ORDER BY changed LIMIT max(:excess, 0))`,
    ),
  }
}

function bookFailure(error: unknown, path: string): NetworkError {
  return databaseFailure(error, path, {
    damaged: 'it is moved aside at the next start, and offers have to be made again',
    busy: 'is an agent running already?',
    access: 'check the key "state_dir" and the permissions',
    folder: 'check the key "state_dir"',
  })
}
