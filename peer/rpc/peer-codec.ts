import { isIP } from 'node:net'
import { hostPort, parseAdvertised, unmapped } from '../../common/address.ts'
import { NetworkError } from '../../common/errors.ts'
import { parsePeerId, printable } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'

/** Peers on the wire: what one says of itself, and what it says of others. */

export interface WirePeer {
  peer: string
  host: string
  rest_port: number
  grpc_port: number
}

/** Who tells of peers. */
export interface Teller {
  /** where it is seen itself: the address that its call came from, or at which it was asked */
  readonly seen: string
  /** what is known of it: this holds, whatever its lists say of it */
  readonly self: PeerContact
}

/** A peer that is asked, and tells of others. */
export function tellerOf({ peer, host, restPort, grpcPort }: PeerContact): Teller {
  return { seen: host, self: { peer, host, restPort, grpcPort } }
}

/** A host that has a name here is told as none: what it is called elsewhere, nobody knows. */
export function peerToWire({ peer, host, restPort, grpcPort }: PeerContact): WirePeer {
  return { peer, host: isIP(host) === 0 ? '' : host, rest_port: restPort, grpc_port: grpcPort }
}

/**
 * The peer that makes a call from `seen`, as it tells of itself: at the host that it tells where a peer can be there, else
 * at the one that its call came from.
 * @throws NetworkError `invalid`; `forbidden` where no peer can be at either
 */
export function callerOfWire(wire: WirePeer | null | undefined, seen: string | undefined): PeerContact {
  if (!wire) throw new NetworkError('invalid', 'a request of this kind says who makes it')
  const { peer, restPort, grpcPort } = partsOfWire(wire)
  const host = seen === undefined ? undefined : (hostTold(wire.host, restPort, seen) ?? hostTold(seen, restPort, seen))
  if (host === undefined) throw new NetworkError('forbidden', `no peer can be at the address that ${peer} calls from`)
  return { peer, host, restPort, grpcPort }
}

/**
 * The peer that answers at an address, as it tells of itself: there, whatever it says of where it is.
 * @throws NetworkError `invalid`
 */
export function introducedOfWire(
  wire: WirePeer | null | undefined,
  { host, grpcPort }: Pick<PeerContact, 'host' | 'grpcPort'>,
): PeerContact {
  if (!wire) throw new NetworkError('invalid', 'an introduction says who answers')
  const { peer, restPort } = partsOfWire(wire)
  return { peer, host, restPort, grpcPort }
}

/**
 * A peer that another one tells of.
 * @throws NetworkError `invalid`; `forbidden` where whoever tells it can't know a peer at that address
 */
export function peerOfWire(wire: WirePeer | null | undefined, teller: Teller): PeerContact {
  if (!wire) throw new NetworkError('invalid', 'a peer is missing')
  const { peer, restPort, grpcPort } = partsOfWire(wire)
  if (peer === teller.self.peer) return teller.self
  const host = hostTold(wire.host, restPort, teller.seen)
  if (host === undefined)
    throw new NetworkError('forbidden', `no peer can be at "${printable(wire.host)}", of which ${teller.seen} tells`)
  return { peer, host, restPort, grpcPort }
}

/** Of a list of hearsay, what can be so: the first `most` are looked at, and the bad ones of them left out. */
export function heard<Wire, T>(list: readonly Wire[], most: number, parse: (wire: Wire) => T): T[] {
  return list.slice(0, most).flatMap((wire) => {
    try {
      return [parse(wire)]
    } catch (error) {
      if (error instanceof NetworkError) return []
      throw error
    }
  })
}

function partsOfWire(wire: WirePeer): Omit<PeerContact, 'host'> {
  return { peer: parsePeerId(wire.peer), restPort: portOfWire(wire.rest_port), grpcPort: portOfWire(wire.grpc_port) }
}

function portOfWire(port: number): number {
  if (!Number.isInteger(port) || port < 1 || port > 65_535)
    throw new NetworkError('invalid', 'a peer has two ports, of 1 to 65535')
  return port
}

/** The IP address, written in the one way of several; undefined where `teller` can't know a peer there. */
function hostTold(host: string, port: number, teller: string): string | undefined {
  if (isIP(host) === 0) return undefined
  try {
    return unmapped(parseAdvertised(`http://${hostPort(host, port)}`, teller).host)
  } catch {
    return undefined
  }
}
