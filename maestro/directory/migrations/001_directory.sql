-- Every registration is a row of its own. `id` is null once it ended: what it offered is then invisible, and swept later.
-- No key is used twice, so that whatever still has an old one finds nobody.
create table peers (
  key integer primary key autoincrement,
  id text unique,
  rest text not null,
  grpc_port integer not null,
  revision integer not null,
  files integer not null,
  last_seen integer not null
);

-- `folded` is the name as searches compare it (see folding.ts); null where that is the name itself.
create table names (
  key integer primary key,
  name text not null unique,
  folded text
);
create index names_folded on names (folded) where folded is not null;

create table entries (
  name_key integer not null,
  peer_key integer not null,
  content_id blob,
  size integer,
  primary key (name_key, peer_key)
) without rowid;
create index entries_of_peer on entries (peer_key);
-- Content ids are random, so every insert here touches another page: the prefix keeps those pages few.
create index entries_of_content on entries (substr(content_id, 1, 6), peer_key) where content_id is not null;

-- Which names have which trigrams (see folding.ts); the names themselves are in `names`.
create virtual table grams using fts5 (
  text, content = '', contentless_delete = 1, detail = none, tokenize = 'trigram case_sensitive 1'
);
