import { describe, expect, it, type TestContext } from 'vitest'
import { type FileName, parseFileName, parsePeerId } from '../common/ids.ts'
import { MaestroClient } from '../common/maestro-client.ts'
import type { FileEntry } from '../common/schemas.ts'
import { file } from './directory/store.contract.ts'
import { startMaestro } from './maestro.fixture.ts'

/** The client over real sockets: both ends of the wire at once. */
async function connected(t: TestContext) {
  const maestro = await startMaestro(t)
  const client = new MaestroClient(maestro.url)
  t.onTestFinished(() => client.close())
  const announce = (id: string, files: FileEntry[], revision = 1, rest = `http://10.0.0.1:8000`) =>
    client.register({ id: parsePeerId(id), rest, grpcPort: 50051, revision, files })
  return { maestro, client, announce }
}

const P1 = parsePeerId('P1')
const many = (count: number) => Array.from({ length: count }, (_, i) => file(`folder/file-${i}.bin`, `content ${i}`))

describe('the client and the Maestro', () => {
  it('register 25,000 files in pages, complete only with the last', async (t) => {
    const { client, announce, maestro } = await connected(t)
    expect(await announce('P1', many(25_000), 7)).toMatchObject({ id: 'P1', revision: 7, files: 25_000 })
    expect(await client.heartbeat(P1, 7)).toMatchObject({ files: 25_000 })
    for (const i of [0, 9_999, 10_000, 24_999])
      expect((await client.locate({ file: parseFileName(`folder/file-${i}.bin`) })).peers).toHaveLength(1)
    const metrics = await (await maestro.maestro.app.request('/metrics')).text()
    expect(metrics).toMatch(/route="\/peers\/:id\/files",status="200"[^\n]* 2\n/)
  })

  it('announce large changes in parts, and small ones in one', async (t) => {
    const { client, announce } = await connected(t)
    const files = many(12_000)
    await announce('P1', files, 1)
    const names = files.map((entry) => entry.name)
    const lease = await client.announceChanges(P1, { from: 1, to: 2, add: [file('new.txt')], remove: names })
    expect(lease).toMatchObject({ revision: 2, files: 1 })
    expect(
      await client.announceChanges(P1, { from: 2, to: 3, add: [file('two.txt')], remove: [parseFileName('new.txt')] }),
    ).toMatchObject({ revision: 3, files: 1 })
  })

  it('turn refusals back into typed errors', async (t) => {
    const { client, announce, maestro } = await connected(t)
    await announce('P1', [])
    await expect(announce('P1', [], 1, 'http://10.0.0.2:8000')).rejects.toMatchObject({
      code: 'conflict',
      details: { id: 'P1' },
    })
    await expect(announce('P2', [], 1, 'http://169.254.169.254')).rejects.toMatchObject({ code: 'forbidden' })
    await expect(client.heartbeat(P1, 9)).rejects.toMatchObject({ code: 'conflict', details: { revision: 1 } })
    await expect(client.heartbeat(parsePeerId('P9'), 1)).rejects.toMatchObject({ code: 'not_found' })
    await expect(client.locate({ file: '../x' as FileName })).rejects.toMatchObject({ code: 'invalid' })
    await client.withdraw(P1)
    await expect(client.withdraw(P1)).rejects.toMatchObject({ code: 'not_found' })
    await maestro.maestro.stop()
    await expect(client.info()).rejects.toMatchObject({ code: 'unavailable', details: { reason: 'unreachable' } })
  })

  it('agree on every list', async (t) => {
    const { client, announce } = await connected(t)
    await announce('P1', [file('notes/week 1.txt', 'A'), file('bare.txt')])
    await announce('P2', [file('notes/week 1.txt', 'A')], 1, 'http://10.0.0.2:8000')
    expect(await client.info()).toMatchObject({ peers: 2, files: 3 })
    expect((await client.peers()).peers.map((peer) => peer.id)).toEqual(['P1', 'P2'])
    expect(Object.keys((await client.directory()).directory)).toEqual(['bare.txt', 'notes/week 1.txt'])
    expect((await client.search('WEEK')).results).toMatchObject([{ file: 'notes/week 1.txt', providers: 2 }])
    expect((await client.search('k', { limit: 1 })).results).toHaveLength(1)
  })

  it('serve a thousand heartbeats at once', async (t) => {
    const { client, announce } = await connected(t)
    await announce('P1', [])
    const beats = await Promise.all(Array.from({ length: 1000 }, () => client.heartbeat(P1, 1)))
    expect(beats).toHaveLength(1000)
  })
})
