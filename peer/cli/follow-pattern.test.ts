import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { parseBytes } from './bytes.ts'
import { FakeAgent, run } from './fake-agent.fixture.ts'

let agent: FakeAgent
beforeEach(async () => {
  agent = await new FakeAgent().start()
})
afterEach(() => agent.stop())

const on = (...args: string[]) => run(args, { env: { P2P_AGENT: agent.url } })
const followed = {
  pattern: 'lectures/**',
  quota: 10e9,
  bytes: 3_000_000,
  files: 2,
  fetching: 1,
  left_out: [{ name: 'lectures/huge.iso', why: 'its 20000000000 bytes are more than is left of the quota' }],
  since: '2026-03-01T12:00:00.000Z',
}

describe('follow', () => {
  test('asks the agent for a pattern within a quota', async () => {
    agent.follows = [followed]
    const { code, stdout } = await on('follow', 'lectures/**', '--quota', '1.5 GB')
    expect({ code, stdout }).toEqual({
      code: 0,
      stdout: 'lectures/** is followed, up to 10 GB; "peer following" shows what comes of it\n',
    })
    expect(agent.requests).toMatchObject([
      { method: 'POST', path: '/follows', body: { pattern: 'lectures/**', quota: 1.5e9 } },
    ])
    expect(JSON.parse((await on('follow', '**', '--json')).stdout)).toEqual(followed)
    expect(agent.requests.at(-1)!.body).toEqual({ pattern: '**' })
  })

  test.each(['follow', 'unfollow'])('%s says to quote what the shell has replaced by files', async (command) => {
    const { code, stderr } = await on(command, 'lectures/a.pdf', 'lectures/b.pdf')
    expect(code).toBe(2)
    expect(stderr).toContain("in quotes, as in 'lectures/**': without them the shell replaces it by the files here")
    expect(agent.requests).toEqual([])
  })

  test.each([
    ['README.md', true],
    ['lectures', true],
    ['a\\*b', true],
    ['*.md', false],
    ['{a,b}', false],
    ['week?.pdf', false],
  ])('of %s says whether it stands for one name alone: %s', async (pattern, isOne) => {
    agent.follows = [{ ...followed, pattern }]
    const { code, stderr } = await on('follow', pattern)
    expect({ code, isOne: stderr.includes('a file of just this name') }).toEqual({ code: 0, isOne })
  })

  test.each(['follow', 'unfollow'])('%s of an empty pattern says what to write', async (command) => {
    const { code, stderr } = await on(command, '')
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining("for all files it is '**'") })
  })

  test('a quota that is no size is told', async () => {
    const { code, stderr } = await on('follow', '**', '--quota', '10 potatoes')
    expect(code).toBe(2)
    expect(stderr).toContain('"10 potatoes" is not a size')
  })
})

test('unfollow ends one', async () => {
  agent.follows = [followed]
  const { code, stdout } = await on('unfollow', 'lectures/**')
  expect({ code, stdout }).toEqual({ code: 0, stdout: 'lectures/** is followed no more; its files stay\n' })
  expect(agent.requests).toMatchObject([{ method: 'DELETE', query: { pattern: 'lectures/**' } }])
})

describe('following', () => {
  test('tells what came of each pattern, and what was left out and why', async () => {
    const left_out = Array.from({ length: 25 }, (_, i) => ({ name: `f${i}`, why: 'too large' }))
    agent.follows = [followed, { ...followed, pattern: '*.pdf', left_out }]
    const { stdout } = await on('following')
    expect(stdout).toMatch(/^PATTERN +FILES +SIZE +QUOTA +FETCHING +LEFT OUT$/m)
    expect(stdout).toMatch(/^lectures\/\*\* +2 +3 MB +10 GB +1 +1$/m)
    expect(stdout).toContain('Left out of lectures/**:\n  lectures/huge.iso: its 20000000000 bytes')
    expect(stdout).toContain('  f19: too large\n  and 5 files more; --json names them\n')
    expect(JSON.parse((await on('following', '--json')).stdout)).toEqual({ follows: agent.follows })
  })

  test('says how to begin where nothing is followed', async () => {
    expect((await on('following')).stdout).toBe(`nothing is followed: "peer follow 'lectures/**'" begins\n`)
  })
})

test.each([
  ['0', 0],
  ['1500', 1500],
  ['500MB', 5e8],
  ['1.5 GiB', 1.5 * 2 ** 30],
  ['2tb', 2e12],
])('a size of %s is %d bytes', (text, bytes) => {
  expect(parseBytes(text)).toBe(bytes)
})

test.each(['', 'GB', '-1', '1e3', '5 XB', '9999999TB', '10MB/s'])('"%s" is no size', (text) => {
  expect(() => parseBytes(text)).toThrow('is not a size')
})
