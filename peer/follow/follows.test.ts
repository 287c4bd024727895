import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import { silentLog } from '../../common/log.ts'
import { A, B, event, FollowFixture, id, name, offerOf } from './follow.fixture.ts'
import { FollowStore } from './follow-store.ts'

const DOWN = new NetworkError('unavailable', 'the Maestro does not answer')

async function fixture(...patterns: [string, number?][]): Promise<FollowFixture> {
  const f = new FollowFixture()
  onTestFinished(() => f.close())
  for (const [pattern, quota] of patterns) f.follows.follow(pattern, quota)
  await f.follows.start()
  await looked(f)
  return f
}

/** What there was to list was listed. */
async function looked(f: FollowFixture, times = 1): Promise<void> {
  if (f.follows.list().length > 0) await expect.poll(() => f.listed.length).toBeGreaterThanOrEqual(times)
}

describe('what is fetched', () => {
  test('what is there already, under its name', async () => {
    const f = await fixture()
    f.offer('lectures/1.pdf', A, 10)
    f.offer('other.pdf', B, 10)
    f.follows.follow('lectures/**')
    await expect.poll(() => f.transfers.running).toEqual(['lectures/1.pdf'])
    expect(f.transfers.all[0]!.request).toEqual({ id: A, as: 'lectures/1.pdf' })
    expect(f.state).toMatchObject({ quota: 10e9, fetching: 1, files: 0, bytes: 0 })
    f.land('lectures/1.pdf', 10)
    await expect.poll(() => f.state).toMatchObject({ fetching: 0, files: 1, bytes: 10, left_out: [] })
    expect(f.listed).toEqual(['lectures'])
  })

  test('what an event tells of, at once and once', async () => {
    const f = await fixture(['*.pdf'])
    f.news('a.pdf')
    f.news('a.pdf')
    f.news('b.txt')
    f.news('own.pdf', A, 1, 'P2')
    await expect.poll(() => f.transfers.running).toEqual(['a.pdf'])
    f.land('a.pdf')
    await expect.poll(() => f.state.fetching).toBe(0)
    f.news('a.pdf')
    expect(f.state).toMatchObject({ files: 1, fetching: 0, left_out: [] })
    expect(f.transfers.all).toHaveLength(1)
  })

  test('a file that was renamed, under its new name', async () => {
    const f = await fixture(['**'])
    const { data, ...rest } = event('new.pdf') as Extract<ReturnType<typeof event>, { type: 'file.added' }>
    f.follows.hear([{ ...rest, type: 'file.renamed', data: { ...data, from: name('old.pdf') } }])
    await expect.poll(() => f.transfers.running).toEqual(['new.pdf'])
  })

  test('not what is here, is offered by this peer alone, has no content id, or can not be a name', async () => {
    const f = await fixture()
    f.catalog.add('here.pdf', A)
    f.offer('here.pdf')
    f.offer('mine.pdf', A, 1, 'P2')
    f.offers.push({ name: 'bare.pdf', offers: [offerOf('P1', null, null)] })
    f.offers.push({ name: '../../etc/passwd', offers: [offerOf('P1', A, 1)] })
    f.offer('good.pdf')
    f.follows.follow('**')
    await expect.poll(() => f.transfers.running).toEqual(['good.pdf'])
    expect(f.leftOut).toEqual({})
  })

  test('names that differ by case are two files', async () => {
    const f = await fixture(['**'])
    f.news('A.pdf')
    f.news('a.pdf')
    await expect.poll(() => f.transfers.running).toEqual(['A.pdf', 'a.pdf'])
  })

  test('four at a time, and the others in their order', async () => {
    const f = await fixture(['**'])
    for (let i = 1; i <= 6; i++) f.news(`${i}.pdf`, id(String(i)))
    await expect.poll(() => f.transfers.running).toEqual(['1.pdf', '2.pdf', '3.pdf', '4.pdf'])
    expect(f.state.fetching).toBe(6)
    f.land('2.pdf')
    await expect.poll(() => f.transfers.running).toEqual(['1.pdf', '3.pdf', '4.pdf', '5.pdf'])
  })

  test('a peer that tells of very much holds up no other', async () => {
    const f = await fixture(['**'])
    for (let i = 0; i < 1000; i++) f.news(`storm/${i}`, A)
    f.news('calm.pdf', B, 1, 'P3')
    await expect.poll(() => f.transfers.running).toHaveLength(4)
    f.land(f.transfers.running[0]!)
    await expect.poll(() => f.transfers.running).toContain('calm.pdf')
  })

  test('others go on while one waits for its provider, which is given up after a while', async () => {
    const f = await fixture(['**'])
    for (let i = 1; i <= 5; i++) f.news(`${i}.pdf`, id(String(i)))
    await expect.poll(() => f.transfers.running).toHaveLength(4)
    f.transfers.of('1.pdf').set({ state: 'waiting' })
    await expect.poll(() => f.transfers.running).toHaveLength(5)
    f.clock.advance(120_000)
    await expect.poll(() => f.transfers.of('1.pdf').body.state).toBe('cancelled')
    expect(f.leftOut).toEqual({ '1.pdf': 'none of those who have it answers' })
    expect(f.state.fetching).toBe(4)
  })

  test('a transfer that its user pauses keeps waiting for the user', async () => {
    const f = await fixture(['**'])
    f.news('1.pdf')
    await expect.poll(() => f.transfers.running).toHaveLength(1)
    f.transfers.of('1.pdf').set({ state: 'paused' })
    f.clock.advance(86_400_000)
    f.news('2.pdf', B)
    await expect.poll(() => f.transfers.running).toEqual(['1.pdf', '2.pdf'])
  })
})

