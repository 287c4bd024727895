import { execFileSync } from 'node:child_process'
import { createHash, randomFillSync } from 'node:crypto'
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeFileSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { pieceSizeFor } from '../common/merkle.ts'
import { AgentClient, Refusal, until } from './agent-client.ts'
import { makeFile, touchMemory } from './content.ts'
import { Child, listens, type Running, scratch, startPeer } from './process.ts'
import { has, type Measurement, say } from './report.ts'
import { libtorrent, torrentOneToOne } from './torrents.ts'

export interface SingleOptions {
  /** also 20 GiB, on a disk */
  big?: boolean
}

const GIB = 2 ** 30
const ROUNDS = 3
const NGINX_PORT = 19_013

/** One provider over loopback, every piece verified, beside what others take for the same. */
export async function single({ big = false }: SingleOptions = {}): Promise<Measurement[]> {
  return [...(await oneFile()), ...(await manyFiles()), ...(big ? await bigFile() : [])]
}

/**
 * 1 GiB in memory. Every round runs each program once, in another order, and the best of each counts: what else a
 * machine does only ever adds to a time.
 */
async function oneFile(): Promise<Measurement[]> {
  say('single: 1 GiB from one provider, and by others …')
  touchMemory(3 * GIB)
  const folder = scratch('memory')
  const provided = join(folder.path, 'P1')
  mkdirSync(provided)
  const file = join(provided, 'big.bin')
  makeFile(file, GIB)
  const provider = await startPeer(folder.path, 'P1', 19_011)
  const nginx = has('nginx') ? await startNginx(folder.path, provided) : undefined
  const taker = { peakMB: 0 }
  try {
    await until('the provider did not hash its file', 60_000, () => new AgentClient(provider.url).hasScanned(1))
    const contestants = new Map<string, { run: (round: number) => Promise<number>; missing?: string | undefined }>([
      ['ours', { run: (round) => download(folder.path, `P2-${round}`, provider, taker, file) }],
      ...others(folder.path, file),
    ])
    const times = new Map<string, number[]>()
    for (let round = 0; round < ROUNDS; round++) {
      const order = [...contestants].map((_, i, all) => all[(i + round) % all.length]!)
      for (const [name, { run, missing }] of order) {
        if (missing !== undefined) continue
        const seconds = await run(round)
        say(`  ${name}: ${seconds.toFixed(2)} s`)
        times.set(name, [...(times.get(name) ?? []), seconds])
      }
    }
    const ours = best(times.get('ours')!)
    const curl = times.has(CURL) ? best(times.get(CURL)!) : undefined
    const spread = (name: string) =>
      `best of ${times
        .get(name)!
        .map((seconds) => seconds.toFixed(2))
        .join(', ')}`
    return [
      {
        what: '1 GiB, one provider, loopback, memory, verified',
        value: ours,
        unit: 's',
        target: { atMost: curl === undefined ? 1.6 : Math.min(1.6, 1.5 * curl) },
        ...(curl === undefined ? {} : { baseline: { what: CURL, value: curl, unit: 's' } }),
        note: `${Math.round(GIB / 1e6 / ours)} MB/s; ${spread('ours')}; at most 1.6 s and 1.5 times curl`,
      },
      { what: '… provider, peak resident memory', value: provider.peakMB(), unit: 'MB', target: { atMost: 200 } },
      { what: '… taker, peak resident memory', value: taker.peakMB, unit: 'MB', target: { atMost: 200 } },
      ...[...contestants]
        .filter(([name]) => name !== 'ours')
        .map(
          ([name, { missing }]): Measurement =>
            missing === undefined
              ? { what: `… ${name}`, value: best(times.get(name)!), unit: 's', note: spread(name) }
              : { what: `… ${name}`, unit: 's', note: `left out: needs ${missing}` },
        ),
    ]
  } finally {
    await Promise.all([provider.stop(), nginx?.stop()])
    folder.remove()
  }
}

const CURL = 'curl from nginx, unverified'
const best = (times: readonly number[]) => Math.min(...times)

