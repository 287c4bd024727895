import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { request as httpRequest } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { contentIdOf } from '../common/merkle.ts'
import { startCluster, type TestPeer } from './cluster.ts'

/** One request with the path exactly as given, which fetch would tidy up. */
function raw(
  peer: TestPeer,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body?: string | Buffer,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(peer.url)
    const outgoing = httpRequest({ host: hostname, port, method, path, headers }, (response) => {
      let text = ''
      response.on('data', (data) => (text += data))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }))
      response.on('error', reject)
    })
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

describe("names out of an agent's folder", () => {
  const NAMES = [
    '../secret.txt',
    '%2e%2e/secret.txt',
    '%2e%2e%2fsecret.txt',
    '..%5csecret.txt',
    '%2fetc%2fpasswd',
    'a%00b',
    'a%0ab',
    `${'a'.repeat(256)}`,
    '%ef%bc%8e%ef%bc%8e%ef%bc%8fsecret.txt',
    'a%e2%80%aeb',
    '.p2p-hidden',
    'con',
  ]

  test('are refused over REST, for reading and for writing', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const p1 = await cluster.addPeer('P1')
    writeFileSync(join(p1.folder, '..', 'secret.txt'), 'top secret')
    for (const name of NAMES) {
      const read = await raw(p1, 'GET', `/files/${name}`)
      expect([400, 404], name).toContain(read.status)
      expect(read.body).not.toContain('top secret')
      const write = await raw(p1, 'PUT', `/files/${name}`, {}, 'overwritten')
      expect([400, 404], name).toContain(write.status)
    }
    expect(readdirSync(p1.folder)).toEqual([])
    expect(readFileSync(join(p1.folder, '..', 'secret.txt'), 'utf8')).toBe('top secret')
  })

  test('a link that is swapped in after the scan is not followed, for reading or for writing', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const p1 = await cluster.addPeer('P1')
    const outside = join(cluster.folder, 'outside')
    mkdirSync(outside)
    writeFileSync(join(outside, 'f.txt'), 'secret')
    await p1.share('dir/f.txt', 'public')
    rmSync(p1.path('dir'), { recursive: true })
    symlinkSync(outside, p1.path('dir'))
    expect((await raw(p1, 'GET', '/files/dir/f.txt')).body).not.toContain('secret')
    const put = await raw(p1, 'PUT', '/files/dir/new.txt', {}, 'x')
    expect(put.status).toBeGreaterThanOrEqual(400)
    expect(existsSync(join(outside, 'new.txt'))).toBe(false)
  })
})

describe("the user's own routes", () => {
  const OWN = [
    ['GET', '/transfers'],
    ['POST', '/transfers'],
    ['DELETE', '/transfers/1'],
    ['GET', '/transfers/1/events'],
    ['GET', '/friends'],
    ['POST', '/friends'],
    ['POST', '/refresh'],
    ['PUT', '/files/x'],
  ] as const

  test('refuse web pages of another origin and rebound host names', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const p1 = await cluster.addPeer('P1')
    const host = new URL(p1.url).host
    for (const [method, path] of OWN) {
      const body = method === 'PUT' || method === 'POST' ? 'x' : undefined
      expect((await raw(p1, method, path, { origin: 'http://evil.example' }, body)).status, `${method} ${path}`).toBe(
        403,
      )
      expect((await raw(p1, method, path, { origin: 'null' }, body)).status).toBe(403)
      expect((await raw(p1, method, path, { host: 'evil.example' }, body)).status).toBe(403)
      expect((await raw(p1, method, path, { host: `127.0.0.1.evil.example:${host.split(':')[1]}` }, body)).status).toBe(
        403,
      )
      expect((await raw(p1, method, path, { 'sec-fetch-site': 'cross-site' }, body)).status).toBe(403)
    }
    expect(readdirSync(p1.folder)).toEqual([])
    expect((await raw(p1, 'GET', '/transfers', { origin: p1.url })).status).toBe(200)
    expect((await raw(p1, 'GET', '/transfers', { host: 'localhost' })).status).toBe(200)
  })

  test('a shared page is served so that it can not act as a page of the agent', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const p1 = await cluster.addPeer('P1')
    await p1.share('page.html', '<script>fetch("/transfers")</script>')
    const { headers } = await fetch(`${p1.url}/files/page.html`)
    expect(headers.get('content-security-policy')).toContain('sandbox')
    expect(headers.get('content-disposition')).toContain('attachment')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
  })
})