describe('looking at what there is', () => {
  test('comes every ten minutes, after a gap in the events, and at the start', async () => {
    const f = await fixture(['lectures/**'])
    expect(f.listed).toHaveLength(1)
    f.offer('lectures/late.pdf')
    f.clock.advance(11 * 60_000)
    await expect.poll(() => f.transfers.running).toEqual(['lectures/late.pdf'])
    f.offer('lectures/gap.pdf', B)
    f.follows.lookAgain()
    await expect.poll(() => f.transfers.running).toEqual(['lectures/late.pdf', 'lectures/gap.pdf'])
  })

  test('asks the friends where the Maestro does not answer, and again soon where nobody does', async () => {
    const f = await fixture()
    f.maestroFault = DOWN
    f.follows.follow('**')
    await looked(f)
    f.friendOffers = [{ name: 'a.pdf', offers: [offerOf('P3', A, 1)] }]
    f.clock.advance(30_000)
    await expect.poll(() => f.transfers.running).toEqual(['a.pdf'])
  })

  test('lists each folder once, however many patterns are about it', async () => {
    const f = new FollowFixture()
    onTestFinished(() => f.close())
    for (const pattern of ['a/*.pdf', 'a/*.mkv', 'a/b/**', 'c/d/*']) f.follows.follow(pattern)
    await f.follows.start()
    await looked(f, 2)
    expect(f.listed).toEqual(['a', 'c/d'])
  })

  test('leaves out a name that stands for several contents, until an event says which', async () => {
    const f = await fixture()
    f.offers.push({ name: 'a.pdf', offers: [offerOf('P1', A, 1), offerOf('P3', B, 1)] })
    f.follows.follow('**')
    await expect.poll(() => f.leftOut['a.pdf']).toContain('stands for 2 contents')
    f.news('a.pdf', B)
    await expect.poll(() => f.transfers.running).toEqual(['a.pdf'])
    expect(f.transfers.of('a.pdf').request.id).toBe(B)
  })

  test('100,000 names at once wait for those before them, and none is lost', { timeout: 60_000 }, async () => {
    const f = await fixture()
    for (let i = 0; i < 100_000; i++) f.offer(`big/${i}`)
    f.follows.follow('big/*')
    await expect.poll(() => f.state.fetching, { timeout: 20_000 }).toBe(10_000)
    expect(f.state.left_out).toHaveLength(100)
    expect(f.state.left_out[0]).toEqual({ name: 'big/99999', why: 'many others wait to be fetched first' })
    expect(f.transfers.running).toHaveLength(4)
  })
})

