import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import type { PeerInfo } from '../../common/schemas.ts'
import { type Ran, run, start } from './fake-agent.fixture.ts'

/** `peer run` twice, with no Maestro: P2 has P1 as its friend. What is not through an agent is tested here too. */
const FILM = Buffer.alloc(1_000_000, 'a film of one million bytes ')
let folder: string
const stop = new AbortController()
const ended: Promise<number>[] = []
let p1: string
let p2: string

async function agent(id: string, ...flags: string[]): Promise<string> {
  const shared = join(folder, id)
  await mkdir(shared, { recursive: true })
  const settings = { id, ip: '127.0.0.1', port: '0', 'grpc-port': '0', 'shared-dir': shared, 'settle-ms': '10' }
  const args = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value])
  const { stdout, code } = start(
    ['run', ...args, '--state-dir', join(folder, `state-${id}`), '--log-level', 'silent', '--json', ...flags],
    { signal: stop.signal },
  )
  ended.push(code)
  await vi.waitFor(() => expect(stdout.text).toMatch(/\n$/), 10_000)
  return (JSON.parse(stdout.text) as PeerInfo).rest_url
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'peer-real-'))
  await mkdir(join(folder, 'P1'))
  await writeFile(join(folder, 'P1/film.mkv'), FILM)
  p1 = await agent('P1')
  p2 = await agent('P2', '--friend-peer-primary', p1)
  await vi.waitFor(async () => expect((await on(p1, 'list')).stdout).toContain('film.mkv'), 10_000)
})
afterAll(async () => {
  stop.abort()
  const codes = await Promise.all(ended)
  await rm(folder, { recursive: true })
  // Ctrl-C is the way to end it, and no failure.
  expect(codes).toEqual([0, 0])
})

const on = (url: string, ...args: string[]): Promise<Ran> => run([...args, '--agent', url])
const bytesOf = (...path: string[]) => readFile(join(folder, ...path))

test('a download by the agent lands in its shared folder, and is there already the second time', async () => {
  const first = await on(p2, 'download', 'film.mkv', '--as', 'copy.mkv')
  expect(first).toMatchObject({ code: 0, stderr: '' })
  expect(first.stdout).toMatch(/^copy.mkv: verified, 1 MB in .* from P1, via friends, in the shared folder\n$/)
  expect((await bytesOf('P2/copy.mkv')).equals(FILM)).toBe(true)
  const second = await on(p2, 'download', 'film.mkv', '--as', 'copy.mkv')
  expect(second.stdout).toBe('copy.mkv: there already, nothing was fetched (1 MB, in the shared folder)\n')
})

test('a simulated download writes nothing', async () => {
  const { stdout } = await on(p2, 'download', 'film.mkv', '--as', 'never.mkv', '--dummy')
  expect(stdout).toBe('never.mkv: simulated, nothing was written: 1 MB would have come from P1, via friends\n')
  await expect(stat(join(folder, 'P2/never.mkv'))).rejects.toThrow()
})

test('a download that is interrupted is paused, and the same command goes on with it', async () => {
  const download = ['download', 'film.mkv', '--as', 'slow.mkv']
  const interrupt = new AbortController()
  const first = start([...download, '--limit', '400KB/s', '--agent', p2], { signal: interrupt.signal })
  const transfer = async () => JSON.parse((await on(p2, 'transfers', '--json')).stdout).transfers[0]
  await expect.poll(async () => (await transfer()).bytes).toBeGreaterThan(0)
  interrupt.abort()
  expect(await first.code).toBe(1)
  const { transfer: number, limit } = await transfer()
  expect(first.stderr.text).toMatch(
    new RegExp(`^peer: paused at \\d+ %: "peer --agent ${p2} transfers resume ${number}" or the same`),
  )
  expect(limit).toBe(400_000)
  expect((await on(p2, 'transfers')).stdout).toMatch(/slow\.mkv +paused /)
  await on(p2, 'transfers', 'limit', number, 'none')
  const second = await on(p2, ...download)
  expect(second.stderr).toMatch(new RegExp(`^goes on with transfer ${number} at \\d+ %\n`))
  expect(second.stdout).toMatch(/^slow\.mkv: verified, 1 MB in /)
  expect((await bytesOf('P2/slow.mkv')).equals(FILM)).toBe(true)
})

test('a download to a path asks the agent who has it, and leaves nothing else there', async () => {
  await mkdir(join(folder, 'out'))
  const { stdout, code } = await on(p2, 'download', 'film.mkv', '-o', join(folder, 'out'))
  expect(code).toBe(0)
  // By then P2 has it too, and may be faster than P1.
  expect(stdout).toMatch(/^film.mkv: verified, 1 MB in .*, from .*P[12].*, via friends, in .*\/out\/film.mkv\n$/)
  expect(await readdir(join(folder, 'out'))).toEqual(['film.mkv'])
  expect((await bytesOf('out/film.mkv')).equals(FILM)).toBe(true)
})

