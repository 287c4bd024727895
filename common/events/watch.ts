import type { RestClient } from '../rest-client.ts'
import { isEventType, type NetworkEvent, parseEvent } from './event.ts'
import { openEventStream } from './sse-client.ts'

export interface WatchOptions {
  /** types and families, separated by commas (default: all) */
  types?: string | undefined
  /** begins with so many of the past; has no meaning with `lastEventId` */
  last?: number | undefined
  /** false: ends once what there is was told (default true) */
  follow?: boolean | undefined
  /** goes on after this one */
  lastEventId?: string | undefined
  /** The service has begun to answer. */
  onOpen?: (() => void) | undefined
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

/**
 * Events of a service as they come, over one connection: until the service ends it, or `signal` aborts.
 * @throws NetworkError `unavailable` where the connection breaks off (`lastEventId` goes on where it was),
 *   `cancelled`, `invalid`: no such types
 */
export async function* watchEvents(
  rest: RestClient,
  options: WatchOptions,
  { signal, silenceMs }: { signal: AbortSignal; silenceMs?: number | undefined },
): AsyncGenerator<WatchedEvent> {
  const { types, last, follow, lastEventId, onOpen } = options
  const isNew = lastEventId === undefined
  const { messages, close } = await openEventStream(rest, '/events', {
    query: { type: types, last: isNew ? last : undefined, follow: follow === false ? '0' : '1' },
    headers: isNew ? {} : { 'last-event-id': lastEventId },
    signal,
    silenceMs,
  })
  try {
    onOpen?.()
    yield* eventsAmong(messages, options)
  } finally {
    close()
  }
}

async function* eventsAmong(
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
