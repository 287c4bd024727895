import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { networkInterfaces } from 'node:os'
import { parseRestUrl } from '../common/address.ts'

export interface AdvertiseOptions {
  /** address that the agent listens on */
  ip: string
  /** what the configuration says to advertise */
  host?: string | undefined
  maestroUrl?: string | undefined
}

/**
 * The host that others reach this peer at: as configured, else the address that it listens on, else (where it listens
 * on all) the one from which this machine reaches the Maestro.
 */
export async function advertisedHost({ ip, host, maestroUrl }: AdvertiseOptions): Promise<string> {
  if (host !== undefined) return host
  if (ip !== '0.0.0.0' && ip !== '::') return ip
  if (maestroUrl === undefined) return ownAddress()
  const target = parseRestUrl(maestroUrl)
  return (await addressTowards(target.host, target.port)) ?? ownAddress()
}

/** This machine's address on the way to `host`: connecting a datagram socket asks the routing table and sends nothing. */
async function addressTowards(host: string, port: number): Promise<string | undefined> {
  try {
    // IPv4 first: a Maestro at "localhost" is then 127.0.0.1, where the sample network listens.
    const { address, family } = isIP(host)
      ? { address: host, family: isIP(host) }
      : await lookup(host, { family: 4 }).catch(() => lookup(host))
    const socket = createSocket(family === 6 ? 'udp6' : 'udp4')
    try {
      await new Promise<void>((resolve, reject) => {
        socket.once('error', reject)
        socket.connect(port, address, resolve)
      })
      return socket.address().address
    } finally {
      socket.close()
    }
  } catch {
    return undefined
  }
}

/** An address of this machine that others may reach: the first that is not internal, else loopback. */
function ownAddress(): string {
  for (const addresses of Object.values(networkInterfaces()))
    for (const { address, family, internal } of addresses ?? []) if (!internal && family === 'IPv4') return address
  return '127.0.0.1'
}
