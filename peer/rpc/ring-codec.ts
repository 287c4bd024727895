import type { MethodDefinition } from '@grpc/proto-loader'
import { NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, isFileName } from '../../common/ids.ts'
import { HASH_SIZE, MAX_FILE_SIZE } from '../../common/merkle.ts'
import { loadProto } from '../../common/rpc.ts'
import {
  MAX_MEMBERS,
  MAX_RECORDS,
  type RecordKey,
  type RingFound,
  type RingRecord,
  type RingStep,
  type RingView,
} from '../dht/protocol.ts'
import { type Member, memberOf, type RingId } from '../dht/ring.ts'
import { boundedMethod } from './bounded.ts'
import { contentIdOfWire, contentIdToWire } from './codec.ts'
import { heard, peerOfWire, peerToWire, type Teller, type WirePeer } from './peer-codec.ts'

/** Wire ↔ domain for proto/ring.proto. */

export interface WireView {
  predecessor?: WirePeer | null
  successors: WirePeer[]
}

export interface WireStep {
  owners: WirePeer[]
  closer: WirePeer[]
  unsure: boolean
}

export interface WireFind {
  to: string
  name?: string
  content_id?: Buffer
}

export interface WireFound {
  records: WireRecord[]
  more: boolean
  predecessor?: WirePeer | null
}

export interface WireStore {
  to: string
  from: WirePeer | null
  records: WireRecord[]
  withdraw: WireRecord[]
}

export interface WireRecord {
  /** a number of RECORD_KEYS */
  key: number
  name: string
  content_id: Buffer
  size: number
  provider: WirePeer | null
  age_ms: number
}

/** Who calls whom. */
export interface WireCall {
  to: string
  from: WirePeer | null
}

export interface RingService {
  Stabilize: MethodDefinition<WireCall, WireView>
  Step: MethodDefinition<{ to: string; key: Buffer }, WireStep>
  Find: MethodDefinition<WireFind, WireFound>
  Store: MethodDefinition<WireStore, { kept: number }>
  Leave: MethodDefinition<WireCall, object>
}

const ringProto = loadProto('ring.proto')

/** Tags, lengths and numbers in a message, at most: twice those of the largest that is legal, and a few. */
const MOST = {
  /** a key, a caller */
  few: 64,
  /** 130 members */
  members: 2700,
  /** 500 records */
  records: 21_000,
}

/** In the order of their numbers. */
const RECORD_KEYS: readonly RecordKey[] = ['name', 'content']
const MAX_UINT32 = 2 ** 32 - 1

export const RING_SERVICE = withinBounds(ringProto['p2p.v1.Ring'] as unknown as RingService)

function withinBounds(generated: RingService): RingService {
  return {
    Stabilize: boundedMethod(generated.Stabilize, MOST.few, MOST.members),
    Step: boundedMethod(generated.Step, MOST.few, MOST.members),
    Find: boundedMethod(generated.Find, MOST.few, MOST.records),
    Store: boundedMethod(generated.Store, MOST.records, MOST.few),
    Leave: boundedMethod(generated.Leave, MOST.few, MOST.few),
  }
}

/** @throws NetworkError `invalid` */
export function placeOfWire(bytes: Uint8Array): RingId {
  if (bytes.length !== HASH_SIZE) throw new NetworkError('invalid', 'a place on the ring has 32 bytes')
  return Buffer.from(bytes).toString('hex') as RingId
}

export function placeToWire(place: RingId): Buffer {
  return Buffer.from(place, 'hex')
}

export function viewToWire({ predecessor, successors }: RingView): WireView {
  return { predecessor: predecessor ? peerToWire(predecessor) : null, successors: membersToWire(successors) }
}

export function viewOfWire({ predecessor, successors }: WireView, teller: Teller): RingView {
  return { predecessor: memberHeard(predecessor, teller), successors: membersOfWire(successors, teller) }
}

export function stepToWire({ owners, closer, unsure }: RingStep): WireStep {
  return { owners: membersToWire(owners), closer: membersToWire(closer), unsure }
}

export function stepOfWire({ owners, closer, unsure }: WireStep, teller: Teller): RingStep {
  return { owners: membersOfWire(owners, teller), closer: membersOfWire(closer, teller), unsure }
}

