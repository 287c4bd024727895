import { execFileSync } from 'node:child_process'
import { randomFillSync } from 'node:crypto'
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { TransferBody } from '../common/schemas.ts'
import { AgentClient } from './agent-client.ts'
import { makeFile, makeSparseFile, touchMemory } from './content.ts'
import { Child, isInstalled, listens, type Running, scratch, startPeer, until } from './process.ts'
import { type Measurement, say } from './report.ts'
import { libtorrentTcp, torrentOneToOne } from './torrents.ts'

export interface SingleOptions {
  /** also 20 GiB, on a disk */
  big?: boolean
}

const GIB = 2 ** 30
const ROUNDS = 3
const PROVIDER_PORT = 19_011
const TAKER_PORT = 19_012
const NGINX_PORT = 19_013
const OURS = 'ours'
const CURL = 'curl from nginx, unverified'

/** One provider over loopback, every piece verified, beside what others take for the same. */
export async function single({ big = false }: SingleOptions = {}): Promise<Measurement[]> {
  return [...(await oneFile()), ...(await manyFiles()), ...(big ? await bigFile() : [])]
}

/** What brings the file from one process to another. */
interface Program {
  name: string
  /** what it needs that this machine lacks */
  missing?: string | undefined
  /** @returns seconds */
  run(round: number): Promise<number>
}

/** 1 GiB in memory, by the agents and by programs of others. */
async function oneFile(): Promise<Measurement[]> {
  say('single: 1 GiB from one provider, and by others …')
  touchMemory(3 * GIB)
  const folder = scratch('memory')
  const provided = join(folder.path, 'P1')
  mkdirSync(provided)
  const file = join(provided, 'big.bin')
  makeFile(file, GIB)
  const provider = await startPeer(folder.path, 'P1', PROVIDER_PORT)
  const nginx = isInstalled('nginx') ? await startNginx(folder.path, provided) : undefined
  let takerPeakMB = 0
  const ours: Program = {
    name: OURS,
    async run(round) {
      const { seconds, peakMB } = await freshTake(folder.path, `P2-${round}`, provider, file)
      takerPeakMB = Math.max(takerPeakMB, peakMB)
      return seconds
    },
  }
  try {
    await until('the provider did not hash its file', 60_000, () => new AgentClient(provider.url).hasScanned(1))
    const programs = [ours, ...others(folder.path, file)]
    const times = await timesOf(programs)
    return [oursBesideCurl(times), ...peakMemory(provider.peakMB(), takerPeakMB), ...timesOfOthers(programs, times)]
  } finally {
    await Promise.all([provider.stop(), nginx?.stop()])
    folder.remove()
  }
}

/**
 * Seconds of each program that is there. Every round runs each once, in another order, and the best of each counts:
 * what else a machine does only ever adds to a time.
 */
async function timesOf(programs: readonly Program[]): Promise<Map<string, number[]>> {
  const times = new Map<string, number[]>()
  for (let round = 0; round < ROUNDS; round++) {
    const order = programs.map((_, i) => programs[(i + round) % programs.length]!)
    for (const { name, missing, run } of order) {
      if (missing !== undefined) continue
      const seconds = await run(round)
      say(`  ${name}: ${seconds.toFixed(2)} s`)
      times.set(name, [...(times.get(name) ?? []), seconds])
    }
  }
  return times
}

function oursBesideCurl(times: ReadonlyMap<string, readonly number[]>): Measurement {
  const ours = Math.min(...times.get(OURS)!)
  const curl = times.has(CURL) ? Math.min(...times.get(CURL)!) : undefined
  return {
    what: '1 GiB, one provider, loopback, memory, verified',
    value: ours,
    unit: 's',
    target: { atMost: curl === undefined ? 1.6 : Math.min(1.6, 1.5 * curl) },
    ...(curl === undefined ? {} : { baseline: { what: CURL, value: curl, unit: 's' } }),
    note: `${Math.round(GIB / 1e6 / ours)} MB/s; ${bestOf(times.get(OURS)!)}; at most 1.6 s and 1.5 times curl`,
  }
}

