import { createRoute } from '@hono/zod-openapi'
import { FollowQuery, FollowRequest, FollowSchema, FollowsResponse } from '../../common/events/rest.ts'
import { type App, answer, refusal } from '../../common/http.ts'
import type { Follows } from '../follow/follows.ts'

const tags = ['follows']

export function addFollowRoutes(app: App, follows: Pick<Follows, 'list' | 'follow' | 'unfollow'>): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/follows',
      tags,
      summary: 'What this agent follows, and what came of it',
      responses: { 200: answer(FollowsResponse, 'in the order in which they were made') },
    }),
    (c) => c.json({ follows: follows.list() }, 200),
  )
  app.openapi(
    createRoute({
      method: 'post',
      path: '/follows',
      tags,
      summary: 'Fetch what anyone shares under a pattern, now and from now on',
      description: 'Of a pattern that is followed already, changes the quota where one is given.',
      request: { body: { ...answer(FollowRequest, 'what to follow'), required: true } },
      responses: { 200: answer(FollowSchema, 'as it is now'), default: refusal },
    }),
    (c) => {
      const { pattern, quota } = c.req.valid('json')
      return c.json(follows.follow(pattern, quota), 200)
    },
  )
  app.openapi(
    createRoute({
      method: 'delete',
      path: '/follows',
      tags,
      summary: 'Stop fetching for a pattern; what was fetched stays',
      request: { query: FollowQuery },
      responses: { 200: answer(FollowsResponse, 'what is still followed'), default: refusal },
    }),
    (c) => {
      follows.unfollow(c.req.valid('query').pattern)
      return c.json({ follows: follows.list() }, 200)
    },
  )
}
