import { createRoute } from '@hono/zod-openapi'
import { z } from 'zod'
import { type App, answer, refusal } from '../../common/http.ts'
import { FriendRequest, FriendsResponse } from '../../common/schemas.ts'
import type { Friends } from '../friends.ts'

const tags = ['friends']

export function addFriendRoutes(app: App, friends: Friends): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/friends',
      tags,
      responses: { 200: answer(FriendsResponse, 'in the order in which they are asked') },
    }),
    (c) => c.json({ friends: friends.list() }, 200),
  )
  app.openapi(
    createRoute({
      method: 'post',
      path: '/friends',
      tags,
      request: { body: { ...answer(FriendRequest, 'whom to add'), required: true } },
      responses: { 201: answer(FriendsResponse, 'the list with it'), default: refusal },
    }),
    async (c) => {
      await friends.add(c.req.valid('json').url)
      return c.json({ friends: friends.list() }, 201)
    },
  )
  app.openapi(
    createRoute({
      method: 'delete',
      path: '/friends',
      tags,
      request: { query: z.object({ url: z.string().max(300) }) },
      responses: { 200: answer(FriendsResponse, 'the list without it'), default: refusal },
    }),
    async (c) => {
      await friends.remove(c.req.valid('query').url)
      return c.json({ friends: friends.list() }, 200)
    },
  )
}
