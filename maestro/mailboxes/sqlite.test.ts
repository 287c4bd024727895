import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { parsePeerId } from '../../common/ids.ts'
import { silentLog } from '../../common/log.ts'
import { SqliteMailboxes } from './sqlite.ts'
import { mailboxStoreContract, mailOf } from './store.contract.ts'

const root = mkdtempSync(join(tmpdir(), 'mailboxes-'))
afterAll(() => rmSync(root, { recursive: true }))
const fileIn = (folder: string) => join(folder, 'mail.db')
const newFolder = () => mkdtempSync(join(root, 'store-'))
const P2 = parsePeerId('P2')
const NOW = Date.parse('2026-01-01T00:00:00Z')
const ROOM = { perMailbox: 200_000, inAll: 200_000 }

describe('mailboxes in SQLite', () => {
  mailboxStoreContract((folder) => SqliteMailboxes.open(fileIn(folder), silentLog), newFolder)

  it('have what was acknowledged after a crash', async () => {
    const [folder, after] = [newFolder(), newFolder()]
    const store = SqliteMailboxes.open(fileIn(folder), silentLog)
    await Promise.all(['a', 'b'].map((id) => store.put(mailOf(id), NOW, ROOM)))
    await store.take(P2, ['a'])
    // What is on disk at this moment is what a killed process leaves.
    for (const file of ['mail.db', 'mail.db-wal']) copyFileSync(join(folder, file), join(after, file))
    const left = SqliteMailboxes.open(fileIn(after), silentLog)
    expect((await left.list(P2, 0, 10, NOW)).map(({ mail }) => mail.id)).toEqual(['b'])
    expect(await left.waiting(P2, NOW)).toBe(1)
    await Promise.all([store.close(), left.close()])
  })

  it('take 100,000 messages in one mailbox, and give them page by page', async () => {
    const count = 100_000
    const store = SqliteMailboxes.open(fileIn(newFolder()), silentLog)
    for (let i = 0; i < count; i += 1000)
      await Promise.all(Array.from({ length: 1000 }, (_, j) => store.put(mailOf(`m${i + j}`), NOW, ROOM)))
    expect(await store.waiting(P2, NOW)).toBe(count)
    const before = process.memoryUsage().heapUsed
    let most = 0
    let seen = 0
    for (let after = 0; ; ) {
      const page = await store.list(P2, after, 500, NOW)
      if (page.length === 0) break
      expect(page[0]!.mail.id).toBe(`m${seen}`)
      seen += page.length
      after = page.at(-1)!.position
      await store.take(
        P2,
        page.map(({ mail }) => mail.id),
      )
      most = Math.max(most, process.memoryUsage().heapUsed)
    }
    expect([seen, await store.size()]).toEqual([count, 0])
    expect((most - before) / 2 ** 20).toBeLessThan(100)
    await store.close()
  })

  it.each([['a folder in its place', (path: string) => mkdirSync(path), /can't be (opened|made)/]])(
    'refuse %s in words',
    (_, prepare, words) => {
      const path = fileIn(newFolder())
      prepare(path)
      expect(() => SqliteMailboxes.open(path, silentLog)).toThrow(words)
    },
  )

  it('move a damaged file aside, and begin anew', async () => {
    const path = fileIn(newFolder())
    writeFileSync(path, 'x'.repeat(5000))
    const store = SqliteMailboxes.open(path, silentLog)
    expect(await store.put(mailOf('a'), NOW, ROOM)).toMatchObject({ kind: 'stored' })
    await store.close()
    expect(readdirSync(dirname(path)).some((file) => file.startsWith('mail.db.damaged-'))).toBe(true)
  })

  it('refuse a file that another Maestro uses', async () => {
    const path = fileIn(newFolder())
    const store = SqliteMailboxes.open(path, silentLog)
    await store.put(mailOf('a'), NOW, ROOM)
    expect(() => SqliteMailboxes.open(path, silentLog)).toThrow(/another process uses it/)
    await store.close()
  })
})
