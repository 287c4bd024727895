import { randomBytes } from 'node:crypto'
import type { ContentId, FileName, PeerId } from '../../common/ids.ts'
import type { PeerContact } from '../contact.ts'
import type { RingFound, RingHandlers, RingRecord, RingStep, RingView } from '../dht/protocol.ts'
import { type Member, memberOf } from '../dht/ring.ts'
import type { FloodHit, FloodQuery } from '../flood/protocol.ts'

/** Peers, records and queries for the tests of the ring and the overlay over gRPC. */

export function contact(peer: string, host = '10.0.0.1', grpcPort = 50_051, restPort = 8000): PeerContact {
  return { peer: peer as PeerId, host, restPort, grpcPort }
}

export function member(peer: string, host?: string): Member {
  return memberOf(contact(peer, host))
}

export const CONTENT = 'ab'.repeat(32) as ContentId

export function record(provider: PeerContact, changes: Partial<RingRecord> = {}): RingRecord {
  return { key: 'name', name: 'film.mkv' as FileName, content: CONTENT, size: 1000, provider, ageMs: 40, ...changes }
}

export function hit(provider: PeerContact, changes: Partial<FloodHit> = {}): FloodHit {
  return { provider, name: 'film.mkv' as FileName, content: CONTENT, size: 1000, hops: 2, ...changes }
}

export function query(changes: Partial<FloodQuery> = {}): FloodQuery {
  return {
    id: randomBytes(16).toString('hex'),
    what: { kind: 'text', text: 'film' },
    ttl: 7,
    hops: 0,
    timeMs: 2000,
    scope: 'all',
    ...changes,
  }
}

/** A member that answers what a test gives it to answer, and keeps what it was asked. */
export class ScriptedMember implements RingHandlers {
  readonly asked: unknown[][] = []
  view: RingView = { predecessor: undefined, successors: [] }
  answer: RingStep = { owners: [], closer: [], unsure: false }
  found: RingFound = { records: [], more: false, predecessor: undefined }
  kept: ((records: readonly RingRecord[]) => number) | undefined

  async onStabilize(...from: Parameters<RingHandlers['onStabilize']>): Promise<RingView> {
    this.asked.push(['stabilize', ...from])
    return this.view
  }

  onStep(...key: Parameters<RingHandlers['onStep']>): RingStep {
    this.asked.push(['step', ...key])
    return this.answer
  }

  onFind(...what: Parameters<RingHandlers['onFind']>): RingFound {
    this.asked.push(['find', ...what])
    return this.found
  }

  onStore(...given: Parameters<RingHandlers['onStore']>): number {
    this.asked.push(['store', ...given])
    const [, records] = given
    return this.kept?.(records) ?? records.length
  }

  onLeave(from: Member): void {
    this.asked.push(['leave', from])
  }
}
