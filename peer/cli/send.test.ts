import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { NetworkError } from '../../common/errors.ts'
import type { ContentId } from '../../common/ids.ts'
import { FakeAgent, ID_B, known, offer, peerFile, run, start } from './fake-agent.fixture.ts'

let agent: FakeAgent
let folder: string
let film: string

beforeEach(async () => {
  agent = await new FakeAgent().start()
  agent.known = [known('P2', 'http://127.0.0.1:9'), known('P3', 'http://127.0.0.1:9')]
  agent.offerChanges = [{ state: 'queued' }]
  folder = await mkdtemp(join(tmpdir(), 'peer-send-'))
  film = join(folder, 'film.mkv')
  await writeFile(film, 'a film')
})
afterEach(async () => {
  await agent.stop()
  await rm(folder, { recursive: true })
})

const on = (...args: string[]) => run(args, { env: { P2P_AGENT: agent.url } })
const FILM_ID = createHash('sha256').update('a film').digest('hex') as ContentId
const posts = () => agent.requests.filter(({ method, path }) => method === 'POST' && path === '/mailbox')

describe('send', () => {
  test('shares the file, leaves an offer for each peer, and tells how each stands', async () => {
    const { code, stdout, stderr } = await on('send', film, 'P2', 'P3', '--expires', '7d')
    expect(agent.received).toEqual(new Map([['film.mkv', 'a film']]))
    expect(posts().map(({ body }) => body)).toEqual([
      { to: ['P2', 'P3'], id: peerFile('film.mkv').id, name: 'film.mkv', expires_s: 7 * 86_400 },
    ])
    const waits = (peer: string) => `film.mkv → ${peer}: queued, waits in its mailbox \\(expires 2026-03-31 .*\\)\n`
    expect(stdout).toMatch(new RegExp(`^${waits('P2')}${waits('P3')}$`))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  })

  test('says why an offer is not in its mailbox yet', async () => {
    agent.offerChanges = [{ state: 'sending', problem: 'the Maestro does not answer' }]
    const { code, stdout } = await on('send', film, 'P2')
    expect(stdout).toMatch(/^film.mkv → P2: sending, not yet in its mailbox: the Maestro does not answer \(expires /)
    expect(code).toBe(0)
  })

  test('copies nothing that the agent shares under another name', async () => {
    agent.files = [peerFile('copy.mkv', 6, FILM_ID)]
    await on('send', film, 'P2', '--as', 'evening/film.mkv')
    expect(agent.received.size).toBe(0)
    expect(posts()[0]?.body).toEqual({ to: ['P2'], id: FILM_ID, name: 'evening/film.mkv' })
  })

  test('takes the name or the content id of what the agent shares', async () => {
    agent.files = [peerFile('lectures/one.pdf', 6, ID_B)]
    await on('send', 'lectures/one.pdf', 'P2')
    await on('send', ID_B, 'P2', '--as', 'two.pdf')
    expect(posts().map(({ body }) => body)).toEqual([
      { to: ['P2'], id: ID_B, name: 'lectures/one.pdf' },
      { to: ['P2'], id: ID_B, name: 'two.pdf' },
    ])
  })

  test('of what is neither here nor shared is not found', async () => {
    for (const missing of ['nothing.mkv', '../nothing.mkv', ID_B]) {
      const { code, stderr } = await on('send', missing, 'P2')
      expect({ code, stderr }).toMatchObject({
        code: 3,
        stderr: expect.stringMatching(/^peer: there is no file .* on/),
      })
    }
    expect(posts()).toEqual([])
  })

  test('of the beginning of a content id asks for all of it', async () => {
    agent.files = [peerFile('lectures/one.pdf', 6, ID_B)]
    const { code, stderr } = await on('send', ID_B.slice(0, 12), 'P2')
    expect({ code, stderr }).toMatchObject({ code: 3, stderr: expect.stringContaining('"peer list --wide" shows') })
  })

  test('of a folder leaves an offer for each file', async () => {
    await mkdir(join(folder, 'lectures'))
    for (const name of ['1.pdf', '2.pdf']) await writeFile(join(folder, 'lectures', name), name)
    await on('send', join(folder, 'lectures'), 'P2')
    expect(posts().map(({ body }) => (body as { name: string }).name)).toEqual(['lectures/1.pdf', 'lectures/2.pdf'])
  })

  test('of a folder that stops half way tells how far it came', async () => {
    await mkdir(join(folder, 'lectures'))
    for (const name of ['1.pdf', '2.pdf']) await writeFile(join(folder, 'lectures', name), name)
    agent.refusal = new NetworkError('limited', 'no room')
    agent.refuses = (path) => path.endsWith('2.pdf')
    const { code, stderr } = await on('send', join(folder, 'lectures'), 'P2')
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: 'peer: no room; 1 of 2 files are shared, and none is offered yet: the same command goes on\n',
    })
    expect(posts()).toEqual([])
  })

  test('to a name that nobody knows warns, and leaves the offer', async () => {
    const { code, stderr } = await on('send', film, 'P2', 'P22')
    expect(stderr).toBe(
      'no peer "P22" is known here (did you mean "P2"?): if it is called so, the offer waits; see "peer network" for the names\n',
    )
    expect(posts()).toHaveLength(1)
    expect(code).toBe(0)
  })

  test('waits until all have it', async () => {
    agent.offerChanges = [{ state: 'queued' }, { state: 'taken' }, { state: 'delivered' }]
    const { code, stdout } = await on('send', film, 'P2', 'P3', '--wait')
    expect(stdout).toBe('film.mkv → P2: delivered\nfilm.mkv → P3: delivered\n')
    expect(code).toBe(0)
  })

  test('waits for just its offers, however many there are', async () => {
    agent.offerChanges = [{ state: 'queued' }, { state: 'taken' }, { state: 'delivered' }]
    const peers = Array.from({ length: 500 }, (_, i) => `P${i + 2}`)
    const { code, stdout } = await on('send', film, ...peers, '--wait', '--json')
    expect(JSON.parse(stdout).offers.map(({ state }: { state: string }) => state)).toEqual(peers.map(() => 'delivered'))
    expect(code).toBe(0)
    expect(agent.requests.filter(({ method, path, query }) => method + path === 'GET/mailbox' && !query.sent)).toEqual(
      [],
    )
  })

  test('shows on a terminal for whom it waits', async () => {
    const stop = new AbortController()
    const { stderr, code } = start(['send', film, 'P2', 'P3', '--wait', '--agent', agent.url], {
      columns: 100,
      signal: stop.signal,
    })
    await expect.poll(() => stderr.text).toContain('0 of 2 delivered; P2: queued, P3: queued')
    stop.abort()
    expect(await code).toBe(1)
    expect(stderr.text).toMatch(/ stopped watching: the offers go on; see "peer --agent \S+ mailbox"\n$/)
  })

  test('with a wait exits 1 where one refuses, and where time is over', async () => {
    agent.offerChanges = [{ state: 'refused', problem: 'it takes no files from others' }]
    expect(await on('send', film, 'P2', '--wait')).toEqual({
      code: 1,
      stdout: 'film.mkv → P2: refused: it takes no files from others\n',
      stderr: '',
    })
    agent.offerChanges = [{ state: 'taken' }]
    const late = await on('send', film, 'P2', '--wait', '0.5s')
    expect(late.code).toBe(1)
    expect(late.stdout).toMatch(/P2: taken, it knows of it and fetches it as soon as it can \(expires /)
    expect(late.stderr).toBe('1 of 1 not delivered within 0.5 s: they go on; see "peer mailbox"\n')
  })

  test('tells all of it in its JSON', async () => {
    const { stdout } = await on('send', film, 'P2', '--json')
    expect(JSON.parse(stdout)).toMatchObject({ offers: [{ peer: 'P2', name: 'film.mkv', state: 'queued' }] })
  })

  test('with a refusal of the agent keeps its code, and leaves the file shared', async () => {
    agent.refusal = new NetworkError('limited', '100000 offers are under way')
    agent.refuses = (path) => path === '/mailbox'
    expect(await on('send', film, 'P2')).toMatchObject({ code: 1, stderr: 'peer: 100000 offers are under way\n' })
  })

  test.each([
    [['send', 'x'], /<peer> is missing/],
    [['send', 'x', 'no/peer'], /"no\/peer" is not a peer id/],
    [['send', 'x', 'P2', '--expires', 'soon'], /"soon" is not a duration/],
    [['send', 'x', '--wait', 'P2'], /"P2" is not a duration/],
  ])('%j is one clear line and exit 2', async (args, message) => {
    const { code, stderr } = await run(args)
    expect({ code, stderr }).toEqual({ code: 2, stderr: expect.stringMatching(message) })
  })
})

