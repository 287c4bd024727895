import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, PeerId } from '../../common/ids.ts'
import type { KnownPeerBody, PeerRow, TransferBody } from '../../common/schemas.ts'
import {
  FakeAgent,
  friend,
  gave,
  ID_A,
  ID_B,
  known,
  peerFile,
  provider,
  run,
  start,
  step,
  transfer,
} from './fake-agent.fixture.ts'

let agent: FakeAgent
let folder: string

beforeEach(async () => {
  agent = await new FakeAgent().start()
  folder = await mkdtemp(join(tmpdir(), 'peer-cli-'))
})
afterEach(async () => {
  await agent.stop()
  await rm(folder, { recursive: true })
})

const on = (...args: string[]) => run(args, { env: { P2P_AGENT: agent.url } })
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex') as ContentId

async function file(name: string, text: string): Promise<string> {
  await mkdir(join(folder, name, '..'), { recursive: true })
  await writeFile(join(folder, name), text)
  return join(folder, name)
}

describe('download by the agent', () => {
  const done = (more: Partial<TransferBody> = {}) =>
    transfer('done', {
      bytes: 1_000_000,
      via: 'maestro',
      seconds: 0.5,
      providers: [gave('P2', 1_000_000)],
      ...more,
    })

  test('ends with one line: bytes, seconds, rate, from whom, via what', async () => {
    agent.transfer = [transfer('locating', { size: null }), transfer('running', { bytes: 500_000 }), done()]
    expect(await on('download', 'film.mkv', '--as', 'copy.mkv', '--via', 'friends')).toEqual({
      code: 0,
      stdout: 'film.mkv: verified, 1 MB in 0.5 s, 2 MB/s, from P2, via maestro, in the shared folder\n',
      stderr: '',
    })
    expect(agent.requests[0]?.body).toEqual({ file: 'film.mkv', as: 'copy.mkv', via: 'friends' })
  })

  test('tells the shares of several peers, and what was kept from before', async () => {
    const providers = [gave('P2', 600_000), gave('P3', 200_000), gave('P4', 0)]
    agent.transfer = [done({ providers, resumed_bytes: 200_000 })]
    const { stdout } = await on('download', 'film.mkv')
    expect(stdout).toContain(
      '1 MB in 0.5 s, 1.6 MB/s, 200 kB of it kept from before, from 2 providers (P2 75 %, P3 25 %)',
    )
  })

  test('shows its progress on a terminal, and leaves only the last line', async () => {
    let goOn = () => {}
    agent.hold = new Promise((resolve) => {
      goOn = resolve
    })
    const pieces = { total: 4, verified: 2 }
    const providers = [gave('P2', 500_000), gave('P3', 0, { state: 'banned' })]
    agent.transfer = [transfer('running', { bytes: 500_000, rate: 2_000_000, pieces, providers }), done()]
    const { stdout, stderr, code } = start(['download', 'film.mkv', '--agent', agent.url], { columns: 90 })
    await expect
      .poll(() => stderr.text)
      .toMatch(/film\.mkv ━+─+ +50 % {2}500 kB of 1 MB {2}2\/4 pieces {2}1 peer {2}2 MB\/s {2}0\.3 s left/)
    goOn()
    expect(await code).toBe(0)
    expect(stdout.text.split('\n')).toHaveLength(2)
    expect(stderr.text.endsWith('\x1b[2K')).toBe(true)
  })

  test.each([
    [{ id: null, size: null }, 'asking who has it…'],
    [{ id: ID_A }, 'checking what is here already…'],
  ])('says what goes on before bytes come: %j', async (state, phase) => {
    let goOn = () => {}
    agent.hold = new Promise((resolve) => {
      goOn = resolve
    })
    agent.transfer = [transfer('locating', state), done()]
    const { stderr, code } = start(['download', 'film.mkv', '--agent', agent.url], { columns: 90 })
    await expect.poll(() => stderr.text).toContain(`film.mkv  ${phase}`)
    goOn()
    expect(await code).toBe(0)
  })

  test('that was simulated says that nothing was written', async () => {
    agent.transfer = [done({ state: 'simulated', mode: 'dummy' })]
    const { stdout } = await on('download', 'film.mkv', '--dummy')
    expect(stdout).toBe('film.mkv: simulated, nothing was written: 1 MB would have come from P2, via maestro\n')
    expect(agent.requests[0]?.body).toEqual({ file: 'film.mkv', mode: 'dummy' })
  })

  test('names the friend that was asked instead of the Maestro, and who was dropped on the way', async () => {
    agent.friends = [friend('http://10.0.0.2:8000', { id: 'P2' as PeerId })]
    const steps = [step('maestro', 'timeout', 'http://m:9000'), step('friends', 'found', 'http://10.0.0.2:8000')]
    agent.transfer = [done({ via: 'friends', steps, notes: ['dropped P3: sent a wrong piece'] })]
    const { stderr } = await on('download', 'film.mkv')
    expect(stderr).toBe(
      'the Maestro at http://m:9000 does not answer; asked friend P2 instead\ndropped P3: sent a wrong piece\n',
    )
  })

  test.each([
    ['corrupt', 5],
    ['not_found', 3],
    ['unavailable', 4],
    ['forbidden', 1],
  ] as const)('that failed with %s exits with %i and says why', async (code, exit) => {
    agent.transfer = [transfer('failed', { error: { code, message: 'no provider is left' } })]
    expect(await on('download', 'film.mkv')).toEqual({ code: exit, stdout: '', stderr: 'peer: no provider is left\n' })
    const { stdout } = await on('download', 'film.mkv', '--json')
    expect(JSON.parse(stdout)).toEqual({ error: { code, message: 'no provider is left' } })
  })

  test('of an ambiguous name shows the choices', async () => {
    const choices = [
      { id: ID_A, size: 10, peers: ['P1'] },
      { id: ID_B, size: 20, peers: ['P2', 'P3'] },
    ]
    agent.transfer = [
      transfer('failed', { error: { code: 'conflict', message: '"film.mkv" stands for 2 contents', choices } }),
    ]
    const { code, stderr } = await on('download', 'film.mkv')
    expect(code).toBe(1)
    expect(stderr).toMatch(/^peer: "film.mkv" stands for 2 contents\n/)
    expect(stderr).toMatch(/bbbbbbbbbbbb +20 B +P2, P3\n/)
    expect(stderr).toContain(`peer download ${ID_A}\n`)
  })

  test('of an ambiguous name takes the content whose id begins as asked, under that name', async () => {
    agent.located.peers = [provider('P2', 'film.mkv'), provider('P3', 'film.mkv', { id: ID_B })]
    agent.transfer = [done()]
    expect((await on('download', 'film.mkv', '--id', 'BBBBBBBBBBBB')).code).toBe(0)
    const begun = agent.requests.find(({ method }) => method === 'POST')
    expect(begun?.body).toEqual({ id: ID_B, as: 'film.mkv' })
  })

  test('of an ambiguous name shows the choices where no id begins as asked', async () => {
    agent.located.peers = [provider('P2', 'film.mkv'), provider('P3', 'film.mkv', { id: ID_B })]
    const { code, stderr } = await on('download', 'film.mkv', '--id', 'cccccccc')
    expect(code).toBe(3)
    expect(stderr).toMatch(/^peer: no content found under this name begins with cccccccc; .*--via maestro/)
    expect(stderr).toMatch(/bbbbbbbbbbbb +1.5 MB +P3\n/)
    expect((await on('download', 'film.mkv', '--id', 'ccc')).stderr).toMatch(/--id is "ccc": it must be the first 8/)
  })

  test('of what looks like the beginning of a content id says that all of it is needed', async () => {
    agent.transfer = [transfer('failed', { error: { code: 'not_found', message: 'nobody offers "54acbf386a83"' } })]
    const { code, stderr } = await on('download', '54acbf386a83')
    expect(code).toBe(3)
    expect(stderr).toMatch(/beginning of a content id: give all 64 digits .*--id 54acbf386a83\n$/)
    agent.transfer = [transfer('failed', { error: { code: 'not_found', message: 'nobody offers "film"' } })]
    expect((await on('download', 'film')).stderr).toBe('peer: nobody offers "film"\n')
  })

  /** A download that is under way at 45 % until the test lets it go on. */
  function underWay(more: Partial<TransferBody> = {}) {
    let goOn = () => {}
    agent.hold = new Promise((resolve) => {
      goOn = resolve
    })
    agent.transfer = [transfer('locating'), transfer('running', { bytes: 450_000, ...more }), done()]
    return goOn
  }

  test('that is interrupted is paused at the agent, and tells how to go on', async () => {
    const goOn = underWay()
    agent.transfer.pop()
    const interrupt = new AbortController()
    const env = { P2P_AGENT: agent.url }
    const { stderr, code } = start(['download', 'film.mkv'], { signal: interrupt.signal, env })
    await expect.poll(() => agent.requests.map(({ path }) => path)).toContain('/transfers/t1/events')
    interrupt.abort()
    expect(await code).toBe(1)
    expect(stderr.text).toBe('peer: paused at 45 %: "peer transfers resume t1" or the same command goes on with it\n')
    expect(agent.requests.at(-1)).toMatchObject({ method: 'POST', path: '/transfers/t1/pause' })
    goOn()
  })

  test('that runs already is joined, and says so', async () => {
    agent.transfer = [transfer('running', { bytes: 410_000 }), done()]
    expect((await on('download', 'film.mkv')).stderr).toBe('joined transfer t1, which runs already at 41 %\n')
  })

  test('that shares the fetch of another says so', async () => {
    agent.transfer = [transfer('locating'), transfer('running', { bytes: 410_000, joined: '3' }), done({ joined: '3' })]
    const { stdout, stderr } = await on('download', 'film.mkv')
    expect(stderr).toBe('joined transfer 3, which runs already at 41 %\n')
    expect(stdout).toMatch(/verified, 1 MB in 0\.5 s, with transfer 3, from P2, via maestro/)
  })

  test('that was paused goes on, and says so', async () => {
    agent.transfer = [transfer('queued', { bytes: 310_000 }), done()]
    expect((await on('download', 'film.mkv')).stderr).toBe('goes on with transfer t1 at 31 %\n')
  })

  test('that is paused from elsewhere says so, and stays with it', async () => {
    agent.transfer = [transfer('locating'), transfer('paused', { bytes: 310_000 }), done()]
    const { stderr, code } = await on('download', 'film.mkv')
    expect(stderr).toBe('paused from elsewhere at 31 %: "peer transfers resume t1" goes on with it\n')
    expect(code).toBe(0)
  })

  test('that is paused from elsewhere and then interrupted stays paused, and says how to go on', async () => {
    const goOn = underWay()
    agent.transfer = [transfer('locating'), transfer('paused', { bytes: 310_000 }), done()]
    agent.refusal = new NetworkError('conflict', 'transfer t1 is paused already: resume it, or cancel it')
    agent.refuses = (path) => path.endsWith('/pause')
    const interrupt = new AbortController()
    const env = { P2P_AGENT: agent.url }
    const { stderr, code } = start(['download', 'film.mkv'], { signal: interrupt.signal, env })
    await expect.poll(() => stderr.text).toMatch(/^paused from elsewhere at 31 %.*\n$/)
    interrupt.abort()
    expect(await code).toBe(1)
    expect(stderr.text).toMatch(
      /\npeer: paused at 31 %: "peer transfers resume t1" or the same command goes on with it\n$/,
    )
    goOn()
  })

  test('that waits for a provider counts down', async () => {
    const goOn = underWay({ state: 'waiting', waiting: { retry_ms: 8000 } })
    const { stderr, code } = start(['download', 'film.mkv', '--agent', agent.url], { columns: 90 })
    const seconds = () =>
      [...stderr.text.matchAll(/film\.mkv {2}no provider at the moment; asks again in (\d+) s/g)].map(([, s]) =>
        Number(s),
      )
    await expect.poll(() => new Set(seconds()).size).toBeGreaterThan(1)
    expect(seconds()).toEqual(seconds().toSorted((a, b) => b - a))
    expect(seconds()[0]).toBeLessThanOrEqual(8)
    goOn()
    expect(await code).toBe(0)
  })

  test('is given up where no provider was there for as long as --wait allows, exit 4', async () => {
    const goOn = underWay({ state: 'waiting', waiting: { retry_ms: 8000 } })
    const { code, stderr } = await on('download', 'film.mkv', '--wait', '0.05')
    expect(code).toBe(4)
    expect(stderr).toMatch(
      /^peer: no provider was there for 0\.05 s, given up( at \d+ %)?: what arrived is kept, and the same command resumes\n$/,
    )
    expect(agent.requests.at(-1)).toMatchObject({ method: 'DELETE', path: '/transfers/t1' })
    goOn()
  })

  test('waits for whoever comes back in time', async () => {
    agent.transfer = [transfer('waiting', { waiting: { retry_ms: 10 } }), transfer('running'), done()]
    expect((await on('download', 'film.mkv', '--wait', '60')).code).toBe(0)
    expect((await on('download', 'film.mkv', '--wait', 'long')).stderr).toMatch(
      /--wait is "long": .* number of seconds/,
    )
  })

  test('with a limit hands it to the agent', async () => {
    agent.transfer = [done()]
    await on('download', 'film.mkv', '--limit', '5MB/s')
    expect(agent.requests[0]?.body).toEqual({ file: 'film.mkv', limit: 5_000_000 })
    await on('download', 'film.mkv', '--limit', 'none')
    expect(agent.requests.findLast(({ method }) => method === 'POST')?.body).toEqual({ file: 'film.mkv', limit: null })
    expect(await on('download', 'film.mkv', '--limit', 'fast')).toMatchObject({ code: 2 })
  })

  test('that is detached returns at once with its number', async () => {
    agent.transfer = [transfer('locating')]
    expect(await on('download', 'film.mkv', '-d')).toEqual({
      code: 0,
      stdout: 'film.mkv: transfer t1 goes on in the agent; "peer transfers --follow" shows it\n',
      stderr: '',
    })
    expect(agent.requests).toHaveLength(1)
    expect(JSON.parse((await on('download', 'film.mkv', '--detach', '--json')).stdout)).toMatchObject({
      transfer: 't1',
    })
  })

  test('names five of many providers, and how far it was from the bound', async () => {
    const providers = [40, 20, 15, 10, 8, 5, 2].map((share, i) => gave(`P${i + 1}`, share * 10_000))
    agent.transfer = [done({ providers, seconds: 2.5, peak_rate: 500_000 })]
    const { stdout } = await on('download', 'film.mkv')
    expect(stdout).toBe(
      'film.mkv: verified, 1 MB in 2.5 s, 400 kB/s, from 7 providers (P1 40 %, P2 20 %, P3 15 %, P4 10 %, P5 8 % and 2 more), via maestro, in the shared folder; 1.25 of the bound\n',
    )
    const json = await on('download', 'film.mkv', '--json')
    expect(JSON.parse(json.stdout)).toMatchObject({ bound_s: 2, of_bound: 1.25 })
  })

  test('has no bound where it waited, was paused, or got another limit on the way', async () => {
    const ended = done({ seconds: 2.5, peak_rate: 500_000 })
    for (const before of [
      [transfer('locating'), transfer('waiting', { waiting: { retry_ms: 10 } })],
      [transfer('locating'), transfer('paused')],
      [transfer('queued')],
      [transfer('running', { bytes: 10 })],
      [transfer('running'), transfer('running', { limit: 5000 })],
    ]) {
      agent.transfer = [...before, ended]
      expect((await on('download', 'film.mkv')).stdout).not.toContain('bound')
      expect(JSON.parse((await on('download', 'film.mkv', '--json')).stdout)).toMatchObject({ of_bound: null })
    }
  })

  test('tells shares that add up', async () => {
    agent.transfer = [done({ providers: [gave('P1', 533_000), gave('P3', 467_000 - 400), gave('P4', 400)] })]
    expect((await on('download', 'film.mkv')).stdout).toContain('(P1 53 %, P3 47 %, P4 0 %)')
    agent.transfer = [done({ providers: [gave('P1', 535_000), gave('P3', 465_000)] })]
    const { stdout } = await on('download', 'film.mkv', '--explain')
    expect(stdout).toContain('(P1 54 %, P3 46 %)')
    expect(stdout).toMatch(/P1 .* 54 %\n[^%]* 46 %\n/)
  })

  test('of an empty file says neither rate nor giver, and blames nobody', async () => {
    const providers = [gave('P3', 0, { state: 'dropped', pieces: 0 })]
    agent.transfer = [done({ size: 0, bytes: 0, providers, seconds: 0.01 })]
    expect((await on('download', 'empty.txt', '--explain')).stdout).toBe(
      'Nobody was asked for a byte.\nfilm.mkv: verified, 0 B in 0.0 s, via maestro, in the shared folder\n',
    )
    agent.transfer = [done({ state: 'simulated', size: 0, bytes: 0, providers })]
    expect((await on('download', 'empty.txt', '--dummy')).stdout).toMatch(/: 0 B would have come via maestro\n$/)
  })

  test('explains how it found whom, who gave what, and who was banned and why', async () => {
    const steps = [step('maestro', 'found', 'http://m:9000')]
    const providers = [gave('P2', 1_000_000), gave('P3', 0, { state: 'banned', reason: 'sent wrong bytes' })]
    agent.transfer = [done({ steps, providers })]
    const { stdout } = await on('download', 'film.mkv', '--explain')
    expect(stdout).toMatch(/1 +maestro +http:\/\/m:9000 +found 1/)
    expect(stdout).toMatch(/P2 +10\.0\.0\.2:50051 +connected +4 +1 MB +100 %\n/)
    expect(stdout).toMatch(/P3 +10\.0\.0\.2:50051 +banned +4 +0 B +0 % +sent wrong bytes\n/)
    agent.transfer = [
      transfer('failed', { steps, providers, error: { code: 'corrupt', message: 'no provider is left' } }),
    ]
    const failed = await on('download', 'film.mkv', '--explain')
    expect(failed).toMatchObject({ code: 5, stdout: expect.stringMatching(/P3 .*sent wrong bytes/) })
  })

  test('whose agent goes away says how to resume, exit 4', async () => {
    agent.transfer = [transfer('running', { bytes: 450_000 })]
    const { code, stderr } = await on('download', 'film.mkv')
    expect(code).toBe(4)
    expect(stderr).toMatch(/went away during the transfer: once it runs again, the same command resumes/)
  })
})

