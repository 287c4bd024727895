import type { z } from 'zod'
import type { KnownPeersResponse } from '../../common/schemas.ts'
import type { Cell, Column } from './table.ts'
import { duration, localTime, type Styled } from './text.ts'

/** Peers that an agent knows, in a table. */

type Known = z.infer<typeof KnownPeersResponse>['peers'][number]

export const knownColumns: readonly Column[] = [
  { title: 'PEER' },
  { title: 'ADDRESS', shrinks: true },
  { title: 'GRPC', align: 'right' },
  { title: 'STATUS' },
  { title: 'SEEN' },
  { title: '' },
]

export function knownRow({ id, rest, grpc_port, status, seen, friend, neighbour }: Known): Cell[] {
  const ties = [...(friend ? ['friend'] : []), ...(neighbour ? ['neighbour'] : [])]
  return [
    id ?? '?',
    rest,
    grpc_port ? String(grpc_port) : '-',
    STATUS[status ?? 'hearsay'],
    seen ? seenText(seen) : '-',
    ties.join(', '),
  ]
}

const STATUS: Record<NonNullable<Known['status']>, Styled> = {
  self: { style: 'dim', text: 'this agent' },
  alive: { style: 'green', text: 'alive' },
  lost: { style: 'red', text: 'does not answer' },
  hearsay: { style: 'yellow', text: 'only told of' },
}

/** How long ago, where that is a matter of minutes. */
export function seenText(iso: string): string {
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000)
  return seconds < 3600 ? `${duration(Math.floor(seconds)).replace('.0', '')} ago` : localTime(iso)
}
