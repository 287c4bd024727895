import { shortId } from '../../common/ids.ts'
import type { TransferBody, TransferProvider } from '../../common/schemas.ts'
import { amount, waitingText } from './progress.ts'
import type { Cell, Column } from './table.ts'
import { count, duration, rate, type Styled } from './text.ts'

/** Transfers as rows of a table, and as lines. */

const COLOUR: Record<TransferBody['state'], Styled['style']> = {
  queued: 'dim',
  locating: 'cyan',
  running: 'cyan',
  waiting: 'yellow',
  paused: 'yellow',
  verifying: 'cyan',
  done: 'green',
  simulated: 'yellow',
  failed: 'red',
  cancelled: 'dim',
}

export const COLUMNS: readonly Column[] = [
  { title: 'TRANSFER' },
  { title: 'FILE', shrinks: true },
  { title: 'STATE' },
  { title: 'DONE', align: 'right' },
  { title: 'RATE', align: 'right' },
  { title: 'LEFT', align: 'right' },
  { title: 'FROM', shrinks: true },
]

export function rowOf(transfer: TransferBody): Cell[] {
  const { state, size, bytes, eta_s } = transfer
  return [
    transfer.transfer,
    nameOf(transfer),
    { style: COLOUR[state], text: state },
    size === null ? '' : amount(bytes, size),
    state === 'running' ? rate(transfer.rate) : '',
    eta_s === null ? '' : duration(eta_s),
    remark(transfer),
  ]
}

/** `3 film.mkv: running, 45 %, 1.2 of 2.7 GB, 412 MB/s, P1, P2 and 3 more` */
export function lineOf(transfer: TransferBody): string {
  const { state, size, bytes, eta_s } = transfer
  const share = size === null || size === 0 ? undefined : `${Math.floor((bytes / size) * 100)} %`
  const known = [
    state,
    share,
    size === null ? undefined : amount(bytes, size),
    state === 'running' ? rate(transfer.rate) : undefined,
    eta_s === null ? undefined : `${duration(eta_s)} left`,
    remark(transfer) || undefined,
  ]
  return `${transfer.transfer} ${nameOf(transfer)}: ${known.filter((text) => text !== undefined).join(', ')}`
}

export function nameOf({ file, id }: TransferBody): string {
  return file ?? (id === null ? '?' : shortId(id))
}

/** Peers that are named; the others are counted. */
const NAMED = 3

/** What is most worth telling of it: why it failed or waits, else from whom it comes. */
function remark({ error, waiting, providers, direction, joined, files }: TransferBody): string {
  if (error) return error.message
  if (waiting) return waitingText(waiting.retry_ms)
  const nameOfPeer = ({ peer }: TransferProvider) => (direction === 'push' ? pusher(peer) : peer)
  const peers = providers.filter(({ state, bytes }) => state === 'connected' || bytes > 0).map(nameOfPeer)
  const named = peers.slice(0, NAMED).join(', ')
  const from = peers.length > NAMED ? `${named} and ${peers.length - NAMED} more` : named
  const others = [
    direction === 'push' ? 'pushed' : undefined,
    files && `${files.done} of ${count(files.total, 'file')}`,
    joined === null ? undefined : `with transfer ${joined}`,
  ].filter((text) => typeof text === 'string')
  return others.length === 0 ? from : [from, ...others].filter((text) => text !== '').join(', ')
}

/** Who pushes need not be a peer: it goes by its host and port, `192.168.1.7-52106`, and the port tells people nothing. */
function pusher(peer: string): string {
  return peer.replace(/-\d+$/, '')
}
