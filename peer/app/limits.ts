import { createRoute } from '@hono/zod-openapi'
import { type App, answer, refusal } from '../../common/http.ts'
import { LimitsRequest, LimitsResponse } from '../../common/schemas.ts'
import type { Limits } from '../limits.ts'

const tags = ['limits']

export function addLimitRoutes(app: App, limits: Limits): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/limits',
      tags,
      summary: 'How fast this agent may download and upload',
      responses: { 200: answer(LimitsResponse, 'what is set, and what holds now') },
    }),
    (c) => c.json(limits.status(), 200),
  )
  app.openapi(
    createRoute({
      method: 'put',
      path: '/limits',
      tags,
      summary: 'Set what is given, from now on',
      description:
        'Holds over the configuration, and over restarts, until DELETE. Transfers that run are slowed down or let go at once.',
      request: { body: { ...answer(LimitsRequest, 'what to set'), required: true } },
      responses: { 200: answer(LimitsResponse, 'as it is now'), default: refusal },
    }),
    (c) => {
      limits.set(c.req.valid('json'))
      return c.json(limits.status(), 200)
    },
  )
  app.openapi(
    createRoute({
      method: 'delete',
      path: '/limits',
      tags,
      summary: 'Go back to what the configuration says',
      responses: { 200: answer(LimitsResponse, 'as it is now'), default: refusal },
    }),
    (c) => {
      limits.reset()
      return c.json(limits.status(), 200)
    },
  )
}
