import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { projectFile } from '../common/project.ts'
import { makeFile } from './content.ts'
import { ShapedNetwork } from './hosts.ts'
import { Child, isInstalled, LOOPBACK, listens, type Place, scratch, until } from './process.ts'
import { patienceOf, type SwarmPlan } from './swarm-run.ts'

/** BitTorrent programs that share a file in the same networks, as generously set up as they can be. */
export interface TorrentClient {
  name: string
  /** its settings, for those who compare numbers */
  settings: string
  /** the Debian packages that this machine lacks, or undefined */
  missing(): string | undefined
  /** A peer that waits for `begin`. */
  start(peer: TorrentPeer): Promise<StartedPeer>
}

export interface TorrentPeer {
  torrent: string
  /** where the file is, or will be */
  folder: string
  seed: boolean
  place: Place
  /** peers that no tracker needs to tell of */
  peers?: readonly { address: string; port: number }[]
  port: number
}

export interface StartedPeer {
  child: Child
  begin(): void
  /** Settles when it has the file, verified. */
  done(ms: number): Promise<unknown>
}

const PYTHON = '/usr/bin/python3'
const PORT = 6881
const TRACKER_PORT = 6969
const PIECE_BITS = 18
const READY_MS = 20_000

export const aria2: TorrentClient = {
  name: 'aria2',
  settings:
    '--bt-max-peers=0 --bt-request-peer-speed-limit=1000M --seed-ratio=0 --file-allocation=none, no DHT, no LPD; from the start of the process',
  missing: () => (isInstalled('aria2c') ? undefined : 'aria2'),
  async start({ torrent, folder, seed, place, port }) {
    const args = [
      `--dir=${folder}`,
      '--no-conf=true',
      '--seed-ratio=0.0',
      '--bt-max-peers=0',
      '--bt-request-peer-speed-limit=1000M',
      '--enable-dht=false',
      '--enable-dht6=false',
      '--bt-enable-lpd=false',
      '--file-allocation=none',
      `--bt-seed-unverified=${seed}`,
      '--allow-overwrite=true',
      `--listen-port=${port}`,
      // What it prints itself comes only when it ends.
      '--on-bt-download-complete=/bin/echo',
      '--summary-interval=0',
      '--show-console-readout=false',
      '--disable-ipv6=true',
      torrent,
    ]
    // It starts in a moment: the process itself is the beginning.
    let child: Child | undefined
    const begin = () => (child ??= new Child('aria2c', args, place))
    return {
      get child() {
        return begin()
      },
      begin,
      done: (ms) => begin().line(/^[0-9a-f]{16} 1 /, ms),
    }
  },
}

const libtorrent = (transport: 'TCP' | 'uTP'): TorrentClient => ({
  name: `libtorrent 2 (${transport})`,
  settings: `unchoke_slots_limit -1, connections_limit 1000, max_out_request_queue 2000, only ${transport}, no encryption, no DHT, no LSD`,
  missing() {
    try {
      execFileSync(PYTHON, ['-c', 'import libtorrent'], { stdio: 'ignore' })
      return undefined
    } catch {
      return 'python3-libtorrent'
    }
  },
  async start({ torrent, folder, seed, place, peers = [], port }) {
    const options = {
      torrent,
      folder,
      seed,
      utp: transport === 'uTP',
      listen: `${place.address}:${port}`,
      peers: peers.map((peer) => [peer.address, peer.port]),
    }
    const child = new Child(PYTHON, [projectFile('bench', 'libtorrent-peer.py'), JSON.stringify(options)], place)
    await child.line(/^ready/, READY_MS)
    return { child, begin: () => child.send('go'), done: (ms) => child.line(/^(done|error)/, ms) }
  },
})

export const libtorrentTcp = libtorrent('TCP')
export const libtorrentUtp = libtorrent('uTP')

/** The packages for swarms that this machine lacks, or undefined. */
export function missingForSwarm(client: TorrentClient): string | undefined {
  const missing = [client.missing(), ...['opentracker', 'mktorrent'].filter((program) => !isInstalled(program))]
  return missing.filter((name) => name !== undefined).join(', ') || undefined
}

export interface TorrentSwarmResult {
  /** from the common start, of each taker; undefined where it was not done in time */
  seconds: (number | undefined)[]
  linkBytes: number[]
}