describe('the quota', () => {
  test('bounds what is here and what is proven to be on its way', async () => {
    const f = await fixture(['**', 10])
    f.news('a', id('1'), 6)
    await f.prove('a', 6)
    f.news('b', id('2'), 5)
    f.news('c', id('3'), 4)
    await expect.poll(() => f.transfers.running).toEqual(['a', 'c'])
    expect(f.leftOut).toEqual({ b: 'its 5 bytes are more than is left of the quota of 10' })
    f.land('a', 6)
    f.land('c', 4)
    await expect.poll(() => f.state).toMatchObject({ bytes: 10, files: 2, fetching: 0 })
    f.news('d', id('4'), 1)
    expect(f.leftOut.d).toBeDefined()
  })

  test('lets in what was left out once a file is removed, or the quota is raised', async () => {
    const f = await fixture(['**', 10])
    for (const [file, digit, size] of [
      ['a', '1', 6],
      ['b', '2', 5],
      ['c', '3', 20],
    ] as const)
      f.offer(file, id(digit), size)
    f.follows.lookAgain()
    await expect.poll(() => f.transfers.running).toEqual(['a', 'b'])
    await f.prove('a', 6)
    f.transfers.of('b').set({ state: 'running', size: 5, pieces: { verified: 0, total: 1 } })
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    expect(f.leftOut.b).toBe('its 5 bytes are more than is left of the quota of 10')
    f.land('a', 6)
    await expect.poll(() => f.state.files).toBe(1)
    f.catalog.remove('a')
    expect(f.state).toMatchObject({ files: 0, bytes: 0 })
    f.clock.advance(1000)
    await expect.poll(() => f.transfers.running).toEqual(['b'])
    f.follows.follow('**', 100)
    await expect.poll(() => f.transfers.running).toEqual(['b', 'c'])
    expect(f.state.quota).toBe(100)
  })

  test('is not taken up by what is only told of', async () => {
    const f = await fixture(['**', 10])
    f.unknown.add(id('f'))
    for (let file = 0; file < 20; file++) f.news(`invented${file}`, id('f'), 10, 'P3')
    f.news('a', A, 10)
    await expect.poll(() => f.transfers.running).toEqual(['a'])
  })

  test('is taken up once by a file that lands before its size is told', async () => {
    const f = await fixture(['**', 10])
    f.news('a', A, 10)
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.catalog.add('a', A, 10)
    f.transfers.of('a').set({ state: 'done', size: 10, pieces: { verified: 1, total: 1 } })
    await expect.poll(() => f.state).toMatchObject({ files: 1, bytes: 10, fetching: 0, left_out: [] })
  })

  test('of what failed is there for others', async () => {
    const f = await fixture(['**', 10])
    f.news('a', A, 10)
    await f.prove('a', 10)
    f.news('b', B, 10)
    f.offer('b', B, 10)
    expect(f.leftOut.b).toContain('quota')
    f.transfers.of('a').fail('forbidden')
    await expect.poll(() => f.leftOut.a).toBeDefined()
    f.clock.advance(30_000)
    await expect.poll(() => f.transfers.running).toEqual(['b'])
  })

  test('stops a file that turns out larger than was told', async () => {
    const f = await fixture(['**', 10])
    f.news('liar', A, 1)
    await expect.poll(() => f.transfers.running).toEqual(['liar'])
    const { request } = f.transfers.of('liar')
    f.transfers.of('liar').set({ size: 1e12 })
    expect(request.id).toBe(A)
    f.transfers.of('liar').set({ state: 'running', size: 1e12, pieces: { verified: 0, total: 9 } })
    await expect.poll(() => f.transfers.of('liar').body.state).toBe('cancelled')
    expect(f.leftOut.liar).toContain('though 1 was told')
    expect(f.state).toMatchObject({ fetching: 0, bytes: 0 })
  })

  test('counts what a file has in truth', async () => {
    const f = await fixture(['**', 10])
    f.news('a', A, 9)
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.transfers.of('a').set({ state: 'running', size: 2, pieces: { verified: 0, total: 1 } })
    await expect
      .poll(() => {
        f.news('b', B, 8)
        return f.state.fetching
      })
      .toBe(2)
  })

  test('a name that two patterns match is fetched once, for the first', async () => {
    const f = await fixture(['**', 10], ['*.pdf', 10])
    f.news('a.pdf', A, 5)
    await expect.poll(() => f.transfers.running).toEqual(['a.pdf'])
    f.land('a.pdf', 5)
    await expect.poll(() => f.follows.list().map(({ bytes }) => bytes)).toEqual([5, 0])
  })
})