function timesOfOthers(
  programs: readonly Program[],
  times: ReadonlyMap<string, readonly number[]>,
): readonly Measurement[] {
  return programs
    .filter(({ name }) => name !== OURS)
    .map(({ name, missing }) => {
      const what = `… ${name}`
      if (missing !== undefined) return { what, unit: 's', note: `left out: needs ${missing}` }
      const seconds = times.get(name)!
      return { what, value: Math.min(...seconds), unit: 's', note: bestOf(seconds) }
    })
}

function bestOf(times: readonly number[]): string {
  return `best of ${times.map((seconds) => seconds.toFixed(2)).join(', ')}`
}

function peakMemory(provider: number, taker: number): Measurement[] {
  return [
    { what: '… provider, peak resident memory', value: provider, unit: 'MB', target: { atMost: 200 } },
    { what: '… taker, peak resident memory', value: taker, unit: 'MB', target: { atMost: 200 } },
  ]
}

/** Programs of others, and what each does with the file that nginx serves or a torrent describes. */
function others(folder: string, file: string): Program[] {
  const url = `http://127.0.0.1:${NGINX_PORT}/big.bin`
  const to = join(folder, 'fetched')
  const lacks = (...programs: string[]) => programs.filter((program) => !isInstalled(program)).join(', ') || undefined
  const command = (program: string, ...args: string[]) =>
    timed(() => execFileSync(program, args, { stdio: 'ignore' }), to)
  let sum: string | undefined
  const checksum = () => (sum ??= execFileSync('sha256sum', [file], { encoding: 'utf8' }).slice(0, 64))
  return [
    { name: CURL, missing: lacks('nginx', 'curl'), run: async () => command('curl', '-sf', '-o', to, url) },
    {
      name: 'curl from nginx, then openssl sha256',
      missing: lacks('nginx', 'curl', 'openssl'),
      run: async () => command('sh', '-c', `curl -sf -o ${to} ${url} && openssl dgst -sha256 ${to}`),
    },
    {
      name: 'aria2 from nginx, with checksum',
      missing: lacks('nginx', 'aria2c'),
      run: async () => {
        const options = ['--no-conf', '-q', '--file-allocation=none', `--checksum=sha-256=${checksum()}`]
        return command('aria2c', ...options, '-d', folder, '-o', 'fetched', url)
      },
    },
    {
      name: 'libtorrent 2 (TCP), one seeder',
      missing: libtorrentTcp.missing() ?? lacks('mktorrent'),
      run: async () => {
        const own = join(folder, 'torrent')
        mkdirSync(own)
        try {
          return await torrentOneToOne(libtorrentTcp, file, own)
        } finally {
          rmSync(own, { recursive: true })
        }
      },
    },
  ]
}

function timed(run: () => void, made: string): number {
  const begin = performance.now()
  try {
    run()
    return (performance.now() - begin) / 1000
  } finally {
    rmSync(made, { force: true })
  }
}

/** The file, by an agent that has just started and has nothing. */
async function freshTake(folder: string, id: string, provider: Running, file: string) {
  const agent = await startTaker(folder, id, provider)
  try {
    const { seconds } = await take(agent, { file: 'big.bin' }, 120_000)
    const peakMB = agent.peakMB()
    execFileSync('cmp', [file, join(folder, id, 'big.bin')])
    return { seconds, peakMB }
  } finally {
    await agent.stop()
    rmSync(join(folder, id), { recursive: true })
  }
}

/** An agent that knows of the provider, and of no Maestro. */
function startTaker(folder: string, id: string, provider: Running): Promise<Running> {
  return startPeer(folder, id, TAKER_PORT, { friend_peer_primary: provider.url })
}

/** @throws where it is not there, verified, within `ms` */
async function take(
  agent: Running,
  what: { file: string } | { folder: string },
  ms: number,
): Promise<{ seconds: number; transfer: TransferBody }> {
  const client = new AgentClient(agent.url)
  const begin = performance.now()
  const transfer = await client.finished(await client.download(what), ms)
  return { seconds: (performance.now() - begin) / 1000, transfer }
}

