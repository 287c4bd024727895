import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId, PeerId } from '../../common/ids.ts'
import type { TransferBody } from '../../common/schemas.ts'
import { FakeAgent, friend, ID_A, ID_B, peerFile, provider, run, start, step, transfer } from './fake-agent.fixture.ts'

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

const on = (...args: string[]) => run([...args, '--agent', agent.url])
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
      providers: [{ peer: 'P2' as PeerId, bytes: 1_000_000 }],
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
    const providers = [
      { peer: 'P2' as PeerId, bytes: 600_000 },
      { peer: 'P3' as PeerId, bytes: 200_000 },
    ]
    agent.transfer = [done({ providers, resumed_bytes: 200_000 })]
    const { stdout } = await on('download', 'film.mkv')
    expect(stdout).toContain('1 MB in 0.5 s, 1.6 MB/s, 200 kB of it kept from before, from P2 (75 %) and P3 (25 %)')
  })

  test('shows its progress on a terminal, and leaves only the last line', async () => {
    let goOn = () => {}
    agent.hold = new Promise((resolve) => {
      goOn = resolve
    })
    agent.transfer = [transfer('running', { bytes: 500_000, rate: 2_000_000 }), done()]
    const { stdout, stderr, code } = start(['download', 'film.mkv', '--agent', agent.url], { columns: 90 })
    await expect.poll(() => stderr.text).toMatch(/film\.mkv ━+─+ +50 % {2}500 kB of 1 MB {2}2 MB\/s {2}0\.3 s left/)
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

  test('that is interrupted is cancelled at the agent, and tells how to resume', async () => {
    let goOn = () => {}
    agent.hold = new Promise((resolve) => {
      goOn = resolve
    })
    agent.transfer = [transfer('running'), transfer('running', { bytes: 450_000 })]
    const interrupt = new AbortController()
    const { stderr, code } = start(['download', 'film.mkv', '--agent', agent.url], { signal: interrupt.signal })
    await expect.poll(() => agent.requests.map(({ path }) => path)).toContain('/transfers/t1/events')
    interrupt.abort()
    expect(await code).toBe(1)
    expect(stderr.text).toBe(
      'peer: cancelled in the agent at 45 %: what arrived is kept, and the same command resumes\n',
    )
    expect(agent.requests.at(-1)).toMatchObject({ method: 'DELETE', path: '/transfers/t1' })
    goOn()
  })

  test('whose agent goes away says how to resume, exit 4', async () => {
    agent.transfer = [transfer('running', { bytes: 450_000 })]
    const { code, stderr } = await on('download', 'film.mkv')
    expect(code).toBe(4)
    expect(stderr).toMatch(/went away during the transfer: once it runs again, the same command resumes/)
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
    expect(stderr).toContain(`peer download ${ID_B}`)
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

  test('to a peer that nobody knows is not found, and says what to do', async () => {
    const { code, stderr } = await on('upload', await file('notes.txt', 'hello'), '--to', 'P9')
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
