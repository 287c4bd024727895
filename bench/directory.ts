import { createHash } from 'node:crypto'
import type { ContentId, FileName, PeerId } from '../common/ids.ts'
import { MaestroClient } from '../common/maestro-client.ts'
import { projectFile } from '../common/project.ts'
import type { FileEntry } from '../common/schemas.ts'
import { closedLoop, openLoop, saturate } from './load.ts'
import { isInstalled, type Running, scratch, start, startMaestro } from './process.ts'
import { type Measurement, say } from './report.ts'

/** One Maestro with 1,000,000 entries of 1,000 peers. */
const PEERS = 1000
const FILES = 1000
const CONNECTIONS = 64
/** peers that register at the same time */
const REGISTERING = 32
const SECONDS = 8
const EMPTY_ROUTE = 'an empty Hono route'
const TOPICS = [
  'lecture',
  'dataset',
  'genome',
  'image',
  'model',
  'archive',
  'backup',
  'vídeo',
  'sensor',
  'cluster',
  'matrix',
  'notes',
  'exam',
]
const KINDS = ['raw', 'clean', 'train', 'test', 'final', 'draft', 'summer', 'winter', 'night', 'survey', 'scan']
const ENDINGS = ['tar.gz', 'pdf', 'mkv', 'csv', 'parquet', 'iso', 'zip']

function nameOf(n: number): FileName {
  const code = createHash('md5').update(String(n)).digest('hex').slice(0, 6)
  return `${TOPICS[n % TOPICS.length]}/${KINDS[(n * 7) % KINDS.length]}-${code}-${n}.${ENDINGS[(n * 3) % ENDINGS.length]}` as FileName
}

function filesOf(peer: number): FileEntry[] {
  return Array.from({ length: FILES }, (_, i) => {
    const n = peer * FILES + i
    return { name: nameOf(n), size: n * 1000, id: createHash('sha256').update(String(n)).digest('hex') as ContentId }
  })
}

const peerId = (i: number) => `peer-${i}` as PeerId
const random = (n: number) => Math.floor(Math.random() * n)

export async function directory(): Promise<Measurement[]> {
  const folder = scratch('disk')
  const maestro = await startMaestro(folder.path, 19_000)
  const empty = await start([projectFile('dist/bench/empty-server.js'), '19001'], 'http://127.0.0.1:19001')
  try {
    const registered = await register(maestro)
    const { located, bareRate } = await locate(maestro, empty, folder.path)
    const searched = await search(maestro)
    const beats = await heartbeats(maestro, bareRate)
    const memory = { what: 'Maestro, peak resident memory over all this', value: maestro.peakMB(), unit: 'MB' }
    return [...registered, ...located, searched, ...beats, memory]
  } finally {
    await Promise.all([maestro.stop(), empty.stop()])
    folder.remove()
  }
}

async function register(maestro: Running): Promise<Measurement[]> {
  say(`directory: registering ${(PEERS * FILES).toLocaleString('en-US')} entries of ${PEERS} peers …`)
  const client = new MaestroClient(maestro.url, { timeoutMs: 30_000 })
  const begin = performance.now()
  let next = 0
  const registerSome = async () => {
    for (let i = next++; i < PEERS; i = next++)
      await client.register({
        id: peerId(i),
        rest: `http://127.0.0.1:${20_000 + i}`,
        grpcPort: 30_000 + i,
        revision: 1,
        files: filesOf(i),
      })
  }
  await Promise.all(Array.from({ length: REGISTERING }, registerSome))
  const seconds = (performance.now() - begin) / 1000
  const { files } = await client.info()
  await client.close()
  if (files !== PEERS * FILES) throw new Error(`the directory holds ${files} entries`)
  return [
    {
      what: `registering 1,000,000 entries of 1,000 peers, ${REGISTERING} at a time, search index included`,
      value: seconds,
      unit: 's',
      target: { atMost: 25 },
      note: `${Math.round((PEERS * FILES) / seconds).toLocaleString('en-US')} entries/s`,
    },
    { what: 'Maestro, peak resident memory after it', value: maestro.peakMB(), unit: 'MB', target: { atMost: 400 } },
  ]
}

