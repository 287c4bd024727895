import { createRoute } from '@hono/zod-openapi'
import { NetworkError } from '../../common/errors.ts'
import { type App, answer, refusal } from '../../common/http.ts'
import {
  type LookupStep,
  type NetworkLevel,
  PeerLocateQuery,
  PeerLocateResponse,
  PeerSearchQuery,
  PeerSearchResponse,
} from '../../common/schemas.ts'
import { type LocalFiles, matches, type Self } from '../locate/local.ts'
import type { Locator } from '../locate/locator.ts'
import type { LocateQuery } from '../locate/strategy.ts'
import { peerFile } from './files.ts'

const tags = ['lookup']

export interface LocateDeps {
  files: LocalFiles
  locator: Locator
  self: () => Self
  /** at which level the network works, as it was known, and as the steps of a lookup tell */
  level: (steps: readonly LookupStep[]) => NetworkLevel
}

export function addLocateRoutes(app: App, deps: LocateDeps): void {
  const { files, locator, self, level } = deps
  app.openapi(
    createRoute({
      method: 'get',
      path: '/search',
      tags,
      request: { query: PeerSearchQuery },
      responses: { 200: answer(PeerSearchResponse, 'what this one peer has'), default: refusal },
    }),
    (c) => {
      const query = parseQuery(c.req.valid('query'))
      const found = matches(files, query).map(peerFile)
      const { id: peer, grpcPort } = self()
      return c.json({ peer, file: askedFor(query), exists: found.length > 0, grpc_port: grpcPort, matches: found }, 200)
    },
  )
  app.openapi(
    createRoute({
      method: 'get',
      path: '/locate',
      tags,
      request: { query: PeerLocateQuery },
      responses: { 200: answer(PeerLocateResponse, 'the whole chain of strategies'), default: refusal },
    }),
    async (c) => {
      const { via, ...rest } = c.req.valid('query')
      const query = parseQuery(rest)
      const { providers, via: found, steps } = await locator.locate(query, c.req.raw.signal, via)
      return c.json({ file: askedFor(query), peers: providers, via: found, steps, network: level(steps) }, 200)
    },
  )
}

function parseQuery(query: PeerSearchQuery): LocateQuery {
  const given = [query.file, query.id, query.q].filter((value) => value !== undefined)
  if (given.length !== 1) throw new NetworkError('invalid', 'give exactly one of "file", "id" and "q"')
  if (query.file !== undefined) return { kind: 'name', name: query.file }
  if (query.id !== undefined) return { kind: 'id', id: query.id }
  return { kind: 'text', text: query.q ?? '' }
}

function askedFor(query: LocateQuery): string | null {
  return query.kind === 'name' ? query.name : null
}
