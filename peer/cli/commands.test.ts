import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import type { PeerRow } from '../../common/schemas.ts'
import {
  FakeAgent,
  friend,
  gave,
  ID_A,
  ID_B,
  peerFile,
  provider,
  run,
  start,
  step,
  transfer,
} from './fake-agent.fixture.ts'
import { width } from './text.ts'

let agent: FakeAgent
let other: FakeAgent
/** What a Maestro says of itself. */
const maestro = {
  service: 'maestro',
  id: 'm',
  version: '1',
  status: 'ok',
  peers: 1,
  files: 1,
  uptime_s: 1,
  lease_ms: 1,
}
/** Where nobody listens. */
const NOBODY = 'http://127.0.0.1:9'

beforeEach(async () => {
  agent = await new FakeAgent().start()
  other = await new FakeAgent().start()
})
afterEach(async () => {
  await agent.stop()
  await other.stop()
})

const on = (...args: string[]) => run(args, { env: { P2P_AGENT: agent.url } })
const json = async (...args: string[]) => {
  const { stdout, stderr, code } = await on(...args, '--json')
  return { answer: JSON.parse(stdout), stderr, code }
}

describe('the agent', () => {
  test('status tells who it is, what it shares and how it stands with the Maestro', async () => {
    Object.assign(agent.info, { maestro_url: 'http://10.0.0.9:9000', maestro: 'unreachable' })
    const { stdout, code } = await on('status')
    expect(code).toBe(0)
    expect(stdout).toContain('P1 is up for 3 min 20 s')
    expect(stdout).toContain('2 files, 3 MB')
    expect(stdout).toMatch(/http:\/\/10.0.0.9:9000 does not answer; lookups go to the friends/)
  })

  test('is found by the environment where no flag names it', async () => {
    const { code, stdout } = await run(['status'], { env: { P2P_AGENT: agent.url } })
    expect({ code, named: stdout.includes('P1') }).toEqual({ code: 0, named: true })
  })

  test('gets the token of the flag or the environment, other peers do not', async () => {
    other.known = [{ id: 'P3' as PeerId, rest: 'http://10.0.0.3:8000' }]
    await run(['discover', other.url, '--agent', agent.url], { env: { P2P_TOKEN: 'secret-token' } })
    expect(agent.requests.map(({ authorization }) => authorization)).toContain('Bearer secret-token')
    expect(other.requests.map(({ authorization }) => authorization)).toEqual([undefined])
  })

  test('that does not run is told with what to do next, exit 4', async () => {
    expect(await run(['status', '--agent', NOBODY])).toEqual({
      code: 4,
      stdout: '',
      stderr: `peer: no agent answers at ${NOBODY}: start one with "peer run --config config/peer1.json", or name another with --agent URL\n`,
    })
  })

  test('is looked for at the port of agents where only a host is named', async () => {
    expect((await run(['status', '--agent', '127.0.0.2'])).stderr).toMatch(
      /^peer: no agent answers at http:\/\/127\.0\.0\.2:8000: /,
    )
  })

  test('that refuses is quoted in one line, exit by its code', async () => {
    agent.refusal = new NetworkError('unauthorized', 'this route is for the user of this machine')
    expect(await on('transfers')).toEqual({
      code: 1,
      stdout: '',
      stderr: 'peer: this route is for the user of this machine\n',
    })
  })

  test.each([['status'], ['list'], ['locate', 'x'], ['search', 'x']])(
    'that is a Maestro is told to be one, with where it belongs: %s',
    async (...args) => {
      agent.root = maestro
      agent.refusal = new NetworkError('not_found', 'no route GET /info; see /docs')
      agent.refuses = (path) => path !== '/'
      expect(await on(...args)).toEqual({
        code: 2,
        stdout: '',
        stderr: `peer: ${agent.url} is a Maestro, not an agent: give it as --maestro (peer download), and an agent as --agent\n`,
      })
    },
  )

  test('that answers nonsense is a failure, not a failed verification', async () => {
    Object.assign(agent, { info: { hello: 'world' } })
    const { code, stderr } = await on('status')
    expect(code).toBe(1)
    expect(stderr).toMatch(/answered GET \/info in a form that this program does not know/)
  })
})