describe('download of a folder', () => {
  test('asks the agent for all of it, and counts files', async () => {
    const files = { total: 3, done: 3 }
    const providers = [gave('P2', 1_000_000)]
    agent.transfer = [
      transfer('done', { file: 'lectures/', id: null, bytes: 1_000_000, seconds: 0.5, files, providers }),
    ]
    expect(await on('download', 'lectures/', '--as', 'mine')).toEqual({
      code: 0,
      stdout: 'lectures/: verified, 3 files, 1 MB in 0.5 s, 2 MB/s, from P2, in the shared folder\n',
      stderr: '',
    })
    expect(agent.requests[0]?.body).toEqual({ folder: 'lectures', as: 'mine' })
  })

  test.each([
    [['-o', '.'], /a folder is fetched by the agent into its shared folder: leave out -o/],
    [['--peer', 'http://10.0.0.1:1'], /a folder is fetched by the agent/],
    [['--via', 'friends'], /leave out --id and --via/],
  ])('elsewhere or otherwise is wrong usage: %j', async (args, message) => {
    const { code, stderr } = await on('download', 'lectures/', ...args)
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(message) })
  })
})

test.each(['/', '//'])('download of %s is wrong usage, and says what a folder is named like', async (typed) => {
  expect(await on('download', typed)).toEqual({
    code: 2,
    stdout: '',
    stderr: `peer: "${typed}" names no folder: it is fetched by its name, such as lectures/\n`,
  })
})

