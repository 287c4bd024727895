import type { PeerId } from '../../common/ids.ts'
import { type Member, memberOf } from './ring.ts'

/** So many members, in the order of their places. */
export function members(count: number): Member[] {
  return Array.from({ length: count }, (_, i) => member(`M${i}`, `10.0.${i >> 8}.${i & 255}`)).sort((a, b) =>
    a.id < b.id ? -1 : 1,
  )
}

export function member(peer: string, host = '10.1.1.1'): Member {
  return memberOf({ peer: peer as PeerId, host, restPort: 8000, grpcPort: 50051 })
}
