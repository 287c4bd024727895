import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, onTestFinished, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, FileName } from '../../common/ids.ts'
import { FakeAgent, happened, ID_A, ID_B, known, peerFile, provider, run, start, step } from './fake-agent.fixture.ts'
import { Holders } from './holders.ts'

let agent: FakeAgent
let interrupted: AbortController
beforeEach(async () => {
  agent = await new FakeAgent().start()
  agent.info.maestro_url = 'http://10.0.0.9:9000'
  agent.files = [peerFile('film.mkv')]
  agent.located.steps = [step('maestro', 'nothing', 'http://10.0.0.9:9000')]
  interrupted = new AbortController()
})
afterEach(() => agent.stop())

const revision = { from: 1, to: 2 }
const publish = (...args: string[]) =>
  start(['publish', ...args], { env: { P2P_AGENT: agent.url }, signal: interrupted.signal })
const done = async ({ code, stdout, stderr }: ReturnType<typeof publish>) => ({
  code: await code,
  stdout: stdout.text,
  stderr: stderr.text,
})
const added = (origin: string, content: ContentId = ID_A, name = 'film.mkv') =>
  happened('file.added', { name: name as FileName, id: content, size: 1, revision }, { origin })
const removed = (origin: string, name = 'film.mkv') =>
  happened('file.removed', { name: name as FileName, revision }, { origin })

