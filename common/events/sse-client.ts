import { NetworkError } from '../errors.ts'
import type { CallOptions, RestClient } from '../rest-client.ts'
import { type ServerSentEvent, serverSentEvents } from './sse-parser.ts'

/** What a reader may hope for, ms: a service says something every 15 s. */
const SILENCE_MS = 45_000

export interface EventConnection {
  /** @throws NetworkError `unavailable` where it breaks off or nothing comes for too long, `too_large`, `cancelled` */
  readonly messages: AsyncGenerator<ServerSentEvent>
  /** Ends the connection, and `messages` with it. */
  close(): void
}

/**
 * Opens a stream of server-sent events; resolves once the service has begun to answer. Who opens one closes it.
 * @param silenceMs after which the service is taken for gone (default 45,000)
 * @throws NetworkError as `RestClient.call` does
 */
export async function openEventStream(
  rest: RestClient,
  path: string,
  options: {
    query: NonNullable<CallOptions['query']>
    headers?: Record<string, string>
    signal: AbortSignal
    silenceMs?: number | undefined
  },
): Promise<EventConnection> {
  const { query, headers, signal, silenceMs = SILENCE_MS } = options
  const { name, baseUrl } = rest
  const who = `${name} at ${baseUrl}`
  const ending = new AbortController()
  const abort = () => ending.abort(signal.reason)
  const release = () => signal.removeEventListener('abort', abort)
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  try {
    const { body, headers: answered } = await rest.send('GET', path, {
      query,
      signal: ending.signal,
      timeoutMs: 0,
      endless: true,
      headers: { accept: 'text/event-stream', ...headers },
    })
    // Whoever reads it hears of a failure; where nobody does, it is not to end the process.
    body.on('error', () => {})
    if (!String(answered['content-type']).startsWith('text/event-stream')) {
      body.destroy()
      throw new NetworkError('corrupt', `${who} answered GET ${path} with something other than events`, {
        reason: 'unknown_answer',
        url: baseUrl,
      })
    }
    async function* messages(): AsyncGenerator<ServerSentEvent> {
      try {
        yield* serverSentEvents(unlessSilent(body, silenceMs, who))
      } catch (error) {
        if (error instanceof NetworkError) throw error
        if (ending.signal.aborted) throw new NetworkError('cancelled', 'cancelled', {}, error)
        throw new NetworkError('unavailable', `${who} went away`, { reason: 'unreachable', url: baseUrl }, error)
      }
    }
    const close = () => {
      release()
      ending.abort()
    }
    return { messages: messages(), close }
  } catch (error) {
    release()
    throw error
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
