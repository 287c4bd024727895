import { searchNames } from '../catalog/search.ts'
import type { PeerContact } from '../contact.ts'
import type { LocateQuery } from '../locate/strategy.ts'
import { reachable } from '../overlay/reachable.ts'
import type { FloodHit } from './protocol.ts'

/** Whether a hit is one for what was asked. */
export function isAskedFor(what: LocateQuery, { name, content }: FloodHit): boolean {
  switch (what.kind) {
    case 'name':
      return name === what.name
    case 'id':
      return content === what.id
    case 'text':
      return searchNames([name], what.text, 1).length > 0
  }
}

/**
 * A hit as it is passed on by whoever asked `from` for it: one link further away. A neighbour's own files are at the
 * address that it was asked at, whatever it names; those of others where a peer can be, as seen from the neighbour.
 * @param ttl with which `from` was asked: no hit comes from further behind it
 */
export function received(hit: FloodHit, from: PeerContact, ttl: number): FloodHit | undefined {
  const isOwn = hit.provider.peer === from.peer
  const provider = isOwn ? from : reachable(hit.provider, from.host)
  if (!provider) return undefined
  const behind = isOwn || !Number.isInteger(hit.hops) ? 0 : Math.max(0, Math.min(hit.hops, ttl))
  return { ...hit, provider, hops: behind + 1 }
}

/** By which it is told whether a hit came before. */
export function keyOf({ provider, name, content }: FloodHit): string {
  return `${provider.peer} ${provider.host} ${provider.grpcPort} ${content} ${name}`
}
