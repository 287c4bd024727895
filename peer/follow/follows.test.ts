import { expect, onTestFinished, test } from 'vitest'
import { A, B, FollowFixture } from './follow.fixture.ts'

async function fixture(...patterns: [string, number?][]): Promise<FollowFixture> {
  const f = new FollowFixture()
  onTestFinished(() => f.close())
  for (const [pattern, quota] of patterns) f.follows.follow(pattern, quota)
  await f.follows.start()
  return f
}

test('what is there already is fetched, under its name', async () => {
  const f = new FollowFixture()
  onTestFinished(() => f.close())
  f.offer('lectures/1.pdf', A, 10)
  f.offer('other.pdf', B, 10)
  await f.follows.start()
  f.follows.follow('lectures/**')
  await expect.poll(() => f.transfers.running).toEqual(['lectures/1.pdf'])
  expect(f.transfers.all[0]!.request).toEqual({ id: A, as: 'lectures/1.pdf' })
  expect(f.state).toMatchObject({ quota: 10e9, fetching: 1, files: 0, bytes: 0 })
  f.land('lectures/1.pdf', 10)
  await expect.poll(() => f.state).toMatchObject({ fetching: 0, files: 1, bytes: 10, left_out: [] })
  expect(f.listed.every((folder) => folder === undefined || folder === 'lectures')).toBe(true)
})

test('what an event tells of is fetched at once, once', async () => {
  const f = await fixture(['*.pdf'])
  f.news('a.pdf')
  f.news('a.pdf')
  f.news('b.txt')
  f.news('own.pdf', A, 1, 'P2')
  await expect.poll(() => f.transfers.running).toEqual(['a.pdf'])
  f.land('a.pdf')
  await expect.poll(() => f.state.files).toBe(1)
  f.news('a.pdf')
  expect(f.state).toMatchObject({ fetching: 0, left_out: [] })
  expect(f.transfers.all).toHaveLength(1)
})
