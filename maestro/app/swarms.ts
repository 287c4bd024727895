import { createRoute, z } from '@hono/zod-openapi'
import { hostPort, isLoopback, parseAdvertised, parseRestUrl, unmapped } from '../../common/address.ts'
import type { Clock } from '../../common/clock.ts'
import { type App, answer, refusal, remoteAddress } from '../../common/http.ts'
import type { PeerId } from '../../common/ids.ts'
import {
  ContentIdQuery,
  SwarmMembersResponse,
  type SwarmPeerBody,
  SwarmRequest,
  SwarmResponse,
  SwarmsQuery,
  SwarmsResponse,
} from '../../common/schemas.ts'
import type { DirectoryStore } from '../directory/store.ts'
import type { SwarmPeer, Tracker } from '../swarms.ts'

const tags = ['swarms']
const params = z.object({ id: ContentIdQuery })

const announce = createRoute({
  method: 'post',
  path: '/swarms/{id}',
  tags,
  summary: 'Take part in the swarm of a content, and learn of others',
  description:
    'Takers announce themselves every 30 seconds; one that is silent for two minutes is forgotten. The host that others are told is the address that the request came from. With `left` true the taker leaves. Peers that registered the content are found by `/locate`.',
  request: { params, body: { required: true, content: { 'application/json': { schema: SwarmRequest } } } },
  responses: {
    200: answer(SwarmResponse, 'others of the swarm'),
    400: refusal,
    403: refusal,
    429: refusal,
  },
})

const members = createRoute({
  method: 'get',
  path: '/swarms/{id}',
  tags,
  summary: 'Who takes a content',
  request: { params },
  responses: { 200: answer(SwarmMembersResponse, 'its takers, or none'), 400: refusal },
})

const list = createRoute({
  method: 'get',
  path: '/swarms',
  tags,
  summary: 'What is taken at present, by the number of takers',
  request: { query: SwarmsQuery },
  responses: { 200: answer(SwarmsResponse, 'the largest swarms'), 400: refusal },
})

export function addSwarmRoutes(app: App, deps: { tracker: Tracker; store: DirectoryStore; clock: Clock }): void {
  const { tracker, store, clock } = deps

  /**
   * Where a taker is: the address that it was seen at, as nobody may name a third. One on the Maestro's own machine is
   * seen there by loopback; others reach it at the address of its lease, where it has one.
   */
  async function hostOf(remote: string | undefined, peer: PeerId): Promise<string> {
    if (remote !== undefined && !isLoopback(remote)) {
      const ip = unmapped(remote.replace(/%.*$/, ''))
      return parseAdvertised(`http://${hostPort(ip, 80)}`).host
    }
    const lease = await store.peer(peer, clock.now())
    return lease ? parseRestUrl(lease.rest).host : '127.0.0.1'
  }

  app.openapi(announce, async (c) => {
    const { id } = c.req.valid('param')
    const said = c.req.valid('json')
    const { peer, grpc_port: grpcPort } = said
    const host = await hostOf(remoteAddress(c), peer)
    if (said.left) {
      await tracker.withdraw(id, { host, grpcPort })
      return c.json({ peers: [] }, 200)
    }
    const { have, pieces } = said
    const others = await tracker.announce(id, { peer, host, grpcPort, have, pieces })
    return c.json({ peers: others.map(bodyOf) }, 200)
  })

  app.openapi(members, async (c) => {
    const { id } = c.req.valid('param')
    return c.json({ id, peers: (await tracker.members(id)).map(bodyOf) }, 200)
  })

  app.openapi(list, async (c) => {
    const { limit } = c.req.valid('query')
    const { swarms: count } = await tracker.counts()
    return c.json({ swarms: await tracker.largest(limit), count }, 200)
  })
}

function bodyOf({ peer, host, grpcPort, have, pieces }: SwarmPeer): SwarmPeerBody {
  return { peer, host, grpc_port: grpcPort, have, pieces }
}
