import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { FileName, PeerId } from '../../common/ids.ts'
import { whenText } from './events-text.ts'
import { FakeAgent, happened, ID_A, run, start } from './fake-agent.fixture.ts'

let agent: FakeAgent
let interrupted: AbortController

beforeEach(async () => {
  agent = await new FakeAgent().start()
  interrupted = new AbortController()
})
afterEach(() => agent.stop())

const on = (...args: string[]) => run(['events', ...args], { env: { P2P_AGENT: agent.url } })
const following = (...args: string[]) =>
  start(['events', '--follow', ...args], { env: { P2P_AGENT: agent.url }, signal: interrupted.signal })

const revision = { from: 1, to: 2 }
const added = (name: string, seq: number) =>
  happened('file.added', { name: name as FileName, id: ID_A, size: 1_200_000, revision }, { seq })
const maestro = { origin: 'maestro' }
const P3 = 'P3' as PeerId
const film = { transfer: '3', mode: 'real', file: 'film.mkv', id: ID_A, size: 1_100_000_000 } as const
const fetches = { ...film, direction: 'download' } as const
const level = { before: 'maestro', level: 'ring', text: 'Maestro down: using the ring' }

/** Lines without their times. */
const told = (stdout: string) =>
  stdout
    .trimEnd()
    .split('\n')
    .map((line) => line.replace(/^[-\d]+ [:\d]+ {2}/, ''))

describe('events', () => {
  test('of every kind are told in a sentence', async () => {
    agent.tell(
      happened('peer.registered', { peer: P3, rest: 'http://10.0.0.3:8000', grpc_port: 50053, files: 1 }, maestro),
      happened('peer.expired', { peer: P3 }, maestro),
      happened('peer.withdrawn', { peer: P3 }, maestro),
      added('lectures/a.pdf', 1),
      happened('file.removed', { name: 'a' as FileName, revision }),
      happened('file.renamed', { name: 'b' as FileName, from: 'a' as FileName, id: ID_A, size: 1, revision }),
      happened('transfer.started', fetches),
      happened('transfer.started', { ...film, direction: 'push', size: null, file: null }),
      happened('transfer.completed', { ...fetches, bytes: 1_100_000_000, seconds: 6.66 }),
      happened('transfer.completed', { ...film, direction: 'push', mode: 'dummy', bytes: 5, seconds: 1 }),
      happened('transfer.failed', { ...fetches, error: { code: 'not_found', message: 'nobody has it' } }),
      happened('transfer.failed', { ...film, direction: 'push', error: { code: 'x', message: 'the other went away' } }),
      happened('network.degraded', level),
      happened('network.restored', { ...level, text: 'the Maestro answers' }),
    )
    const { code, stdout, stderr } = await on()
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(told(stdout)).toEqual([
      'maestro: P3 is here with 1 file, at http://10.0.0.3:8000',
      'maestro: P3 is gone (lease expired)',
      'maestro: P3 has left',
      'P1 shares lectures/a.pdf (1.2 MB)',
      'P1 no longer shares a',
      'P1 renamed a to b',
      'P1 fetches film.mkv (1.1 GB)',
      `P1 is sent content ${ID_A.slice(0, 12)}…`,
      'P1 fetched film.mkv: 1.1 GB in 6.7 s',
      'P1 was sent film.mkv: 5 B in 1.0 s, simulated',
      'P1 could not fetch film.mkv: nobody has it',
      'P1 was not sent film.mkv: the other went away',
      'P1 finds files in a worse way (Maestro down: using the ring)',
      'P1 finds files in a better way (the Maestro answers)',
    ])
  })

  test('are the last ones of the kinds that are wanted, then the command ends', async () => {
    agent.tell(...Array.from({ length: 30 }, (_, i) => added(`f${i}`, i + 1)))
    expect(told((await on()).stdout)).toHaveLength(20)
    expect(told((await on('--last', '2')).stdout)).toEqual(['P1 shares f28 (1.2 MB)', 'P1 shares f29 (1.2 MB)'])
    expect(await on('--type', 'peer.*,network.degraded')).toEqual({
      code: 0,
      stdout: '',
      stderr: `the agent at ${agent.url} has heard of nothing of the type peer.*,network.degraded\n`,
    })
  })

  test('of which none are asked for are not said to be missing', async () => {
    agent.tell(added('a', 1))
    expect(await on('--last', '0')).toEqual({
      code: 0,
      stdout: '',
      stderr: '--last 0 shows none of the past: with --follow, what happens from now on\n',
    })
  })

  test('are one document with --json', async () => {
    const event = added('a', 1)
    agent.greeting = 'event: file.praised\ndata: {}\n\n'
    agent.tell(event)
    const { stdout, stderr } = await on('--json')
    expect(JSON.parse(stdout)).toEqual({ events: [event], skipped: 1 })
    expect(stderr).toBe('')
  })

  test('can be those of a Maestro', async () => {
    agent.tell(added('a', 1))
    const { stdout, code } = await run(['events', '--maestro', agent.url], { env: { P2P_AGENT: 'http://127.0.0.1:9' } })
    expect({ code, lines: told(stdout) }).toEqual({ code: 0, lines: ['P1 shares a (1.2 MB)'] })
  })

  test('with control characters can do nothing to the terminal', async () => {
    const message = 'evil \u001b[2J\u202e name\n12:00:00  P9 shares gold'
    agent.tell(happened('transfer.failed', { ...fetches, error: { code: 'x', message } }))
    const { stdout } = await on()
    expect(told(stdout)).toEqual([
      'P1 could not fetch film.mkv: evil \\u{1b}[2J\\u{202e} name\\u{a}12:00:00  P9 shares gold',
    ])
  })

  test('have colours on a terminal only', async () => {
    agent.tell(added('a', 1))
    const { stdout } = await run(['events'], { env: { P2P_AGENT: agent.url }, columns: 80 })
    expect(stdout).toContain('\x1b[1mP1\x1b[22m\x1b[32m shares \x1b[39ma (1.2 MB)')
  })

  test.each([
    [['--type', 'file.praised'], /there are no events "file\.praised": there are peer\.registered, /],
    [['--last', '-1'], /--last is "-1": it must be a whole number up to 100,000/],
    [['--last', '100001'], /it must be a whole number up to 100,000/],
    [['--last', 'x'], /it must be a whole number/],
  ])('%o is a wrong usage', async (args, why) => {
    const { code, stderr } = await on(...args)
    expect(code).toBe(2)
    expect(stderr).toMatch(why)
  })

  test('of an agent that does not run: exit 4', async () => {
    for (const more of [[], ['--follow']]) {
      const { code, stderr } = await run(['events', '--agent', 'http://127.0.0.1:9', ...more])
      expect(code).toBe(4)
      expect(stderr).toMatch(/^peer: no agent answers at http:\/\/127\.0\.0\.1:9: start one/)
    }
  })
})

