import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Mail } from '../../common/events/mail.ts'
import { parsePeerId } from '../../common/ids.ts'
import type { MailboxStore } from './store.ts'

const NOW = Date.parse('2026-01-01T00:00:00Z')
const WEEK = 7 * 24 * 3600 * 1000
const ROOM = { perMailbox: 1000, inAll: 1000 }
const P1 = parsePeerId('P1')
const P2 = parsePeerId('P2')
const P3 = parsePeerId('P3')

/** A message from P1 to P2; `over` what is different. */
export function mailOf(id: string, over: Partial<Mail> = {}): Mail {
  return {
    v: 1,
    id,
    from: P1,
    to: P2,
    sent: new Date(NOW).toISOString(),
    expires: new Date(NOW + WEEK).toISOString(),
    kind: 'receipt',
    offer: 'an-offer',
    state: 'delivered',
    reason: null,
    ...over,
  } as Mail
}

/** What every store of mailboxes does. `open(folder)` opens the same store again for the same folder. */
export function mailboxStoreContract(open: (folder: string) => MailboxStore, folderOf: () => string): void {
  let folder: string
  let store: MailboxStore

  beforeEach(() => {
    folder = folderOf()
    store = open(folder)
  })
  afterEach(() => store.close())

  const put = (mail: Mail, bounds = ROOM, now = NOW) => store.put(mail, now, bounds)
  const ids = async (peer = P2, now = NOW) => (await store.list(peer, 0, 1000, now)).map(({ mail }) => mail.id)

  it('keeps each message for its recipient, oldest first', async () => {
    for (const id of ['c', 'a', 'b']) await put(mailOf(id))
    await put(mailOf('x', { to: P3 }))
    expect(await ids()).toEqual(['c', 'a', 'b'])
    expect(await ids(P3)).toEqual(['x'])
    expect(await ids(P1)).toEqual([])
    expect((await store.list(P2, 0, 1, NOW))[0]!.mail).toEqual(mailOf('c'))
  })

  it('counts what waits', async () => {
    expect(await put(mailOf('a'))).toEqual({ kind: 'stored', waiting: 1 })
    expect(await put(mailOf('b'))).toEqual({ kind: 'stored', waiting: 2 })
    expect(await put(mailOf('c', { to: P3 }))).toEqual({ kind: 'stored', waiting: 1 })
    expect([await store.waiting(P2, NOW), await store.waiting(P3, NOW), await store.waiting(P1, NOW)]).toEqual([
      2, 1, 0,
    ])
    expect(await store.size()).toBe(3)
  })

  it('keeps a message once, as it was first, but the same id for another recipient as well', async () => {
    await put(mailOf('a'))
    expect(await put(mailOf('a', { from: P3 }))).toEqual({ kind: 'known', waiting: 1 })
    expect(await put(mailOf('a', { to: P3 }))).toEqual({ kind: 'stored', waiting: 1 })
    expect((await store.list(P2, 0, 10, NOW)).map(({ mail }) => mail.from)).toEqual(['P1'])
  })

  it('gives pages, also where what the page before ended with was taken', async () => {
    for (const id of ['a', 'b', 'c', 'd', 'e']) await put(mailOf(id))
    const first = await store.list(P2, 0, 2, NOW)
    expect(first.map(({ mail }) => mail.id)).toEqual(['a', 'b'])
    await store.take(P2, ['a', 'b', 'c'])
    const second = await store.list(P2, first.at(-1)!.position, 2, NOW)
    expect(second.map(({ mail }) => mail.id)).toEqual(['d', 'e'])
  })

  it('removes what is taken from that mailbox only, and counts what was there', async () => {
    await put(mailOf('a'))
    await put(mailOf('b'))
    await put(mailOf('a', { to: P3 }))
    expect(await store.take(P2, ['a', 'a', 'never'])).toBe(1)
    expect(await store.take(P2, ['a'])).toBe(0)
    expect(await store.take(P1, ['b'])).toBe(0)
    expect([await ids(), await ids(P3), await store.size()]).toEqual([['b'], ['a'], 2])
  })

  it('keeps a message anew that was taken', async () => {
    await put(mailOf('a'))
    await store.take(P2, ['a'])
    expect(await put(mailOf('a'))).toEqual({ kind: 'stored', waiting: 1 })
  })

  describe('a bound', () => {
    it('refuses more in one mailbox, and neither known messages nor other mailboxes', async () => {
      const bounds = { ...ROOM, perMailbox: 2 }
      for (const id of ['a', 'b']) await put(mailOf(id), bounds)
      expect(await put(mailOf('c'), bounds)).toEqual({ kind: 'full', of: 'mailbox' })
      expect(await put(mailOf('b'), bounds)).toMatchObject({ kind: 'known' })
      expect(await put(mailOf('c', { to: P3 }), bounds)).toMatchObject({ kind: 'stored' })
      await store.take(P2, ['a'])
      expect(await put(mailOf('c'), bounds)).toEqual({ kind: 'stored', waiting: 2 })
    })

    it('refuses more in all', async () => {
      const bounds = { ...ROOM, inAll: 1 }
      await put(mailOf('a'), bounds)
      expect(await put(mailOf('b', { to: P3 }), bounds)).toEqual({ kind: 'full', of: 'all' })
      await store.take(P2, ['a'])
      expect(await put(mailOf('b', { to: P3 }), bounds)).toMatchObject({ kind: 'stored' })
    })
  })

  describe('what has expired', () => {
    const soon = { expires: new Date(NOW + 10).toISOString() }

    it('is neither listed nor counted from that millisecond on', async () => {
      await put(mailOf('a', soon))
      await put(mailOf('b'))
      expect(await ids(P2, NOW + 9)).toEqual(['a', 'b'])
      expect(await ids(P2, NOW + 10)).toEqual(['b'])
      expect([await store.waiting(P2, NOW + 9), await store.waiting(P2, NOW + 10)]).toEqual([2, 1])
    })

    it('makes room in its mailbox at once', async () => {
      const bounds = { ...ROOM, perMailbox: 1 }
      await put(mailOf('a', soon), bounds)
      expect(await put(mailOf('b'), bounds, NOW + 10)).toEqual({ kind: 'stored', waiting: 1 })
    })

    it('is kept anew under its id', async () => {
      await put(mailOf('a', soon))
      expect(await put(mailOf('a'), ROOM, NOW + 10)).toEqual({ kind: 'stored', waiting: 1 })
      expect(await ids(P2, NOW + 10)).toEqual(['a'])
    })

    it('is swept in bites, and nothing else is', async () => {
      for (let i = 0; i < 5; i++) await put(mailOf(`old${i}`, { ...soon, to: i % 2 === 0 ? P2 : P3 }))
      await put(mailOf('new'))
      expect(await store.sweep(NOW + 9, 3)).toBe(0)
      expect(await store.sweep(NOW + 10, 3)).toBe(3)
      expect(await store.sweep(NOW + 10, 3)).toBe(2)
      expect(await store.sweep(NOW + 10, 3)).toBe(0)
      expect([await ids(), await store.size(), await store.waiting(P3, NOW)]).toEqual([['new'], 1, 0])
    })
  })

  it('has kept what it acknowledged when it is opened again', async () => {
    await Promise.all(['a', 'b', 'c'].map((id) => put(mailOf(id))))
    await store.take(P2, ['b'])
    await store.close()
    store = open(folder)
    expect([await ids(), await store.waiting(P2, NOW), await store.size()]).toEqual([['a', 'c'], 2, 2])
    const known = await store.list(P2, 0, 10, NOW)
    await put(mailOf('d'))
    expect((await store.list(P2, known.at(-1)!.position, 10, NOW)).map(({ mail }) => mail.id)).toEqual(['d'])
  })

  it('takes many at the same moment, each once', async () => {
    const puts = Array.from({ length: 500 }, (_, i) => put(mailOf(`m${i % 250}`)))
    const kinds = (await Promise.all(puts)).map(({ kind }) => kind)
    expect(kinds.filter((kind) => kind === 'stored')).toHaveLength(250)
    expect(await store.waiting(P2, NOW)).toBe(250)
  })
}
