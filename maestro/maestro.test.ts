import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { describe, expect, it } from 'vitest'
import { projectFile } from '../common/project.ts'
import { startMaestro } from './maestro.fixture.ts'

const LEASE = 15_000
const ID = 'a'.repeat(64)

const JSON_TYPE = { 'content-type': 'application/json' }

describe('a lease', () => {
  it('is opened with 201 by a plain curl user, under an id made of the address', async (t) => {
    const { call } = await startMaestro(t)
    const body = {
      peer: 'http://192.168.1.20:8000',
      grpc_port: 50051,
      files: ['a.txt', { name: 'b.txt', size: 3, id: ID }],
    }
    expect(await call('POST', '/register', body)).toEqual({
      status: 201,
      body: { id: '192-168-1-20-8000', revision: 0, files: 2, lease_ms: LEASE, heartbeat_ms: 5000 },
    })
    expect((await call('POST', '/register', body)).status).toBe(200)
    expect((await call('GET', '/locate?file=a.txt')).body).toEqual({
      file: 'a.txt',
      peers: [{ peer: '192-168-1-20-8000', rest: 'http://192.168.1.20:8000', grpc_port: 50051, id: null, size: null }],
    })
  })

  it('is opened for peers that are reached by IPv6 or by a host name', async (t) => {
    const { call } = await startMaestro(t)
    const idFor = async (peer: string) => (await call('POST', '/register', { peer, grpc_port: 1, files: [] })).body.id
    expect(await idFor('http://[fd00::1]:8000')).toBe('fd00--1-8000')
    expect(await idFor('http://pc-12.lab.example:8000')).toBe('pc-12-lab-example-8000')
  })

  it('is kept by heartbeats of its revision, and ends without them', async (t) => {
    const { call, clock, register, maestro } = await startMaestro(t)
    await register('P1', ['a.txt'])
    for (let i = 0; i < 4; i++) {
      clock.advance(LEASE - 1)
      expect(await call('POST', '/heartbeat', { id: 'P1', revision: 1 })).toMatchObject({
        status: 200,
        body: { files: 1 },
      })
    }
    expect((await call('POST', '/heartbeat', { id: 'P1', revision: 2 })).status).toBe(409)
    clock.advance(LEASE)
    expect((await call('GET', '/locate?file=a.txt')).body.peers).toEqual([])
    expect((await call('POST', '/heartbeat', { id: 'P1', revision: 1 })).status).toBe(404)
    await maestro.reap()
    expect(await (await maestro.app.request('/metrics')).text()).toContain(
      'p2p_leases_expired_total{service="maestro"} 1',
    )
    expect((await register('P1', ['a.txt'], { peer: 'http://10.0.0.9:1' })).status).toBe(201)
  })

  it('is withdrawn at once', async (t) => {
    const { call, register } = await startMaestro(t)
    await register('P1', ['a.txt'])
    expect(await call('DELETE', '/peers/P1')).toEqual({ status: 200, body: { id: 'P1' } })
    expect((await call('GET', '/locate?file=a.txt')).body).toEqual({ file: 'a.txt', peers: [] })
    expect(await call('DELETE', '/peers/P1')).toMatchObject({ status: 404, body: { error: { code: 'not_found' } } })
  })

  it('of a live peer is not given to another address', async (t) => {
    const { call, register } = await startMaestro(t)
    await register('P1', ['a.txt'])
    const stolen = await register('P1', ['evil.txt'], { peer: 'http://10.6.6.6:8000' })
    expect(stolen).toMatchObject({ status: 409, body: { error: { code: 'conflict', id: 'P1' } } })
    expect(stolen.body.error?.message).toContain('belongs to a live peer at http://10.0.0.1:8000')
    expect((await call('GET', '/locate?file=a.txt')).body.peers).toHaveLength(1)
  })

  it('is renewed with one answer, by the shortcut and by the route', async (t) => {
    const { register, maestro, url, clock } = await startMaestro(t)
    await register('P1', [])
    const beat = JSON.stringify({ id: 'P1', revision: 1 })
    const bodies = [
      beat,
      JSON.stringify({ id: 'P1', revision: 2 }),
      JSON.stringify({ id: 'none', revision: 1 }),
      JSON.stringify({ id: 'P1' }),
      `${beat} `.padEnd(2000),
      '{"id":',
      '[]',
      'null',
      '',
    ]
    const compare = async () => {
      for (const type of ['application/json', 'application/x-www-form-urlencoded', 'text/plain'])
        for (const body of bodies) {
          const init = { method: 'POST', body, headers: { 'content-type': type } }
          const [wire, route] = [await fetch(`${url}/heartbeat`, init), await maestro.app.request('/heartbeat', init)]
          expect([type, body, wire.status, await wire.text()]).toEqual([type, body, route.status, await route.text()])
          expect(wire.headers.get('content-type')).toBe(route.headers.get('content-type'))
        }
    }
    await compare()
    clock.advance(LEASE - 1)
    expect((await fetch(`${url}/heartbeat`, { method: 'POST', body: beat, headers: JSON_TYPE })).status).toBe(200)
    clock.advance(LEASE - 1)
    expect((await fetch(`${url}/heartbeat`, { method: 'POST', body: beat, headers: JSON_TYPE })).status).toBe(200)
    clock.advance(LEASE)
    await compare()
  })

  it('is renewed by a heartbeat that comes in pieces, and not by half of one', async (t) => {
    const { register, maestro, clock, call } = await startMaestro(t)
    await register('P1', [])
    const beat = JSON.stringify({ id: 'P1', revision: 1 })
    const head = `POST /heartbeat HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${beat.length}\r\n\r\n`
    const half = connect(maestro.port, '127.0.0.1')
    half.write(head + beat.slice(0, 5))
    await once(half, 'connect')
    half.destroy()
    const socket = connect(maestro.port, '127.0.0.1')
    socket.setNoDelay(true)
    for (const part of [head, beat.slice(0, 5), beat.slice(5)]) await new Promise((sent) => socket.write(part, sent))
    const [answer] = (await once(socket, 'data')) as [Buffer]
    socket.destroy()
    expect(answer.toString()).toContain('HTTP/1.1 200 OK')
    clock.advance(LEASE)
    expect((await call('GET', '/peers')).body.peers).toEqual([])
  })
})

