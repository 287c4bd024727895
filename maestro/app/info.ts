import type { z } from '@hono/zod-openapi'
import { createRoute } from '@hono/zod-openapi'
import { type App, answer } from '../../common/http.ts'
import { MaestroInfo } from '../../common/schemas.ts'

const info = createRoute({
  method: 'get',
  path: '/',
  tags: ['service'],
  summary: 'What this Maestro is, and how much it holds',
  responses: { 200: answer(MaestroInfo, 'the service') },
})

export function addInfoRoutes(app: App, read: () => Promise<z.infer<typeof MaestroInfo>>): void {
  app.openapi(info, async (c) => c.json(await read(), 200))
}
