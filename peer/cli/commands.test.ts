import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { PeerId } from '../../common/ids.ts'
import type { DiscoverBody, PeerRow } from '../../common/schemas.ts'
import {
  FakeAgent,
  friend,
  gave,
  ID_A,
  ID_B,
  known,
  member,
  peerFile,
  provider,
  ringOf,
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
    expect(stdout).toMatch(/http:\/\/10.0.0.9:9000 does not answer; others are asked until it is back/)
  })

  test('status tells at which level the network works, and how it stands with the ring', async () => {
    agent.ring = ringOf('whole', { text: 'whole, about 20 members' })
    agent.info.network = { level: 'ring', text: 'Maestro down: using the ring' }
    const { stdout } = await on('status')
    expect(stdout).toMatch(/^Network +Maestro down: using the ring$/m)
    expect(stdout).toMatch(/^Ring +whole, about 20 members$/m)
    expect((await json('status')).answer).toMatchObject({ network: { level: 'ring' }, ring: { state: 'whole' } })
  })

  test('is found by the environment where no flag names it', async () => {
    const { code, stdout } = await run(['status'], { env: { P2P_AGENT: agent.url } })
    expect({ code, named: stdout.includes('P1') }).toEqual({ code: 0, named: true })
  })

  test('gets the token of the flag or the environment, other peers do not', async () => {
    agent.known = [known('P2', other.url)]
    await run(['network', '--agent', agent.url], { env: { P2P_TOKEN: 'secret-token' } })
    expect(agent.requests.map(({ authorization }) => authorization)).toContain('Bearer secret-token')
    expect(other.requests.map(({ path }) => path)).toEqual(['/info', '/files'])
    expect(other.requests.map(({ authorization }) => authorization)).toEqual([undefined, undefined])
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
    expect(await hints('following')).toEqual([`${peer} follow 'lectures/**'`])
    agent.follows = [
      { pattern: '**', quota: 1, bytes: 0, files: 0, fetching: 0, left_out: [], since: '2026-03-01T12:00:00.000Z' },
    ]
    expect(await hints('follow', '**')).toEqual([`${peer} following`])
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
    expect(stdout).toMatch(/1 +local +this peer +nothing +3.3 ms +1\n/)
    expect(stdout).toMatch(/2 +maestro +http:\/\/m:9000 +found 1 +3.3 ms +1\n/)
    expect(stdout).toContain('\nnetwork: no Maestro configured: using the ring\n')
  })

  test('--explain shows the way through the ring, who was silent on it, and who was skipped', async () => {
    const way = ['P7', 'P3', 'P9'].map((peer) => ({
      peer: peer as PeerId,
      rest: `http://${peer}`,
      answered: peer !== 'P3',
    }))
    const skipped = { ...step('maestro', 'skipped', 'http://m:9000'), detail: 'did not answer 12 s ago' }
    const trace = { messages: 4, hops: 2, path: way, age_ms: 39_200 }
    agent.info.network = { level: 'ring', text: 'Maestro down: using the ring; records up to 40 s old' }
    agent.located = {
      peers: [provider('P2', 'film.mkv', { via: 'chord' })],
      steps: [skipped, { ...step('chord', 'found', 'the ring'), ...trace }],
    }
    const { stdout, stderr } = await on('locate', 'film.mkv', '--explain')
    expect(stdout).toMatch(/STEP +VIA +ASKED +OUTCOME +TIME +MESSAGES +HOPS/)
    expect(stdout).toMatch(/1 +maestro +http:\/\/m:9000 +skipped /)
    expect(stdout).toContain('\n1 maestro: did not answer 12 s ago\n')
    expect(stdout).toMatch(/2 +chord +the ring +found 1 +3.3 ms +4 +2\n/)
    expect(stdout).toContain('\n2 chord: this peer → P7 → P3 (silent) → P9 keeps its records\n')
    expect(stdout).toContain('\nnetwork: Maestro down: using the ring; records up to 40 s old\n')
    expect(stdout).toContain('film.mkv: 1 peer, via chord')
    expect(stderr).toBe(
      'the Maestro at http://m:9000 does not answer; asked the ring (records up to 40 s old) instead\n',
    )
    expect((await json('locate', 'film.mkv')).answer).toMatchObject({
      network: { level: 'ring' },
      steps: [{ outcome: 'skipped' }, { hops: 2, path: way }],
    })
  })

  test('replicas that were asked to compare are not told as the way', async () => {
    const path = ['P7', 'P3', 'P9'].map((peer) => ({ peer: peer as PeerId, rest: `http://${peer}`, answered: true }))
    agent.located = {
      peers: [provider('P2', 'film.mkv', { via: 'chord' })],
      steps: [
        { ...step('chord', 'found', 'the ring'), hops: 1, path },
        { ...step('chord', 'found', 'the ring'), hops: 0, path: path.slice(1) },
      ],
    }
    const { stdout } = await on('locate', 'film.mkv', '--explain')
    expect(stdout).toContain('1 chord: this peer → P7 keeps its records; also asked: P3 and P9\n')
    expect(stdout).toContain('2 chord: this peer keeps its records itself; also asked: P3 and P9\n')
  })

  test('where those that shared a file are silent now, the user is told who, and that it may come back', async () => {
    const silent = [{ peer: 'C' as PeerId, age_ms: 374_000 }]
    agent.located = { peers: [], steps: [{ ...step('chord', 'nothing', 'the ring'), silent }] }
    const { stderr, code } = await on('locate', 'film.mkv')
    expect(stderr).toContain('C shared "film.mkv" 7 min ago and does not answer now, and nobody else offers it')
    expect(code).toBe(4)
  })

  test('neighbours that are silent alone are told as several', async () => {
    agent.located = {
      peers: [provider('P2', 'film.mkv', { via: 'chord' })],
      steps: [step('flood', 'timeout', 'the neighbours'), step('chord', 'found', 'the ring')],
    }
    expect((await on('locate', 'film.mkv')).stderr).toBe('the neighbours do not answer; asked the ring instead\n')
  })

  test.each(['chord', 'flood'])('--via %s asks that way alone', async (via) => {
    await on('locate', 'film.mkv', '--via', via)
    expect(agent.requests).toMatchObject([{ path: '/locate', query: { file: 'film.mkv', via } }])
  })

  test('where the ring and the neighbours are silent too, all are named, exit 4', async () => {
    agent.located.steps = [
      step('maestro', 'skipped', 'http://m:9000'),
      step('chord', 'unreachable', 'the ring'),
      step('flood', 'unreachable', 'the neighbours'),
    ]
    const { code, stderr } = await on('locate', 'film.mkv')
    expect(code).toBe(4)
    expect(stderr).toContain('no answer from the Maestro at http://m:9000, the ring and the neighbours;')
    agent.located.steps[0] = step('maestro', 'nothing', 'http://m:9000')
    expect(await on('locate', 'film.mkv')).toMatchObject({
      code: 3,
      stderr: expect.stringMatching(/^peer: nobody offers "film.mkv": /),
    })
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

  test('without the Maestro says so, and asks this agent and the peers that it knows', async () => {
    Object.assign(agent.info, { maestro_url: NOBODY, maestro: 'unreachable' })
    agent.files = [peerFile('mine.txt')]
    Object.assign(other.info, { id: 'P2' })
    other.files = [peerFile('theirs.txt')]
    agent.known = [
      known('P1', agent.info.rest_url, { status: 'self' }),
      known('P3', 'http://127.0.0.1:1', { status: 'hearsay', grpc_port: null }),
      known(null, other.url, { friend: true }),
    ]
    const { stdout, stderr, code } = await on('network')
    expect(code).toBe(0)
    expect(stderr).toBe(
      `the Maestro at ${NOBODY} does not answer; this list comes from this agent and 2 peers that it knows\n`,
    )
    expect(stdout).toMatch(/P1 .* alive +- +mine.txt/)
    expect(stdout).toMatch(/P2 .* alive +- +theirs.txt/)
    expect(stdout).toMatch(/P3 .* - +unreachable +- +-\n/)
    expect((await json('network')).answer).toMatchObject({
      maestro: { answers: false },
      peers: [{ id: 'P1' }, { id: 'P2' }, { id: 'P3' }],
    })
  })

  test('with no Maestro asks 32 of those that the agent knows, first those that are alive', async () => {
    const strangers = Array.from({ length: 40 }, (_, i) => known(`Q${i}`, NOBODY, { status: 'hearsay' }))
    agent.known = [...strangers, known('P2', other.url)]
    const { stdout, stderr } = await on('network')
    expect(stderr).toBe('no Maestro is configured; this list comes from this agent and 32 of 41 peers that it knows\n')
    expect(other.requests.map(({ path }) => path)).toEqual(['/info', '/files'])
    expect(stdout.match(/unreachable/g)).toHaveLength(31)
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
})

describe('discover', () => {
  test('has the agent ask, and tells what became of each peer', async () => {
    const told = (
      id: string | null,
      outcome: DiscoverBody['peers'][number]['outcome'],
      detail: string | null = null,
    ) => ({ id: id as PeerId | null, rest: `http://${id ?? 'x'}:8000`, outcome, detail })
    agent.discovered = [
      told('P1', 'self'),
      told('P2', 'kept'),
      told('P3', 'known'),
      told(null, 'refused', 'it does not answer'),
    ]
    const { stdout, code } = await on('discover', 'lab-pc7')
    expect(code).toBe(0)
    expect(stdout).toMatch(/P1 +\S+ +this agent itself\n/)
    expect(stdout).toMatch(/P2 +http:\/\/P2:8000 +kept\n/)
    expect(stdout).toMatch(/P3 +\S+ +known already\n/)
    expect(stdout).toMatch(/\? +\S+ +not kept +it does not answer\n/)
    expect(stdout).toContain('http://lab-pc7:8000 told of 4 peers; 1 kept')
    expect(agent.requests).toMatchObject([{ method: 'POST', path: '/discover', body: { url: 'http://lab-pc7:8000' } }])
    expect((await json('discover', 'lab-pc7')).answer).toEqual({
      asked: 'http://lab-pc7:8000',
      peers: agent.discovered,
    })
  })

  test('of a peer that does not answer is unreachable, exit 4', async () => {
    agent.refusal = new NetworkError('unavailable', `the peer at ${NOBODY} does not answer`)
    expect(await on('discover', NOBODY)).toEqual({
      code: 4,
      stdout: '',
      stderr: `peer: the peer at ${NOBODY} does not answer\n`,
    })
  })

  test('of a Maestro is told to be none', async () => {
    other.root = maestro
    agent.refusal = new NetworkError('not_found', 'no such route')
    expect(await on('discover', other.url)).toEqual({
      code: 2,
      stdout: '',
      stderr: `peer: ${other.url} is a Maestro, not an agent: it is named in an agent's configuration, as maestro_url\n`,
    })
  })

  test('with no address lists whom the agent knows', async () => {
    agent.known = [
      known('P1', 'http://10.0.0.1:8000', { status: 'self' }),
      known('P2', 'http://10.0.0.2:8000', { friend: true, neighbour: true, seen: new Date().toISOString() }),
      known('P3', 'http://10.0.0.3:8000', { status: 'lost', seen: '2020-01-01T12:00:00.000Z' }),
      known(null, 'http://10.0.0.4:8000', { status: 'hearsay', grpc_port: null }),
    ]
    const { stdout } = await on('discover')
    expect(stdout).not.toContain('P1')
    expect(stdout).toMatch(/P2 +http:\/\/10.0.0.2:8000 +50051 +alive +0 s ago +friend, neighbour\n/)
    expect(stdout).toMatch(/P3 +http:\/\/10.0.0.3:8000 +50051 +does not answer +2020-01-01 \d\d:00\n/)
    expect(stdout).toMatch(/\? +http:\/\/10.0.0.4:8000 +- +only told of +-\n/)
    expect(stdout).toContain('3 peers known, 1 alive')
    expect((await json('discover')).answer.peers).toHaveLength(4)
    agent.known = [known('P1', 'http://10.0.0.1:8000', { status: 'self' })]
    expect((await on('discover')).stdout).toMatch(/knows no peer yet: "peer discover URL" asks one/)
  })
})

describe('ring', () => {
  const whole = () =>
    ringOf('whole', {
      text: 'whole: about 20 members',
      predecessor: member('P9', 3),
      successors: [5, 6, 7, 8, 9, 10, 11].map((place) => member(`S${place}`, place)),
      fingers: [{ ...member('F14', 14), power: 255 }],
      members: 19.6,
      share: 0.0625,
      records: { held: 12, own: 3, published: 40, unpublished: 2 },
      checked_ms: 4200,
      messages: { sent: 90, answered: 88 },
    })

  test('shows the place of the agent, who is around it and what it keeps', async () => {
    agent.ring = whole()
    const { stdout, code } = await on('ring')
    expect(code).toBe(0)
    expect(stdout).toMatch(/^whole: about 20 members\n/)
    expect(stdout).toMatch(/^Place +P1 at 0.2500 {2}http:\/\/p1:8000, responsible for 6.3 % of the circle$/m)
    expect(stdout).toMatch(/^Members +about 20$/m)
    expect(stdout).toMatch(/^Predecessor +P9 at 0.1875/m)
    expect(stdout).toMatch(/^Successors +S5 at 0.3125 .*\n +S6 .*\n +S7 .*\n +S8 .*\n +S9 .*\n +… 2 more$/m)
    expect(stdout).toMatch(/^Fingers +F14 at 0.8750/m)
    expect(stdout).toMatch(/^Records +12 kept, 3 of them .*; 40 about its own files .*, 2 wait$/m)
    expect(stdout).toMatch(/^Checked +4.2 s ago$/m)
    expect(stdout).toContain('--all shows all of them')
    expect((await on('ring', '--all')).stdout).toMatch(/ S11 at 0.6875/)
    expect((await json('ring')).answer).toEqual(agent.ring)
  })

  test('draws the circle as wide as the terminal, each mark at its place', async () => {
    agent.ring = whole()
    const { stdout } = await run(['ring', '--agent', agent.url], { columns: 68, env: { NO_COLOR: '1' } })
    const circle = stdout.split('\n').find((line) => line.startsWith('0 '))!
    // 64 places, four a sixteenth.
    const marks = [...circle.slice(2)].flatMap((mark, at) => (mark === '─' || at >= 64 ? [] : [`${mark}${at / 4}`]))
    expect(marks).toEqual(['p3', '●4', 's5', 's6', 's7', 's8', 's9', 's10', 's11', 'f14'])
    expect(width(circle)).toBe(68)
    expect(stdout).toContain('● this agent  p predecessor  s successors  f fingers')
  })

  test('of one is said to be so', async () => {
    agent.ring = ringOf('alone', { text: 'this agent knows no other member' })
    const { stdout } = await on('ring')
    expect(stdout).toMatch(/^this agent knows no other member\n/)
    expect(stdout).toMatch(/^Predecessor +none$/m)
    expect(stdout).toMatch(/^Successors +none$/m)
    expect(stdout).toMatch(/^Checked +not yet$/m)
    expect(stdout).toMatch(/responsible for 100 % of the circle$/m)
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
