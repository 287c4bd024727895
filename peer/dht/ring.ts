import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import { sha256 } from '../../common/merkle.ts'
import type { PeerContact } from '../contact.ts'

/**
 * Arithmetic on Chord's identifier circle, modulo 2^256. An id is written as 64 hex digits, so that ids compare as text
 * does. Source: Stoica et al., "Chord: a scalable peer-to-peer lookup protocol for Internet applications", IEEE/ACM
 * Transactions on Networking 11(1), 2003.
 */

declare const ringId: unique symbol
/** A place on the circle: 64 lower-case hex digits. */
export type RingId = string & { readonly [ringId]: true }

/** A peer at its place on the circle. The place is made of its id here, by whoever hears of it: nobody can name one. */
export interface Member extends PeerContact {
  readonly id: RingId
}

const BITS = 256
const CIRCLE = 1n << BigInt(BITS)

export function memberOf(contact: PeerContact): Member {
  return { ...contact, id: placeOfPeer(contact.peer) }
}

/** Whether both are one peer at one address: another may bear its name elsewhere. */
export function isSameMember(a: Member, b: Member): boolean {
  return a.id === b.id && a.host === b.host && a.grpcPort === b.grpcPort
}

export function placeOfPeer(peer: PeerId): RingId {
  return hashed(`peer:${peer}`)
}

/** Where the records of a content are kept. */
export function placeOfContent(id: ContentId): RingId {
  return hashed(`content:${id}`)
}

/** Where the records of a name are kept. */
export function placeOfName(name: FileName): RingId {
  return hashed(`name:${name}`)
}

function hashed(text: string): RingId {
  return sha256(Buffer.from(text)).toString('hex') as RingId
}

/** Whether `x` comes strictly after `from` and strictly before `to`, clockwise. From an id to itself is the whole circle but that id. */
export function between(from: RingId, x: RingId, to: RingId): boolean {
  return from < to ? from < x && x < to : from < x || x < to
}

/** Whether `x` comes after `from`, and not after `to`: whether `to` is responsible for it, where `from` precedes `to`. */
export function within(from: RingId, x: RingId, to: RingId): boolean {
  return x === to || between(from, x, to)
}

/** The id 2^power further, clockwise; `power` from 0 to 255. Half a step more stands for half as far again: 1½ · 2^power. */
export function plus(id: RingId, power: number): RingId {
  const whole = 1n << BigInt(Math.floor(power))
  const distance = Number.isInteger(power) ? whole : whole + (whole >> 1n)
  return ringIdOf((BigInt(`0x${id}`) + distance) % CIRCLE)
}

/** How far it is from one to the other, clockwise, as a share of the circle: 0 up to, but not, 1. */
export function share(from: RingId, to: RingId): number {
  const distance = (BigInt(`0x${to}`) - BigInt(`0x${from}`) + CIRCLE) % CIRCLE
  return Number(distance >> BigInt(BITS - 64)) / 2 ** 64
}

export function ringIdOf(number: bigint): RingId {
  return number.toString(16).padStart(BITS / 4, '0') as RingId
}
