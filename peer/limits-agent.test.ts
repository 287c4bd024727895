import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { silentLog } from '../common/log.ts'
import { RestClient } from '../common/rest-client.ts'
import { TransferSchema, TransfersResponse } from '../common/schemas.ts'
import { Agent } from './agent.ts'
import { PeerConfig } from './config.ts'
import { patternOf } from './transfer/transfer.fixture.ts'

const KB = 1000
const RATE = 2000 * KB

/** A real agent that shares these files, with no Maestro. */
async function startAgent(id: string, files: Record<string, Buffer>, config: object = {}): Promise<RestClient> {
  const folder = mkdtempSync(join(tmpdir(), 'limits-agent-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const shared_dir = join(folder, 'shared')
  mkdirSync(shared_dir)
  for (const [name, bytes] of Object.entries(files)) {
    mkdirSync(dirname(join(shared_dir, name)), { recursive: true })
    writeFileSync(join(shared_dir, name), bytes)
  }
  const parsed = PeerConfig.parse({ id, ip: '127.0.0.1', port: 0, grpc_port: 0, shared_dir, settle_ms: 20, ...config })
  const agent = new Agent({ ...parsed, state_dir: join(folder, 'state') }, { log: silentLog })
  await agent.start()
  onTestFinished(() => agent.stop())
  await expect.poll(() => agent.info().scanning).toBe(false)
  const rest = new RestClient({ name: id, baseUrl: `http://127.0.0.1:${agent.port}`, timeoutMs: 20_000 })
  onTestFinished(() => rest.close())
  return rest
}

/** 15 files of 200 kB, which are small. */
function folderOf(name: string, seed: number): Record<string, Buffer> {
  return Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`${name}/f${i}`, patternOf(200 * KB, seed + i)]))
}

test.each<[string, Record<string, Buffer>, object[]]>([
  ['two folders', { ...folderOf('a', 0), ...folderOf('b', 100) }, [{ folder: 'a' }, { folder: 'b' }]],
  ['a folder and a file', { ...folderOf('a', 0), f: patternOf(3000 * KB) }, [{ folder: 'a' }, { file: 'f' }]],
])('the download limit bounds %s together', async (_, files, requests) => {
  const provider = await startAgent('P', files)
  const taker = await startAgent('T', {}, { download_rate: RATE, friend_peer_primary: provider.baseUrl })
  await Promise.all(requests.map((body) => taker.call('POST', '/transfers', TransferSchema, { body })))
  let begin = performance.now()
  const states = async () => {
    const asked = performance.now()
    const { transfers } = await taker.call('GET', '/transfers', TransfersResponse)
    // How long it takes until the first bytes come is not counted.
    if (transfers.every(({ bytes }) => bytes === 0)) begin = asked
    return transfers.map(({ state, error }) => (error ? `${state}: ${error.message}` : state))
  }
  await expect.poll(states, { interval: 10 }).toEqual(['done', 'done'])
  const bytes = Object.values(files).reduce((sum, { length }) => sum + length, 0)
  const rate = (bytes * 1000) / (performance.now() - begin)
  // The first file of a folder is asked for at once.
  expect(rate / RATE).toBeLessThan(1.2)
})
