import type { TransferBody, TransferProvider } from '../../common/schemas.ts'
import type { Output } from './output.ts'
import { showSteps } from './steps.ts'
import { percents, type Styled, size } from './text.ts'

const COLOUR: Record<TransferProvider['state'], Styled['style']> = {
  connected: 'green',
  dropped: 'yellow',
  banned: 'red',
}

/** How a download found its providers, what each gave, and why one was dropped. */
export function explain({ steps, providers }: Pick<TransferBody, 'steps' | 'providers'>, out: Output): void {
  if (steps.length > 0) showSteps(steps, out)
  const asked = providers.filter(wasAsked)
  if (asked.length === 0) {
    out.line('Nobody was asked for a byte.')
    return
  }
  if (steps.length > 0) out.line('')
  const shares = percents(asked.map(({ bytes }) => bytes))
  const gaveSome = asked.some(({ bytes }) => bytes > 0)
  out.table(
    [
      { title: 'PEER' },
      { title: 'ADDRESS', shrinks: true },
      { title: 'STATE' },
      { title: 'HAS', align: 'right' },
      { title: 'GAVE', align: 'right' },
      { title: 'SHARE', align: 'right' },
      { title: 'WHY', shrinks: true },
    ],
    asked.map(({ peer, address, state, reason, pieces, bytes }, i) => [
      peer,
      address ?? '',
      { style: COLOUR[state], text: state },
      pieces === null ? '' : String(pieces),
      size(bytes),
      gaveSome ? `${shares[i]} %` : '',
      reason ?? '',
    ]),
  )
  out.line('')
}

/** Who is known but was not needed is reported as dropped, for no reason. */
function wasAsked({ state, reason, bytes, pieces }: TransferProvider): boolean {
  return state !== 'dropped' || reason !== null || bytes > 0 || (pieces ?? 0) > 0
}