describe('the bytes of a file over REST', () => {
  test('are whole, in ranges, and under the content id as ETag', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const p1 = await cluster.addPeer('P1')
    const data = randomBytes(700_000)
    await p1.share('f.bin', data)
    const url = `${p1.url}/files/f.bin`
    const whole = await fetch(url)
    expect(Buffer.from(await whole.arrayBuffer()).equals(data)).toBe(true)
    const etag = whole.headers.get('etag')!
    expect(etag).toBe(`"${contentIdOf(data)}"`)
    expect((await fetch(url, { headers: { 'if-none-match': etag } })).status).toBe(304)
    const ranges: [string, number, Buffer][] = [
      ['bytes=0-0', 206, data.subarray(0, 1)],
      ['bytes=262143-262144', 206, data.subarray(262143, 262145)],
      ['bytes=699999-', 206, data.subarray(699_999)],
      ['bytes=-5', 206, data.subarray(-5)],
      ['bytes=0-99999999', 206, data],
      ['bytes=5-2', 200, data],
      ['lines=1-2', 200, data],
    ]
    for (const [range, status, expected] of ranges) {
      const response = await fetch(url, { headers: { range } })
      expect(response.status, range).toBe(status)
      expect(Buffer.from(await response.arrayBuffer()).equals(expected), range).toBe(true)
    }
    expect((await fetch(url, { headers: { range: 'bytes=700000-' } })).status).toBe(416)
    expect((await fetch(url, { method: 'HEAD' })).headers.get('content-length')).toBe('700000')
    expect((await fetch(url, { headers: { range: 'bytes=0-0', 'if-range': '"other"' } })).status).toBe(200)
  })

  test('that are put are shared once they are whole; a cut upload leaves nothing', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const p1 = await cluster.addPeer('P1')
    const data = randomBytes(600_000)
    const put = (body: Buffer) => fetch(`${p1.url}/files/a/b.bin`, { method: 'PUT', body: new Uint8Array(body) })
    expect((await put(data)).status).toBe(201)
    expect(p1.read('a/b.bin').equals(data)).toBe(true)
    expect((await put(data)).status).toBe(200)
    expect((await put(randomBytes(10))).status).toBe(409)
    expect(p1.read('a/b.bin').equals(data)).toBe(true)

    const { hostname, port } = new URL(p1.url)
    const socket = connect(Number(port), hostname)
    socket.write('PUT /files/cut.bin HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\npartial')
    await expect.poll(() => readdirSync(p1.folder).length).toBe(2)
    socket.destroy()
    await expect.poll(() => readdirSync(p1.folder)).toEqual(['a'])
    expect(await p1.has('cut.bin')).toBe(false)
  })
})

describe('bodies', () => {
  test('that are malformed, of the wrong type or too large are one clear 4xx', async (t) => {
    const cluster = await startCluster(t, { maestro: false })
    const p1 = await cluster.addPeer('P1')
    const post = (path: string, body: string) =>
      fetch(p1.url + path, { method: 'POST', body, headers: { 'content-type': 'application/json' } })
    for (const body of [
      '{"file":',
      '[]',
      '{}',
      '{"file":5}',
      '{"file":"../x"}',
      '{"id":"abc"}',
      '{"file":"x","mode":"no"}',
      'null',
      '',
    ]) {
      const response = await post('/transfers', body)
      expect(response.status, body).toBe(400)
      const { error } = (await response.json()) as { error: { code: string; message: string } }
      expect(error.code).toBe('invalid')
      expect(error.message.length).toBeGreaterThan(5)
    }
    expect((await post('/friends', '{"url":"ftp://x"}')).status).toBe(400)
    expect((await post('/friends', '{"url":"http://a/b?c"}')).status).toBe(400)
    expect((await post('/transfers', JSON.stringify({ file: 'x'.repeat(9_000_000) }))).status).toBe(413)
    expect((await fetch(`${p1.url}/search`)).status).toBe(400)
    expect((await fetch(`${p1.url}/nothing`)).status).toBe(404)
    expect((await fetch(`${p1.url}/transfers/none`)).status).toBe(404)
    expect((await fetch(`${p1.url}/files?after=../x`)).status).toBe(400)
  })
})
