import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Sqlite from 'better-sqlite3'
import { afterAll, describe, expect, it } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import { GroupCommit } from '../../common/group-commit.ts'
import { parsePeerId } from '../../common/ids.ts'
import { openDatabase } from './database.ts'
import { SqliteStore } from './sqlite.ts'
import { directoryStoreContract, file } from './store.contract.ts'

const root = mkdtempSync(join(tmpdir(), 'directory-'))
afterAll(() => rmSync(root, { recursive: true }))
let folders = 0
const newFolder = () => join(root, String(folders++), 'made', 'by', 'open')

describe('the directory in SQLite', () => {
  directoryStoreContract((folder) => SqliteStore.open(join(folder, 'directory.db')), newFolder)
})

describe('the database file', () => {
  const failure = (path: string) => {
    try {
      openDatabase(path).close()
    } catch (error) {
      expect(error).toBeInstanceOf(NetworkError)
      return (error as NetworkError).message
    }
  }

  it('is refused in one clear line where it is no database', () => {
    const path = join(root, 'notes.txt')
    writeFileSync(
      path,
      'these are my notes, and they are longer than the header of a database file would be'.repeat(40),
    )
    expect(failure(path)).toBe(
      `database ${path}: it is damaged, or no database: move it away, and the peers will register again`,
    )
  })

  it('is refused where its folder can not be made', () => {
    writeFileSync(join(root, 'file'), '')
    expect(failure(join(root, 'file', 'sub', 'd.db'))).toContain('its folder can\'t be made: check the key "database"')
  })

  it.skipIf(process.getuid?.() === 0)('is refused where it may not be written', () => {
    const path = join(root, 'readonly.db')
    openDatabase(path).close()
    chmodSync(path, 0o400)
    expect(failure(path)).toContain("it can't be opened for writing")
  })

  it('is refused where a newer Maestro wrote it', () => {
    const path = join(root, 'newer.db')
    const db = new Sqlite(path)
    db.pragma('user_version = 99')
    db.close()
    expect(failure(path)).toContain('written by a newer Maestro (version 99)')
  })

  it('is refused while another Maestro has it open', () => {
    const path = join(root, 'shared.db')
    const first = openDatabase(path)
    expect(failure(path)).toContain('is a Maestro running already?')
    first.close()
  })

  it('that is full refuses the write with the reason, keeps what it has, and goes on when there is room', async () => {
    const path = join(root, 'full.db')
    const term = { now: 0, expiresAt: 1000 }
    const registration = (id: string, count: number) => ({
      id: parsePeerId(id),
      rest: `http://${id}:1`,
      grpcPort: 1,
      revision: 1,
      files: Array.from({ length: count }, (_, i) => file(`${id}-${i}-${'x'.repeat(100)}`)),
    })
    const db = openDatabase(path)
    const setRoom = (pages: number) => db.pragma(`max_page_count = ${pages}`)
    const store = new SqliteStore(db)
    await store.register(registration('P1', 10), term, 10)
    setRoom(60)
    await expect(store.register(registration('P2', 2000), term, 10)).rejects.toMatchObject({
      code: 'unavailable',
      details: { reason: 'disk_full' },
    })
    expect(await store.counts(0)).toEqual({ peers: 1, files: 10 })
    expect(await store.renew(parsePeerId('P1'), 1, { now: 999, expiresAt: 2000 })).toMatchObject({ kind: 'done' })
    setRoom(1_000_000)
    expect(await store.register(registration('P2', 2000), term, 10)).toMatchObject({ files: 2000 })
    await store.close()
  })
})

describe('GroupCommit', () => {
  it('commits the writes of one turn together, and undoes all of them where one fails', async () => {
    const db = new Sqlite(':memory:')
    db.exec('create table t (x integer)')
    let rollbacks = 0
    const commits = new GroupCommit(db, () => rollbacks++)
    const insert = (x: number) => () => db.prepare('insert into t values (?)').run(x).changes
    const count = () => db.prepare<[], number>('select count(*) from t').pluck().get()

    const both = Promise.all([commits.write(insert(1)), commits.write(insert(2))])
    expect(db.inTransaction).toBe(true)
    expect(await both).toEqual([1, 1])
    expect(db.inTransaction).toBe(false)

    const neighbour = commits.write(insert(3))
    const failing = commits.write(() => {
      throw new Error('the disk broke')
    })
    await expect(neighbour).rejects.toThrow('the disk broke')
    await expect(failing).rejects.toThrow('the disk broke')
    expect([count(), rollbacks]).toEqual([2, 1])

    expect(await commits.write(insert(4))).toBe(1)
    expect(count()).toBe(3)
    db.close()
  })
})
