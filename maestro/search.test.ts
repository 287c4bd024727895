import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { fold } from '../common/folding.ts'
import { parsePeerId } from '../common/ids.ts'
import { SqliteStore } from './directory/sqlite.ts'
import { file } from './directory/store.contract.ts'
import { Search } from './search.ts'
import { wordsOf } from './trigrams.ts'

const NOW = 1000
const TERM = { now: NOW, expiresAt: 2000 }
let store: SqliteStore
beforeEach(() => {
  store = SqliteStore.open(':memory:')
})
afterEach(() => store.close())

const share = (id: string, ...names: string[]) =>
  store.register(
    { id: parsePeerId(id), rest: `http://${id}:1`, grpcPort: 1, revision: 1, files: names.map((name) => file(name)) },
    TERM,
    100,
  )
const unhurried = () => new Search(store, { budgetMs: 60_000 })

/** All pages of a search, as the names in their order. */
async function all(q: string, limit = 100, search = unhurried()): Promise<string[]> {
  const names: string[] = []
  let after: string | undefined
  do {
    const page = await search.find(q, limit, after, NOW)
    names.push(...page.results.map((hit) => hit.file))
    after = page.next ?? undefined
  } while (after !== undefined)
  return names
}

describe('ranking', () => {
  it('shows the exact name first, then beginnings, then whole words, then parts of words', async () => {
    await share('P1', 'my reports.txt', 'the report.txt', 'report 2024.txt', 'REPORT', 'none.txt')
    expect(await all('report')).toEqual(['REPORT', 'report 2024.txt', 'the report.txt', 'my reports.txt'])
  })

  it('wants every word, in any order, in any form of case and accent', async () => {
    await share('P1', 'Música/Canción Española.mp3', 'musica/otra.mp3')
    expect(await all('espanola CANCIÓN')).toEqual(['Música/Canción Española.mp3'])
    expect(await all('canc music')).toEqual(['Música/Canción Española.mp3'])
    expect(await all('cancion ausente')).toEqual([])
  })
})

describe('short queries', () => {
  it('find beginnings of words first, then the insides of words', async () => {
    await share('P1', 'box1.bin', 'x/y.txt', 'data x2.csv', 'nothing')
    expect(await all('x')).toEqual(['x/y.txt', 'data x2.csv', 'box1.bin'])
    expect(await all('x1')).toEqual(['box1.bin'])
  })

  it('find single characters of scripts that have no spaces', async () => {
    await share('P1', '年度报告.pdf', '日报.txt')
    expect(await all('报告')).toEqual(['年度报告.pdf'])
    expect(await all('报')).toEqual(['年度报告.pdf', '日报.txt'])
  })

  it('fold what they look for inside words', async () => {
    await share('P1', 'café.txt', 'plain.txt')
    expect(await all('fé')).toEqual(['café.txt'])
  })
})

describe('text from users', () => {
  const hostile = [
    '"',
    '*',
    'a" OR "b',
    'NEAR(a b)',
    'name:a',
    "'; drop table names; --",
    '%',
    '_',
    '^',
    '-a',
    '́',
    '()',
  ]
  it.each(hostile)('%s is never syntax', async (q) => {
    await share('P1', 'a.txt', 'b.txt')
    const allowed = wordsOf(fold(q)).length > 0 ? ['a.txt', 'b.txt'] : []
    for (const name of await all(q)) expect(allowed).toContain(name)
  })

  it('finds a name without a letter by itself and by its beginning', async () => {
    await share('P1', '+++', '+++x', 'x')
    expect(await all('+++')).toEqual(['+++', '+++x'])
  })
})

describe('pages', () => {
  const names = Array.from({ length: 50 }, (_, i) => `${['report', 'a report', 'myreports', 'x report y'][i % 4]} ${i}`)

  it('show every match once, whatever their size', async () => {
    await share('P1', ...names)
    const whole = await all('report')
    expect([...whole].sort()).toEqual([...names].sort())
    for (const limit of [1, 7, 50]) expect(await all('report', limit)).toEqual(whole)
  })

  it('stay where they were when names come and go', async () => {
    await share('P1', ...names)
    const whole = await all('report')
    const first = await unhurried().find('report', 20, undefined, NOW)
    await share('P2', 'report new')
    const second = await unhurried().find('report', 20, first.next ?? '', NOW)
    expect([...first.results, ...second.results].map((hit) => hit.file).filter((n) => n !== 'report new')).toEqual(
      whole.slice(0, 20 + second.results.filter((hit) => hit.file !== 'report new').length),
    )
  })

  it('end after their time, and the next one goes on', async () => {
    await share('P1', ...names)
    const hurried = new Search(store, { budgetMs: 0 })
    const page = await hurried.find('report', 100, undefined, NOW)
    expect(page.results.length).toBeLessThanOrEqual(1)
    expect(page.next).not.toBeNull()
    expect(await all('report', 100, hurried)).toEqual(await all('report'))
  })

  it.each([
    'x',
    '!!',
    ...['9.9.', '1.-1.', '0.1.../x', '0.1.', '2.1.x'].map((text) => Buffer.from(text).toString('base64url')),
  ])('refuse %s as a position', async (after) => {
    await expect(unhurried().find('a', 10, after, NOW)).rejects.toMatchObject({ code: 'invalid' })
  })
})

it('shows only names that a live peer offers, with how many do and up to 10 of them', async () => {
  await Promise.all(Array.from({ length: 12 }, (_, i) => share(`P${i}`, 'shared report', `report of ${i}`)))
  await store.withdraw(parsePeerId('P3'), NOW)
  const { results } = await unhurried().find('shared', 10, undefined, NOW)
  expect(results).toMatchObject([{ file: 'shared report', providers: 11 }])
  expect(results[0]?.peers).toHaveLength(10)
  expect(await all('report of 3')).toEqual([])
  expect((await unhurried().find('report', 10, undefined, TERM.expiresAt)).results).toEqual([])
})

it('finds just what a comparison of all names finds', async () => {
  const part = fc.constantFrom('re', 'port', 'Über', 'x', 'ñu', '报', '7', '-', ' ', 'a')
  const name = fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => `n${parts.join('')}e`)
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(name, { minLength: 1, maxLength: 30 }),
      fc.array(part, { minLength: 1, maxLength: 3 }),
      async (names, parts) => {
        const q = parts.join('').trim()
        fc.pre(q !== '')
        await share('P1', ...names)
        const folded = fold(q)
        const matches = names.filter((candidate) => {
          const words = wordsOf(folded)
          const other = fold(candidate)
          return other.startsWith(folded) || (words.length > 0 && words.every((word) => other.includes(word)))
        })
        expect((await all(q)).sort()).toEqual(matches.sort())
      },
    ),
    { numRuns: 60 },
  )
})
