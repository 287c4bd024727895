import type { ContentId } from '../ids.ts'
import { type PeerId, parseFileName, parsePeerId } from '../ids.ts'
import { sha256 } from '../merkle.ts'
import type { EventOf, NetworkEvent } from './event.ts'
import type { EventLog } from './log.ts'
import type { OfferMail } from './mail.ts'

/** What a bus needs of a log, in memory. */
export class MemoryLog implements Pick<EventLog, 'keep' | 'resume'> {
  readonly events: NetworkEvent[] = []
  /** events given to `keep`, each as often as it came */
  given = 0
  /** called before anything is kept: may throw, or wait */
  beforeKeep: (() => Promise<void> | void) | undefined
  readonly #ids = new Set<string>()
  #resume: string | undefined

  async keep(events: readonly NetworkEvent[], resume?: string): Promise<number> {
    await this.beforeKeep?.()
    this.given += events.length
    if (resume !== undefined) this.#resume = resume
    const before = this.#ids.size
    for (const event of events) {
      if (this.#ids.has(event.id)) continue
      this.#ids.add(event.id)
      this.events.push(event)
    }
    return this.#ids.size - before
  }

  async resume(): Promise<string | undefined> {
    return this.#resume
  }

  /** The numbers of the events of an origin, in the order in which they were heard. */
  seqs(origin: string): number[] {
    return this.events.filter((event) => event.origin === origin).map((event) => event.seq)
  }
}

/** That a file was added, at an origin whose incarnation is its id. */
export function anEvent(origin: string, seq: number, over: Partial<EventOf<'file.added'>> = {}): EventOf<'file.added'> {
  return {
    v: 1,
    id: `${origin}.${seq}`,
    origin,
    seq,
    time: new Date().toISOString(),
    type: 'file.added',
    data: {
      name: parseFileName(`file-${seq}.txt`),
      id: aContent(seq),
      size: seq,
      revision: { from: seq - 1, to: seq },
    },
    ...over,
  }
}

/** Events `first` to `last` of an origin. */
export function someEvents(origin: string, first: number, last: number): NetworkEvent[] {
  return Array.from({ length: last - first + 1 }, (_, index) => anEvent(origin, first + index))
}

const HOUR_MS = 3_600_000

/** An offer for a peer; `number` makes it another. */
export function anOffer(from: string, to: string, number: number, over: Partial<OfferMail> = {}): OfferMail {
  return {
    v: 1,
    id: `${from}.mail.${number}`,
    from: parsePeerId(from) as PeerId,
    to: parsePeerId(to) as PeerId,
    sent: new Date().toISOString(),
    expires: new Date(Date.now() + HOUR_MS).toISOString(),
    kind: 'offer',
    name: parseFileName(`offered-${number}.txt`),
    content: aContent(number),
    size: number,
    ...over,
  }
}

function aContent(number: number): ContentId {
  return sha256(Buffer.from(String(number))).toString('hex') as ContentId
}