/** Programs of others, and what each does with the file that nginx serves or a torrent describes. */
function others(folder: string, file: string) {
  const url = `http://127.0.0.1:${NGINX_PORT}/big.bin`
  const to = join(folder, 'fetched')
  const lacks = (...programs: string[]) => programs.filter((program) => !has(program)).join(', ') || undefined
  const command = (program: string, ...args: string[]) =>
    timed(() => execFileSync(program, args, { stdio: 'ignore' }), to)
  let sum: string | undefined
  const checksum = () => (sum ??= execFileSync('sha256sum', [file], { encoding: 'utf8' }).slice(0, 64))
  return [
    [CURL, { missing: lacks('nginx', 'curl'), run: async () => command('curl', '-sf', '-o', to, url) }],
    [
      'curl from nginx, then openssl sha256',
      {
        missing: lacks('nginx', 'curl', 'openssl'),
        run: async () => command('sh', '-c', `curl -sf -o ${to} ${url} && openssl dgst -sha256 ${to}`),
      },
    ],
    [
      'aria2 from nginx, with checksum',
      {
        missing: lacks('nginx', 'aria2c'),
        run: async () => {
          const check = `--checksum=sha-256=${checksum()}`
          return command(
            'aria2c',
            '--no-conf',
            '-q',
            '--file-allocation=none',
            check,
            '-d',
            folder,
            '-o',
            'fetched',
            url,
          )
        },
      },
    ],
    [
      'libtorrent 2 (TCP), one seeder',
      {
        missing: libtorrent(false).missing() ?? lacks('mktorrent'),
        run: async () => {
          const own = join(folder, 'torrent')
          mkdirSync(own)
          try {
            return await torrentOneToOne(libtorrent(false), file, own)
          } finally {
            rmSync(own, { recursive: true })
          }
        },
      },
    ],
  ] as const
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

/** By an agent that has just started and has nothing. */
async function download(folder: string, id: string, provider: Running, seen: { peakMB: number }, file: string) {
  const agent = await startPeer(folder, id, 19_012, { friend_peer_primary: provider.url })
  try {
    const client = new AgentClient(agent.url)
    const begin = performance.now()
    await client.finished(await client.download({ file: 'big.bin' }), 120_000)
    const seconds = (performance.now() - begin) / 1000
    seen.peakMB = Math.max(seen.peakMB, agent.peakMB())
    execFileSync('cmp', [file, join(folder, id, 'big.bin')])
    return seconds
  } finally {
    await agent.stop()
    rmSync(join(folder, id), { recursive: true })
  }
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

/** A folder of 10,000 files of 4 KiB. */
async function manyFiles(): Promise<Measurement[]> {
  const FILES = 10_000
  const what = 'a folder of 10,000 files of 4 KiB, one provider'
  say(`single: ${what} …`)
  const folder = scratch('memory for small files')
  const running: Running[] = []
  try {
    const bytes = Buffer.alloc(4096)
    for (let d = 0; d < 100; d++) {
      mkdirSync(join(folder.path, 'P1', 'many', `${d}`), { recursive: true })
      for (let i = 0; i < FILES / 100; i++)
        writeFileSync(join(folder.path, 'P1', 'many', `${d}`, `${i}.bin`), randomFillSync(bytes))
    }
    const provider = await startPeer(folder.path, 'P1', 19_011)
    running.push(provider)
    const taker = await startPeer(folder.path, 'P2', 19_012, { friend_peer_primary: provider.url })
    running.push(taker)
    await until('the provider did not hash its files', 60_000, () => new AgentClient(provider.url).hasScanned(FILES))
    const client = new AgentClient(taker.url)
    const begin = performance.now()
    const now = await client.finished(await client.download({ folder: 'many/' }), 300_000)
    const seconds = (performance.now() - begin) / 1000
    execFileSync('diff', ['-r', join(folder.path, 'P1', 'many'), join(folder.path, 'P2', 'many')], { stdio: 'ignore' })
    return [
      {
        what,
        value: FILES / seconds,
        unit: 'files/s',
        target: { atLeast: 3000 },
        note: `${seconds.toFixed(2)} s${now.files === undefined ? '' : `, ${now.files.done} of ${now.files.total} files`}`,
      },
    ]
  } catch (error) {
    const reason = error instanceof Refusal ? `not there yet: ${error.message}` : (error as Error).message
    return [{ what, unit: 'files/s', target: { atLeast: 3000 }, note: reason }]
  } finally {
    await Promise.all(running.map((process) => process.stop()))
    folder.remove()
  }
}

/** Memory for 20 GiB, which have to go to a disk. */
async function bigFile(): Promise<Measurement[]> {
  const SIZE = 20 * GIB
  const what = '20 GiB, one provider, disk, verified'
  const folder = scratch('disk')
  const { bavail, bsize } = statfsSync(folder.path)
  // The source is sparse; the taker's copy needs its room, and the machine some more.
  const needed = SIZE + 4 * GIB
  if (bavail * bsize < needed) {
    folder.remove()
    return [
      {
        what,
        unit: 's',
        note: `skipped: ${Math.ceil(needed / 1e9)} GB of disk are needed, ${Math.floor((bavail * bsize) / 1e9)} GB are free`,
      },
    ]
  }
  say(`single: ${what} …`)
  const running: Running[] = []
  try {
    mkdirSync(join(folder.path, 'P1'))
    makeSparseFile(join(folder.path, 'P1', 'big.bin'), SIZE)
    const provider = await startPeer(folder.path, 'P1', 19_011)
    running.push(provider)
    const taker = await startPeer(folder.path, 'P2', 19_012, { friend_peer_primary: provider.url })
    running.push(taker)
    await until('the provider did not hash its file', 300_000, () => new AgentClient(provider.url).hasScanned(1))
    const client = new AgentClient(taker.url)
    const begin = performance.now()
    await client.finished(await client.download({ file: 'big.bin' }), 900_000)
    const seconds = (performance.now() - begin) / 1000
    return [
      { what, value: seconds, unit: 's', note: `${Math.round(SIZE / 1e6 / seconds)} MB/s` },
      { what: '… provider, peak resident memory', value: provider.peakMB(), unit: 'MB', target: { atMost: 200 } },
      { what: '… taker, peak resident memory', value: taker.peakMB(), unit: 'MB', target: { atMost: 200 } },
    ]
  } finally {
    await Promise.all(running.map((process) => process.stop()))
    folder.remove()
  }
}

/** Mostly a hole, so that it takes no room; each piece has bytes of its own, so that none is right by being empty. */
function makeSparseFile(path: string, size: number): void {
  const fd = openSync(path, 'w')
  const piece = pieceSizeFor(size)
  for (let at = 0; at < size; at += piece) writeSync(fd, createHash('sha256').update(`${at}`).digest(), 0, 32, at)
  writeSync(fd, Buffer.alloc(1), 0, 1, size - 1)
  closeSync(fd)
}
