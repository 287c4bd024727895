import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { createRoute, z } from '@hono/zod-openapi'
import { NetworkError } from '../errors.ts'
import { type App, type AppContext, refusal, remoteAddress } from '../http.ts'
import type { PeerId } from '../ids.ts'
import type { EventFeed } from './feed.ts'
import type { FeedReader } from './feed-reader.ts'
import { EventsQuery, MaestroEventsQuery } from './rest.ts'

export interface EventRouteDeps {
  feed: EventFeed
  /**
   * Where there are mailboxes: told of each new reader that asks for news of one, for which `reader.hint('mail', …)`
   * is; what it returns is called once that reader is gone.
   */
  onMailbox?: (reader: Pick<FeedReader, 'hint'>, peer: PeerId) => () => void
}

const headers = z.object({
  'last-event-id': z.string().optional().meta({ description: 'the id that was read last: goes on right after it' }),
})

/** `GET /events`, on Maestro and agents. */
export function addEventRoute(app: App, deps: EventRouteDeps): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/events',
      tags: ['events'],
      request: { query: (deps.onMailbox ? MaestroEventsQuery : EventsQuery) as typeof MaestroEventsQuery, headers },
      responses: {
        200: {
          description:
            'server-sent events: `id`, `event` (the type) and `data` (the event as JSON; see /asyncapi.json). ' +
            'One named "gap", `{"lost": number or null}`, stands where events were dropped before they could be sent',
          content: { 'text/event-stream': { schema: z.string() } },
        },
        default: refusal,
      },
    }),
    (c) => serve(c as AppContext, deps, c.req.valid('query'), c.req.valid('header')['last-event-id']),
  )
}

async function serve(
  c: AppContext,
  { feed, onMailbox }: EventRouteDeps,
  query: z.output<typeof MaestroEventsQuery>,
  lastEventId: string | undefined,
): Promise<Response> {
  if (c.req.method === 'HEAD') return c.body(null, 200, { 'content-type': 'text/event-stream' })
  const outgoing = c.env?.outgoing
  if (!outgoing) throw new NetworkError('unavailable', 'events are sent over a connection of their own only')
  const { type: types, last, follow, mailbox } = query
  const host = remoteAddress(c)
  const reader = await feed.serve({ outgoing, host, types, last, lastEventId, follow: follow === '1' })
  if (mailbox !== undefined && onMailbox && !outgoing.destroyed) outgoing.once('close', onMailbox(reader, mailbox))
  return RESPONSE_ALREADY_SENT
}
