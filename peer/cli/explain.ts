import type { TransferBody, TransferProvider } from '../../common/schemas.ts'
import type { Output } from './output.ts'
import { showSteps } from './steps.ts'
import { type Styled, size } from './text.ts'

const COLOUR: Record<TransferProvider['state'], Styled['style']> = {
  connected: 'green',
  dropped: 'yellow',
  banned: 'red',
}

/** How a download found its providers, what each gave, and why one was dropped. */
export function explain({ steps, providers }: Pick<TransferBody, 'steps' | 'providers'>, out: Output): void {
  if (steps.length > 0) showSteps(steps, out)
  if (providers.length === 0) {
    out.line('Nobody was asked for a byte.')
    return
  }
  if (steps.length > 0) out.line('')
  const all = providers.reduce((sum, { bytes }) => sum + bytes, 0)
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
    providers.map(({ peer, address, state, reason, pieces, bytes }) => [
      peer,
      address ?? '',
      { style: COLOUR[state], text: state },
      pieces === null ? '' : String(pieces),
      size(bytes),
      all === 0 ? '' : `${Math.round((bytes / all) * 100)} %`,
      reason ?? '',
    ]),
  )
  out.line('')
}
