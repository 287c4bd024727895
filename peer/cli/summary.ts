import type { TransferBody } from '../../common/schemas.ts'
import { list, rate, type Styled, size, styled, type Text } from './text.ts'

export type Fetched = Pick<TransferBody, 'state' | 'size' | 'bytes' | 'resumed_bytes' | 'seconds' | 'providers'> & {
  /** what it is called, and where it is now */
  name: string
  where: string
  /** how its providers were found; null where they were named */
  via: string | null
}

/** One line on how a download went. */
export function summary(fetched: Fetched): Text[] {
  const { state, bytes, resumed_bytes, seconds, providers } = fetched
  const total = size(fetched.size ?? bytes)
  const name: Styled = { style: 'bold', text: fetched.name }
  if (isThereAlready(fetched))
    return [name, ': ', styled('green', 'there already'), `, nothing was fetched (${total}, ${fetched.where})`]
  const from = `${providers.length === 0 ? 'from nobody' : `from ${list(shares(providers))}`}${fetched.via === null ? '' : `, via ${fetched.via}`}`
  if (state === 'simulated')
    return [name, ': ', styled('yellow', 'simulated, nothing was written'), `: ${total} would have come ${from}`]
  const came = Math.max(0, bytes - resumed_bytes)
  const kept = resumed_bytes > 0 ? `, ${size(resumed_bytes)} of it kept from before` : ''
  const speed = seconds > 0 ? `, ${rate(came / seconds)}` : ''
  return [
    name,
    ': ',
    styled('green', 'verified'),
    `, ${total} in ${seconds.toFixed(1)} s${speed}${kept}, ${from}, ${fetched.where}`,
  ]
}

/** Nobody had to be asked for a byte: all was here, verified. */
export function isThereAlready({
  providers,
  resumed_bytes,
  bytes,
}: Pick<Fetched, 'providers' | 'resumed_bytes' | 'bytes'>): boolean {
  return bytes > 0 && providers.length === 0 && resumed_bytes === bytes
}

/** `P1`, or with several `P1 (60 %)`, `P2 (40 %)` */
function shares(providers: Fetched['providers']): string[] {
  const all = providers.reduce((sum, { bytes }) => sum + bytes, 0)
  if (providers.length < 2 || all === 0) return providers.map(({ peer }) => peer)
  return providers.map(({ peer, bytes }) => `${peer} (${Math.round((bytes / all) * 100)} %)`)
}
