import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'
import Sqlite from 'better-sqlite3'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { NetworkError } from '../errors.ts'
import { draft, eventLogContract } from './log.contract.ts'
import { openLogDatabase } from './log-database.ts'
import { SqliteEventLog } from './sqlite-log.ts'

const root = mkdtempSync(join(tmpdir(), 'event-log-'))
afterAll(() => rmSync(root, { recursive: true }))
let places = 0
const place = () => join(root, String(places++), 'made', 'by', 'open', 'events.db')

const open = (path: string) => {
  const log = SqliteEventLog.open(path, { origin: 'P1' })
  onTestFinished(() => log.close())
  return log
}
const drafts = (count: number) => Array.from({ length: count }, (_, index) => draft(index))

describe('an event log in memory', () => {
  eventLogContract({ place: () => ':memory:', open: SqliteEventLog.open })
})

describe('an event log on disk', () => {
  const killed = (from: string) => {
    const to = join(root, `${places++}.db`)
    for (const end of ['', '-wal']) if (existsSync(from + end)) copyFileSync(from + end, to + end)
    return to
  }
  eventLogContract({ place, open: SqliteEventLog.open, killed })
})

describe('the file of an event log', () => {
  const failure = (path: string) => {
    try {
      open(path)
    } catch (error) {
      expect(error).toBeInstanceOf(NetworkError)
      return (error as NetworkError).message
    }
  }

  const movedAside = (path: string) =>
    readdirSync(dirname(path))
      .filter((name) => name.startsWith(`${basename(path)}.damaged-`) && !/-(wal|shm)$/.test(name))
      .map((name) => join(dirname(path), name))[0]!

  it('is moved aside where it is no database, and a new log begins', async () => {
    const path = join(root, 'notes.db')
    writeFileSync(path, 'these are my notes, and they are longer than the header of a database'.repeat(40))
    const log = open(path)
    expect(statSync(movedAside(path)).size).toBeGreaterThan(2000)
    expect(await log.publish(drafts(1))).toHaveLength(1)
  })

  async function damaged(where: (bytes: Buffer) => [from: number, to: number]): Promise<string> {
    const path = place()
    const log = open(path)
    for (let batch = 0; batch < 20; batch++) await log.publish(drafts(100))
    await log.close()
    const bytes = readFileSync(path)
    writeFileSync(path, bytes.fill(0xff, ...where(bytes)))
    return path
  }

  it('is moved aside where it is damaged, and a new log begins', async () => {
    const path = await damaged((bytes) => [5 * 4096, bytes.length])
    const log = open(path)
    expect(movedAside(path)).toBeDefined()
    expect((await log.publish(drafts(1)))[0]!.seq).toBe(1)
  })

  it('is moved aside where it is found damaged at work, so that the next start works', async () => {
    const path = await damaged((bytes) => {
      const page = Math.floor(bytes.indexOf('"seq":1050,') / 4096)
      return [page * 4096, (page + 1) * 4096]
    })
    const log = open(path)
    await expect(log.read(0, 2000)).rejects.toThrow(
      `database ${path}: it is damaged, or no database: it was moved aside, and a new one begins at the next start`,
    )
    await log.close()
    expect(movedAside(path)).toBeDefined()
    expect((await open(path).publish(drafts(1)))[0]!.seq).toBe(1)
  })

  it('belongs to one process', () => {
    const path = place()
    open(path)
    expect(failure(path)).toBe(`database ${path}: another process uses it: does the same program run already?`)
  })

  it('is refused where a newer program wrote it', async () => {
    const path = place()
    await open(path).close()
    const db = new Sqlite(path)
    db.pragma('user_version = 9')
    db.close()
    expect(failure(path)).toBe(`${path} was written by a newer program (version 9): update this one`)
    expect(existsSync(path)).toBe(true)
  })

  it('is refused where it can not be made', () => {
    writeFileSync(join(root, 'a-file'), '')
    expect(failure(join(root, 'a-file', 'events.db'))).toBe(
      `database ${join(root, 'a-file', 'events.db')}: its folder can't be made: check where it is configured to be`,
    )
  })
})

it('what is published under another name is not taken for what was published before', async () => {
  const path = place()
  const log = open(path)
  const before = await log.publish(drafts(2))
  await log.close()
  const renamed = SqliteEventLog.open(path, { origin: 'P2' })
  onTestFinished(() => renamed.close())
  const after = await renamed.publish(drafts(2))
  expect(new Set([...before, ...after].map(({ id }) => id)).size).toBe(4)
  expect(await renamed.unsent(10)).toEqual([...before, ...after])
})

it('a disk that takes nothing keeps nobody from reading what is there', async () => {
  const path = place()
  const before = open(path)
  const [event] = await before.publish(drafts(1))
  await before.close()
  const log = openLogDatabase(path, (db) => {
    db.pragma('query_only = 1')
    return new SqliteEventLog(db, { origin: 'P1' })
  })
  onTestFinished(() => log.close())
  expect((await log.read(0, 10)).map((row) => row.event)).toEqual([event])
  expect(await log.sameUpTo(before.name)).toBe(1)
  await expect(log.publish(drafts(1))).rejects.toMatchObject({ code: 'unavailable' })
})

it('a full disk is told as such, what did not fit did not happen, and it goes on once there is room', async () => {
  const path = place()
  const db = openLogDatabase(path, (opened) => opened)
  const log = new SqliteEventLog(db, { origin: 'P1' })
  onTestFinished(() => log.close())
  const [first] = await log.publish(drafts(1))
  db.pragma(`max_page_count = ${db.pragma('page_count', { simple: true })}`)
  const heard: number[] = []
  log.onAppend((rows) => heard.push(rows.length))
  const writes = await Promise.allSettled([log.publish(drafts(1)), log.publish(drafts(500))])
  for (const write of writes)
    expect(write).toMatchObject({
      reason: {
        code: 'unavailable',
        message: `the disk of the database ${path} is full: free some space and try again`,
        details: { reason: 'disk_full' },
      },
    })
  expect(heard).toEqual([])
  expect(await log.unsent(10)).toEqual([first])
  db.pragma('max_page_count = 100000')
  const [second] = await log.publish(drafts(1))
  expect(second!.seq).toBe(2)
  expect(await log.unsent(10)).toEqual([first, second])
})
