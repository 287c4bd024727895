import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { answers, Daemon, freePorts, runMaestro, runPeer, runPeerAsAnybody } from './processes.ts'

const folder = mkdtempSync(join(tmpdir(), 'configuration-'))
const shared = join(folder, 'shared')
beforeAll(() => mkdirSync(shared))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

let written = 0
function config(content: unknown): string {
  const file = join(folder, `config-${written++}.json`)
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content))
  return file
}
const peer = (extra: object) =>
  config({
    id: 'P1',
    ip: '127.0.0.1',
    port: 0,
    grpc_port: 0,
    shared_dir: shared,
    state_dir: join(folder, 'state'),
    ...extra,
  })

/** One line on stderr that says what is wrong, no stack trace, the right exit code. */
function expectOneLine(
  { code, stderr }: { code: number | null; stderr: string },
  expected: { code: number; says: string },
) {
  expect(stderr).toContain(expected.says)
  expect(stderr.trim().split('\n')).toHaveLength(1)
  expect(stderr).not.toMatch(/\n {4}at /)
  expect(code).toBe(expected.code)
}

describe('an agent that can not start says why in one line', () => {
  test.each([
    ['a missing file', () => join(folder, 'none.json'), 'none.json'],
    ['bad JSON', () => config('{"id": "P1",'), 'not valid JSON'],
    ['an unknown key', () => peer({ sharde_dir: 'x' }), '"sharde_dir"'],
    ['a bad value', () => peer({ port: 'many' }), '"port"'],
    ['a bad URL', () => peer({ maestro_url: 'nine thousand' }), '"maestro_url"'],
    ['a shared folder that is not there', () => peer({ shared_dir: join(folder, 'nowhere') }), 'nowhere'],
    ['a shared folder that is a file', () => peer({ shared_dir: config('{}') }), '.json'],
  ])('with %s', async (_, file, says) => {
    expectOneLine(await runPeer(['run', '--config', file()]), { code: 2, says })
  })

  test('with its port or its gRPC port in use', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as { port: number }
    try {
      expectOneLine(await runPeer(['run', '--config', peer({ port })]), { code: 1, says: `port ${port}` })
      expectOneLine(await runPeer(['run', '--config', peer({ grpc_port: port })]), { code: 1, says: `port ${port}` })
    } finally {
      other.close()
    }
  })

  test('with a shared folder that it may not read', async () => {
    const closed = join(folder, 'closed')
    mkdirSync(closed, { mode: 0 })
    expectOneLine(await runPeerAsAnybody(['run', '--config', peer({ shared_dir: closed })]), { code: 2, says: closed })
    chmodSync(closed, 0o700)
  })

  test('with no configuration at all', async () => {
    const { code, stderr } = await runPeer(['run'])
    expect(code).toBe(2)
    expect(stderr).toContain('--config')
  })
})

describe('a Maestro that can not start says why in one line', () => {
  test.each([
    ['a missing file', () => join(folder, 'none.json'), 'none.json'],
    ['bad JSON', () => config('['), 'not valid JSON'],
    ['an unknown key', () => config({ id: 'm', databse: 'x' }), '"databse"'],
  ])('with %s', async (_, file, says) => {
    expectOneLine(await runMaestro(['--config', file()]), { code: 2, says })
  })

  test('with its port in use', async () => {
    const other = createServer()
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
    const { port } = other.address() as { port: number }
    const file = config({ id: 'm', ip: '127.0.0.1', port, database: join(folder, 'm.db') })
    expectOneLine(await runMaestro(['--config', file]), { code: 1, says: `port ${port}` })
    other.close()
  })
})

/** Whether this user may make small disks; a container's root often may not. */
function mayMount(): boolean {
  const path = mkdtempSync(join(tmpdir(), 'mount-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', 'tmpfs', path], { stdio: 'ignore' })
    execFileSync('umount', [path])
    return true
  } catch {
    return false
  } finally {
    rmSync(path, { recursive: true, force: true })
  }
}

/** A small disk of its own. */
function smallDisk(name: string, options: string): { path: string; unmount: () => void } {
  const path = join(folder, name)
  mkdirSync(path)
  execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path])
  return { path, unmount: () => execFileSync('umount', [path]) }
}

// In CI the machine has to allow it: there these tests fail rather than be skipped.
describe.skipIf(!process.env.CI && !mayMount())('with disks that only root can make', () => {
  test('a full disk ends a download in one clear line, and nothing is lost', { timeout: 60_000 }, async () => {
    const disk = smallDisk('small', 'size=6m')
    const source = join(folder, 'source')
    mkdirSync(source)
    writeFileSync(join(source, 'large.bin'), Buffer.alloc(20_000_000, 7))
    writeFileSync(join(disk.path, 'mine.txt'), 'mine')
    const [port, takerPort] = await freePorts(2)
    const provider = Daemon.peer(peer({ id: 'P2', port, shared_dir: source, state_dir: join(folder, 'state-2') }))
    const taker = Daemon.peer(
      peer({
        port: takerPort,
        shared_dir: disk.path,
        reserve_bytes: 0,
        friend_peer_primary: `http://127.0.0.1:${port}`,
      }),
    )
    try {
      provider.start()
      taker.start()
      await answers(`http://127.0.0.1:${port}`)
      await answers(`http://127.0.0.1:${takerPort}`)
      const agent = ['--agent', `http://127.0.0.1:${takerPort}`]
      await expect
        .poll(async () => (await runPeer([...agent, 'locate', 'large.bin'])).code, { timeout: 15_000 })
        .toBe(0)
      const download = await runPeer([...agent, 'download', 'large.bin'])
      expect(download.code).toBe(1)
      expect(download.stderr).toMatch(/disk is full|no room|not enough (space|room)|free space/i)
      expect(readFileSync(join(disk.path, 'mine.txt'), 'utf8')).toBe('mine')
      const put = await fetch(`http://127.0.0.1:${takerPort}/files/put.bin`, {
        method: 'PUT',
        body: new Uint8Array(20_000_000),
      })
      expect(put.status).toBe(503)
      expect((await fetch(`http://127.0.0.1:${takerPort}/files/mine.txt`)).status).toBe(200)
    } finally {
      await Promise.all([provider.stop(), taker.stop()])
      disk.unmount()
    }
  })

  test('a read-only shared folder is shared, and what would write into it is refused', {
    timeout: 60_000,
  }, async () => {
    const disk = smallDisk('readonly', 'size=1m')
    writeFileSync(join(disk.path, 'f.txt'), 'read me')
    execFileSync('mount', ['-o', 'remount,ro', disk.path])
    const [port] = await freePorts(1)
    const agent = Daemon.peer(peer({ port, shared_dir: disk.path, state_dir: join(folder, 'state-ro') }))
    try {
      agent.start()
      const url = `http://127.0.0.1:${port}`
      await answers(url)
      await expect.poll(async () => (await fetch(`${url}/files/f.txt`)).status).toBe(200)
      const put = await fetch(`${url}/files/new.txt`, { method: 'PUT', body: 'x' })
      expect(put.status).toBe(403)
      expect(((await put.json()) as { error: { message: string } }).error.message).toMatch(
        /read-only|refuses|not writable/,
      )
    } finally {
      await agent.stop()
      disk.unmount()
    }
  })
})
