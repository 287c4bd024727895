import { request } from 'node:http'
import { Socket } from 'node:net'
import { onTestFinished } from 'vitest'
import { ManualClock } from '../clock.ts'
import { createApp, type Listening, listen } from '../http.ts'
import { silentLog } from '../log.ts'
import { createMetrics } from '../metrics.ts'
import type { EventDraft } from './event.ts'
import { EventFeed, type FeedOptions } from './feed.ts'
import { addEventRoute, type EventRouteDeps } from './feed-route.ts'
import type { EventLog } from './log.ts'
import { type ServerSentEvent, serverSentEvents } from './sse-parser.ts'

export function added(number: number, name = `lectures/${number}.pdf`): EventDraft {
  const revision = { from: number, to: number + 1 }
  return { type: 'file.added', data: { name, id: 'a'.repeat(64), size: number, revision } } as EventDraft
}

export interface Served {
  feed: EventFeed
  clock: ManualClock
  url: string
  server: Listening
}

/** A log on a real port. */
export async function serve(
  log: EventLog,
  options?: FeedOptions,
  more?: Omit<EventRouteDeps, 'feed'>,
): Promise<Served> {
  const clock = new ManualClock()
  const feed = new EventFeed({ log, clock }, options)
  await feed.start()
  const app = createApp({ title: 'test', description: 'test', log: silentLog, metrics: createMetrics('test') })
  addEventRoute(app, { feed, ...more })
  const server = await listen(app, '127.0.0.1', 0)
  onTestFinished(async () => {
    await feed.stop()
    await server.close(100)
  })
  return { feed, clock, url: `http://127.0.0.1:${server.port}`, server }
}

export interface Watching {
  status: number
  type: string | undefined
  /** all that was read so far: events, gaps and hints */
  heard: ServerSentEvent[]
  /** `size` of each file.added so far */
  numbers(): number[]
  /** the id that a client would go on from */
  lastId(): string
  /** resolves when the stream ends, however */
  ended: Promise<void>
  leave(): void
}

/** A client that reads, and resolves once the answer begins. */
export function watch(url: string, path = '/events', lastEventId?: string): Promise<Watching> {
  return new Promise((resolve, reject) => {
    const headers = lastEventId === undefined ? {} : { 'last-event-id': lastEventId }
    const call = request(`${url}${path}`, { headers, agent: false }, (response) => {
      const heard: ServerSentEvent[] = []
      let id = ''
      const reading = async () => {
        for await (const event of serverSentEvents(response)) {
          id = event.id
          if (event.event !== 'message') heard.push(event)
        }
      }
      resolve({
        status: response.statusCode ?? 0,
        type: response.headers['content-type'],
        heard,
        numbers: () => numbersIn(heard),
        lastId: () => id,
        ended: reading().catch(() => {}),
        leave: () => void response.destroy(),
      })
    })
    call.on('error', reject)
    call.end()
    onTestFinished(() => void call.destroy())
  })
}

export function numbersIn(heard: readonly ServerSentEvent[]): number[] {
  return heard.filter(({ event }) => event === 'file.added').map(({ data }) => JSON.parse(data).data.size as number)
}

/** A client that asks and reads nothing, until told to. */
export async function stall(port: number, head = 'GET /events HTTP/1.1\r\nhost: a\r\n\r\n'): Promise<Socket> {
  const socket = new Socket()
  socket.pause()
  socket.on('error', () => {})
  onTestFinished(() => void socket.destroy())
  await new Promise<void>((resolve) => socket.connect(port, '127.0.0.1', resolve))
  socket.write(head)
  return socket
}