describe('what is the user’s own', () => {
  test('is never replaced: another version is left out, until the user makes room', async () => {
    const f = await fixture(['**'])
    f.catalog.add('own', B)
    f.news('own', A)
    f.news('followed', A)
    await expect.poll(() => f.transfers.running).toEqual(['followed'])
    f.land('followed')
    await expect.poll(() => f.state.files).toBe(1)
    f.news('followed', B, 1, 'P3')
    expect(f.leftOut).toEqual({
      own: 'P1 has another version: yours stays, since it did not come of this',
      followed: 'P3 has another version: remove yours to get it',
    })
    f.catalog.remove('followed')
    f.news('followed', B, 1, 'P3')
    await expect.poll(() => f.transfers.running).toEqual(['followed'])
    f.land('followed')
    await expect.poll(() => f.state.fetching).toBe(0)
    expect(Object.keys(f.leftOut)).toEqual(['own'])
  })

  test('a file that the user removed is not fetched again', async () => {
    const f = await fixture(['**'])
    f.offer('a')
    f.news('a')
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.land('a')
    await expect.poll(() => f.state.files).toBe(1)
    f.catalog.remove('a')
    f.news('a')
    f.follows.lookAgain()
    await looked(f, 2)
    expect(f.leftOut.a).toContain('removed or cancelled here')
    await f.restart()
    f.news('a')
    expect(f.transfers.all).toEqual([])
  })

  test('a file that the user changed is the user’s from then on, and counts no more', async () => {
    const f = await fixture(['**', 10])
    f.news('a', A, 10)
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.land('a', 10)
    await expect.poll(() => f.state.bytes).toBe(10)
    f.catalog.remove('a')
    f.catalog.add('a', B, 11)
    expect(f.state).toMatchObject({ files: 0, bytes: 0 })
    f.news('a', A)
    expect(f.leftOut.a).toContain('yours stays')
  })

  test('a file that is hashed again counts again', async () => {
    const f = await fixture(['**'])
    f.news('a', A, 10)
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.land('a', 10)
    await expect.poll(() => f.state.bytes).toBe(10)
    f.catalog.remove('a')
    f.catalog.unhashed.add('a')
    f.news('a', A, 10)
    f.catalog.add('a', A, 10)
    expect(f.state).toMatchObject({ files: 1, bytes: 10, left_out: [] })
  })

  test('a file that is here and not hashed yet is waited for', async () => {
    const f = await fixture(['**'])
    f.catalog.unhashed.add('a')
    f.news('a', A)
    await expect.poll(() => f.state.fetching).toBe(1)
    f.catalog.unhashed.delete('a')
    f.catalog.add('a', A)
    await expect.poll(() => f.state).toMatchObject({ fetching: 0, files: 1 })
    f.clock.advance(250)
    expect(f.transfers.all).toEqual([])
  })

  test('a transfer that the user cancels is not begun again', async () => {
    const f = await fixture(['**'])
    f.news('a')
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.transfers.cancel('1')
    await expect.poll(() => f.state.fetching).toBe(0)
    f.news('a')
    expect(f.state.fetching).toBe(0)
  })
})

