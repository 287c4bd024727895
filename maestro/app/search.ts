import { createRoute } from '@hono/zod-openapi'
import type { Clock } from '../../common/clock.ts'
import { type App, answer, refusal } from '../../common/http.ts'
import { SearchQuery, SearchResponse } from '../../common/schemas.ts'
import type { Search } from '../search.ts'

const search = createRoute({
  method: 'get',
  path: '/search',
  tags: ['files'],
  summary: 'Names by words and parts of words',
  description:
    'Best matches first: the exact name, its beginning, whole words, parts of words. Case and accents do not matter. A page may have fewer results than asked for and still a `next`.',
  request: { query: SearchQuery },
  responses: { 200: answer(SearchResponse, 'a page of results'), 400: refusal },
})

export function addSearchRoutes(app: App, deps: { search: Search; clock: Clock }): void {
  app.openapi(search, async (c) => {
    const { q, limit, after } = c.req.valid('query')
    return c.json({ query: q, ...(await deps.search.find(q, limit, after, deps.clock.now())) }, 200)
  })
}
