import { expect, test } from 'vitest'
import { type ServerSentEvent, serverSentEvents } from './sse-parser.ts'

async function eventsOf(...chunks: string[]): Promise<ServerSentEvent[]> {
  async function* body() {
    for (const chunk of chunks) yield Buffer.from(chunk)
  }
  const events = []
  for await (const event of serverSentEvents(body())) events.push(event)
  return events
}

test('events are read however the network cuts them', async () => {
  const stream =
    'id: 7\r\nevent: transfer\r\ndata: {"a":"ñ"}\r\n\r\n: comment\n\ndata: one\ndata: two\n\nid: 8\n\nevent: cut\ndata: off'
  const expected = [
    { event: 'transfer', data: '{"a":"ñ"}', id: '7' },
    { event: 'message', data: 'one\ntwo', id: '7' },
    { event: 'message', data: '', id: '8' },
  ]
  expect(await eventsOf(stream)).toEqual(expected)
  expect(await eventsOf(...stream.split(/(?<=[\s\S])/u))).toEqual(expected)
})

test('an event without end is refused before it fills the memory', async () => {
  const megabyte = 'x'.repeat(1024 * 1024)
  await expect(eventsOf('data: ', ...Array<string>(8).fill(megabyte))).rejects.toMatchObject({ code: 'too_large' })
  await expect(eventsOf(...Array<string>(8).fill(`data: ${megabyte}\n`))).rejects.toMatchObject({ code: 'too_large' })
  await expect(eventsOf(...Array<string>(8).fill('data\n'.repeat(1024 * 1024)))).rejects.toMatchObject({
    code: 'too_large',
  })
})

test('an id that no header could carry back is none', async () => {
  expect(await eventsOf(`id: ${'x'.repeat(2000)}\ndata: a\n\nid: a\0b\ndata: b\n\nid\ndata: c\n\n`)).toEqual([
    { event: 'message', data: 'a', id: '' },
    { event: 'message', data: 'b', id: '' },
    { event: 'message', data: 'c', id: '' },
  ])
})