async function startNginx(folder: string, root: string): Promise<Child> {
  const config = join(folder, 'nginx.conf')
  writeFileSync(
    config,
    `daemon off; master_process off; pid ${join(folder, 'nginx.pid')}; error_log stderr crit;
     events {}
     http { access_log off; sendfile on; tcp_nopush on;
       client_body_temp_path ${folder}/t1; proxy_temp_path ${folder}/t2; fastcgi_temp_path ${folder}/t3;
       uwsgi_temp_path ${folder}/t4; scgi_temp_path ${folder}/t5;
       server { listen 127.0.0.1:${NGINX_PORT}; root ${root}; } }\n`,
  )
  const nginx = new Child('nginx', ['-p', folder, '-c', config, '-e', 'stderr'])
  await listens(`http://127.0.0.1:${NGINX_PORT}/`, nginx)
  return nginx
}

/** Runs `measure` with an agent that shares `folder`/P1, which has so many files, and one that shares P2, which is empty. */
async function withTwoAgents(
  folder: string,
  { files, scanMs }: { files: number; scanMs: number },
  measure: (provider: Running, taker: Running) => Promise<Measurement[]>,
): Promise<Measurement[]> {
  const running: Running[] = []
  try {
    const provider = await startPeer(folder, 'P1', PROVIDER_PORT)
    running.push(provider)
    const taker = await startTaker(folder, 'P2', provider)
    running.push(taker)
    await until('the provider did not hash all', scanMs, () => new AgentClient(provider.url).hasScanned(files))
    return await measure(provider, taker)
  } finally {
    await Promise.all(running.map((process) => process.stop()))
  }
}

/** A folder of 10,000 files of 4 KiB. */
async function manyFiles(): Promise<Measurement[]> {
  const FILES = 10_000
  const what = 'a folder of 10,000 files of 4 KiB, one provider'
  const target = { atLeast: 3000 }
  say(`single: ${what} …`)
  const folder = scratch('memory for small files')
  const [from, to] = ['P1', 'P2'].map((id) => join(folder.path, id, 'many')) as [string, string]
  try {
    const bytes = Buffer.alloc(4096)
    for (let d = 0; d < 100; d++) {
      mkdirSync(join(from, `${d}`), { recursive: true })
      for (let i = 0; i < FILES / 100; i++) writeFileSync(join(from, `${d}`, `${i}.bin`), randomFillSync(bytes))
    }
    return await withTwoAgents(folder.path, { files: FILES, scanMs: 60_000 }, async (_, taker) => {
      const { seconds, transfer } = await take(taker, { folder: 'many/' }, 300_000)
      execFileSync('diff', ['-r', from, to], { stdio: 'ignore' })
      const { done, total } = transfer.files!
      return [
        {
          what,
          value: FILES / seconds,
          unit: 'files/s',
          target,
          note: `${seconds.toFixed(2)} s, ${done} of ${total} files`,
        },
      ]
    })
  } catch (error) {
    return [{ what, unit: 'files/s', target, note: (error as Error).message }]
  } finally {
    folder.remove()
  }
}

/** Memory for 20 GiB, which have to go to a disk. */
async function bigFile(): Promise<Measurement[]> {
  const SIZE = 20 * GIB
  // The source is sparse; the taker's copy needs its room, and the machine some more.
  const NEEDED = SIZE + 4 * GIB
  const what = '20 GiB, one provider, disk, verified'
  const folder = scratch('disk')
  try {
    const { bavail, bsize } = statfsSync(folder.path)
    const free = bavail * bsize
    if (free < NEEDED) {
      const [needed, there] = [Math.ceil(NEEDED / 1e9), Math.floor(free / 1e9)]
      return [{ what, unit: 's', note: `skipped: ${needed} GB of disk are needed, ${there} GB are free` }]
    }
    say(`single: ${what} …`)
    mkdirSync(join(folder.path, 'P1'))
    makeSparseFile(join(folder.path, 'P1', 'big.bin'), SIZE)
    return await withTwoAgents(folder.path, { files: 1, scanMs: 300_000 }, async (provider, taker) => {
      const { seconds } = await take(taker, { file: 'big.bin' }, 900_000)
      return [
        { what, value: seconds, unit: 's', note: `${Math.round(SIZE / 1e6 / seconds)} MB/s` },
        ...peakMemory(provider.peakMB(), taker.peakMB()),
      ]
    })
  } finally {
    folder.remove()
  }
}