describe('events --follow', () => {
  test('shows what happens as it happens, until Ctrl-C, which is no failure', async () => {
    agent.tell(added('a', 1))
    const { stdout, stderr, code } = following()
    await expect.poll(() => agent.watchers).toBe(1)
    agent.tell(added('b', 2))
    await expect.poll(() => told(stdout.text)).toEqual(['P1 shares a (1.2 MB)', 'P1 shares b (1.2 MB)'])
    interrupted.abort()
    expect(await code).toBe(0)
    expect(stderr.text).toBe('')
  })

  test('with --json is one event a line', async () => {
    const { stdout, code } = following('--json', '--last', '0')
    await expect.poll(() => agent.watchers).toBe(1)
    agent.tell(added('a', 1), added('b', 2))
    await expect.poll(() => stdout.text.split('\n').length).toBe(3)
    interrupted.abort()
    await code
    expect(
      stdout.text
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual(agent.events)
  })

  test('comes back to an agent that was away, and has missed nothing', async () => {
    agent.tell(added('a', 1))
    const { stdout, stderr, code } = following()
    await expect.poll(() => told(stdout.text)).toEqual(['P1 shares a (1.2 MB)'])
    agent.hangUp()
    agent.tell(added('b', 2), added('c', 3))
    await expect.poll(() => told(stdout.text), { timeout: 5000 }).toHaveLength(3)
    agent.hangUp()
    await expect.poll(() => agent.watchers, { timeout: 5000 }).toBe(1)
    agent.tell(added('d', 4))
    await expect.poll(() => told(stdout.text).map((line) => line[10])).toEqual(['a', 'b', 'c', 'd'])
    const once = `the agent at ${agent.url} went away: waiting for it\nthe agent at ${agent.url} is back\n`
    expect(stderr.text).toBe(once.repeat(2))
    interrupted.abort()
    expect(await code).toBe(0)
  })

  test('waits no longer for an agent that is away once it is interrupted', async () => {
    const { stderr, code } = following()
    await expect.poll(() => agent.watchers).toBe(1)
    await agent.stop()
    await expect.poll(() => stderr.text).toMatch(/went away: waiting for it/)
    interrupted.abort()
    expect(await code).toBe(0)
  })

  test('tells of what it could not hear', async () => {
    agent.greeting = [
      'event: gap\ndata: {"lost": 12}\n\n',
      'event: gap\ndata: {"lost": null}\n\n',
      'event: file.praised\ndata: {}\n\n',
      'event: file.praised\ndata: {}\n\n',
    ].join('')
    const { stderr, code } = following()
    await expect
      .poll(() => stderr.text.split('\n'))
      .toEqual([
        '12 events passed unheard of: they are kept no longer',
        'events may have passed unheard of: they are kept no longer',
        'events that this program does not know are left out: is it old?',
        '',
      ])
    interrupted.abort()
    await code
  })
})

test('the time of an event is that of the reader, with the date where it is not today', () => {
  const at = new Date(2026, 2, 1, 14, 5, 7)
  expect(whenText(at.toISOString(), new Date(2026, 2, 1, 23))).toBe('14:05:07')
  expect(whenText(at.toISOString(), new Date(2026, 2, 2))).toBe('2026-03-01 14:05:07')
})

test.each([
  [{ kind: 'embedded', state: 'connected', problem: null, unsent: 0 }, 'by the Maestro: connected'],
  [
    { kind: 'rabbitmq', state: 'unreachable', problem: 'RabbitMQ at lab:5672 does not answer', unsent: 12 },
    'by RabbitMQ: unreachable (RabbitMQ at lab:5672 does not answer); 12 not sent yet',
  ],
  [
    { kind: 'none', state: 'connected', problem: null, unsent: 0 },
    'stay here: neither a Maestro nor a RabbitMQ is configured to carry them',
  ],
] as const)('status tells what carries events, and how it stands: %o', async (events, line) => {
  agent.info.events = events
  const { stdout } = await run(['status'], { env: { P2P_AGENT: agent.url } })
  expect(/^Events +(.*)$/m.exec(stdout)?.[1]).toBe(line)
})
