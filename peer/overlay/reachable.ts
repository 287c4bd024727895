import { isIP } from 'node:net'
import { hostPort, isLoopback, parseAdvertised, unmapped } from '../../common/address.ts'
import type { PeerContact } from '../contact.ts'

/**
 * A contact that somebody at `from` (a host) names, where a peer can have its address, as seen from there; its host in
 * the one form that it is compared in. A name could lead anywhere, so only the one that `from` itself is known by is taken.
 */
export function reachable(contact: PeerContact, from: string): PeerContact | undefined {
  if (isIP(contact.host) === 0 && contact.host !== from) return undefined
  try {
    parseAdvertised(`http://${hostPort(contact.host, contact.restPort)}`, from)
    const host = unmapped(parseAdvertised(`http://${hostPort(contact.host, contact.grpcPort)}`, from).host)
    return host === contact.host ? contact : { ...contact, host }
  } catch {
    return undefined
  }
}

/** Loopback has many addresses, all of this machine. */
export function sameHost(a: string, b: string): boolean {
  return a === b || (isLoopback(a) && isLoopback(b))
}