describe('a patch', () => {
  it('moves from one revision to the next, atomically', async (t) => {
    const { call, register } = await startMaestro(t)
    await register('P1', ['a.txt', 'b.txt'])
    const patch = { from: 1, to: 2, add: [{ name: 'c.txt', size: 1, id: ID }], remove: ['a.txt'] }
    expect(await call('PATCH', '/peers/P1/files', patch)).toMatchObject({
      status: 200,
      body: { revision: 2, files: 2 },
    })
    expect(await call('PATCH', '/peers/P1/files', patch)).toMatchObject({
      status: 409,
      body: { error: { revision: 2 } },
    })
    expect((await call('GET', `/locate?id=${ID}`)).body).toEqual({
      file: null,
      peers: [{ peer: 'P1', rest: 'http://10.0.0.1:8000', grpc_port: 50051, id: ID, size: 1, file: 'c.txt' }],
    })
    expect((await call('PATCH', '/peers/P9/files', patch)).status).toBe(404)
    expect((await call('PATCH', '/peers/P1/files', { from: 2, to: 1 })).status).toBe(400)
  })
})

describe('lists', () => {
  it('of peers and of the directory come page by page', async (t) => {
    const { call, register } = await startMaestro(t)
    for (const id of ['P3', 'P1', 'P2']) await register(id, [`${id}.txt`, 'shared.txt'], { peer: `http://${id}:1` })
    const peers = await call('GET', '/peers?limit=2')
    expect(peers.body).toMatchObject({
      peers: [{ id: 'P1', files: ['P1.txt', 'shared.txt'], file_count: 2, status: 'alive' }, { id: 'P2' }],
      next: 'P2',
    })
    expect((await call('GET', '/peers?limit=2&after=P2')).body).toMatchObject({ peers: [{ id: 'P3' }], next: null })
    const first = (await call('GET', '/directory?limit=3')).body as {
      directory: Record<string, unknown[]>
      next: string
    }
    expect(Object.keys(first.directory)).toEqual(['P1.txt', 'P2.txt', 'P3.txt'])
    const second = await call('GET', `/directory?limit=3&after=${first.next}`)
    expect(second.body).toMatchObject({
      directory: { 'shared.txt': [{ peer: 'P3' }, { peer: 'P1' }, { peer: 'P2' }] },
      next: null,
    })
  })

  it('show at most 100 names of a peer, and how many it has', async (t) => {
    const { call, register } = await startMaestro(t)
    await register(
      'P1',
      Array.from({ length: 150 }, (_, i) => `f${i}`),
    )
    const { peers } = (await call('GET', '/peers')).body as { peers: { files: string[]; file_count: number }[] }
    expect([peers[0]?.files.length, peers[0]?.file_count]).toEqual([100, 150])
  })

  it('skip long stretches of names that nobody offers any more', async (t) => {
    const { call, register, clock } = await startMaestro(t)
    await register(
      'P1',
      Array.from({ length: 500 }, (_, i) => `a${i}`),
    )
    clock.advance(LEASE)
    await register('P2', ['z.txt'])
    expect((await call('GET', '/directory?limit=10')).body).toMatchObject({ directory: { 'z.txt': [{ peer: 'P2' }] } })
  })

  it('hold a name that objects know already', async (t) => {
    const { call, register } = await startMaestro(t)
    await register('P1', ['__proto__', 'constructor'])
    const { directory } = (await call('GET', '/directory')).body as { directory: Record<string, unknown[]> }
    expect(Object.entries(directory).map(([name, peers]) => [name, peers.length])).toEqual([
      ['__proto__', 1],
      ['constructor', 1],
    ])
  })
})

