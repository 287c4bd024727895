import { createRoute } from '@hono/zod-openapi'
import { type App, answer } from '../../common/http.ts'
import { PeerInfo } from '../../common/schemas.ts'

export function addInfoRoutes(app: App, info: () => PeerInfo): void {
  for (const path of ['/', '/info'])
    app.openapi(
      createRoute({
        method: 'get',
        path,
        tags: ['service'],
        responses: { 200: answer(PeerInfo, 'who this is and how it is') },
      }),
      (c) => c.json(info(), 200),
    )
}