describe('what fails', () => {
  test('is tried again soon, then later, then left to the next look', async () => {
    const f = await fixture(['**'])
    f.news('a')
    for (const [i, ms] of [250, 1000, 5000, 20_000, 60_000].entries()) {
      await expect.poll(() => f.transfers.all.length).toBe(i + 1)
      f.transfers.of('a').fail('not_found', 'nobody offers it')
      await expect.poll(() => f.transfers.running).toEqual([])
      f.clock.advance(ms - 1)
      await Promise.resolve()
      expect(f.transfers.all.length).toBe(i + 1)
      // What comes after the failure is due from there.
      await expect
        .poll(() => {
          f.clock.advance(1)
          return f.transfers.all.length
        })
        .toBe(i + 2)
    }
    f.transfers.of('a').fail('not_found', 'nobody offers it')
    await expect.poll(() => f.leftOut).toEqual({ a: 'nobody offers it' })
    expect(f.state.fetching).toBe(0)
    f.news('a')
    await expect.poll(() => f.transfers.running).toEqual(['a'])
  })

  test.each(['conflict', 'forbidden'])('for good (%s) is left out at once', async (code) => {
    const f = await fixture(['**'])
    f.news('a')
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.transfers.of('a').fail(code)
    await expect.poll(() => f.leftOut).toEqual({ a: `it failed: ${code}` })
  })

  test('a simulated transfer brings nothing, and says so', async () => {
    const f = await fixture(['**'])
    f.news('a')
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.transfers.of('a').set({ state: 'simulated' })
    await expect.poll(() => f.leftOut.a).toContain('dummy mode')
  })

  test('where no transfer can be started, it is tried again', async () => {
    const f = await fixture(['**'])
    f.transfers.refusal = new NetworkError('limited', '1000 transfers wait already')
    f.news('a')
    await expect.poll(() => f.state.fetching).toBe(1)
    f.transfers.refusal = undefined
    await expect
      .poll(() => {
        f.clock.advance(250)
        return f.transfers.running
      })
      .toEqual(['a'])
  })

  test('what an event told of and the disk would not keep is found again', async () => {
    const f = await fixture(['**'])
    const { putFile } = f.store
    f.store.putFile = () => {
      throw new NetworkError('unavailable', 'the disk is full', { reason: 'disk_full' })
    }
    f.offer('a')
    f.news('a')
    expect(f.state.fetching).toBe(0)
    f.store.putFile = putFile
    f.clock.advance(30_000)
    await expect.poll(() => f.transfers.running).toEqual(['a'])
  })

  test('of what nobody has no transfer is begun, and it is asked for a few times only', async () => {
    const f = await fixture(['**'])
    f.unknown.add(A)
    f.news('invented', A, 1, 'P3')
    f.news('true', B)
    await expect.poll(() => f.transfers.running).toEqual(['true'])
    for (const pause of [250, 1000, 5000, 20_000, 60_000]) {
      const asked = f.asked
      f.clock.advance(pause)
      await expect.poll(() => f.asked).toBeGreaterThan(asked)
    }
    await expect.poll(() => f.leftOut).toEqual({ invented: 'nobody is known to have it' })
    expect(f.asked).toBe(7)
    expect(f.transfers.all).toHaveLength(1)
  })

  test('a peer that tells of very much that nobody has is not asked about any more for a while', async () => {
    const f = await fixture(['**'])
    const contents = Array.from({ length: 2000 }, (_, i) => i.toString(16).padStart(64, '0') as typeof A)
    for (const [i, content] of contents.entries()) {
      f.unknown.add(content)
      f.news(`invented${i}`, content, 1, 'P3')
    }
    await expect.poll(() => f.leftOut.invented1999).toContain('P3 tells of much that nobody has')
    expect(f.asked).toBeLessThan(250)
    f.news('true', A)
    await expect.poll(() => f.transfers.running).toEqual(['true'])
  })

  test('what one peer tells of and nobody brings leaves places to what others tell of', async () => {
    const f = await fixture(['**'])
    for (let file = 0; file < 100; file++) f.news(`lie${file}`, id('f'), 1, 'P3')
    const waits = () => {
      for (const transfer of f.transfers.all) if (!transfer.ended) transfer.set({ state: 'waiting' })
    }
    await expect
      .poll(() => {
        waits()
        return f.transfers.all.length
      })
      .toBeGreaterThanOrEqual(8)
    waits()
    f.news('true', A)
    await expect.poll(() => f.transfers.running).toContain('true')
    expect(f.transfers.all.length).toBeLessThanOrEqual(12)
  })

  test('what is on its way is not put aside for what another peer tells of, unless it was tried in vain', async () => {
    const f = await fixture(['**'])
    f.news('a', A)
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.news('a', B, 1, 'P3')
    expect(f.leftOut.a).toBe('P3 has another version than the one that is on its way')
    expect(f.transfers.of('a').body.state).toBe('locating')
    f.transfers.of('a').fail('not_found')
    await expect.poll(() => f.inVain).toBe(1)
    f.news('a', B, 1, 'P3')
    await expect.poll(() => f.transfers.of('a').request.id).toBe(B)
  })

  test('a newer version takes the place of one that is on its way', async () => {
    const f = await fixture(['**', 10])
    f.news('a', A, 9)
    await expect.poll(() => f.transfers.running).toEqual(['a'])
    f.news('a', B, 8)
    await expect.poll(() => f.transfers.of('a').request.id).toBe(B)
    expect(f.transfers.all[0]!.body.state).toBe('cancelled')
    f.news('a', A, 11)
    await expect.poll(() => f.transfers.running).toEqual([])
    expect(f.state.fetching).toBe(0)
  })
})