describe('download of what nobody offers', () => {
  const missing = () => {
    const message = 'nobody offers "lectures": "peer search TEXT" finds parts of names, "peer network" shows who is up'
    agent.transfer = [transfer('failed', { error: { code: 'not_found', message } })]
    return message
  }

  test('asks whether the folder of this name was meant, where there is one', async () => {
    const message = missing()
    agent.located.peers = [provider('P2', 'my lectures/x'), provider('P2', 'lectures/week1.pdf')]
    const { code, stderr } = await on('download', 'lectures')
    expect([code, stderr]).toEqual([3, `peer: ${message}; did you mean the folder "lectures/"?\n`])
  })

  test('says no more where there is none, or nobody tells', async () => {
    const message = missing()
    agent.located.peers = [provider('P2', 'my lectures/x')]
    expect((await on('download', 'lectures')).stderr).toBe(`peer: ${message}\n`)
    agent.refusal = new NetworkError('internal', 'broken')
    agent.refuses = (path) => path === '/locate'
    expect((await on('download', 'lectures')).stderr).toBe(`peer: ${message}\n`)
  })

  test('to a path asks the same', async () => {
    agent.located.steps = [step('maestro', 'nothing', 'http://m:9000')]
    const { code, stderr } = await on('download', 'lectures', '-o', folder)
    expect([code, stderr]).toEqual([
      3,
      'peer: nobody offers "lectures": "peer search TEXT" finds parts of names, "peer network" shows who is up\n',
    ])
  })
})