describe('locate', () => {
  it('wants a file or an id, not both, and checks them', async (t) => {
    const { call } = await startMaestro(t)
    for (const query of ['', '?file=a&id=b', '?file=../x', '?id=abc', '?file='])
      expect(await call('GET', `/locate${query}`)).toMatchObject({ status: 400, body: { error: { code: 'invalid' } } })
  })

  it('gives one answer, by the shortcut and by the route', async (t) => {
    const { register, maestro, url, clock } = await startMaestro(t)
    const names = ['a.txt', 'ñ & co/100 %+.txt', 'plus+plus.txt']
    await register('P1', [{ name: names[0], size: 1, id: ID }, ...names.slice(1)])
    const queries = [
      ...names.map(encodeURIComponent),
      'a.txt&x=1',
      'a.txt?',
      'none',
      '%',
      '%00',
      '../x',
      'plus+plus.txt',
      '',
    ]
    const compare = async () => {
      for (const query of queries) {
        const path = `/locate?file=${query}`
        const [wire, route] = [await fetch(url + path), await maestro.app.request(path)]
        expect([query, wire.status, await wire.text()]).toEqual([query, route.status, await route.text()])
        expect(wire.headers.get('content-type')).toBe(route.headers.get('content-type'))
      }
    }
    await compare()
    const answer = (await (await fetch(`${url}/locate?file=${encodeURIComponent(names[1]!)}`)).json()) as object
    expect(answer).toMatchObject({ file: names[1], peers: [{ peer: 'P1', id: null }] })
    clock.advance(LEASE)
    await compare()
  })

  it('takes a name in any normal form, and an id in any case', async (t) => {
    const { call, register } = await startMaestro(t)
    await register('P1', [{ name: 'é.txt', size: 1, id: ID }])
    expect((await call('GET', `/locate?file=${encodeURIComponent('e\u0301.txt')}`)).body.peers).toHaveLength(1)
    expect((await call('GET', `/locate?id=${ID.toUpperCase()}`)).body.peers).toHaveLength(1)
  })
})