test('a download to a path is as slow as the agent has to be, unless it is given a limit', async () => {
  const download = (...args: string[]) => on(p2, 'download', 'film.mkv', '-o', join(folder, 'limited.mkv'), ...args)
  await on(p2, 'limits', 'set', '--download', '500KB/s')
  try {
    const interrupt = new AbortController()
    const { stderr, code } = start(['download', 'film.mkv', '-o', join(folder, 'limited.mkv'), '--agent', p2], {
      signal: interrupt.signal,
    })
    await expect
      .poll(() => stderr.text)
      .toBe('at most 500 kB/s, as the agent may download now; --limit RATE is another\n')
    await expect.poll(() => readdir(folder)).toContainEqual(expect.stringMatching(/\.part$/))
    interrupt.abort()
    expect(await code).toBe(1)
    expect(stderr.text).toMatch(/\npeer: stopped( at \d+ %)?: what arrived is kept, and the same command resumes\n$/)
    const limited = JSON.parse((await download('--json')).stdout)
    expect(limited).toMatchObject({ limit: 500_000, state: 'done' })
    expect(limited.peak_rate).toBeLessThan(1_000_000)
    await rm(join(folder, 'limited.mkv'))
    const free = await download('--limit', 'none')
    expect(free).toMatchObject({ code: 0, stderr: '' })
  } finally {
    await on(p2, 'limits', 'reset')
  }
})

test('a download with no agent comes from the peer that is named', async () => {
  const path = join(folder, 'mine.mkv')
  const { stdout, code } = await run(['download', 'film.mkv', '--peer', p1, '-o', path, '--json'])
  expect(code).toBe(0)
  expect(JSON.parse(stdout)).toMatchObject({ path, state: 'done', bytes: FILM.length, providers: [{ peer: 'P1' }] })
  expect((await readFile(path)).equals(FILM)).toBe(true)
})

test('an upload is shared by the agent', async () => {
  await writeFile(join(folder, 'notes.txt'), 'hello')
  const { stdout } = await on(p1, 'upload', join(folder, 'notes.txt'), '--as', 'lectures/ñotes 1.txt')
  expect(stdout).toMatch(/^lectures\/ñotes 1.txt: shared at P1 /)
  expect((await bytesOf('P1/lectures/ñotes 1.txt')).toString()).toBe('hello')
})

test('an upload to a peer that the agent knows is pushed to it, once', async () => {
  await writeFile(join(folder, 'push.bin'), FILM.subarray(0, 700_000))
  const upload = ['upload', join(folder, 'push.bin'), '--to', 'P1']
  expect((await on(p2, ...upload, '--dummy')).stdout).toMatch(/^push.bin: simulated, nothing was sent: 700 kB would/)
  expect(await readdir(join(folder, 'P1'))).not.toContain('push.bin')
  expect((await on(p2, ...upload)).stdout).toMatch(/^push.bin: shared at P1 \(700 kB, /)
  expect((await bytesOf('P1/push.bin')).equals(FILM.subarray(0, 700_000))).toBe(true)
  expect((await on(p2, ...upload)).stdout).toMatch(/^push.bin: there already at P1 .*nothing was sent\n$/)
})

test('an upload of nothing is there already the second time, too', async () => {
  await writeFile(join(folder, 'empty.bin'), '')
  const upload = ['upload', join(folder, 'empty.bin'), '--to', 'P1']
  expect((await on(p2, ...upload)).stdout).toMatch(/^empty.bin: shared at P1 \(0 B, content [0-9a-f]{12}\)\n$/)
  expect((await on(p2, ...upload)).stdout).toMatch(/^empty.bin: there already at P1 .*nothing was sent\n$/)
})

test('an upload over another content is refused by the peer, and changes nothing', async () => {
  await writeFile(join(folder, 'other.txt'), 'other')
  const { code, stderr } = await run(['upload', join(folder, 'other.txt'), '--to', p1, '--as', 'film.mkv'])
  expect(code).toBe(1)
  expect(stderr).toBe(
    'peer: P1 shares another content as "film.mkv", which stays as it is: give yours another name with --as\n',
  )
  expect((await bytesOf('P1/film.mkv')).equals(FILM)).toBe(true)
})

test('an agent that can not start says why in one line', async () => {
  const port = new URL(p1).port
  const flags = ['--ip', '127.0.0.1', '--port', port, '--grpc-port', '0', '--log-level', 'silent']
  const state = ['--shared-dir', folder, '--state-dir', join(folder, 'state-P9')]
  const taken = await run(['run', '--id', 'P9', ...flags, ...state])
  expect(taken).toMatchObject({ code: 1, stdout: '' })
  expect(taken.stderr).toMatch(new RegExp(`^peer: port ${port} on 127.0.0.1 is in use: .*\\n$`))
  const nowhere = await run(['run', '--id', 'P9', ...flags, '--shared-dir', join(folder, 'nowhere')])
  expect(nowhere).toMatchObject({ code: 2, stdout: '' })
  expect(nowhere.stderr).toMatch(/^peer: the folder .*nowhere can't be used: .*\n$/)
})
