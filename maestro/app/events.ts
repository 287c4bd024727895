import { createRoute } from '@hono/zod-openapi'
import type { z } from 'zod'
import { NetworkError } from '../../common/errors.ts'
import { PublishRequest, PublishResponse } from '../../common/events/rest.ts'
import { type App, answer, refusal, remoteAddress } from '../../common/http.ts'
import { issueText } from '../../common/issue.ts'
import type { EventDesk } from '../events/event-desk.ts'

const publish = createRoute({
  method: 'post',
  path: '/events',
  tags: ['events'],
  summary: 'Publish events of one peer',
  description:
    'All or none are taken; one that was taken before counts for nothing. The peer has a live lease. Where one event can never be taken, `error.id` names it: leave it out, and send the others again. Where they are too many, `error.retry_ms` says when to try again.',
  request: { body: { required: true, content: { 'application/json': { schema: PublishRequest } } } },
  responses: {
    202: answer(PublishResponse, 'kept, and handed on to whoever watches'),
    400: refusal,
    403: refusal,
    404: refusal,
    413: refusal,
    429: refusal,
    503: refusal,
  },
})

/** `stopping` ends what waits for a broker. */
export function addPublishRoute(app: App, deps: { desk: EventDesk; stopping: AbortSignal }): void {
  const { desk, stopping } = deps
  app.openapi(
    publish,
    async (c) => {
      const { events } = c.req.valid('json')
      return c.json({ accepted: await desk.publish(events, remoteAddress(c), stopping) }, 202)
    },
    (result) => {
      if (!result.success) throw refusalOf(result.error.issues, (result as { data?: unknown }).data)
    },
  )
}

/** Names the event that is not as it should be, where it has a name: a newer peer leaves it out, and tells the rest. */
function refusalOf(issues: z.core.$ZodIssue[], body: unknown): NetworkError {
  const path = issues[0]?.path ?? []
  const id = path
    .slice(0, 2)
    .concat('id')
    .reduce<unknown>((inner, key) => (inner as Record<PropertyKey, unknown> | null)?.[key], body)
  return new NetworkError('invalid', issueText(issues, body, 'body'), {
    path: path.map(String),
    ...(path[0] === 'events' && path.length > 1 && typeof id === 'string' ? { id: id.slice(0, 64) } : {}),
  })
}