describe('publish', () => {
  test('shares a file, and returns at once where nobody is waited for', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'publish-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    writeFileSync(join(folder, 'new.txt'), 'hello')
    agent.files = []
    const { code, stdout } = await done(publish(join(folder, 'new.txt'), '--as', 'texts/new.txt', '--json'))
    expect(code).toBe(0)
    expect(agent.received.get('texts/new.txt')).toBe('hello')
    expect(JSON.parse(stdout)).toMatchObject({ name: 'texts/new.txt', id: ID_A, wait: 0, holders: [] })
  })

  test('shares it under the name that is asked for, whatever else the content is called', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'publish-'))
    onTestFinished(() => rmSync(folder, { recursive: true, force: true }))
    writeFileSync(join(folder, 'new.txt'), 'hello')
    const hello = createHash('sha256').update('hello').digest('hex') as ContentId
    agent.files = [peerFile('old.txt', 5, hello)]
    const there = await done(publish(join(folder, 'new.txt')))
    expect(there.stdout).toMatch(/^old.txt: there already at P1 /)
    expect(agent.received.size).toBe(0)
    const named = await done(publish(join(folder, 'new.txt'), '--as', 'texts/new.txt'))
    expect(named).toMatchObject({ code: 0, stdout: expect.stringMatching(/^texts\/new.txt: shared at P1 /) })
    expect(agent.received.get('texts/new.txt')).toBe('hello')
    agent.files = [peerFile('taken.txt', 5, ID_B)]
    const taken = await done(publish(join(folder, 'new.txt'), '--as', 'taken.txt'))
    expect(taken.code).toBe(1)
    expect(taken.stderr).toContain('shares another content as "taken.txt"')
  })

  test('gives no other name to what is shared already', async () => {
    const { code, stderr } = await done(publish('film.mkv', '--as', 'evening.mkv'))
    expect({ code, stderr }).toMatchObject({ code: 2, stderr: expect.stringContaining('leave out --as') })
  })

  test('waits until so many others have said that they hold it', async () => {
    const running = publish('film.mkv', '--wait', '2', '--json')
    await expect.poll(() => agent.watchers).toBe(1)
    agent.tell(added('P1'), added('P2'), added('P2', ID_A, 'copy'), added('P3', ID_B), added('P4'))
    const { code, stdout, stderr } = await done(running)
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const { seconds, ...rest } = JSON.parse(stdout)
    expect(rest).toEqual({ name: 'film.mkv', id: ID_A, size: 1_500_000, wait: 2, holders: ['P2', 'P4'] })
    expect(seconds).toBeLessThan(10)
  })

  test('tells people who has it', async () => {
    agent.located.peers = [provider('P2', 'film.mkv')]
    const { stdout } = await done(publish('film.mkv', '--wait', '1'))
    expect(stdout).toMatch(/^film.mkv: 1 other peer has it after .* s: P2\n$/)
    expect(agent.requests.find(({ path }) => path === '/locate')?.query).toEqual({ id: ID_A, via: 'maestro' })
  })

  test('shows on a terminal how many have it', async () => {
    const running = start(['publish', 'film.mkv', '--wait', '2'], { env: { P2P_AGENT: agent.url }, columns: 100 })
    await expect.poll(() => agent.watchers).toBe(1)
    agent.tell(added('P2'))
    await expect.poll(() => running.stderr.text).toMatch(/1 of 2 other peers have it, .* s: P2/)
    agent.tell(added('P3'))
    expect(await running.code).toBe(0)
  })

  test('one that removed its copy does not count', async () => {
    const running = publish('film.mkv', '--wait', '2', '--json')
    await expect.poll(() => agent.watchers).toBe(1)
    agent.tell(added('P2'), removed('P2'), added('P3'), added('P4'))
    expect(JSON.parse((await done(running)).stdout).holders).toEqual(['P3', 'P4'])
  })

  test('ends with 1 where time is over, and says that it is still shared', async () => {
    agent.located.peers = [provider('P2', 'film.mkv')]
    const { code, stderr } = await done(publish('film.mkv', '--wait', '3', '--timeout', '0.5s'))
    expect(code).toBe(1)
    expect(stderr).toMatch(
      /^peer: 1 of 3 other peers have it after 0.* s: P2; it is still shared, and the same command/,
    )
    const json = await done(publish('film.mkv', '--wait', '3', '--timeout', '0.5s', '--json'))
    expect(json.code).toBe(1)
    expect(JSON.parse(json.stdout)).toMatchObject({ wait: 3, holders: ['P2'] })
  })

  test('asks where there are no events, and the peers themselves where the Maestro is away', async () => {
    const other = await new FakeAgent().start()
    onTestFinished(() => other.stop())
    other.info.id = 'P7' as never
    other.files = [peerFile('copy.mkv')]
    agent.known = [known('P7', other.url), known('P8', 'http://127.0.0.1:9'), known('P1', agent.url)]
    agent.located.steps = [step('maestro', 'unreachable', 'http://10.0.0.9:9000')]
    agent.refusal = new NetworkError('not_found', 'there is no such route')
    agent.refuses = (path) => path === '/events'
    const { code, stdout } = await done(publish('film.mkv', '--wait', '1', '--json'))
    expect(code).toBe(0)
    expect(JSON.parse(stdout).holders).toEqual(['P7'])
  })

  test('Ctrl-C stops waiting', async () => {
    agent.located.peers = [provider('P2', 'film.mkv')]
    const running = publish('film.mkv', '--wait', '2')
    await expect.poll(() => agent.requests.filter(({ path }) => path === '/locate').length).toBeGreaterThan(1)
    interrupted.abort()
    const { code, stderr } = await done(running)
    expect(code).toBe(1)
    expect(stderr).toBe('peer: stopped waiting: 1 of 2 other peers have it; it is still shared\n')
  })

  test('what is neither a file nor shared, a folder, and a number that is none are told', async () => {
    const missing = await done(publish('nothing.txt'))
    expect(missing.code).toBe(3)
    expect(missing.stderr).toContain('there is no file nothing.txt on this machine, and the agent shares none')
    const folder = await done(publish(tmpdir(), '--wait', '1'))
    expect(folder).toMatchObject({ code: 2 })
    expect(folder.stderr).toContain('is a folder')
    for (const number of ['x', '-1', '1.5', '1000000'])
      expect(await run(['publish', 'film.mkv', `--wait=${number}`])).toMatchObject({
        code: 2,
        stderr: `peer: --wait is "${number}": it must be a whole number of other peers, up to 100,000; see "peer publish --help"\n`,
      })
  })
})

test('a holder holds it as long as it has it under any name', () => {
  const holders = new Holders(ID_A, 'P1')
  const renamed = (origin: string, from: string, name: string, content: ContentId = ID_A) =>
    happened(
      'file.renamed',
      { name: name as FileName, from: from as FileName, id: content, size: 1, revision },
      { origin },
    )
  for (const event of [added('P1'), added('P2', ID_A, 'a'), added('P2', ID_A, 'b'), removed('P2', 'a')])
    holders.hear(event)
  expect(holders.peers).toEqual(['P2'])
  holders.hear(renamed('P2', 'b', 'c'))
  expect(holders.peers).toEqual(['P2'])
  holders.hear(added('P2', ID_B, 'c'))
  expect(holders.peers).toEqual([])
})
