import { hostPort } from '../common/address.ts'
import type { PeerId } from '../common/ids.ts'

/** A peer as others reach it. */
export interface PeerContact {
  readonly peer: PeerId
  /** an IP address, or the name that its own user gave it; IPv6 without brackets */
  readonly host: string
  readonly restPort: number
  readonly grpcPort: number
}

/** Its REST base URL. */
export function restOf({ host, restPort }: PeerContact): string {
  return `http://${hostPort(host, restPort)}`
}

/** Whether both name the same address; that the peer there is the same one is for who asks it. */
export function sameAddress(a: PeerContact, b: PeerContact): boolean {
  return a.host === b.host && a.grpcPort === b.grpcPort && a.restPort === b.restPort
}
