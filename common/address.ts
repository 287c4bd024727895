import { BlockList, isIP, isIPv4 } from 'node:net'
import { NetworkError } from './errors.ts'
import { printable } from './ids.ts'

/** Addresses as text: the form of REST URLs, and which of them a peer may advertise. */

const refused = new BlockList()
for (const [net, bits] of [
  ['0.0.0.0', 8],
  ['169.254.0.0', 16], // link-local, and the metadata services of clouds
  ['100.100.100.200', 32], // metadata service
  ['192.0.0.192', 32], // metadata service
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, broadcast
] as const)
  refused.addSubnet(net, bits, 'ipv4')
for (const [net, bits] of [
  ['::', 96], // unspecified, and IPv4 addresses in their oldest clothes
  ['fe80::', 10], // link-local
  ['ff00::', 8], // multicast
  ['fd00:ec2::254', 128], // metadata service
  ['64:ff9b::', 96], // NAT64, would hide an IPv4 address
  ['2002::', 16], // 6to4, likewise
] as const)
  refused.addSubnet(net, bits, 'ipv6')

const internal = new BlockList()
for (const [net, bits] of [
  ['0.0.0.0', 8], // unspecified: this machine
  ['10.0.0.0', 8], // private
  ['100.64.0.0', 10], // behind a provider's NAT; a metadata service
  ['127.0.0.0', 8], // loopback
  ['168.63.129.16', 32], // metadata service
  ['169.254.0.0', 16], // link-local, and the metadata services of clouds
  ['172.16.0.0', 12], // private
  ['192.0.0.0', 24], // protocol assignments, and a metadata service
  ['192.168.0.0', 16], // private
  ['198.18.0.0', 15], // benchmarks
  ['224.0.0.0', 4], // multicast
  ['240.0.0.0', 4], // reserved, broadcast
] as const)
  internal.addSubnet(net, bits, 'ipv4')
// All of IPv6 that is in use between networks; what hides an IPv4 address is not of it.
const global6 = new BlockList()
global6.addSubnet('2000::', 3, 'ipv6')
const tunnels6 = new BlockList()
tunnels6.addSubnet('2001::', 32, 'ipv6') // Teredo
tunnels6.addSubnet('2002::', 16, 'ipv6') // 6to4

const METADATA_NAME = /^(metadata|instance-data)(\.|$)|\.?metadata\.google\.internal$/

/** A peer's REST base URL: `http://host:port`, nothing behind it. */
export interface RestUrl {
  /** `http://host:port`, normalised */
  readonly url: string
  /** name or IP address, IPv6 without brackets */
  readonly host: string
  readonly port: number
}

/**
 * @throws NetworkError `invalid`
 */
export function parseRestUrl(text: string): RestUrl {
  let parsed: URL
  try {
    parsed = new URL(text.includes('://') ? text : `http://${text}`)
  } catch {
    throw new NetworkError('invalid', `"${printable(text)}" is not a URL such as http://192.168.1.20:8000`)
  }
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')
    throw new NetworkError('invalid', `"${printable(text)}" is not an http URL`)
  if (parsed.username || parsed.password || parsed.search || parsed.hash || parsed.pathname !== '/')
    throw new NetworkError('invalid', `"${printable(text)}" has more than a host and a port`)
  // "localhost." is "localhost".
  const hostname = parsed.hostname.replace(/\.$/, '')
  const host = hostname.replace(/^\[|\]$/g, '')
  const port = parsed.port === '' ? (parsed.protocol === 'https:' ? 443 : 80) : Number(parsed.port)
  if (port === 0) throw new NetworkError('invalid', `"${printable(text)}" has a bad port`)
  return { url: `${parsed.protocol}//${hostname}:${port}`, host, port }
}

export function isLoopback(host: string): boolean {
  const ip = unmapped(host)
  return ip === '::1' || ip === 'localhost' || ip.endsWith('.localhost') || (isIPv4(ip) && ip.startsWith('127.'))
}

/**
 * Whether nobody on the open internet is at that address: this machine, a private network, a cloud's metadata service.
 * Of any other name the addresses tell.
 */
export function isInternal(host: string): boolean {
  const ip = unmapped(host.replace(/%.*$/, ''))
  switch (isIP(ip)) {
    case 4:
      return internal.check(ip, 'ipv4')
    case 6:
      return !global6.check(ip, 'ipv6') || tunnels6.check(ip, 'ipv6')
    default: {
      const name = host.replace(/\.$/, '').toLowerCase()
      return isLoopback(name) || METADATA_NAME.test(name)
    }
  }
}

/** An IPv4 address in IPv6 clothes (`::ffff:127.0.0.1`, `::ffff:7f00:1`) as IPv4; anything else as it is. */
export function unmapped(host: string): string {
  const match = /^::ffff:(?:(\d+\.\d+\.\d+\.\d+)|([0-9a-f]{1,4}):([0-9a-f]{1,4}))$/i.exec(host)
  if (!match) return host
  if (match[1]) return match[1]
  const high = Number.parseInt(match[2]!, 16)
  const low = Number.parseInt(match[3]!, 16)
  return [high >> 8, high & 255, low >> 8, low & 255].join('.')
}

/**
 * A peer's advertised address, refused where no peer can be: link-local, multicast, unspecified, metadata services,
 * and loopback from anywhere but this machine. `from` is the address that the registration came from, where known.
 * @throws NetworkError `invalid` or `forbidden`
 */
export function parseAdvertised(text: string, from?: string): RestUrl {
  const rest = parseRestUrl(text)
  const ip = unmapped(rest.host)
  const family = isIP(ip)
  let fault: string | undefined
  if (isLoopback(ip)) {
    if (from !== undefined && !isLoopback(from))
      fault = `it is a loopback address, but the registration came from ${from}`
  } else if ((family !== 0 && refused.check(ip, family === 4 ? 'ipv4' : 'ipv6')) || METADATA_NAME.test(ip))
    fault = 'no peer can be at that address'
  if (fault) throw new NetworkError('forbidden', `${rest.url} can't be advertised: ${fault}`)
  return rest
}

/** `host:port`, IPv6 in brackets. */
export function hostPort(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** The IP address of `1.2.3.4:567` or `[::1]:567`; undefined where it has another form. IPv4 in IPv6 clothes comes as IPv4. */
export function hostOf(address: string): string | undefined {
  const match = /^(?:\[([^\]]+)\]|([^:]+)|(.+)):\d+$/.exec(address)
  const host = match?.[1] ?? match?.[2] ?? match?.[3]
  return host !== undefined && isIP(host) !== 0 ? unmapped(host) : undefined
}

/**
 * Who is counted as one where strangers are counted: an IPv4 address, or an IPv6 network of 64 bits, as which a single
 * machine has as many addresses as it likes.
 */
export function oneParty(host: string): string {
  const ip = unmapped(host)
  if (isIP(ip) !== 6) return ip
  const [head = '', tail] = ip.split('%')[0]!.toLowerCase().split('::')
  const groups = head === '' ? [] : head.split(':')
  const after = tail === undefined || tail === '' ? [] : tail.split(':')
  while (tail !== undefined && groups.length + after.length < 8) groups.push('0')
  return `${[...groups, ...after]
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`
}

/** Who is counted as one, where labs run many agents on one machine: undefined for this one, and where it isn't known. */
export function partyOf(host: string | undefined): string | undefined {
  return host === undefined || isLoopback(host) ? undefined : oneParty(host)
}