describe('commands that are named in a hint', () => {
  test('reach the agent that was meant, where an option said which', async () => {
    agent.transfer = [transfer('running')]
    agent.limits.set = ['download']
    agent.located.peers = [provider('P2', 'a'), provider('P3', 'a', { id: ID_B })]
    const hints = async (...args: string[]) => {
      const { stdout, stderr } = await run([...args, '--agent', agent.url])
      return [...(stdout + stderr).matchAll(/peer .*?--agent \S+ .*?(?=["\n])/g)].map(([hint]) => hint)
    }
    const peer = `peer --agent ${agent.url}`
    expect(await hints('download', 'a', '-d')).toEqual([`${peer} transfers --follow`])
    expect(await hints('limits')).toEqual([`${peer} limits reset`])
    expect(await hints('locate', 'a')).toEqual([`${peer} download ${ID_A}`, `${peer} download ${ID_B}`])
    agent.refusal = new NetworkError('not_found', 'none: "peer search TEXT" looks on; see "peer search --help"')
    expect((await run(['--agent', agent.url, 'status', '--token', 'my secret'])).stderr).toBe(
      `peer: none: "${peer} --token TOKEN search TEXT" looks on; see "peer search --help"\n`,
    )
  })

  test('stay as they are where none did', async () => {
    agent.limits.set = ['download']
    expect((await on('limits')).stdout).toContain('"peer limits reset" goes back')
  })

  test('are no file names that only look so', async () => {
    agent.located.steps = [step('maestro', 'nothing', 'http://m:9000')]
    expect((await run(['locate', 'peer review', '--agent', agent.url])).stderr).toContain(
      'nobody offers "peer review": ',
    )
  })
})

describe('list', () => {
  test('shows every page of the files', async () => {
    agent.files = ['a.txt', 'b.txt', 'c.txt', 'd.txt', 'e.txt'].map((name) => peerFile(name))
    const { stdout } = await on('list')
    expect(stdout).toMatch(/NAME +SIZE +CONTENT +MODIFIED/)
    for (const name of ['a.txt', 'c.txt', 'e.txt'])
      expect(stdout).toContain(`${name}  1.5 MB  aaaaaaaaaaaa  2026-03-01`)
    expect(stdout).toContain('5 files, 7.5 MB; --wide shows whole content ids')
    expect((await json('list')).answer.files).toHaveLength(5)
  })

  test('shows whole content ids when asked', async () => {
    agent.files = [peerFile('a.txt')]
    expect((await on('list', '--wide')).stdout).toContain(ID_A)
  })

  test('fits the terminal, names shortened in the middle', async () => {
    agent.files = [peerFile(`${'very-long-name-'.repeat(12)}end.mkv`), peerFile(`${'映画'.repeat(40)}.mkv`)]
    for (const columns of [60, 80, 120]) {
      const { stdout } = await run(['list', '--agent', agent.url], { columns, env: { NO_COLOR: '1' } })
      for (const line of stdout.split('\n')) expect(width(line)).toBeLessThanOrEqual(columns)
      expect(stdout).toMatch(/very-.*….*end\.mkv/)
      expect(stdout).toMatch(/映.*…/)
    }
  })

  test('gives whole names where the output is no terminal', async () => {
    const name = `${'very-long-name-'.repeat(12)}end.mkv`
    agent.files = [peerFile(name)]
    expect((await on('list')).stdout).toContain(name)
  })

  test('colours only a terminal, and not with NO_COLOR', async () => {
    agent.files = [peerFile('a.txt')]
    const args = ['list', '--agent', agent.url]
    expect((await run(args, { columns: 80 })).stdout).toContain('\x1b[36maaaaaaaaaaaa\x1b[39m')
    expect((await run(args, { columns: 80, env: { NO_COLOR: '1' } })).stdout).not.toContain('\x1b')
    expect((await run(args)).stdout).not.toContain('\x1b')
  })
})

describe('hostile text', () => {
  const ESCAPE = '\x1b]0;owned\x07\x1b[2J\u009b31m\u202e'

  test('in any answer reaches the terminal escaped', async () => {
    Object.assign(agent.info, { maestro: 'refused', maestro_problem: ESCAPE })
    agent.located = {
      peers: [provider('P2', 'film.mkv', { rest: `http://${ESCAPE}` })],
      steps: [{ ...step('friends', 'found', ESCAPE), detail: `two\nlines ${ESCAPE}` }],
    }
    agent.friends = [friend(`http://${ESCAPE}`)]
    agent.transfer = [transfer('failed', { file: ESCAPE, error: { code: 'corrupt', message: ESCAPE } })]
    for (const args of [['status'], ['locate', 'film.mkv', '--explain'], ['friends'], ['transfers']]) {
      const { stdout, stderr } = await on(...args)
      expect(stdout).toContain('\\u{1b}]0;owned')
      expect(stdout + stderr).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/)
    }
  })

  test('in an error is escaped, and stays in one line', async () => {
    agent.refusal = new NetworkError('internal', `bad\nthing ${ESCAPE}`)
    const { stderr } = await on('status')
    expect(stderr).toBe('peer: bad\\u{a}thing \\u{1b}]0;owned\\u{7}\\u{1b}[2J\\u{9b}31m\\u{202e}\n')
  })

  test('is escaped in JSON too, and reads back unchanged', async () => {
    agent.friends = [friend(`http://${ESCAPE}`)]
    const { stdout } = await on('friends', '--json')
    expect(stdout).not.toMatch(/[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]/)
    expect(JSON.parse(stdout).friends[0].url).toBe(`http://${ESCAPE}`)
  })

  test('in a file name is refused as an unknown answer', async () => {
    agent.files = [peerFile(`evil${ESCAPE}.txt`)]
    const { code, stdout } = await on('list')
    expect({ code, stdout }).toEqual({ code: 1, stdout: '' })
  })
})

describe('locate and search', () => {
  test('locate shows who has it, and via whom that is known', async () => {
    agent.located = { peers: [provider('P2', 'film.mkv')], steps: [step('maestro', 'found', 'http://m:9000')] }
    const { stdout, stderr, code } = await on('locate', 'film.mkv')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^film.mkv: 1 peer, via maestro\n/)
    expect(stdout).toMatch(/P2 +http:\/\/10.0.0.2:8000 +50052 +1.5 MB +aaaaaaaaaaaa/)
    expect(stderr).toBe('')
  })

  test('locate by content id asks for the id and shows the names', async () => {
    agent.located = { peers: [provider('P2', 'copy.mkv')], steps: [] }
    const { stdout } = await on('locate', ID_A.toUpperCase())
    expect(stdout).toMatch(/P2 .* copy.mkv/)
  })

  test('a friend asked instead of the Maestro is told on stderr', async () => {
    agent.located = {
      peers: [provider('P2', 'film.mkv', { via: 'friends', rest: 'http://10.0.0.2:8000' })],
      steps: [
        step('local', 'nothing', 'this peer'),
        step('maestro', 'unreachable', 'http://10.0.0.9:9000'),
        step('friends', 'found', 'http://10.0.0.2:8000'),
      ],
    }
    const { stderr } = await on('locate', 'film.mkv')
    expect(stderr).toBe('the Maestro at http://10.0.0.9:9000 does not answer; asked friend P2 instead\n')
    expect((await json('locate', 'film.mkv')).stderr).toBe('')
  })

  test('--explain prints every step with whom, outcome and time', async () => {
    agent.located = {
      peers: [provider('P2', 'film.mkv')],
      steps: [step('local', 'nothing', 'this peer'), step('maestro', 'found', 'http://m:9000')],
    }
    const { stdout } = await on('locate', 'film.mkv', '--explain')
    expect(stdout).toMatch(/1 +local +this peer +nothing +3.3 ms/)
    expect(stdout).toMatch(/2 +maestro +http:\/\/m:9000 +found 1 +3.3 ms/)
  })

  test('what nobody has is not found, exit 3', async () => {
    agent.located.steps = [step('local', 'nothing', 'this peer'), step('maestro', 'nothing', 'http://m:9000')]
    const { code, stdout, stderr } = await on('locate', 'film.mkv')
    expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
    expect(stderr).toMatch(/^peer: nobody offers "film.mkv": .*"peer search"/)
    expect(await json('locate', 'film.mkv')).toMatchObject({ code: 3, answer: { peers: [], via: null } })
  })

  test('what looks like the beginning of a content id is told to need all of it', async () => {
    const { code, stderr } = await on('locate', '54ACBF386A83')
    expect(code).toBe(3)
    expect(stderr).toMatch(/give all 64 digits \("peer search TEXT --wide" and "peer list --wide" show them\)/)
  })

  test('where nobody could be asked, that is said, exit 4', async () => {
    agent.located.steps = [step('local', 'nothing', 'this peer'), step('maestro', 'timeout', 'http://m:9000')]
    const { code, stderr } = await on('locate', 'film.mkv')
    expect(code).toBe(4)
    expect(stderr).toMatch(/no answer from the Maestro at http:\/\/m:9000/)
  })

  test('a name with different contents is shown with its choices and how to pick', async () => {
    agent.located.peers = [
      provider('P2', 'film.mkv'),
      provider('P3', 'film.mkv', { id: ID_B, size: 20 }),
      provider('P4', 'film.mkv'),
    ]
    const { stderr } = await on('locate', 'film.mkv')
    expect(stderr).toMatch(/"film.mkv" stands for 2 different contents/)
    expect(stderr).toMatch(/aaaaaaaaaaaa +1.5 MB +P2, P4\n/)
    expect(stderr).toMatch(/bbbbbbbbbbbb +20 B +P3\n/)
    expect(stderr).toContain(`  peer download ${ID_B}\n`)
  })

  test('search groups who has the same file', async () => {
    agent.located.peers = [
      provider('P2', 'film one.mkv'),
      provider('P3', 'film one.mkv'),
      provider('P3', 'film two.mkv'),
    ]
    const { stdout } = await on('search', 'film', 'one')
    expect(stdout).toMatch(/film one.mkv +1.5 MB +aaaaaaaaaaaa +P2, P3\n/)
    expect(stdout).toContain('2 files, via maestro')
  })

  test('search that finds nothing exits with 3', async () => {
    agent.located.steps = [step('maestro', 'nothing', 'http://m:9000')]
    expect(await on('search', 'film')).toEqual({ code: 3, stdout: '', stderr: 'peer: no name with "film"\n' })
  })
})

describe('network', () => {
  const row = (id: string, files: string[], file_count = files.length) =>
    ({
      id,
      rest: `http://${id.toLowerCase()}:8000`,
      grpc_port: 50051,
      files,
      file_count,
      status: 'alive',
      last_seen: new Date().toISOString(),
      revision: 1,
    }) as PeerRow

  test('shows all peers of the Maestro with their files', async () => {
    Object.assign(agent.info, { maestro_url: other.url, maestro: 'registered' })
    other.peers = [row('P1', ['a.txt', 'b.txt']), row('P2', ['c.txt'], 500)]
    const { stdout, stderr } = await on('network')
    expect(stdout).toMatch(/P1 +http:\/\/p1:8000 +50051 +alive +0 s ago +a.txt\n +b.txt\n/)
    expect(stdout).toContain('… and 499 more')
    expect(stdout).toContain('2 peers alive, 502 files')
    expect(stderr).toBe('')
  })

  test('without the Maestro says so, and asks this agent and its friends', async () => {
    Object.assign(agent.info, { maestro_url: NOBODY, maestro: 'unreachable' })
    agent.files = [peerFile('mine.txt')]
    Object.assign(other.info, { id: 'P2' })
    other.files = [peerFile('theirs.txt')]
    agent.friends = [friend(other.url), friend('http://127.0.0.1:1', { id: 'P3' as PeerId })]
    const { stdout, stderr, code } = await on('network')
    expect(code).toBe(0)
    expect(stderr).toBe(`the Maestro at ${NOBODY} does not answer; this list comes from this agent and 2 friends\n`)
    expect(stdout).toMatch(/P1 .* alive +- +mine.txt/)
    expect(stdout).toMatch(/P2 .* alive +- +theirs.txt/)
    expect(stdout).toMatch(/P3 .* - +unreachable +- +-\n/)
    expect((await json('network')).answer).toMatchObject({
      maestro: { answers: false },
      peers: [{ id: 'P1' }, { id: 'P2' }, {}],
    })
  })
})

describe('friends', () => {
  test('are listed with their role and whether they answer', async () => {
    agent.friends = [
      friend('http://10.0.0.2:8000', { role: 'primary', id: 'P2' as PeerId, alive: true }),
      friend('http://10.0.0.3:8000', { role: 'backup', alive: false }),
    ]
    const { stdout } = await on('friends')
    expect(stdout).toMatch(/primary +http:\/\/10.0.0.2:8000 +P2 +answers\n/)
    expect(stdout).toMatch(/backup +http:\/\/10.0.0.3:8000 +does not answer\n/)
  })

  test('come and go', async () => {
    await on('add-peer', 'lab-pc7:8000')
    expect(agent.friends.map(({ url }) => url)).toEqual(['http://lab-pc7:8000'])
    await on('remove-peer', 'http://lab-pc7:8000')
    expect(agent.friends).toEqual([])
  })

  test.each([
    ['lab-pc7', 'http://lab-pc7:8000'],
    ['lab-pc7/', 'http://lab-pc7:8000'],
    ['[::1]', 'http://[::1]:8000'],
    ['lab-pc7:81', 'http://lab-pc7:81'],
    ['http://lab-pc7', 'http://lab-pc7:80'],
  ])('have the port of agents where none is given: %s', async (typed, url) => {
    await on('add-peer', typed)
    expect(agent.friends.map((friend) => friend.url)).toEqual([url])
  })

  test('that do not answer are none yet', async () => {
    agent.refusal = new NetworkError('unavailable', `the friend at ${NOBODY} does not answer`, {
      reason: 'unreachable',
      url: NOBODY,
    })
    expect(await on('add-peer', NOBODY)).toEqual({
      code: 4,
      stdout: '',
      stderr: `peer: ${NOBODY} does not answer the agent: it is no friend yet; add it once it runs\n`,
    })
  })

  test('are agents: a Maestro is told to be none', async () => {
    other.root = maestro
    agent.refusal = new NetworkError('not_found', 'no route GET /info; see /docs')
    expect(await on('add-peer', other.url)).toEqual({
      code: 2,
      stdout: '',
      stderr: `peer: ${other.url} is a Maestro, not an agent: friends are agents; a Maestro is named in an agent's configuration, as maestro_url\n`,
    })
  })

  test('an address that is none is wrong usage, and nobody is asked', async () => {
    expect((await on('add-peer', 'ftp://x')).code).toBe(2)
    expect(agent.requests).toEqual([])
  })

  test('discover adds the peers that are new, and tells which', async () => {
    agent.friends = [friend('http://10.0.0.3:8000')]
    other.known = [
      { id: 'P1' as PeerId, rest: 'http://elsewhere:8000' },
      { id: 'P2' as PeerId, rest: 'http://10.0.0.2:8000' },
      { id: 'P3' as PeerId, rest: 'http://10.0.0.3:8000' },
      { id: null, rest: 'file:///etc' },
    ]
    const { stdout } = await on('discover', other.url)
    expect(stdout).toMatch(/P1 +\S+ +this agent itself\n/)
    expect(stdout).toMatch(/P2 +http:\/\/10.0.0.2:8000 +added\n/)
    expect(stdout).toMatch(/P3 +\S+ +a friend already\n/)
    expect(stdout).toMatch(/refused .*not an http URL/)
    expect(agent.friends.map(({ url }) => url)).toEqual(['http://10.0.0.3:8000', 'http://10.0.0.2:8000'])
  })
})

test('refresh tells the files and the revision', async () => {
  expect((await on('refresh')).stdout).toBe('The agent shares 4 files (revision 9).\n')
})

describe('transfers', () => {
  test('are listed with what is most worth telling of each', async () => {
    agent.transfer = [
      transfer('running', { bytes: 250_000, rate: 1_000_000, eta_s: 0.75, providers: [gave('P2', 250_000)] }),
      transfer('waiting', { transfer: '2', waiting: { retry_ms: 8000 } }),
      transfer('failed', { transfer: '3', error: { code: 'corrupt', message: 'no provider is left' } }),
      transfer('running', { transfer: '4', direction: 'push', providers: [gave('10.0.0.7-52106', 0)] }),
      transfer('running', { transfer: '5', joined: '4', providers: ['P1', 'P2', 'P3', 'P4'].map((id) => gave(id, 1)) }),
      transfer('running', { transfer: '6', file: 'lectures/', id: null, files: { total: 9, done: 4 } }),
    ]
    const { stdout } = await on('transfers')
    expect(stdout).toMatch(/t1 +film.mkv +running +250 kB of 1 MB +1 MB\/s +0\.8 s +P2\n/)
    expect(stdout).toMatch(/2 +film.mkv +waiting .* no provider at the moment; asks again in 8 s\n/)
    expect(stdout).toMatch(/3 +film.mkv +failed .* no provider is left\n/)
    expect(stdout).toMatch(/4 +film.mkv +running .* 10\.0\.0\.7, pushed\n/)
    expect(stdout).toMatch(/5 +film.mkv +running .* P1, P2, P3 and 1 more, with transfer 4\n/)
    expect(stdout).toMatch(/6 +lectures\/ +running .* 4 of 9 files\n/)
    expect(JSON.parse((await on('transfers', '--json')).stdout).transfers).toHaveLength(6)
  })

  test.each([
    ['pause', 'POST', '/transfers/t1/pause', 'paused'],
    ['resume', 'POST', '/transfers/t1/resume', 'queued'],
    ['cancel', 'DELETE', '/transfers/t1', 'cancelled'],
  ])('%s tells how it stands then', async (command, method, path, state) => {
    agent.transfer = [transfer('running')]
    expect((await on('transfers', command, 't1')).stdout).toBe(`Transfer t1 of film.mkv is ${state}.\n`)
    expect(agent.requests).toMatchObject([{ method, path }])
    expect(JSON.parse((await on('transfers', command, 't1', '--json')).stdout)).toMatchObject({ state })
  })

  test('limit is given as people give rates', async () => {
    agent.transfer = [transfer('running')]
    expect((await on('transfers', 'limit', 't1', '5MB/s')).stdout).toBe(
      'Transfer t1 of film.mkv has a limit of 5 MB/s.\n',
    )
    expect((await on('transfers', 'limit', 't1', 'none')).stdout).toMatch(/has no limit of its own\.\n$/)
    expect(agent.requests.map(({ body }) => body)).toEqual([{ limit: 5_000_000 }, { limit: null }])
    expect(await on('transfers', 'limit', 't1', 'fast')).toMatchObject({ code: 2 })
  })
})

describe('transfers --follow', () => {
  /** The agent tells two transfers, then nothing, until the test ends it. */
  function follow(args: string[], columns?: number) {
    let end = () => {}
    agent.hold = new Promise((resolve) => {
      end = resolve
    })
    agent.transfer = [
      transfer('running', { bytes: 250_000, rate: 1_000_000, eta_s: 0.75, providers: [gave('P2', 250_000)] }),
      transfer('done', { transfer: 't2', bytes: 1_000_000, providers: [gave('P3', 1_000_000)] }),
    ]
    const interrupt = new AbortController()
    const options = { signal: interrupt.signal, ...(columns === undefined ? {} : { columns }) }
    const running = start(['transfers', '--follow', '--agent', agent.url, ...args], options)
    return { ...running, interrupt: () => interrupt.abort(), end }
  }

  test('tells one line for each change, until Ctrl-C, which is no failure', async () => {
    const { stdout, stderr, code, interrupt, end } = follow([])
    await expect
      .poll(() => stdout.text)
      .toBe(
        't1 film.mkv: running, 25 %, 250 kB of 1 MB, 1 MB/s, 0.8 s left, P2\nt2 film.mkv: done, 100 %, 1 of 1 MB, P3\n',
      )
    interrupt()
    expect([await code, stderr.text]).toEqual([0, ''])
    end()
  })

  test('with --json tells one document a line', async () => {
    const { stdout, code, interrupt, end } = follow(['--json'])
    await expect.poll(() => stdout.text.split('\n')).toHaveLength(3)
    const [first] = stdout.text.split('\n')
    expect(JSON.parse(first!)).toMatchObject({ transfer: 't1', state: 'running' })
    interrupt()
    expect(await code).toBe(0)
    end()
  })

  test('on a terminal draws the table again in its place, those under way first', async () => {
    const { stdout, code, interrupt, end } = follow([], 100)
    await expect.poll(() => stdout.text).toMatch(/TRANSFER.*\n.*t1 .*running.*\n.*t2 .*done.*\n/)
    expect(stdout.text).toContain('\x1b[J')
    interrupt()
    expect(await code).toBe(0)
    end()
  })

  test('shows as many as fit, and counts the others', async () => {
    const { stdout, code, interrupt, end } = follow([], 100)
    agent.transfer = Array.from({ length: 40 }, (_, i) => transfer('running', { transfer: String(i + 1) }))
    await expect.poll(() => stdout.text).toMatch(/and 20 more\n/)
    const drawn = stdout.text.split('\x1b[J').at(-1)!
    expect(drawn.match(/\n/g)).toHaveLength(22)
    expect(drawn).toMatch(/40 +film\.mkv/)
    interrupt()
    expect(await code).toBe(0)
    end()
  })

  test('says so where the agent goes away, exit 4', async () => {
    const { stderr, code, end } = follow([])
    end()
    expect(await code).toBe(4)
    expect(stderr.text).toMatch(/^peer: the agent at .* went away: its transfers go on once it runs again\n$/)
  })
})
