import { expect, it } from 'vitest'
import { startMaestro, type TestMaestro } from './maestro.fixture.ts'

const namesIn = async (maestro: TestMaestro, query: string) => {
  const { body } = await maestro.call('GET', `/directory?${query}`)
  return { names: Object.keys(body.directory as object), next: body.next }
}

it('lists one folder only, page by page, and its neighbours never', async (t) => {
  const maestro = await startMaestro(t)
  const files = ['lectures', 'lectures-2/x', 'lectures/a', 'lectures/b/c', 'lectures/é', 'lectures0', 'z']
  await maestro.register(
    'P1',
    files.map((name, i) => ({ name, size: i, id: String(i).repeat(64) })),
  )
  const all = await namesIn(maestro, 'under=lectures')
  expect(all).toEqual({ names: ['lectures/a', 'lectures/b/c', 'lectures/é'], next: null })
  const first = await namesIn(maestro, 'under=lectures&limit=2')
  expect(first).toEqual({ names: ['lectures/a', 'lectures/b/c'], next: 'lectures/b/c' })
  expect(await namesIn(maestro, `under=lectures&limit=2&after=${first.next}`)).toEqual({
    names: ['lectures/é'],
    next: null,
  })
  expect(await namesIn(maestro, 'under=lectures/b')).toEqual({ names: ['lectures/b/c'], next: null })
  expect(await namesIn(maestro, 'under=nothing')).toEqual({ names: [], next: null })
})

it('of a folder names live providers only', async (t) => {
  const maestro = await startMaestro(t)
  await maestro.register('P1', ['d/one', 'd/both'])
  await maestro.register('P2', ['d/both'])
  await maestro.call('DELETE', '/peers/P1')
  expect((await namesIn(maestro, 'under=d')).names).toEqual(['d/both'])
})

it('refuses what can not be a folder', async (t) => {
  const maestro = await startMaestro(t)
  for (const query of ['under=', 'under=../etc', 'under=/etc', 'under=a//b', 'under=a/'])
    expect([query, (await maestro.call('GET', `/directory?${query}`)).status]).toEqual([query, 400])
})