/** @returns also how many requests a second an empty Hono route answers, before and after, as the others' baseline */
async function locate(
  maestro: Running,
  empty: Running,
  folder: string,
): Promise<{ located: Measurement[]; bareRate: number }> {
  say('directory: GET /locate …')
  const load = { connections: CONNECTIONS, seconds: SECONDS }
  const before = await saturate({ ...load, url: empty.url }, ['/healthz'], folder)
  const paths = Array.from(
    { length: 100_000 },
    () => `/locate?file=${encodeURIComponent(nameOf(random(PEERS * FILES)))}`,
  )
  const { rate, p99, failed } = await saturate({ ...load, url: maestro.url }, paths, folder)
  const after = await saturate({ ...load, url: empty.url }, ['/healthz'], folder)
  const bareRate = (before.rate + after.rate) / 2
  if (failed > 0) throw new Error(`${failed} lookups failed`)
  const located: Measurement[] = [
    {
      what: `GET /locate, ${CONNECTIONS} connections`,
      value: rate,
      unit: 'requests/s',
      target: { atLeast: Math.round(0.6 * bareRate) },
      baseline: { what: EMPTY_ROUTE, value: bareRate, unit: 'requests/s' },
      note: isInstalled('wrk') ? 'load by wrk' : 'wrk is not installed: load by Node, which limits both sides',
    },
    {
      what: 'GET /locate, p99',
      value: p99,
      unit: 'ms',
      target: { atMost: 5 },
      baseline: { what: EMPTY_ROUTE, value: before.p99, unit: 'ms' },
    },
  ]
  return { located, bareRate }
}

async function search(maestro: Running): Promise<Measurement> {
  say('directory: GET /search …')
  const paths = Array.from({ length: 20_000 }, () => `/search?q=${encodeURIComponent(someQuery())}&limit=20`)
  const { rate, p99, failed } = await closedLoop({ url: maestro.url, connections: 8, seconds: SECONDS }, paths)
  if (failed > 0) throw new Error(`${failed} searches failed`)
  return {
    what: 'GET /search, p99, 8 connections',
    value: p99,
    unit: 'ms',
    target: { atMost: 20 },
    note: `${Math.round(rate).toLocaleString('en-US')} requests/s; words, several words, prefixes, substrings, whole names`,
  }
}

/** What people may type to find one of the files. */
function someQuery(): string {
  const n = random(PEERS * FILES)
  const name = nameOf(n)
  const at = random(name.length - 6)
  const queries = [
    TOPICS[n % TOPICS.length]!,
    `${KINDS[n % KINDS.length]} ${TOPICS[n % TOPICS.length]}`,
    String(n),
    name,
    name.slice(at, at + 5),
    ENDINGS[n % ENDINGS.length]!,
    'VIDEO night',
    name.slice(0, 2),
  ]
  return queries[random(queries.length)]!.trim() || 'a'
}

/** @param bareRate of an empty route, requests a second */
async function heartbeats(maestro: Running, bareRate: number): Promise<Measurement[]> {
  say('directory: 10,000 heartbeats a second …')
  const request = (i: number) => {
    const body = JSON.stringify({ id: peerId(i % PEERS), revision: 1 })
    return Buffer.from(
      `POST /heartbeat HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    )
  }
  const load = { url: maestro.url, connections: 128, seconds: SECONDS }
  const { rate, p99, failed } = await openLoop(load, 10_000, request)
  if (failed > 0) throw new Error(`${failed} heartbeats failed`)
  return [
    {
      what: '10,000 heartbeats a second, held',
      value: rate,
      unit: 'requests/s',
      target: { atLeast: 9_900 },
      baseline: { what: EMPTY_ROUTE, value: bareRate, unit: 'requests/s' },
    },
    {
      what: '10,000 heartbeats a second, p99',
      value: p99,
      unit: 'ms',
      target: { atMost: 20 },
      note: 'from when each was due',
    },
  ]
}
