import { NetworkError } from '../errors.ts'

export interface ServerSentEvent {
  event: string
  data: string
  /** the last one that was sent, here or before; empty where none was */
  id: string
}

/** Characters of one event, the beginning of the next included. */
const MAX_EVENT = 4 * 1024 * 1024

/**
 * Server-sent events of the HTML standard, as far as transfers and events need them.
 * @throws NetworkError `too_large` where one has no end
 */
export async function* serverSentEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerSentEvent> {
  const decoder = new TextDecoder()
  let rest = ''
  let id = ''
  let event = 'message'
  let data: string[] = []
  let length = 0
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true })
    const lines = rest.split(/\r\n|\n|\r(?!$)/)
    rest = lines.pop() ?? ''
    for (const line of lines) {
      if (line === '') {
        if (data.length > 0) yield { event, data: data.join('\n'), id }
        event = 'message'
        data = []
        length = 0
        continue
      }
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line) ?? []
      if (field === 'event') event = value ?? ''
      if (field === 'data') {
        data.push(value ?? '')
        // Lines count where they are empty, too.
        length += line.length
      }
      if (field === 'id') id = value ?? ''
    }
    if (rest.length + length > MAX_EVENT) throw new NetworkError('too_large', 'an event without end is sent')
  }
}
