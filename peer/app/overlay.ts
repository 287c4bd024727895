import { createRoute } from '@hono/zod-openapi'
import { type App, answer, refusal } from '../../common/http.ts'
import {
  type DiscoverBody,
  DiscoverRequest,
  DiscoverResponse,
  type KnownPeerBody,
  KnownPeersResponse,
  type RingBody,
  RingResponse,
} from '../../common/schemas.ts'

/** What this peer is part of without a Maestro: the ring, and the peers that know each other. */
export interface OverlayRouteDeps {
  ring(): RingBody
  /** itself first */
  knownPeers(): KnownPeerBody[]
  /**
   * Asks the peer at a REST URL for the peers that it knows, and keeps those that answer.
   * @throws NetworkError `unavailable` where it does not answer; `invalid` for no URL
   */
  discover(url: string, signal: AbortSignal): Promise<DiscoverBody>
}

export function addOverlayRoutes(app: App, deps: OverlayRouteDeps): void {
  app.openapi(
    createRoute({
      method: 'get',
      path: '/ring',
      tags: ['overlay'],
      summary: 'This peer in the ring: who comes before and after it, and the records that it keeps',
      responses: { 200: answer(RingResponse, 'as it is now') },
    }),
    (c) => c.json(deps.ring(), 200),
  )
  app.openapi(
    createRoute({
      method: 'get',
      path: '/peers',
      tags: ['overlay'],
      responses: { 200: answer(KnownPeersResponse, 'the peers that this one knows, itself first') },
    }),
    (c) => c.json({ peers: deps.knownPeers() }, 200),
  )
  app.openapi(
    createRoute({
      method: 'post',
      path: '/discover',
      tags: ['overlay'],
      summary: 'Ask a peer for the peers that it knows, and keep those that answer',
      request: { body: { ...answer(DiscoverRequest, 'whom to ask'), required: true } },
      responses: { 200: answer(DiscoverResponse, 'whom it told of, and what became of each'), default: refusal },
    }),
    async (c) => c.json(await deps.discover(c.req.valid('json').url, c.req.raw.signal), 200),
  )
}
