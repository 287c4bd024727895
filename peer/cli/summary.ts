import { kuroseRoss } from '../../common/kurose-ross.ts'
import type { FetchProgressBody, TransferBody } from '../../common/schemas.ts'
import { count, percents, rate, type Styled, size, styled, type Text } from './text.ts'

type Numbers = Omit<FetchProgressBody, 'waiting'>
export type Fetched = Pick<TransferBody, 'state' | 'seconds'> &
  Numbers & {
    /** what it is called, and where it is now */
    name: string
    where: string
    /** how its providers were found; null where they were named */
    via: string | null
    /** it shared the fetch of another transfer */
    joined?: string | null
    /** it waited, was paused or got another limit on the way: its seconds say nothing of how fast it could be */
    disturbed?: boolean
  }

/** Providers that are named with their share. */
const NAMED = 5
/** A shorter download has no typical second to be measured by. */
const MEASURED_S = 2

/** One line on how a download went. */
export function summary(fetched: Fetched): Text[] {
  const { state, bytes, resumed_bytes, seconds, files } = fetched
  const total = `${files === null ? '' : `${count(files.total, 'file')}, `}${size(fetched.size ?? bytes)}`
  const name: Styled = { style: 'bold', text: fetched.name }
  if (isThereAlready(fetched))
    return [name, ': ', styled('green', 'there already'), `, nothing was fetched (${total}, ${fetched.where})`]
  const from = [...givers(fetched), ...(fetched.via === null ? [] : [`via ${fetched.via}`])].join(', ')
  if (state === 'simulated')
    return [
      name,
      ': ',
      styled('yellow', 'simulated, nothing was written'),
      `: ${total} would have come ${from}`.trimEnd(),
    ]
  const came = Math.max(0, bytes - resumed_bytes)
  const kept = resumed_bytes > 0 ? `, ${size(resumed_bytes)} of it kept from before` : ''
  // What came before it joined is not its rate.
  const shared = fetched.joined ? `, with transfer ${fetched.joined}` : ''
  const speed = shared === '' && seconds > 0 && came > 0 ? `, ${rate(came / seconds)}` : shared
  const { of_bound } = efficiency(fetched)
  const bound = of_bound === null ? '' : `; ${of_bound.toFixed(2)} of the bound`
  return [
    name,
    ': ',
    styled('green', 'verified'),
    `, ${[`${total} in ${seconds.toFixed(1)} s${speed}${kept}`, from, fetched.where].filter((part) => part !== '').join(', ')}${bound}`,
  ]
}

/**
 * How far it was from the least time that a taker can claim to know of. It can't see what the providers' lines give;
 * but no second brought more than the best one, whatever the bottleneck was. So the bound is that of Kurose and Ross
 * with the best second as the rate of either side: seconds at that rate. Null where it was too short to tell.
 */
export function efficiency(
  fetched: Pick<Fetched, 'bytes' | 'resumed_bytes' | 'seconds' | 'peak_rate' | 'joined' | 'disturbed'>,
): {
  bound_s: number | null
  of_bound: number | null
} {
  const { bytes, resumed_bytes, seconds, peak_rate: best, joined, disturbed } = fetched
  const came = bytes - resumed_bytes
  if (came <= 0 || best <= 0 || seconds < MEASURED_S || disturbed || (joined ?? null) !== null)
    return { bound_s: null, of_bound: null }
  const bound_s = kuroseRoss({ size: came, seederUp: best, takers: [{ up: 0, down: best }] })
  return { bound_s, of_bound: seconds / bound_s }
}

/** Nobody had to be asked for a byte: all was here, verified. */
export function isThereAlready({
  providers,
  resumed_bytes,
  bytes,
}: Pick<Fetched, 'providers' | 'resumed_bytes' | 'bytes'>): boolean {
  return bytes > 0 && providers.every((provider) => provider.bytes === 0) && resumed_bytes === bytes
}

/** `from P1`, or with several `from 7 providers (P1 40 %, P2 20 %, … and 2 more)`; none where there was nothing to give. */
function givers({ providers, size }: Pick<Fetched, 'providers' | 'size'>): string[] {
  const gave = providers.filter(({ bytes }) => bytes > 0)
  const [only] = gave
  if (only === undefined) return size === 0 ? [] : ['from nobody']
  if (gave.length === 1) return [`from ${only.peer}`]
  const shares = percents(gave.map(({ bytes }) => bytes))
  const named = gave.slice(0, NAMED).map(({ peer }, i) => `${peer} ${shares[i]} %`)
  const others = gave.length > NAMED ? ` and ${gave.length - NAMED} more` : ''
  return [`from ${gave.length} providers (${named.join(', ')}${others})`]
}