describe('download in this process', () => {
  test('never touches a file with other content', async () => {
    const path = await file('film.mkv', 'mine')
    agent.located.peers = [provider('P2', 'film.mkv', { size: 4 })]
    const { code, stderr } = await on('download', 'film.mkv', '-o', folder)
    expect(code).toBe(1)
    expect(stderr).toBe(`peer: ${path} exists with other content and stays as it is: choose another place with -o\n`)
  })

  test('fetches nothing where the content is there already', async () => {
    const path = await file('film.mkv', 'mine')
    agent.located.peers = [provider('P2', 'film.mkv', { size: 4, id: sha256('mine') })]
    expect(await on('download', 'film.mkv', '-o', path)).toEqual({
      code: 0,
      stdout: `film.mkv: there already, nothing was fetched (4 B, in ${path})\n`,
      stderr: '',
    })
  })

  test('asks the peer that is named, with no agent', async () => {
    await file('film.mkv', 'mine')
    agent.files = [peerFile('film.mkv', 4, sha256('mine'))]
    const { code } = await run(['download', 'film.mkv', '--peer', agent.url, '-o', folder])
    expect(code).toBe(0)
    expect(agent.requests.map(({ path }) => path)).toEqual(['/search'])
  })

  test('asks the Maestro that is named, with no agent', async () => {
    await file('film.mkv', 'mine')
    agent.located.peers = [provider('P2', 'film.mkv', { size: 4, id: sha256('mine') })]
    const { code } = await run(['download', 'film.mkv', '--maestro', agent.url, '-o', folder])
    expect({ code, asked: agent.requests.map(({ path }) => path) }).toEqual({ code: 0, asked: ['/locate'] })
  })

  test('of an ambiguous name shows the choices', async () => {
    agent.located.peers = [provider('P2', 'film.mkv'), provider('P3', 'film.mkv', { id: ID_B })]
    const { code, stderr } = await on('download', 'film.mkv', '-o', folder)
    expect(code).toBe(1)
    expect(stderr).toMatch(/"film.mkv" stands for 2 different contents: .*\n/)
    expect(stderr).toContain(`  peer download ${ID_B}\n`)
  })

  test('of an ambiguous name takes the content whose id begins as asked', async () => {
    const path = await file('film.mkv', 'mine')
    const mine = provider('P3', 'film.mkv', { id: sha256('mine'), size: 4 })
    agent.located.peers = [provider('P2', 'film.mkv'), mine]
    const { code, stdout } = await on('download', 'film.mkv', '-o', path, '--id', sha256('mine').slice(0, 12))
    expect(code).toBe(0)
    expect(stdout).toMatch(/^film.mkv: there already/)
  })

  test('into a folder that is not there is wrong usage', async () => {
    agent.located.peers = [provider('P2', 'film.mkv')]
    const { code, stderr } = await on('download', 'film.mkv', '-o', join(folder, 'no/where'))
    expect(code).toBe(2)
    expect(stderr).toMatch(/there is no folder .*create it/)
  })

  test('from a provider that does not answer leaves nothing behind, exit 4', async () => {
    agent.located.peers = [provider('P2', 'film.mkv', { rest: 'http://127.0.0.1:9', grpc_port: 9 })]
    const { code, stdout } = await on('download', 'film.mkv', '-o', folder)
    expect({ code, stdout, left: await readdir(folder) }).toEqual({ code: 4, stdout: '', left: [] })
  })
})

