import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { PROJECT_ROOT, projectFile } from '../common/project.ts'
import { MaestroConfig } from './config.ts'

const folder = mkdtempSync(join(tmpdir(), 'maestro-main-'))
afterAll(() => rmSync(folder, { recursive: true }))

const run = (...args: string[]): ChildProcess =>
  spawn(process.execPath, ['--import', 'tsx', projectFile('maestro', 'main.ts'), ...args], {
    cwd: PROJECT_ROOT,
    env: { PATH: process.env.PATH },
  })

async function outcome(child: ChildProcess) {
  let stdout = ''
  let stderr = ''
  child.stdout?.on('data', (data) => {
    stdout += data
  })
  child.stderr?.on('data', (data) => {
    stderr += data
  })
  const [code] = await once(child, 'close')
  return { code, stdout, stderr }
}

const config = (name: string, content: unknown) => {
  const path = join(folder, name)
  writeFileSync(path, typeof content === 'string' ? content : JSON.stringify(content))
  return path
}

describe('maestro', () => {
  it('documents every key as a flag with its default, and an example', async () => {
    const { code, stdout } = await outcome(run('--help'))
    expect(code).toBe(0)
    expect(stdout).toContain('maestro --config config/maestro.json')
    for (const key of Object.keys(MaestroConfig.shape))
      expect(stdout).toContain(`--${key.replaceAll('_', '-')} <value>`)
    expect(stdout).toMatch(/--port <value> .*\(default 9000\)/)
    expect(stdout).toMatch(/--database <value> [^-]*\(required\)/)
  })

  it.each([
    [
      'a missing file',
      () => ['--config', join(folder, 'none.json')],
      /none\.json: there is no such configuration file/,
    ],
    ['bad JSON', () => ['--config', config('bad.json', '{')], /bad\.json: not valid JSON/],
    [
      'an unknown key',
      () => ['--config', config('key.json', { prot: 1 })],
      /unknown key "prot" \(did you mean "port"\?\)/,
    ],
    [
      'a bad value',
      () => ['--config', config('v.json', { database: 'd', port: 'x' })],
      /the key "port" has a bad value "x"/,
    ],
    ['a bad flag', () => ['--database', join(folder, 'd'), '--lease-ms', 'soon'], /flag --lease-ms.*bad value "soon"/],
    ['an unknown flag', () => ['--nope'], /unknown option '--nope'/],
    ['no database', () => [], /the key "database" is missing/],
  ])('refuses %s in one line, with exit code 2', async (_, args, message) => {
    const { code, stdout, stderr } = await outcome(run(...args()))
    expect(stderr).toMatch(message)
    expect(stderr).toMatch(/^maestro: [^\n]+\n$/)
    expect([code, stdout]).toEqual([2, ''])
  })

  it('fails in one line, with exit code 1, where the port is in use', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const args = ['--database', join(folder, 'port.db'), '--ip', '127.0.0.1', '--port', String(port)]
    const { code, stderr } = await outcome(run(...args))
    other.close()
    expect(stderr).toBe(
      `maestro: port ${port} on 127.0.0.1 is in use: stop the other program, or choose another port by --port\n`,
    )
    expect(code).toBe(1)
  })

  it('fails in one line, with exit code 1, where the database is damaged', async () => {
    const path = config('damaged.db', 'no database at all '.repeat(1000))
    const { code, stderr } = await outcome(run('--database', path, '--port', '0'))
    expect(stderr).toMatch(/^maestro: database .*damaged\.db: it is damaged[^\n]+\n$/)
    expect(code).toBe(1)
  })

  it('says where it answers, and stops cleanly at SIGTERM', async () => {
    const path = config('good.json', { ip: '127.0.0.1', port: 0, database: 'state/directory.db', log_level: 'silent' })
    const child = run('--config', path)
    const ended = outcome(child)
    const [line] = await once(child.stdout!, 'data')
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(String(line))?.[0]
    expect((await fetch(`${url}/docs`)).status).toBe(200)
    child.kill('SIGTERM')
    const { code, stdout, stderr } = await ended
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout).toBe(`The Maestro answers at ${url} (try ${url}/docs); Ctrl-C stops it.\n`)
  })
})
