import type { MethodDefinition } from '@grpc/proto-loader'
import { NetworkError } from '../../common/errors.ts'
import { isFileName, type PeerId, parsePeerId } from '../../common/ids.ts'
import { loadProto } from '../../common/rpc.ts'
import type { PeerContact } from '../contact.ts'
import { type FloodAnswer, type FloodHit, type FloodQuery, MAX_HITS_MESSAGE } from '../flood/protocol.ts'
import type { LocateQuery } from '../locate/strategy.ts'
import { type Acquaintance, MAX_TOLD } from '../overlay/protocol.ts'
import { boundedMethod } from './bounded.ts'
import { contentIdOfWire, contentIdToWire } from './codec.ts'
import { heard, peerOfWire, peerToWire, type Teller, type WirePeer } from './peer-codec.ts'
import { sizeOfWire } from './ring-codec.ts'

/** Wire ↔ domain for proto/overlay.proto. */

export interface WireAcquaintance {
  peer: WirePeer | null
  age_s: number
}

export interface WireIntroduction {
  self: WirePeer | null
  peers: WireAcquaintance[]
  linked: boolean
}

export interface WireQuery {
  id: Buffer
  name?: string
  content_id?: Buffer
  text?: string
  ttl: number
  hops: number
  time_ms: number
  tree: boolean
  sender: string
}

export interface WireHit {
  provider: WirePeer | null
  name: string
  content_id: Buffer
  size: number
  hops: number
}

export interface WireQueryAnswer {
  hits: WireHit[]
  seen: boolean
  done: boolean
  peers: number
  messages: number
}

export interface OverlayService {
  Exchange: MethodDefinition<WireIntroduction, WireIntroduction>
  Query: MethodDefinition<WireQuery, WireQueryAnswer>
}

const overlayProto = loadProto('overlay.proto')

/** Tags, lengths and numbers in a message, at most: twice those of the largest that is legal, and a few. */
const MOST = {
  /** a query */
  few: 64,
  /** 33 peers */
  introduction: 1000,
  /** 100 hits */
  hits: 4200,
}

/** Bytes of the id of a query. */
const QUERY_ID_SIZE = 16
/** Part of a name has so many characters at most, as where people type it. */
const MAX_TEXT = 200
/** Links that a query can have come over: the largest TTL that there is. */
const MAX_LINKS = 255
/** A query may take so long at most, ms. */
const MAX_QUERY_MS = 60_000
/** Who was last heard of before that is told of no more, s. */
const MAX_AGE_S = 86_400

export const OVERLAY_SERVICE = withinBounds(overlayProto['p2p.v1.Overlay'] as unknown as OverlayService)

function withinBounds({ Exchange, Query }: OverlayService): OverlayService {
  return {
    Exchange: boundedMethod(Exchange, MOST.introduction, MOST.introduction),
    Query: boundedMethod(Query, MOST.few, MOST.hits),
  }
}

export function introductionToWire(
  self: PeerContact,
  peers: readonly Acquaintance[],
  linked: boolean,
): WireIntroduction {
  const told = peers
    .filter(({ ageMs }) => ageMs <= MAX_AGE_S * 1000)
    .slice(0, MAX_TOLD)
    .map(({ contact, ageMs }) => ({ peer: peerToWire(contact), age_s: Math.max(0, Math.ceil(ageMs / 1000)) }))
  return { self: peerToWire(self), peers: told, linked }
}

/** Those of the peers that are peers, of the first `MAX_TOLD`. */
export function acquaintancesOfWire(peers: readonly WireAcquaintance[], teller: Teller): Acquaintance[] {
  return heard(peers, MAX_TOLD, ({ peer, age_s }) => {
    if (age_s > MAX_AGE_S) throw new NetworkError('invalid', 'it was not heard of for a day')
    return { contact: peerOfWire(peer, teller), ageMs: age_s * 1000 }
  })
}

