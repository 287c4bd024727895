import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { VERSION } from '../../common/project.ts'
import { FakeAgent, provider, run } from './fake-agent.fixture.ts'

const COMMANDS =
  'run status list network search locate download upload send mailbox transfers limits friends add-peer remove-peer discover ring simulate refresh hash completion'.split(
    ' ',
  )

describe('usage', () => {
  test('the help names every command, and the version is the project’s', async () => {
    const { stdout, code } = await run(['--help'])
    expect(code).toBe(0)
    for (const command of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${command} {2,}\\S`, 'm'))
    expect((await run(['--version'])).stdout).toBe(`${VERSION}\n`)
  })

  test.each(COMMANDS)('%s --help has an example, and the options that all commands have', async (command) => {
    const { stdout, stderr, code } = await run([command, '--help'])
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 })
    expect(stdout).toMatch(command === 'completion' ? /source <\(peer completion bash\)/ : /Examples?:\n {2}peer /)
    expect(stdout).toMatch(/--agent <url>[\s\S]*--token <token>[\s\S]*--json/)
    expect((await run(['help', command])).stdout).toBe(stdout)
  })

  test.each([
    [['stats'], /there is no command stats \(did you mean status\?\); see "peer --help"/],
    [['download'], /<file> is missing; see "peer download --help"/],
    [['download', 'x', '--vai', 'maestro'], /there is no option --vai \(did you mean --via\?\)/],
    [
      ['download', 'x', '--via', 'magic'],
      /--via is "magic": it must be one of local, maestro, friends, chord, flood; see/,
    ],
    [
      ['download', 'x', '--maestro', 'http://a:1', '--peer', 'http://b:1'],
      /--maestro and --peer exclude each other; see/,
    ],
    [['locate', '../x'], /"..\/x" can't name a shared file: it climbs out of the shared folder/],
    [['status', 'more'], /too many arguments: 1 are given, 0 are taken; see/],
    [
      ['transfers', 'stop', '3'],
      /there is no command "transfers stop", but pause, resume, cancel and limit; see "peer transfers --help"/,
    ],
    [['limits', 'show'], /there is no command "limits show", but set and reset; see "peer limits --help"/],
    [['transfers', 'pause'], /<transfer> is missing; see "peer transfers pause --help"/],
    [
      ['transfers', 'pause', '3', '--follow'],
      /there is no option --follow of "transfers pause"; see "peer transfers pause --help"/,
    ],
    [
      ['transfers', 'limit', '3', '5', 'MB/s'],
      /a rate has no space in it, as in 5MB\/s; see "peer transfers limit --help"/,
    ],
    [['download', 'x', '--limit', '40', 'Mbit'], /a rate has no space in it/],
    [['limits', 'set', '--download', '40', 'Mbit'], /a rate has no space in it, .*; see "peer limits set --help"/],
    [['locate', 'x', '--via'], /--via is given without its <strategy>; see/],
    [['completion', 'tcsh'], /<shell> is "tcsh": it must be one of bash, zsh, fish, powershell; see/],
    [['status', '--agent', 'ftp://x'], /not an http URL/],
    [['upload', 'x', '--as', '/etc/passwd'], /absolute path/],
    [['run'], /the key "id" is missing/],
    [['run', '--config', '/nowhere.json'], /nowhere.json: there is no such configuration file/],
    [
      ['run', '--id', 'P1', '--shared-dir', '.', '--grpc-port', 'many'],
      /flag --grpc-port: the key "grpc_port" has a bad/,
    ],
  ])('%j is one clear line and exit 2', async (args, message) => {
    const { code, stdout, stderr } = await run(args)
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toMatch(message)
    expect(stderr).toMatch(/^peer: .*\n$/)
    const json = await run([...args, '--json'])
    expect({ code: json.code, stderr: json.stderr }).toEqual({ code: 2, stderr: '' })
    expect(JSON.parse(json.stdout).error).toMatchObject({ code: 'invalid', message: expect.stringMatching(message) })
  })

  test('the options of a command are no global ones of the commands below it', async () => {
    const { stdout } = await run(['transfers', 'pause', '--help'])
    expect(stdout).toMatch(/Global Options:[\s\S]*--agent/)
    expect(stdout).not.toContain('--follow')
  })

  test('run --help tells the default of every key that has one, and what is required', async () => {
    const { stdout } = await run(['run', '--help'])
    expect(stdout).toMatch(/--port <value> .*\(default 8000\)/)
    expect(stdout).toMatch(/--shared-dir <value> .*\(required\)/)
    expect(stdout).toMatch(/--reserve-bytes <value> [^-]*\(default\s+67108864\)/)
  })

  test('no command shows the help on stderr, exit 2', async () => {
    const { code, stdout, stderr } = await run([])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain('Usage: peer')
  })

  test('no stack trace is shown but with P2P_DEBUG', async () => {
    const args = ['status', '--agent', 'http://127.0.0.1:9']
    expect((await run(args)).stderr).not.toMatch(/\n\s+at /)
    expect((await run(args, { env: { P2P_DEBUG: '1' } })).stderr).toMatch(/\n\s+at /)
  })
})

describe('completion', () => {
  let agent: FakeAgent

  beforeEach(async () => {
    agent = await new FakeAgent().start()
  })
  afterEach(() => agent.stop())

  /** The completion library prints by itself. */
  async function printed(args: string[], env = {}): Promise<string> {
    const print = vi.spyOn(globalThis.console, 'log').mockImplementation(() => {})
    try {
      expect((await run(args, { env: { P2P_AGENT: agent.url, ...env } })).code).toBe(0)
      return print.mock.calls.map(([line]) => line).join('\n')
    } finally {
      print.mockRestore()
    }
  }

  test.each(['bash', 'zsh', 'fish'])('has a script for %s', async (shell) => {
    expect(await printed(['completion', shell])).toContain('peer complete --')
  })

  test('offers commands, options and their values', async () => {
    expect(await printed(['complete', '--', 'down'])).toMatch(/^download\t/)
    expect(await printed(['complete', '--', 'download', '--'])).toMatch(/--output\t[\s\S]*--json\t/)
    expect(await printed(['complete', '--', 'transfers', ''])).toMatch(/^pause\t.*\nresume\t.*\ncancel\t.*\nlimit\t/)
    expect(await printed(['complete', '--', 'locate', '--via', ''])).toMatch(
      /^local\t\nmaestro\t\nfriends\t\nchord\t\nflood\t/,
    )
  })

  test.each([
    ['upload', ''],
    ['hash', 'a.txt', 'b'],
    ['run', '--config', 'co'],
    ['download', 'film.mkv', '-o', ''],
  ])('leaves files of this machine to the shell: %s', async (...words) => {
    expect(await run(['complete', '--', ...words])).toEqual({ code: 0, stdout: ':0\n', stderr: '' })
  })

  test.each([
    ['bash', ['my ho'], 'my holiday film.mkv'],
    ['fish', ['my\\ ho'], 'my holiday film.mkv'],
    ['zsh', ['my\\', 'ho'], 'my\\ holiday\\ film.mkv'],
  ])('offers names with spaces, as %s needs them', async (shell, typed, offered) => {
    agent.located.peers = [provider('P2', 'my holiday film.mkv')]
    const asked = await printed(['complete', '--', 'download', ...typed], { P2P_COMPLETION_SHELL: shell })
    expect(asked).toBe(`${offered}\t\n:4`)
  })

  test('offers names of files in the network, but none that a shell would act upon', async () => {
    agent.located.peers = [
      provider('P2', 'film.mkv'),
      provider('P2', 'filmación.mkv'),
      provider('P2', 'fil$(reboot).mkv'),
      provider('P2', 'fil`x`;y.mkv'),
    ]
    expect(await printed(['complete', '--', 'download', 'fil'])).toBe('film.mkv\t\nfilmación.mkv\t\n:4')
  })
})
