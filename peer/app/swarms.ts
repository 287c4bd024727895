import { createRoute, z } from '@hono/zod-openapi'
import { type App, answer, refusal } from '../../common/http.ts'
import type { ContentId } from '../../common/ids.ts'
import { ContentIdQuery, SwarmMembersResponse, type SwarmPeerBody, UploadsResponse } from '../../common/schemas.ts'
import type { UploadReport } from '../transfer/uploader.ts'

export interface SwarmRouteDeps {
  /** what this peer knows of a swarm */
  members(id: ContentId): SwarmPeerBody[]
  /** what this peer gives */
  uploads(): UploadReport[]
}

export function addSwarmRoutes(app: App, deps: SwarmRouteDeps): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/swarms/{id}',
      tags: ['swarms'],
      summary: 'Who has or takes a content, as far as this peer knows',
      request: { params: z.object({ id: ContentIdQuery }) },
      responses: { 200: answer(SwarmMembersResponse, 'this peer and those that take from it'), default: refusal },
    }),
    (c) => {
      const { id } = c.req.valid('param')
      return c.json({ id, peers: deps.members(id) }, 200)
    },
  )
  app.openapi(
    createRoute({
      method: 'get',
      path: '/uploads',
      tags: ['transfers'],
      summary: 'What this peer gives to others',
      responses: { 200: answer(UploadsResponse, 'by content, the latest first'), default: refusal },
    }),
    (c) => c.json({ uploads: deps.uploads() }, 200),
  )
}
