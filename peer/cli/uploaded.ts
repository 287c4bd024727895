import type { OfferBody } from '../../common/events/rest.ts'
import { type ContentId, type FileName, shortId } from '../../common/ids.ts'
import type { Cli } from './cli.ts'
import { duration, localTime, rate, size, styled } from './text.ts'

/** A file to upload, and the name it gets in the network. */
export interface Item {
  path: string
  name: FileName
}

/** What became of one file. */
export interface Uploaded {
  name: FileName
  /** bytes */
  size: number
  id: ContentId
  /** `offered`: shared by the agent, and left for a peer that is away */
  outcome: 'shared' | 'there already' | 'simulated' | 'offered'
  /** whither: the agent, or the peer it was pushed to */
  to: string
  /** that went over the network; for a simulation, that would have */
  bytes: number
  seconds: number
  /** where it was offered */
  offer?: OfferBody
  /** where it was offered: nobody knows such a peer at present */
  unknown?: boolean
}

export function printUpload(
  { name, size: total, id, outcome, to, bytes, seconds, offer, unknown }: Uploaded,
  cli: Cli,
): void {
  const what = `${size(total)}, content ${shortId(id)}`
  switch (outcome) {
    case 'shared': {
      const speed = seconds > 0 && bytes > 0 ? `, ${duration(seconds)}, ${rate(bytes / seconds)}` : ''
      cli.out.line(styled('bold', name), ': ', styled('green', 'shared'), ` at ${to} (${what}${speed})`)
      break
    }
    case 'there already':
      cli.out.line(
        styled('bold', name),
        ': ',
        styled('green', 'there already'),
        ` at ${to} (${what}); nothing was sent`,
      )
      break
    case 'simulated':
      cli.out.line(
        styled('bold', name),
        ': ',
        styled('yellow', 'simulated, nothing was sent'),
        `: ${size(bytes)} would have gone to ${to} (${what})`,
      )
      break
    case 'offered':
      cli.out.line(
        styled('bold', name),
        unknown ? `: no peer "${to}" is known here: ` : `: ${to} is away: `,
        styled('yellow', 'shared here, with everybody, and an offer waits for it'),
        `${offer ? ` (expires ${localTime(offer.expires)})` : ''}; see "peer mailbox"`,
      )
  }
}