describe('upload to a peer that is away', () => {
  test('shares the file here, leaves an offer, and says so in one line', async () => {
    const { code, stdout, stderr } = await on('upload', film, '--to', 'P2')
    expect(stdout).toMatch(
      /^film.mkv: P2 is away: shared here, with everybody, and an offer waits for it \(expires 2026-03-31 .*\); see "peer mailbox"\n$/,
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(agent.received).toEqual(new Map([['film.mkv', 'a film']]))
    expect(posts()).toHaveLength(1)
  })

  test('warns of a name that nobody knows', async () => {
    const { code, stdout, stderr } = await on('upload', film, '--to', 'P9')
    // P2 and P3 are as near to it.
    expect(stderr).toMatch(/^no peer "P9" is known here: if it is called so, /)
    expect(stdout).toMatch(/^film.mkv: no peer "P9" is known here: shared here, with everybody, and an offer waits/)
    expect(code).toBe(0)
  })

  test('is not taken for the one who has its address now', async () => {
    const other = await new FakeAgent().start()
    other.info.id = 'P3' as typeof other.info.id
    agent.known = [known('P2', other.url)]
    expect((await on('upload', film, '--to', 'P2')).stdout).toContain('P2 is away')
    expect((await on('upload', film, '--to', 'P2', '--now')).stderr).toMatch(/P2 is away: at .* P3 is now\n$/)
    await other.stop()
  })

  test('that nobody can say where it is names the command that leaves an offer all the same', async () => {
    agent.info.maestro_url = 'http://127.0.0.1:9'
    const { code, stderr } = await on('upload', film, '--to', 'P9')
    expect({ code, stderr }).toMatchObject({
      code: 4,
      stderr: expect.stringMatching(
        /127.0.0.1:9 does not answer, and the agent knows no peer "P9": .* with "peer send"/,
      ),
    })
  })

  test('fails with --now, by its address, and where it is simulated', async () => {
    for (const args of [['P2', '--now'], ['http://127.0.0.1:9'], ['P2', '--dummy']])
      expect((await on('upload', film, '--to', ...args)).code).toBe(4)
    expect(posts()).toEqual([])
    expect(agent.received.size).toBe(0)
  })
})

describe('mailbox', () => {
  test('lists what was sent and what was received, with what became of it', async () => {
    agent.offerChanges = []
    agent.mailbox = {
      sent: [offer('P2', { state: 'queued' }), offer('P3', { state: 'refused', problem: 'no room' })],
      received: [offer('P4', { state: 'taken', problem: 'nobody has it' })],
      sent_total: 2,
      received_total: 1,
    }
    const { stdout } = await on('mailbox')
    expect(stdout).toMatch(/^SENT +SIZE +TO +STATE +SINCE +EXPIRES\n/)
    expect(stdout).toMatch(/\nfilm.mkv +1.5 MB +P2 +queued +2026-03-01 \d\d:\d\d +2026-03-31 \d\d:\d\d\n/)
    expect(stdout).toMatch(/\nfilm.mkv +1.5 MB +P3 +refused +2026-03-01 \d\d:\d\d +no room\n\nRECEIVED +SIZE +FROM /)
    expect(stdout).toMatch(/\nfilm.mkv +1.5 MB +P4 +taken .* nobody has it\n$/)
    expect(JSON.parse((await on('mailbox', '--json')).stdout)).toEqual(agent.mailbox)
  })

  test('says when there is more than it lists', async () => {
    agent.offerChanges = []
    agent.mailbox = { sent: [offer('P2')], received: [], sent_total: 1500, received_total: 0 }
    expect((await on('mailbox')).stderr).toBe('1 of 1500 sent are shown, those under way first\n')
  })

  test('that is empty says how an offer is made', async () => {
    expect((await on('mailbox')).stdout).toBe('No offers yet: "peer send FILE PEER" makes one.\n')
  })
})