export function findToWire(to: string, key: RecordKey, of: FileName | ContentId): WireFind {
  return key === 'name' ? { to, name: of } : { to, content_id: contentIdToWire(of as ContentId) }
}

/** @throws NetworkError `invalid` */
export function findOfWire({ name, content_id }: WireFind): [RecordKey, FileName | ContentId] {
  if (content_id !== undefined) return ['content', contentIdOfWire(content_id)]
  if (name !== undefined && isFileName(name)) return ['name', name]
  throw new NetworkError('invalid', 'a name or a content id is looked for')
}

export function foundToWire({ records, more, predecessor }: RingFound): WireFound {
  return {
    records: records.slice(0, MAX_RECORDS).map(recordToWire),
    more: more || records.length > MAX_RECORDS,
    predecessor: predecessor ? peerToWire(predecessor) : null,
  }
}

export function foundOfWire({ records, more, predecessor }: WireFound, teller: Teller): RingFound {
  return { records: recordsOfWire(records, teller), more, predecessor: memberHeard(predecessor, teller) }
}

/** Those of the records that are records, of the first `MAX_RECORDS`. */
export function recordsOfWire(records: readonly WireRecord[], teller: Teller): RingRecord[] {
  return heard(records, MAX_RECORDS, (record) => recordOfWire(record, teller))
}

/** Bytes of a request to keep records. */
export const MAX_STORE = 256 * 1024
/** Of a record: its content, its provider and the framing; beside its name. */
const RECORD_BYTES = 256

/** Records to be kept and ones to be forgotten, in portions of which each goes in one request. */
export function recordBatches(
  records: readonly RingRecord[],
  withdraw: readonly RingRecord[],
): Pick<WireStore, 'records' | 'withdraw'>[] {
  const batches: Pick<WireStore, 'records' | 'withdraw'>[] = []
  let [count, left] = [MAX_RECORDS, 0]
  const add = (to: 'records' | 'withdraw', record: RingRecord) => {
    const bytes = RECORD_BYTES + Buffer.byteLength(record.name)
    if (++count > MAX_RECORDS || bytes > left) {
      batches.push({ records: [], withdraw: [] })
      count = 1
      left = MAX_STORE - RECORD_BYTES
    }
    left -= bytes
    batches.at(-1)![to].push(recordToWire(record))
  }
  for (const record of withdraw) add('withdraw', record)
  for (const record of records) add('records', record)
  return batches
}

export function recordToWire({ key, name, content, size, provider, ageMs }: RingRecord): WireRecord {
  return {
    key: RECORD_KEYS.indexOf(key),
    name,
    content_id: contentIdToWire(content),
    size,
    provider: peerToWire(provider),
    age_ms: Math.min(Math.max(Math.round(ageMs), 0), MAX_UINT32),
  }
}

function recordOfWire({ key, name, content_id, size, provider, age_ms }: WireRecord, teller: Teller): RingRecord {
  const known = RECORD_KEYS[key]
  if (known === undefined) throw new NetworkError('invalid', 'a record is found by its name or its content')
  if (!isFileName(name)) throw new NetworkError('invalid', 'a record has a name')
  const content = contentIdOfWire(content_id)
  return { key: known, name, content, size: sizeOfWire(size), provider: peerOfWire(provider, teller), ageMs: age_ms }
}

/** Bytes of a file. @throws NetworkError `invalid` */
export function sizeOfWire(size: number): number {
  if (!Number.isSafeInteger(size) || size < 0 || size > MAX_FILE_SIZE)
    throw new NetworkError('invalid', 'no file has that size')
  return size
}

function membersToWire(members: readonly Member[]): WirePeer[] {
  return members.slice(0, MAX_MEMBERS).map(peerToWire)
}

function membersOfWire(members: readonly WirePeer[], teller: Teller): Member[] {
  return heard(members, MAX_MEMBERS, (member) => memberOf(peerOfWire(member, teller)))
}

function memberHeard(member: WirePeer | null | undefined, teller: Teller): Member | undefined {
  return member ? membersOfWire([member], teller)[0] : undefined
}
