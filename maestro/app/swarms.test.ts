import { describe, expect, it, type TestContext } from 'vitest'
import { type ContentId, parsePeerId } from '../../common/ids.ts'
import { MaestroClient } from '../../common/maestro-client.ts'
import { startMaestro, type TestMaestro } from '../maestro.fixture.ts'

const ID = 'ab'.repeat(32) as ContentId
const PATH = `/swarms/${ID}`

/** Announces as from that address. */
async function announceFrom(remote: string, { maestro }: TestMaestro, body: object, path = PATH) {
  const init = { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
  const env = { incoming: { socket: { remoteAddress: remote } } }
  const response = await maestro.app.request(path, init, env)
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

const hosts = async ({ call }: TestMaestro) =>
  ((await call('GET', PATH)).body.peers as { host: string }[]).map(({ host }) => host)

const word = (peer: string, more: object = {}) => ({ peer, grpc_port: 50051, have: 1, pieces: 4, ...more })

describe('takers', () => {
  it('find each other, through the client and over the wire', async (t: TestContext) => {
    const maestro = await startMaestro(t)
    const client = new MaestroClient(maestro.url)
    t.onTestFinished(() => client.close())
    const say = (name: string, have: number, grpc_port: number) =>
      client.swarm(ID, { peer: parsePeerId(name), grpc_port, have, pieces: 4 })
    expect(await say('P1', 1, 1)).toEqual({ peers: [] })
    const first = { peer: 'P1', host: '127.0.0.1', grpc_port: 1, have: 1, pieces: 4 }
    expect((await say('P2', 0, 2)).peers).toEqual([first])
    expect((await client.swarm(ID, { peer: parsePeerId('P1'), grpc_port: 1, left: true })).peers).toEqual([])
    expect((await say('P2', 0, 2)).peers).toEqual([])
  })

  it('are forgotten after two minutes of silence', async (t) => {
    const maestro = await startMaestro(t)
    await announceFrom('10.0.0.1', maestro, word('P1'))
    maestro.clock.advance(119_999)
    expect(await hosts(maestro)).toEqual(['10.0.0.1'])
    maestro.clock.advance(1)
    expect(await hosts(maestro)).toEqual([])
  })

  it('are shown to people, by content and all together', async (t) => {
    const maestro = await startMaestro(t)
    const { call } = maestro
    expect((await call('GET', PATH)).body).toEqual({ id: ID, peers: [] })
    await announceFrom('10.0.0.1', maestro, word('P1'))
    await announceFrom('10.0.0.2', maestro, word('P2'))
    const other = 'cd'.repeat(32)
    await announceFrom('10.0.0.2', maestro, word('P2'), `/swarms/${other}`)
    const contact = { grpc_port: 50051, have: 1, pieces: 4 }
    expect((await call('GET', PATH.toUpperCase().replace('SWARMS', 'swarms'))).body).toEqual({
      id: ID,
      peers: [
        { peer: 'P1', host: '10.0.0.1', ...contact },
        { peer: 'P2', host: '10.0.0.2', ...contact },
      ],
    })
    const swarms = [
      { id: ID, peers: 2 },
      { id: other, peers: 1 },
    ]
    expect((await call('GET', '/swarms')).body).toEqual({ swarms, count: 2 })
    expect((await call('GET', '/swarms?limit=1')).body).toEqual({ swarms: swarms.slice(0, 1), count: 2 })
    const metrics = await (await maestro.maestro.app.request('/metrics')).text()
    expect(metrics).toContain('p2p_swarms{service="maestro"} 2')
    expect(metrics).toContain('p2p_swarm_peers{service="maestro"} 3')
  })
})

describe('the host that others are told', () => {
  it.each([
    ['192.168.1.20', '192.168.1.20'],
    ['::ffff:192.168.1.20', '192.168.1.20'],
    ['fd00::1', 'fd00::1'],
    ['127.0.0.1', '127.0.0.1'],
    ['::ffff:127.0.0.1', '127.0.0.1'],
  ])('of one seen at %s is %s', async (remote, host) => {
    await withMaestro(async (maestro) => {
      expect((await announceFrom(remote, maestro, word('P1'))).status).toBe(200)
      expect(await hosts(maestro)).toEqual([host])
    })
  })

  it('of one on the machine of the Maestro is that of its lease, while it has one', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [], { peer: 'http://[fd00::7]:8000' })
    await announceFrom('::1', maestro, word('P1'))
    expect(await hosts(maestro)).toEqual(['fd00::7'])
    maestro.clock.advance(15_000)
    await announceFrom('::1', maestro, word('P1', { grpc_port: 2 }))
    expect(await hosts(maestro)).toEqual(['fd00::7', '127.0.0.1'])
  })

  it('is never one that the taker names, nor that of a lease where it is seen elsewhere', async (t) => {
    const maestro = await startMaestro(t)
    await maestro.register('P1', [])
    await announceFrom('10.9.9.9', maestro, word('P1', { host: '10.6.6.6' }))
    expect(await hosts(maestro)).toEqual(['10.9.9.9'])
  })

  it('is none where nobody else could reach it', async (t) => {
    const maestro = await startMaestro(t)
    for (const remote of ['169.254.1.1', 'fe80::1%eth0'])
      expect(await announceFrom(remote, maestro, word('P1'))).toMatchObject({
        status: 403,
        body: { error: { code: 'forbidden' } },
      })
    expect(await hosts(maestro)).toEqual([])
  })
})