describe('after a restart', () => {
  it('the directory answers, and peers that stayed up notice nothing', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', ['a.txt'])
    await maestro.restart(10 * LEASE)
    expect((await maestro.call('GET', '/locate?file=a.txt')).body.peers).toHaveLength(1)
    expect((await maestro.call('POST', '/heartbeat', { id: 'P1', revision: 1 })).status).toBe(200)
    const patch = { from: 1, to: 2, add: ['b.txt'] }
    expect((await maestro.call('PATCH', '/peers/P1/files', patch)).status).toBe(200)
  })

  it('peers that died meanwhile vanish after their lease', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', ['a.txt'])
    await maestro.restart()
    maestro.clock.advance(LEASE - 1)
    expect((await maestro.call('GET', '/locate?file=a.txt')).body.peers).toHaveLength(1)
    maestro.clock.advance(1)
    expect((await maestro.call('GET', '/locate?file=a.txt')).body.peers).toEqual([])
    expect((await maestro.call('GET', '/peers')).body.peers).toEqual([])
  })

  it('peers whose lease was over before stay gone', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', ['a.txt'])
    maestro.clock.advance(LEASE)
    await maestro.maestro.reap()
    await maestro.restart()
    expect((await maestro.call('POST', '/heartbeat', { id: 'P1', revision: 1 })).status).toBe(404)
  })
})

describe('the service', () => {
  it('tells what it is and holds', async (t) => {
    const { call, register, clock } = await startMaestro(t)
    await register('P1', ['a.txt', 'b.txt'])
    clock.advance(2500)
    expect((await call('GET', '/')).body).toMatchObject({
      service: 'maestro',
      status: 'ok',
      peers: 1,
      files: 2,
      uptime_s: 2.5,
    })
    expect((await call('GET', '/healthz')).body).toEqual({ status: 'ok' })
  })

  it('documents every route of its contract, in a page that asks nothing of the internet', async (t) => {
    const { call, maestro } = await startMaestro(t)
    const { paths, openapi } = (await call('GET', '/openapi.json')).body as {
      openapi: string
      paths: Record<string, Record<string, unknown>>
    }
    const routes = Object.entries(paths).flatMap(([path, methods]) => Object.keys(methods).map((m) => `${m} ${path}`))
    expect(openapi).toBe('3.1.0')
    expect(routes.sort()).toEqual([
      'delete /peers/{id}',
      'get /',
      'get /asyncapi.json',
      'get /directory',
      'get /events',
      'get /healthz',
      'get /locate',
      'get /mailboxes/{peer}',
      'get /metrics',
      'get /peers',
      'get /search',
      'get /swarms',
      'get /swarms/{id}',
      'patch /peers/{id}/files',
      'post /events',
      'post /heartbeat',
      'post /mailboxes/{peer}',
      'post /mailboxes/{peer}/taken',
      'post /register',
      'post /swarms/{id}',
    ])
    const page = await (await maestro.app.request('/docs')).text()
    const assets = [...page.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]!)
    expect(assets.length).toBeGreaterThan(2)
    for (const asset of assets) {
      expect(asset).toMatch(/^\/docs\//)
      expect((await maestro.app.request(asset)).status).toBe(200)
    }
  })

  it('counts requests, their times and what it holds for Prometheus', async (t) => {
    const { call, register, maestro } = await startMaestro(t)
    await register('P1', ['a.txt'])
    await call('GET', '/locate?file=a.txt')
    await call('GET', '/locate?file=b.txt')
    await call('GET', '/locate')
    const lines = (await (await maestro.app.request('/metrics')).text()).split('\n')
    for (const line of [
      'p2p_http_requests_total{method="GET",route="/locate",status="200",service="maestro"} 2',
      'p2p_http_requests_total{method="GET",route="/locate",status="400",service="maestro"} 1',
      'p2p_http_request_seconds_bucket{le="+Inf",route="/locate",service="maestro"} 3',
      'p2p_http_request_seconds_count{route="/locate",service="maestro"} 3',
      '# TYPE p2p_http_request_seconds histogram',
      'p2p_peers{service="maestro"} 1',
      'p2p_files{service="maestro"} 1',
    ])
      expect(lines).toContain(line)
    expect(lines.find((line) => line.startsWith('p2p_database_bytes{'))).toMatch(/ [1-9]\d+$/)
  })

  it('has no means of making a request itself', () => {
    const sources = readdirSync(projectFile('maestro'), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts') && !path.endsWith('.test.ts'))
      .map((path) => readFileSync(projectFile('maestro', path), 'utf8'))
    expect(sources.length).toBeGreaterThan(10)
    for (const source of sources)
      expect(source).not.toMatch(
        /from '(undici|node:https?|node:net|node:dgram|node:dns|.*(rest|maestro)-client\.ts)|\bfetch\(|@grpc/,
      )
  })
})