export function queryToWire({ id, what, ttl, hops, timeMs, scope }: FloodQuery, sender: PeerId): WireQuery {
  const time_ms = Math.min(Math.max(Math.round(timeMs), 0), MAX_QUERY_MS)
  return { id: Buffer.from(id, 'hex'), ...whatToWire(what), ttl, hops, time_ms, tree: scope === 'tree', sender }
}

/** @throws NetworkError `invalid` */
export function queryOfWire(wire: WireQuery): FloodQuery {
  const { id, ttl, hops, time_ms, tree } = wire
  if (id.length !== QUERY_ID_SIZE) throw new NetworkError('invalid', 'a query has an id of 16 bytes')
  return {
    id: Buffer.from(id).toString('hex'),
    what: whatOfWire(wire),
    ttl: linksOfWire(ttl),
    hops: linksOfWire(hops),
    timeMs: Math.min(time_ms, MAX_QUERY_MS),
    scope: tree ? 'tree' : 'all',
  }
}

/** @throws NetworkError `invalid` */
export function senderOfWire({ sender }: WireQuery): PeerId | undefined {
  return sender === '' ? undefined : parsePeerId(sender)
}

function whatToWire(what: LocateQuery): Pick<WireQuery, 'name' | 'content_id' | 'text'> {
  switch (what.kind) {
    case 'name':
      return { name: what.name }
    case 'id':
      return { content_id: contentIdToWire(what.id) }
    case 'text':
      return { text: what.text }
  }
}

function whatOfWire({ name, content_id, text }: WireQuery): LocateQuery {
  if (content_id !== undefined) return { kind: 'id', id: contentIdOfWire(content_id) }
  if (name !== undefined && isFileName(name)) return { kind: 'name', name }
  if (text !== undefined && text.trim() !== '' && text.length <= MAX_TEXT) return { kind: 'text', text }
  throw new NetworkError('invalid', 'a name, a content id, or part of a name is looked for')
}

function linksOfWire(links: number): number {
  if (links > MAX_LINKS) throw new NetworkError('invalid', `no query goes over ${links} links`)
  return links
}

const NO_ANSWER: WireQueryAnswer = { hits: [], seen: false, done: false, peers: 0, messages: 0 }

/** @param self the answering peer: whoever asked it knows its host */
export function answerToWire(answer: FloodAnswer, self: PeerContact): WireQueryAnswer {
  switch (answer.kind) {
    case 'hits':
      return { ...NO_ANSWER, hits: answer.hits.slice(0, MAX_HITS_MESSAGE).map((hit) => hitToWire(hit, self)) }
    case 'seen':
      return { ...NO_ANSWER, seen: true }
    case 'done':
      return { ...NO_ANSWER, done: true, peers: answer.peers, messages: answer.messages }
  }
}

/** @throws NetworkError `corrupt` where it is none, or several at once */
export function answerOfWire({ hits, seen, done, peers, messages }: WireQueryAnswer, teller: Teller): FloodAnswer {
  if (Number(hits.length > 0) + Number(seen) + Number(done) !== 1)
    throw new NetworkError('corrupt', 'an answer is hits, or that it was seen, or that it is done')
  if (seen) return { kind: 'seen' }
  if (done) return { kind: 'done', peers, messages }
  return { kind: 'hits', hits: heard(hits, MAX_HITS_MESSAGE, (hit) => hitOfWire(hit, teller)) }
}

function hitToWire({ provider, name, content, size, hops }: FloodHit, self: PeerContact): WireHit {
  const wire = peerToWire(provider)
  if (provider.peer === self.peer) wire.host = ''
  return { provider: wire, name, content_id: contentIdToWire(content), size, hops }
}

/** One that the answering peer has itself is at the address at which it was asked, whatever it says. */
function hitOfWire({ provider, name, content_id, size, hops }: WireHit, teller: Teller): FloodHit {
  if (!isFileName(name)) throw new NetworkError('invalid', 'a hit has a name')
  const content = contentIdOfWire(content_id)
  return {
    provider: peerOfWire(provider, teller),
    name,
    content,
    size: sizeOfWire(size),
    hops: linksOfWire(hops),
  }
}
