import { createHash } from 'node:crypto'
import type { ContentId, FileName, PeerId } from '../common/ids.ts'
import { MaestroClient } from '../common/maestro-client.ts'
import { projectFile } from '../common/project.ts'
import type { FileEntry } from '../common/schemas.ts'
import { closedLoop, openLoop, saturate } from './load.ts'
import { isInstalled, scratch, start, startMaestro } from './process.ts'
import { type Measurement, say } from './report.ts'

/** One Maestro with 1,000,000 entries of 1,000 peers. */
const PEERS = 1000
const FILES = 1000
const CONNECTIONS = 64
/** peers that register at the same time */
const REGISTERING = 32
const SECONDS = 8
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
  const results: Measurement[] = []
  const maestro = await startMaestro(folder.path, 19_000)
  const empty = await start([projectFile('dist/bench/empty-server.js'), '19001'], 'http://127.0.0.1:19001')
  try {
    say(`directory: registering ${(PEERS * FILES).toLocaleString('en-US')} entries of ${PEERS} peers …`)
    results.push(...(await register(maestro.url, () => maestro.peakMB())))

    say('directory: GET /locate …')
    const load = { connections: CONNECTIONS, seconds: SECONDS }
    const bare = await saturate({ ...load, url: empty.url }, ['/healthz'], folder.path)
    const paths = Array.from(
      { length: 100_000 },
      () => `/locate?file=${encodeURIComponent(nameOf(random(PEERS * FILES)))}`,
    )
    const locate = await saturate({ ...load, url: maestro.url }, paths, folder.path)
    const after = await saturate({ ...load, url: empty.url }, ['/healthz'], folder.path)
    const baseline = (bare.rate + after.rate) / 2
    if (locate.failed > 0) throw new Error(`${locate.failed} lookups failed`)
    const generator = isInstalled('wrk') ? 'load by wrk' : 'wrk is not installed: load by Node, which limits both sides'
    results.push(
      {
        what: `GET /locate, ${CONNECTIONS} connections`,
        value: locate.rate,
        unit: 'requests/s',
        target: { atLeast: Math.round(0.6 * baseline) },
        baseline: { what: 'an empty Hono route', value: baseline, unit: 'requests/s' },
        note: generator,
      },
      {
        what: 'GET /locate, p99',
        value: locate.p99,
        unit: 'ms',
        target: { atMost: 5 },
        baseline: { what: 'an empty Hono route', value: bare.p99, unit: 'ms' },
      },
    )

    say('directory: GET /search …')
    const words = () => {
      const n = random(PEERS * FILES)
      const name = nameOf(n)
      const at = random(name.length - 6)
      return [
        TOPICS[n % TOPICS.length]!,
        `${KINDS[n % KINDS.length]} ${TOPICS[n % TOPICS.length]}`,
        String(n),
        name,
        name.slice(at, at + 5),
        ENDINGS[n % ENDINGS.length]!,
        'VIDEO night',
        name.slice(0, 2),
      ][random(8)]!
    }
    const searches = Array.from(
      { length: 20_000 },
      () => `/search?q=${encodeURIComponent(words().trim() || 'a')}&limit=20`,
    )
    const search = await closedLoop({ url: maestro.url, connections: 8, seconds: SECONDS }, searches)
    if (search.failed > 0) throw new Error(`${search.failed} searches failed`)
    results.push({
      what: 'GET /search, p99, 8 connections',
      value: search.p99,
      unit: 'ms',
      target: { atMost: 20 },
      note: `${Math.round(search.rate).toLocaleString('en-US')} requests/s; words, several words, prefixes, substrings, whole names`,
    })

    say('directory: 10,000 heartbeats a second …')
    const beat = (i: number) => {
      const body = JSON.stringify({ id: peerId(i % PEERS), revision: 1 })
      return Buffer.from(
        `POST /heartbeat HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      )
    }
    const beats = await openLoop({ url: maestro.url, connections: 128, seconds: SECONDS }, 10_000, beat)
    if (beats.failed > 0) throw new Error(`${beats.failed} heartbeats failed`)
    results.push(
      {
        what: '10,000 heartbeats a second, held',
        value: beats.rate,
        unit: 'requests/s',
        target: { atLeast: 9_900 },
        baseline: { what: 'an empty Hono route', value: baseline, unit: 'requests/s' },
      },
      {
        what: '10,000 heartbeats a second, p99',
        value: beats.p99,
        unit: 'ms',
        target: { atMost: 20 },
        note: 'from when each was due',
      },
      { what: 'Maestro, peak resident memory over all this', value: maestro.peakMB(), unit: 'MB' },
    )
    return results
  } finally {
    await Promise.all([maestro.stop(), empty.stop()])
    folder.remove()
  }
}

async function register(url: string, peakMB: () => number): Promise<Measurement[]> {
  const client = new MaestroClient(url, { timeoutMs: 30_000 })
  const begin = performance.now()
  let next = 0
  const some = async () => {
    for (let i = next++; i < PEERS; i = next++)
      await client.register({
        id: peerId(i),
        rest: `http://127.0.0.1:${20_000 + i}`,
        grpcPort: 30_000 + i,
        revision: 1,
        files: filesOf(i),
      })
  }
  await Promise.all(Array.from({ length: REGISTERING }, some))
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
    { what: 'Maestro, peak resident memory after it', value: peakMB(), unit: 'MB', target: { atMost: 400 } },
  ]
}
