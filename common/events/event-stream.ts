import { NetworkError } from '../errors.ts'
import { isEventType, type NetworkEvent, parseEvent } from './event.ts'

/** What a watcher makes of the messages of `GET /events`. */

/** What a reader of server-sent events may hope for, ms: a service says something every 15 s. */
export const SILENCE_MS = 45_000

export interface WatchOptions {
  /** types and families, separated by commas (default: all) */
  types?: string | undefined
  /** begins with so many of the past; has no meaning with `lastEventId` */
  last?: number | undefined
  /** false: ends once what there is was told (default true) */
  follow?: boolean | undefined
  /** goes on after this one */
  lastEventId?: string | undefined
  /** Events have passed that are kept no longer: so many, where that is known. */
  onGap?: ((lost: number | null) => void) | undefined
  /** One was left out that this program does not know, as of a newer peer. */
  onSkipped?: (() => void) | undefined
}

export interface WatchedEvent {
  /** where it is in the service's log: `lastEventId` to go on after it */
  readonly id: string
  readonly event: NetworkEvent
}

/** The events among server-sent messages. */
export async function* eventsAmong(
  messages: AsyncIterable<{ event: string; data: string; id: string }>,
  { onGap, onSkipped }: Pick<WatchOptions, 'onGap' | 'onSkipped'>,
): AsyncGenerator<WatchedEvent> {
  for await (const { event: name, data, id } of messages) {
    if (name === 'gap') {
      onGap?.(lostOf(data))
      continue
    }
    const event = readable(data)
    // Other names, such as "mail", are no events.
    if (event) yield { id, event }
    else if (isEventType(name) || name.includes('.')) onSkipped?.()
  }
}

/**
 * A body as it comes.
 * @throws NetworkError `unavailable` where nothing comes for `ms`; what its consumer takes does not count
 */
export async function* unlessSilent(
  body: AsyncIterable<Uint8Array> & { destroy(error?: Error): unknown },
  ms: number,
  who: string,
): AsyncGenerator<Uint8Array> {
  const silent = () => body.destroy(new NetworkError('unavailable', `${who} has fallen silent`, { reason: 'timeout' }))
  let timer = setTimeout(silent, ms)
  try {
    for await (const chunk of body) {
      clearTimeout(timer)
      yield chunk
      timer = setTimeout(silent, ms)
    }
  } finally {
    clearTimeout(timer)
  }
}

function readable(data: string): NetworkEvent | undefined {
  try {
    return parseEvent(JSON.parse(data))
  } catch {
    return undefined
  }
}

function lostOf(data: string): number | null {
  try {
    const { lost } = JSON.parse(data) as { lost?: unknown }
    return typeof lost === 'number' && Number.isSafeInteger(lost) && lost >= 0 ? lost : null
  } catch {
    return null
  }
}