describe('a word is refused, and changes nothing,', () => {
  it.each([
    ['with no peer', word('P1', { peer: undefined }), 'peer in the body is missing'],
    ['with a bad peer id', word('../x'), 'is not a peer id'],
    ['with a bad port', word('P1', { grpc_port: 0 }), 'grpc_port in the body is 0: it must be at least 1'],
    ['with no pieces', word('P1', { pieces: undefined }), 'pieces in the body is missing'],
    ['with more pieces than there can be', word('P1', { pieces: 262_145 }), 'it must be at most 262144'],
    ['with more than all of them', word('P1', { have: 5 }), '"have" is at most "pieces"'],
    ['with a negative number', word('P1', { have: -1 }), 'it must be at least 0'],
  ])('%s', async (_, body, says) => {
    await withMaestro(async (maestro) => {
      const refused = await maestro.call('POST', PATH, body)
      expect(refused).toMatchObject({ status: 400, body: { error: { code: 'invalid' } } })
      expect(refused.body.error?.message).toContain(says)
      expect((await maestro.call('GET', '/swarms')).body).toEqual({ swarms: [], count: 0 })
    })
  })

  it.each(['/swarms/abc', `/swarms/${'g'.repeat(64)}`, `/swarms/${ID}0`])('about %s', async (path) => {
    await withMaestro(async ({ call }) => {
      expect((await call('POST', path, word('P1'))).status).toBe(400)
      expect((await call('GET', path)).status).toBe(400)
    })
  })

  it('of one host that is everywhere', async (t) => {
    const maestro = await startMaestro(t)
    for (let i = 0; i < 1000; i++)
      await announceFrom('10.0.0.1', maestro, word('P1'), `/swarms/${i.toString(16).padStart(64, '0')}`)
    expect(await announceFrom('10.0.0.1', maestro, word('P1'))).toMatchObject({
      status: 429,
      body: { error: { code: 'limited' } },
    })
    expect((await announceFrom('10.0.0.2', maestro, word('P2'))).status).toBe(200)
  })
})

async function withMaestro(use: (maestro: TestMaestro) => Promise<void>): Promise<void> {
  const ends: (() => unknown)[] = []
  try {
    await use(await startMaestro({ onTestFinished: (end) => void ends.push(end as () => unknown) }))
  } finally {
    for (const end of ends) await end()
  }
}
