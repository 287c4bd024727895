import type { Database } from 'better-sqlite3'
import type { FileName, PeerId } from '../../common/ids.ts'
import type { FoldedRow, NameRow } from './store.ts'

/** `[peer_key, content id in capitals or '', size]` */
export type ProviderRow = [peerKey: number, id: string, size: number | null]
/** `[peer_key, 1 where it is the content asked for, size, name]` */
export type ContentRow = [peerKey: number, same: 0 | 1, size: number | null, name: FileName]

export interface PeerSeed {
  key: number
  id: PeerId
  rest: string
  grpcPort: number
  revision: number
  files: number
  lastSeen: number
}

/**
 * Every statement of the store, compiled once. `limit ? + 0` rather than `limit ?`: SQLite plans by the value of a bare
 * limit, and so would compile the statement again at every call.
 */
export type Statements = ReturnType<typeof prepare>

export function prepare(db: Database) {
  const sql = <Parameters extends unknown[], Row = never>(text: string) => db.prepare<Parameters, Row>(text)
  return {
    // ---- registrations
    peers: sql<[], PeerSeed>(
      'select key, id, rest, grpc_port as grpcPort, revision, files, last_seen as lastSeen from peers where id is not null',
    ),
    lastPeerKey: sql<[], number>('select coalesce(max(key), 0) from peers').pluck(),
    addPeer: sql<[id: string, rest: string, grpcPort: number, revision: number, files: number, lastSeen: number]>(
      'insert into peers (id, rest, grpc_port, revision, files, last_seen) values (?, ?, ?, ?, ?, ?)',
    ),
    updatePeer: sql<[revision: number, files: number, lastSeen: number, key: number]>(
      'update peers set revision = ?, files = ?, last_seen = ? where key = ?',
    ),
    endPeer: sql<[key: number]>('update peers set id = null where key = ?'),
    endedPeer: sql<[], number>('select key from peers where id is null order by key limit 1').pluck(),
    deletePeer: sql<[key: number]>('delete from peers where key = ?'),
    peerIdsAfter: sql<[after: string, limit: number], PeerId>(
      'select id from peers where id > ? order by id limit ? + 0',
    ).pluck(),

    // ---- names
    nameKey: sql<[name: string], number>('select key from names where name = ?').pluck(),
    addName: sql<[name: string, folded: string | null]>('insert into names (name, folded) values (?, ?)'),
    deleteName: sql<[key: number]>('delete from names where key = ?'),
    addGrams: sql<[key: number, text: string]>('insert into grams (rowid, text) values (?, ?)'),
    deleteGrams: sql<[key: number]>('delete from grams where rowid = ?'),
    namesAfter: sql<[after: string, limit: number], NameRow>(
      'select key, name from names where name > ? order by name limit ? + 0',
    ),
    lastNameKey: sql<[], number>('select coalesce(max(key), 0) from names').pluck(),
    // Two halves that each come out of an index in the order of the folded form.
    namesBeginning: sql<[{ from: string; key: number; end: string; limit: number }], FoldedRow>(
      `select key, name, folded from names
         where folded is not null and folded < :end and (folded, key) > (:from, :key)
       union all
       select key, name, name from names
         where folded is null and name < :end and (name, key) > (:from, :key)
       order by 3, 1 limit :limit + 0`,
    ),
    namesWithGrams: sql<[match: string, from: number, to: number, limit: number], NameRow>(
      `select n.key, n.name from grams g cross join names n on n.key = g.rowid
       where g.grams match ? and g.rowid > ? and g.rowid <= ? order by g.rowid limit ? + 0`,
    ),
    nameFrom: sql<[key: number], FileName>('select name from names where key >= ? order by key limit 1').pluck(),
    // Only ASCII is folded by `like`; a name beyond ASCII passes, for the caller to judge.
    namesContaining: sql<[from: number, to: number, pattern: string, limit: number], NameRow>(
      `select key, name from names
       where key > ? and key <= ? and (name like ? or name glob '*[^ -~]*') order by key limit ? + 0`,
    ),

    // ---- entries
    addEntry: sql<[nameKey: number, peerKey: number, id: string | null, size: number | null]>(
      'insert into entries (name_key, peer_key, content_id, size) values (?, ?, unhex(?), ?) on conflict do nothing',
    ),
    updateEntry: sql<[id: string | null, size: number | null, nameKey: number, peerKey: number]>(
      'update entries set content_id = unhex(?), size = ? where name_key = ? and peer_key = ?',
    ),
    deleteEntry: sql<[nameKey: number, peerKey: number]>('delete from entries where name_key = ? and peer_key = ?'),
    hasEntry: sql<[nameKey: number, peerKey: number], 1>(
      'select 1 from entries where name_key = ? and peer_key = ?',
    ).pluck(),
    isOffered: sql<[nameKey: number], 1>('select 1 from entries where name_key = ? limit 1').pluck(),
    nameKeysOf: sql<[peerKey: number, limit: number], number>(
      'select name_key from entries where peer_key = ? limit ? + 0',
    ).pluck(),
    namesOf: sql<[peerKey: number, limit: number], FileName>(
      `select n.name from entries e cross join names n on n.key = e.name_key where e.peer_key = ?
       order by e.name_key limit ? + 0`,
    ).pluck(),
    providersOfName: sql<[name: string, fromPeer: number, limit: number], ProviderRow>(
      `select e.peer_key, hex(e.content_id), e.size
       from names n cross join entries e on e.name_key = n.key
       where n.name = ? and e.peer_key >= ? order by e.peer_key limit ? + 0`,
    ).raw(),
    providersOfNameKey: sql<[nameKey: number, limit: number], ProviderRow>(
      'select peer_key, hex(content_id), size from entries where name_key = ? order by peer_key limit ? + 0',
    ).raw(),
    providersOfContent: sql<[id: string, id: string, fromPeer: number, limit: number], ContentRow>(
      `select e.peer_key, e.content_id = unhex(?), e.size, n.name
       from entries e cross join names n on n.key = e.name_key
       where substr(e.content_id, 1, 6) = substr(unhex(?), 1, 6) and e.content_id is not null and e.peer_key >= ?
       order by e.peer_key limit ? + 0`,
    ).raw(),
  }
}
