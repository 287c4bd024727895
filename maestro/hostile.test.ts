import { connect, type Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { LIMITS } from '../common/schemas.ts'
import { startMaestro, type TestMaestro } from './maestro.fixture.ts'

const NAMES = [
  '../x',
  'a/../../x',
  '/etc/passwd',
  '..\\x',
  'C:\\x',
  'nul\0.txt',
  'bell\u0007.txt',
  'right\u202eleft.txt',
  'zero\u200bwidth.txt',
  `${'a'.repeat(256)}.txt`,
  'é'.repeat(128),
  'a'.repeat(1025),
  'CON',
  'aux.txt',
  '.hidden',
  'trailing.',
  'a//b',
  '',
  'a∕b',
  'a\uff0fb',
  '\uff0e\uff0e',
  'e\u0301.txt',
  '\ud800',
]

const ADDRESSES = [
  ['http://169.254.1.1:80', 403],
  ['http://169.254.169.254', 403],
  ['http://2852039166', 403],
  ['http://0xa9fea9fe', 403],
  ['http://0251.0376.0251.0376', 403],
  ['http://169.254.43518', 403],
  ['http://[::ffff:169.254.169.254]', 403],
  ['http://[::ffff:a9fe:a9fe]', 403],
  ['http://[::169.254.169.254]', 403],
  ['http://[64:ff9b::a9fe:a9fe]', 403],
  ['http://[fd00:ec2::254]', 403],
  ['http://[fe80::1]:8000', 403],
  ['http://metadata.google.internal', 403],
  ['http://metadata.google.internal.', 403],
  ['http://224.0.0.1:8000', 403],
  ['http://[ff02::1]:8000', 403],
  ['http://0.0.0.0:8000', 403],
  ['http://[::]:8000', 403],
  ['http://255.255.255.255:8000', 403],
  ['http://10.0.0.1:0', 400],
  ['http://10.0.0.1:65536', 400],
  ['http://10.0.0.1:-1', 400],
  ['ftp://10.0.0.1:21', 400],
  ['file:///etc/passwd', 400],
  ['http://user:secret@10.0.0.1:8000', 400],
  ['http://10.0.0.1:8000/path', 400],
  ['http://10.0.0.1:8000/?q', 400],
  ['', 400],
] as const

describe('a registration is refused, and changes nothing,', () => {
  it.each(NAMES.map((name) => [JSON.stringify(name).slice(0, 40), name]))('with the name %s', async (_, name) => {
    await withMaestro(async ({ register, call }) => {
      for (const files of [['good.txt', name], [{ name }]]) {
        const refused = await register('P1', files)
        expect(refused).toMatchObject({ status: 400, body: { error: { code: 'invalid' } } })
        expect(refused.body.error?.message).toMatch(/^files\.\d/)
      }
      expect((await call('GET', '/locate?file=good.txt')).body.peers).toEqual([])
      await register('P1', ['kept.txt'])
      for (const change of [{ add: [name] }, { remove: [name] }])
        expect((await call('PATCH', '/peers/P1/files', { from: 1, to: 2, ...change })).status).toBe(400)
      expect((await call('POST', '/heartbeat', { id: 'P1', revision: 1 })).status).toBe(200)
    })
  })

  it.each(ADDRESSES)('with the address %s', async (peer, status) => {
    await withMaestro(async ({ register, call }) => {
      expect((await register('P1', ['a.txt'], { peer })).status).toBe(status)
      expect((await call('GET', '/')).body.peers).toBe(0)
    })
  })

  it.each([
    ['no body', undefined],
    ['bad JSON', '{"peer": '],
    ['a list', '[]'],
    ['null', 'null'],
    ['a number', '7'],
    ['a deep nest', `${'['.repeat(100_000)}${']'.repeat(100_000)}`],
    ['no address', '{"grpc_port":1,"files":[]}'],
    ['an address that is a number', '{"peer":7,"grpc_port":1,"files":[]}'],
    ['a port out of range', '{"peer":"http://10.0.0.1:1","grpc_port":65536,"files":[]}'],
    ['a port with a fraction', '{"peer":"http://10.0.0.1:1","grpc_port":1.5,"files":[]}'],
    ['files that are no list', '{"peer":"http://10.0.0.1:1","grpc_port":1,"files":{"length":1}}'],
    ['a file that is a number', '{"peer":"http://10.0.0.1:1","grpc_port":1,"files":[1]}'],
    ['a negative size', '{"peer":"http://10.0.0.1:1","grpc_port":1,"files":[{"name":"a","size":-1}]}'],
    ['a size beyond any file', '{"peer":"http://10.0.0.1:1","grpc_port":1,"files":[{"name":"a","size":1e30}]}'],
    ['a bad content id', '{"peer":"http://10.0.0.1:1","grpc_port":1,"files":[{"name":"a","id":"xyz"}]}'],
    ['a bad peer id', '{"id":"../x","peer":"http://10.0.0.1:1","grpc_port":1,"files":[]}'],
    ['a negative revision', '{"peer":"http://10.0.0.1:1","grpc_port":1,"files":[],"revision":-1}'],
  ])('with %s', async (_, body) => {
    await withMaestro(async ({ maestro, call }) => {
      for (const headers of [
        { 'content-type': 'application/json' },
        { 'content-type': 'application/x-www-form-urlencoded' },
      ]) {
        const response = await maestro.app.request('/register', {
          method: 'POST',
          headers,
          ...(body === undefined ? {} : { body }),
        })
        expect(response.status).toBe(400)
        expect(await response.json()).toMatchObject({ error: { code: 'invalid' } })
      }
      expect((await call('GET', '/')).body.peers).toBe(0)
    })
  })

  it('with a loopback address from another machine, but not from this one', async (t) => {
    const { maestro } = await startMaestro(t)
    const from = (remoteAddress: string, peer: string) =>
      maestro.app.request(
        '/register',
        {
          method: 'POST',
          headers: { 'content-type': 'application/json' },
          body: JSON.stringify({ peer, grpc_port: 1, files: [] }),
        },
        { incoming: { socket: { remoteAddress } } },
      )
    for (const peer of [
      'http://127.0.0.1:8000',
      'http://localhost:8000',
      'http://localhost.:8000',
      'http://[::1]:8000',
      'http://0x7f.1:8000',
    ])
      expect((await from('10.0.0.7', peer)).status).toBe(403)
    expect((await from('::ffff:127.0.0.1', 'http://localhost:8000')).status).toBe(201)
  })

  it('with more names than one request may have, or one peer', async (t) => {
    const { register, call } = await startMaestro(t, { max_files_per_peer: 5 })
    const names = (count: number) => Array.from({ length: count }, (_, i) => `f${i}`)
    expect((await register('P1', names(LIMITS.filesPerRequest + 1))).status).toBe(400)
    expect(await register('P1', names(6))).toMatchObject({ status: 413, body: { error: { code: 'too_large' } } })
    await register('P1', names(5))
    const patch = { from: 1, to: 2, add: ['more'] }
    expect(await call('PATCH', '/peers/P1/files', patch)).toMatchObject({
      status: 413,
      body: { error: { code: 'too_large' } },
    })
    const both = { from: 1, to: 2, add: names(6000), remove: names(6000) }
    expect((await call('PATCH', '/peers/P1/files', both)).status).toBe(413)
  })

  it('of one peer more than this Maestro holds', async (t) => {
    const { register } = await startMaestro(t, { max_peers: 1 })
    expect((await register('P1', [])).status).toBe(201)
    expect(await register('P2', [])).toMatchObject({ status: 429, body: { error: { code: 'limited' } } })
    expect((await register('P1', [])).status).toBe(200)
  })
})

it('an unknown peer can neither beat, patch nor withdraw', async (t) => {
  const { call } = await startMaestro(t)
  expect((await call('POST', '/heartbeat', { id: 'ghost', revision: 0 })).status).toBe(404)
  expect((await call('PATCH', '/peers/ghost/files', { from: 0, to: 1, add: ['a'] })).status).toBe(404)
  expect((await call('DELETE', '/peers/ghost')).status).toBe(404)
  expect((await call('DELETE', '/peers/..%2Fx')).status).toBe(400)
  expect((await call('GET', '/nowhere')).status).toBe(404)
})

it.each(['limit=0', 'limit=1001', 'limit=x', 'limit=1e9', `after=${'x'.repeat(5000)}`])(
  'a list with %s is refused',
  async (query) => {
    await withMaestro(async ({ call }) => {
      for (const path of ['/peers', '/directory', '/search'])
        expect((await call('GET', `${path}?q=a&${query}`)).status).toBe(400)
    })
  },
)

it.each(['q=', 'q=%20', `q=${'x'.repeat(201)}`, '', 'q=a&after=%00'])(
  'a search with "%s" is refused',
  async (query) => {
    await withMaestro(async ({ call }) => {
      expect((await call('GET', `/search?${query}`)).status).toBe(400)
    })
  },
)

describe('on the wire', () => {
  const GIB = 1024 ** 3

  it.each([
    ['announced as such', `content-length: ${2 * GIB}`, false],
    ['in chunks', 'transfer-encoding: chunked', true],
  ])(
    'a body of 2 GiB, %s, is refused while little of it is read, and memory stays flat',
    async (_, header, chunked) => {
      await withMaestro(async (maestro) => {
        const before = process.memoryUsage().rss
        const socket = await open(maestro)
        socket.write(`POST /register HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n${header}\r\n\r\n`)
        const answered = firstLine(socket)
        const sent = await flood(socket, 2 * GIB, chunked)
        expect(await answered).toBe('HTTP/1.1 413 Payload Too Large')
        expect(sent).toBeLessThan(64 * 1024 * 1024)
        expect(process.memoryUsage().rss - before).toBeLessThan(150 * 1024 * 1024)
        expect((await fetch(`${maestro.url}/healthz`)).status).toBe(200)
      })
    },
  )

  it('a head that does not come to its end is answered with 408, and cut', async (t) => {
    const maestro = await startMaestro(t, { headers_timeout_ms: 200 })
    const socket = await open(maestro)
    socket.write('GET / HTTP/1.1\r\nhost: x\r\nx-slow: ')
    expect(await firstLine(socket)).toBe('HTTP/1.1 408 Request Timeout')
  })

  it('a head larger than any is refused', async (t) => {
    const socket = await open(await startMaestro(t))
    socket.write(`GET / HTTP/1.1\r\nhost: x\r\nx-large: ${'x'.repeat(100_000)}\r\n\r\n`)
    expect(await firstLine(socket)).toBe('HTTP/1.1 431 Request Header Fields Too Large')
  })

  it('bytes that are no HTTP are refused', async (t) => {
    const socket = await open(await startMaestro(t))
    socket.write('\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03')
    expect(await firstLine(socket)).toBe('HTTP/1.1 400 Bad Request')
  })

  it('hundreds of idle connections keep nobody from an answer', async (t) => {
    const maestro = await startMaestro(t)
    const idle = await Promise.all(Array.from({ length: 400 }, () => open(maestro)))
    for (const socket of idle.slice(0, 200)) socket.write('GET / HTTP/1.1\r\n')
    expect((await fetch(`${maestro.url}/healthz`)).status).toBe(200)
    for (const socket of idle) socket.destroy()
  })
})

/** A Maestro for a test of a table, whose cases have no context of their own. */
async function withMaestro(use: (maestro: TestMaestro) => Promise<void>): Promise<void> {
  const ends: (() => unknown)[] = []
  const maestro = await startMaestro({ onTestFinished: (end) => ends.push(end as () => unknown) })
  try {
    await use(maestro)
  } finally {
    for (const end of ends) await end()
  }
}

function open({ port }: TestMaestro): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket))
    socket.on('error', reject)
  })
}

/** The status line of the answer. */
function firstLine(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = ''
    socket.on('data', (data) => {
      text += data
      if (text.includes('\r\n')) resolve(text.slice(0, text.indexOf('\r\n')))
    })
    socket.on('close', () => reject(new Error(`closed after "${text}"`)))
  })
}

/** Writes up to `total` bytes as fast as they are taken, until the other side ends it; @returns how many went out. */
async function flood(socket: Socket, total: number, chunked: boolean): Promise<number> {
  const piece = Buffer.alloc(64 * 1024, ' ')
  const data = chunked ? Buffer.concat([Buffer.from('10000\r\n'), piece, Buffer.from('\r\n')]) : piece
  const stopped = new Promise<void>((resolve) => {
    socket.once('close', () => resolve())
    socket.once('end', () => resolve())
    socket.once('data', () => resolve())
  })
  let over = false
  void stopped.then(() => {
    over = true
  })
  for (let sent = 0; sent < total && !over; sent += piece.length)
    if (!socket.write(data))
      await Promise.race([new Promise<void>((resolve) => socket.once('drain', resolve)), stopped])
  const sent = socket.bytesWritten
  socket.destroy()
  return sent
}