/** The plan with another program: one seeder, and takers that start at the same moment, known to each other by a tracker. */
export async function runTorrentSwarm(client: TorrentClient, plan: SwarmPlan): Promise<TorrentSwarmResult> {
  const folder = scratch('memory')
  const network = new ShapedNetwork()
  const children: Child[] = []
  try {
    mkdirSync(join(folder.path, 'seeder'))
    makeFile(join(folder.path, 'seeder', 'swarm.bin'), plan.size)
    const place = network.addHost()
    const tracker = `http://${place.address}:${TRACKER_PORT}`
    const torrent = makeTorrent(folder.path, join(folder.path, 'seeder', 'swarm.bin'), `${tracker}/announce`)
    const opentracker = startTracker(folder.path, place, torrent)
    children.push(opentracker)
    await listens(tracker, opentracker)
    const seeder = await client.start({
      torrent,
      folder: join(folder.path, 'seeder'),
      seed: true,
      place: network.addHost(plan.seederMbps),
      port: PORT,
    })
    seeder.begin()
    children.push(seeder.child)
    await until('the tracker does not know the seeder', READY_MS, () => knowsSeed(tracker, torrent))
    const hosts = plan.takersMbps.map((mbps) => network.addHost(mbps))
    const takers = await Promise.all(
      hosts.map((place, i) => {
        const own = join(folder.path, `taker-${i + 1}`)
        mkdirSync(own)
        return client.start({ torrent, folder: own, seed: false, place, port: PORT })
      }),
    )
    const before = hosts.map((host) => host.receivedBytes())
    const begin = performance.now()
    for (const taker of takers) {
      taker.begin()
      children.push(taker.child)
    }
    const limit = patienceOf(plan) * 1000
    const linkBytes: number[] = []
    const seconds = await Promise.all(
      takers.map(async (taker, i) => {
        try {
          await taker.done(limit)
          return (performance.now() - begin) / 1000
        } catch {
          return undefined
        } finally {
          linkBytes[i] = hosts[i]!.receivedBytes() - before[i]!
        }
      }),
    )
    for (const [i, at] of seconds.entries())
      if (at !== undefined)
        execFileSync(
          'cmp',
          ['seeder', `taker-${i + 1}`].map((name) => join(folder.path, name, 'swarm.bin')),
        )
    return { seconds, linkBytes }
  } finally {
    await Promise.all(children.map((child) => child.stop('SIGKILL')))
    network.close()
    folder.remove()
  }
}

/** One taker from one seeder over loopback; seconds from when it is told to. */
export async function torrentOneToOne(client: TorrentClient, file: string, folder: string): Promise<number> {
  const torrent = makeTorrent(folder, file, 'http://127.0.0.1:1/announce')
  const from = await client.start({ torrent, folder: join(file, '..'), seed: true, place: LOOPBACK, port: 19_031 })
  const children = [from.child]
  try {
    from.begin()
    const own = join(folder, 'torrent-taker')
    mkdirSync(own)
    const peers = [{ address: LOOPBACK.address, port: 19_031 }]
    const to = await client.start({ torrent, folder: own, seed: false, place: LOOPBACK, peers, port: 19_032 })
    children.push(to.child)
    const begin = performance.now()
    to.begin()
    await to.done(120_000)
    return (performance.now() - begin) / 1000
  } finally {
    await Promise.all(children.map((child) => child.stop('SIGKILL')))
  }
}

function makeTorrent(folder: string, file: string, announce: string): string {
  const torrent = join(folder, 'file.torrent')
  if (!existsSync(torrent))
    execFileSync('mktorrent', ['-l', `${PIECE_BITS}`, '-a', announce, '-o', torrent, file], { stdio: 'ignore' })
  return torrent
}

/** SHA-1 of the torrent's info part, which mktorrent writes last. */
function infoHash(torrent: string): Buffer {
  const bytes = readFileSync(torrent)
  return createHash('sha1')
    .update(bytes.subarray(bytes.indexOf('4:info') + 6, -1))
    .digest()
}

/** Debian's opentracker serves only torrents that a list allows. */
function startTracker(folder: string, place: Place, torrent: string): Child {
  const list = join(folder, 'allowed.txt')
  writeFileSync(list, `${infoHash(torrent).toString('hex')}\n`)
  chmodSync(folder, 0o755)
  return new Child('opentracker', ['-i', place.address, '-d', '/', '-w', list], place)
}

/** Whether the tracker knows one who has it all. */
async function knowsSeed(tracker: string, torrent: string): Promise<boolean> {
  const hash = infoHash(torrent).toString('hex').replace(/../g, '%$&')
  return /8:completei[1-9]/.test(await (await fetch(`${tracker}/scrape?info_hash=${hash}`)).text())
}
