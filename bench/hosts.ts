import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { atEnd, removeStale } from './cleanup.ts'
import { Child, isInstalled, type Place } from './process.ts'

/**
 * One GSO packet is up to 64 KiB and its headers; a smaller bucket would have the kernel cut each one up, which costs
 * a core at a few hundred Mbit/s.
 */
const BURST = '128kb'
/** how long a packet may wait in a host's queue; what would wait longer is dropped, and TCP slows down */
const LATENCY = '50ms'
const NAMESPACE = /^p2pb(\d+)-\d+$/
const LINK = /^p2pb(\d+)(br|v\d+)$/

/** A host of its own, as far as the network goes: programs that enter it share its link. */
export interface Host extends Place {
  /** bytes that its link has brought to it, with the headers of TCP/IP but once for each GSO packet */
  receivedBytes(): number
}

/**
 * Hosts on one switch: network namespaces on a bridge, each with a link whose rate is bounded both ways by `tc tbf`.
 * The benchmark itself is on the bridge, with no bound. Needs root. 1500 byte packets carry 1448 bytes of a TCP
 * stream and count as 1514, so a stream gets 95.6 % of a link at best.
 */
export class ShapedNetwork {
  readonly #prefix: string
  readonly #bridge: string
  readonly #id = `p2pb${process.pid}`
  readonly close: () => void
  #count = 0

  /** What keeps this machine from having one, or undefined. */
  static missing(): string | undefined {
    const missing = [
      ...(process.platform === 'linux' ? [] : ['Linux']),
      ...(process.getuid?.() === 0 ? [] : ['root']),
      ...['ip', 'tc']
        .filter((program) => !isInstalled(program))
        .map((program) => `the program ${program} (package iproute2)`),
    ]
    return missing.length === 0 ? undefined : missing.join(', ')
  }

  constructor() {
    removeStaleHosts()
    this.#prefix = freePrefix()
    this.#bridge = `${this.#id}br`
    this.close = atEnd(() => {
      for (let n = 1; n <= this.#count; n++) {
        // A namespace lives on while a closed connection has bytes left to send; its link need not.
        tolerant('ip', ['link', 'del', this.#link(n)])
        tolerant('ip', ['netns', 'del', this.#namespace(n)])
      }
      tolerant('ip', ['link', 'del', this.#bridge])
    })
    ip('link', 'add', this.#bridge, 'type', 'bridge')
    ip('link', 'set', this.#bridge, 'addrgenmode', 'none')
    ip('addr', 'add', `${this.#prefix}.1/24`, 'dev', this.#bridge)
    ip('link', 'set', this.#bridge, 'up')
  }

  /** @param mbps the rate of its link each way, Mbit/s (10⁶); undefined: no bound, for a Maestro or a tracker */
  addHost(mbps?: number): Host {
    if (this.#count === 250) throw new Error('a network has room for 250 hosts')
    const n = ++this.#count
    const namespace = this.#namespace(n)
    const link = this.#link(n)
    const address = `${this.#prefix}.${n + 1}`
    ip('netns', 'add', namespace)
    ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
    ip('link', 'set', link, 'addrgenmode', 'none', 'master', this.#bridge)
    ip('-n', namespace, 'link', 'set', 'eth0', 'addrgenmode', 'none')
    ip('-n', namespace, 'addr', 'add', `${address}/24`, 'dev', 'eth0')
    // Each end of the link bounds what leaves it: the bridge's end is the host's download, the host's its upload.
    if (mbps !== undefined) {
      const bound = ['root', 'tbf', 'rate', `${mbps}mbit`, 'burst', BURST, 'latency', LATENCY]
      run('tc', ['qdisc', 'add', 'dev', link, ...bound])
      run('tc', ['-n', namespace, 'qdisc', 'add', 'dev', 'eth0', ...bound])
    }
    ip('link', 'set', link, 'up')
    ip('-n', namespace, 'link', 'set', 'lo', 'up')
    ip('-n', namespace, 'link', 'set', 'eth0', 'up')
    return {
      address,
      enter: ['ip', 'netns', 'exec', namespace],
      receivedBytes: () => Number(readFileSync(`/sys/class/net/${link}/statistics/tx_bytes`, 'utf8')),
    }
  }

  #link(n: number): string {
    return `${this.#id}v${n}`
  }

  #namespace(n: number): string {
    return `${this.#id}-${n}`
  }
}

/** How the hosts' links are bounded, for those who compare numbers. */
export function shaping(): string {
  const congestion = readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim()
  return `tc tbf, burst ${BURST}, latency ${LATENCY}; TCP ${congestion}`
}

/**
 * What one TCP stream gets of a link in fact, by iperf3, as a share of its rate; undefined where it is not installed.
 */
export async function goodput(mbps: number): Promise<number | undefined> {
  if (!isInstalled('iperf3')) return undefined
  const network = new ShapedNetwork()
  const [from, to] = [network.addHost(mbps), network.addHost(mbps)]
  const server = new Child('iperf3', ['-s', '-1', '--forceflush'], to)
  try {
    await server.line(/listening/, 5_000)
    const [program = '', ...enter] = from.enter
    const report = execFileSync(program, [...enter, 'iperf3', '-c', to.address, '-t', '4', '-J'], { encoding: 'utf8' })
    const { end } = JSON.parse(report) as { end: { sum_received: { bits_per_second: number } } }
    return end.sum_received.bits_per_second / (mbps * 1e6)
  } finally {
    await server.stop()
    network.close()
  }
}

/** Removes the namespaces, with the programs in them, and links of runs that are no more. */
function removeStaleHosts(): void {
  const list = (...args: string[]) =>
    (JSON.parse(execFileSync('ip', ['-json', ...args], { encoding: 'utf8' }) || '[]') as Record<string, string>[]).map(
      (row) => row.name ?? row.ifname ?? '',
    )
  removeStale(list('netns', 'list'), NAMESPACE, (name) => {
    for (const pid of execFileSync('ip', ['netns', 'pids', name], { encoding: 'utf8' }).split('\n'))
      if (pid !== '') process.kill(Number(pid), 'SIGKILL')
    tolerant('ip', ['netns', 'del', name])
  })
  removeStale(list('link', 'show'), LINK, (name) => tolerant('ip', ['link', 'del', name]))
}

/** 10.213.x that no interface here is in. */
function freePrefix(): string {
  const taken = Object.values(networkInterfaces()).flatMap(
    (addresses) => addresses?.map(({ address }) => address) ?? [],
  )
  for (let i = 0; i < 256; i++) {
    const prefix = `10.213.${(process.pid + i) % 256}`
    if (!taken.some((address) => address.startsWith(`${prefix}.`))) return prefix
  }
  throw new Error('every network 10.213.x.0/24 is in use here')
}

function ip(...args: string[]): void {
  run('ip', args)
}

function run(program: string, args: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
}

/** For what may be gone already. */
function tolerant(program: string, args: string[]): void {
  try {
    run(program, args)
  } catch {
    // What a run leaves in spite of this is removed by the next one.
  }
}
