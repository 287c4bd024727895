import { setImmediate } from 'node:timers/promises'
import { createRoute } from '@hono/zod-openapi'
import type { Clock } from '../../common/clock.ts'
import { NetworkError } from '../../common/errors.ts'
import { type App, answer, refusal } from '../../common/http.ts'
import type { FileName } from '../../common/ids.ts'
import { folderRange } from '../../common/paging.ts'
import {
  DirectoryQuery,
  DirectoryResponse,
  LocateQuerySchema,
  MaestroLocateResponse,
  type ProviderBody,
} from '../../common/schemas.ts'
import type { DirectoryStore } from '../directory/store.ts'

/** Providers named in one answer. */
export const PROVIDERS_SHOWN = 100
/** Names of one page that are looked at, whether or not a live peer offers them. */
const NAMES_SCANNED = 10_000
/** Names whose providers are read in one go. */
const NAMES_PER_TURN = 100

const locate = createRoute({
  method: 'get',
  path: '/locate',
  tags: ['files'],
  summary: 'Who offers this name, or this content',
  description: `Give either "file" or "id". Up to ${PROVIDERS_SHOWN} providers are named; with "id", each with its name of it.`,
  request: { query: LocateQuerySchema },
  responses: { 200: answer(MaestroLocateResponse, 'the live providers, or none'), 400: refusal },
})

const directory = createRoute({
  method: 'get',
  path: '/directory',
  tags: ['files'],
  summary: 'All names, or those in one folder, with their live providers, by name',
  description: 'A page may have fewer names than asked for and still a `next`.',
  request: { query: DirectoryQuery },
  responses: { 200: answer(DirectoryResponse, 'a page of the directory'), 400: refusal },
})

export function addFileRoutes(app: App, deps: { store: DirectoryStore; clock: Clock }): void {
  const { store, clock } = deps

  app.openapi(locate, async (c) => {
    const { file, id } = c.req.valid('query')
    const now = clock.now()
    if (file !== undefined && id === undefined)
      return c.json({ file, peers: await store.locateName(file, now, PROVIDERS_SHOWN) }, 200)
    if (id !== undefined && file === undefined)
      return c.json({ file: null, peers: await store.locateContent(id, now, PROVIDERS_SHOWN) }, 200)
    throw new NetworkError('invalid', 'give either "file" or "id"')
  })

  app.openapi(directory, async (c) => {
    const { limit, after, under } = c.req.valid('query')
    return c.json(await pageOf(store, { after, limit, under }, clock.now()), 200)
  })
}

interface DirectoryPage {
  after: string | undefined
  limit: number
  under: FileName | undefined
}

async function pageOf(store: DirectoryStore, { after, limit, under }: DirectoryPage, now: number) {
  const names = new Map<string, ProviderBody[]>()
  const folder = folderRange(under)
  let last = folder.from(after)
  for (let scanned = 0; scanned < NAMES_SCANNED; ) {
    const rows = await store.names(last, NAMES_PER_TURN)
    for (const { key, name } of rows) {
      if (!folder.holds(name)) return { directory: Object.fromEntries(names), next: null }
      last = name
      const { providers } = await store.providersOf(key, now, PROVIDERS_SHOWN)
      if (providers.length > 0) names.set(name, providers)
      if (names.size === limit) return { directory: Object.fromEntries(names), next: last }
    }
    if (rows.length < NAMES_PER_TURN) return { directory: Object.fromEntries(names), next: null }
    scanned += rows.length
    await setImmediate()
  }
  return { directory: Object.fromEntries(names), next: last }
}