describe('upload to the agent', () => {
  test('streams the file under its own name', async () => {
    const { stdout, code } = await on('upload', await file('notes.txt', 'hello'))
    expect(code).toBe(0)
    expect(stdout).toMatch(/^notes.txt: shared at P1 \(5 B, content aaaaaaaaaaaa, /)
    expect(agent.received).toEqual(new Map([['notes.txt', 'hello']]))
  })

  test('takes another name, with folders in it', async () => {
    await on('upload', await file('notes.txt', 'hello'), '--as', 'week 1/ñotes.txt')
    expect([...agent.received.keys()]).toEqual(['week 1/ñotes.txt'])
  })

  test('of a folder sends its files one after the other, and leaves out what can not be shared', async () => {
    await file('lectures/b/two.txt', '2')
    await file('lectures/one.txt', '1')
    await file('lectures/.hidden', 'x')
    await symlink('/etc/passwd', join(folder, 'lectures/link'))
    const { stderr, code } = await on('upload', join(folder, 'lectures'))
    expect(code).toBe(0)
    expect([...agent.received]).toEqual([
      ['lectures/b/two.txt', '2'],
      ['lectures/one.txt', '1'],
    ])
    expect(stderr).toMatch(/left out .*\.hidden: .*hidden files are not shared/)
    expect(stderr).toMatch(/left out .*link: it is a symbolic link\n/)
  })

  test('of a folder names some of what is left out, and counts the rest', async () => {
    await file('lectures/one.txt', '1')
    for (let i = 0; i < 25; i++) await file(`lectures/.hidden${i}`, 'x')
    const { stderr } = await on('upload', join(folder, 'lectures'))
    expect(stderr.match(/left out .*hidden/g)).toHaveLength(20)
    expect(stderr).toMatch(/\nleft out 5 more; --json names them all\n$/)
  })

  test('of a folder with nothing to share says why', async () => {
    await file('lectures/.hidden', 'x')
    const { code, stderr } = await on('upload', join(folder, 'lectures'))
    expect(code).toBe(3)
    expect(stderr).toMatch(/^left out .*\npeer: there is no file to share in .*lectures\n$/s)
  })

  test('sends nothing where the content is there already', async () => {
    agent.files = [peerFile('notes.txt', 5, sha256('hello'))]
    const { stdout } = await on('upload', await file('notes.txt', 'hello'))
    expect(stdout).toMatch(/^notes.txt: there already at P1 .*nothing was sent\n$/)
    expect(agent.received.size).toBe(0)
  })

  test('is refused before it begins where the name has other content', async () => {
    agent.files = [peerFile('notes.txt', 5, ID_A)]
    const { code, stderr } = await on('upload', await file('notes.txt', 'hello'))
    expect(code).toBe(1)
    expect(stderr).toMatch(/another content as "notes.txt", which stays as it is: .*--as/)
    expect(agent.received.size).toBe(0)
  })

  test('simulated says what would happen, and sends nothing', async () => {
    const { stdout } = await on('upload', await file('notes.txt', 'hello'), '--dummy')
    expect(stdout).toBe(
      `notes.txt: simulated, nothing was sent: 5 B would have gone to P1 (5 B, content ${sha256('hello').slice(0, 12)})\n`,
    )
    expect(agent.requests.some(({ method }) => method === 'PUT')).toBe(false)
  })

  test('tells each file in its JSON', async () => {
    const { stdout } = await on('upload', await file('notes.txt', 'hello'), '--json')
    expect(JSON.parse(stdout).files).toMatchObject([{ name: 'notes.txt', outcome: 'shared', to: 'P1', bytes: 5 }])
  })

  test('of what is not there is not found, of a device wrong usage', async () => {
    expect((await on('upload', join(folder, 'nothing'))).code).toBe(3)
    expect((await on('upload', '/dev/null')).code).toBe(2)
  })

  test('to a peer by its id goes where it is alive, else where the Maestro says, else where others do', async () => {
    const [here, registered, nobody] = ['http://127.0.0.1:10', 'http://127.0.0.1:11', 'http://127.0.0.1:9']
    const path = await file('notes.txt', 'hello')
    const maestro = await new FakeAgent().start()
    const row = { files: [], file_count: 0, status: 'alive', last_seen: new Date().toISOString(), revision: 1 }
    maestro.peers = [{ id: 'P9' as PeerId, rest: registered, grpc_port: 1, ...row } as PeerRow]
    const tried = async (status: KnownPeerBody['status'], maestroUrl: string) => {
      agent.known = [known('P9', here, { status })]
      agent.info.maestro_url = maestroUrl
      return /http:\S+/.exec((await on('upload', path, '--to', 'P9', '--now')).stderr)?.[0]
    }
    expect(await tried('alive', maestro.url)).toBe(here)
    expect(await tried('lost', maestro.url)).toBe(registered)
    expect(await tried('hearsay', maestro.url)).toBe(registered)
    expect(await tried('hearsay', nobody)).toBe(here)
    await maestro.stop()
  })

  test('to a peer that nobody knows is not found at once, and says what to do', async () => {
    const { code, stderr } = await on('upload', await file('notes.txt', 'hello'), '--to', 'P9', '--now')
    expect(code).toBe(3)
    expect(stderr).toMatch(/no peer "P9" is known: see "peer network"/)
  })
})

describe('hash', () => {
  test('prints what sha256sum prints for small files', async () => {
    const paths = [await file('a', 'one'), await file('b', '')]
    const { stdout } = await run(['hash', ...paths])
    expect(stdout).toBe(`${sha256('one')}  ${paths[0]}\n${sha256('')}  ${paths[1]}\n`)
    const answer = await run(['hash', ...paths, '--json'])
    expect(JSON.parse(answer.stdout).files[0]).toEqual({ path: paths[0], id: sha256('one'), size: 3 })
  })

  test('of what is no file exits by the reason', async () => {
    expect((await run(['hash', join(folder, 'nothing')])).code).toBe(3)
    expect((await run(['hash', folder])).stderr).toBe(`peer: ${folder} is not a regular file\n`)
  })
})

test('an error of the agent in PUT keeps its code', async () => {
  const path = await file('notes.txt', 'hello')
  agent.refusal = new NetworkError('limited', 'too many uploads at once: try again later')
  expect(await on('upload', path)).toMatchObject({
    code: 1,
    stderr: 'peer: too many uploads at once: try again later\n',
  })
})