describe('rules', () => {
  test('unfollow stops what is under way for it alone, and keeps files', async () => {
    const f = await fixture(['a/**'], ['**/*.pdf'])
    f.news('a/1.pdf', id('1'), 3)
    f.news('a/2.mkv', id('2'), 3)
    f.news('a/3.pdf', id('3'), 4)
    await expect.poll(() => f.transfers.running).toHaveLength(3)
    f.land('a/3.pdf', 4)
    await expect.poll(() => f.state.files).toBe(1)
    f.follows.unfollow('a/**')
    await expect.poll(() => f.transfers.running).toEqual(['a/1.pdf'])
    expect(f.follows.list()).toMatchObject([{ pattern: '**/*.pdf', fetching: 1, files: 1, bytes: 4 }])
    expect([...f.catalog.files.keys()]).toEqual(['a/3.pdf'])
    expect(() => f.follows.unfollow('a/**')).toThrow('"a/**" is not followed: "peer following" lists what is')
  })

  test('a pattern that is no pattern is refused, and so are too many', async () => {
    const f = await fixture()
    expect(() => f.follows.follow('a/')).toThrow('write "a/**"')
    for (let i = 0; i < 100; i++) f.follows.follow(`${i}/*`)
    expect(() => f.follows.follow('one-more/*')).toThrow('100 patterns are followed already')
    f.follows.follow('1/*', 5)
    expect(f.follows.list()).toHaveLength(100)
  })

  test('all survives a killed process: rules, quota, what was fetched and what was wanted', async () => {
    const f = await fixture(['**', 20])
    const since = f.state.since
    f.news('a', id('1'), 5)
    f.news('b', id('2'), 6)
    f.news('c', id('3'), 7)
    await expect.poll(() => f.transfers.running).toHaveLength(3)
    f.land('a', 5)
    await expect.poll(() => f.state.files).toBe(1)
    // Its transfer was restored without us, and has ended before we are back.
    f.catalog.files.set('b', id('2'))
    await f.restart()
    expect(f.state).toMatchObject({ quota: 20, files: 2, bytes: 11, fetching: 1, since })
    await expect.poll(() => f.transfers.running).toEqual(['c'])
  })

  test('what was changed while the agent was down is the user’s own', async () => {
    const f = await fixture(['**'])
    f.news('a', A, 5)
    await expect.poll(() => f.transfers.running).toHaveLength(1)
    f.land('a', 5)
    await expect.poll(() => f.state.files).toBe(1)
    f.catalog.files.set('a', B)
    await f.restart()
    expect(f.state).toMatchObject({ files: 0, bytes: 0, fetching: 0 })
  })

  test.each([
    ['is no database', () => Buffer.from('no database at all '.repeat(500))],
    ['has a damaged page', (good: Buffer) => good.fill(0xff, 2 * 4096, 3 * 4096)],
  ])('a database that %s is moved aside, and following begins anew', (_, damage) => {
    const folder = mkdtempSync(join(tmpdir(), 'follows-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    const path = join(folder, 'state', 'follows.db')
    const before = FollowStore.open(path, silentLog)
    before.putRule({ pattern: 'a', quota: 1, since: 1 })
    before.close()
    writeFileSync(path, damage(readFileSync(path)))
    const store = FollowStore.open(path, silentLog)
    expect(store.rules()).toEqual([])
    store.putRule({ pattern: '**', quota: 1, since: 2 })
    store.close()
    const again = FollowStore.open(path, silentLog)
    expect(again.rules()).toEqual([{ pattern: '**', quota: 1, since: 2 }])
    expect(() => FollowStore.open(path, silentLog)).toThrow('another process uses it: is an agent running already?')
    again.close()
  })
})
