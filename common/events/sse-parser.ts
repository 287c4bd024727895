import { NetworkError } from '../errors.ts'

/** characters of one event */
const MAX_EVENT = 4 * 1024 * 1024
const MAX_ID = 1024

/** A server-sent event. */
export interface ServerSentEvent {
  /** `message` where the server gave no name */
  event: string
  data: string
  /** the last id that the server gave, with this event or before: where to go on, as `Last-Event-ID`; '' for none */
  id: string
}

/**
 * Reads server-sent events (HTML standard, section 9.2.6). Beside what the standard dispatches, an id that comes without
 * data is yielded, as a `message` of no data: it tells how far the reader got.
 * @throws NetworkError `too_large` for an event without end
 */
export async function* serverSentEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder()
  let rest = ''
  let event = 'message'
  let data: string[] = []
  let length = 0
  let id = ''
  let told = ''
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true })
    const lines = rest.split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0 || id !== told) yield { event, data: data.join('\n'), id }
        told = id
        event = 'message'
        data = []
        length = 0
        continue
      }
      const colon = line.indexOf(':')
      const field = colon === -1 ? line : line.slice(0, colon)
      const value = colon === -1 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1))
      if (field === 'event') event = value
      if (field === 'id' && value.length <= MAX_ID && !value.includes('\0')) id = value
      if (field === 'data') {
        data.push(value)
        length += value.length + 1
      }
    }
    if (rest.length + length > MAX_EVENT) throw new NetworkError('too_large', 'the server sends an event without end')
  }
}
